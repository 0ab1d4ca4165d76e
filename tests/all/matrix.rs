//! Options of clients against desktops, several at a time: what each client shows is what its recording shows, nothing is
//! left undecoded, and the desktop keeps the best codec that the tap decodes.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER, Xrdp};
use peers::display::Display;
use peers::gateway::{Gateway, Settings};
use peers::picture::Picture;
use peers::weston::Weston;

use crate::sessions::Moment;

/// What two decoders of RemoteFX may round apart, of 255.
const ROUNDED: u8 = 1;

/// How the screen is, and what becomes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Screen {
    Plain,
    /// Two monitors side by side.
    Two,
    /// 800x600 in the end.
    Resized,
}

/// One client.
struct Case {
    /// The computer name that it gives, at most 15 letters.
    name: &'static str,
    options: &'static [&'static str],
    screen: Screen,
    /// The encoding that the desktop is known to choose for it.
    sent: &'static str,
    /// Most that a colour may differ, of 255.
    tolerance: u8,
}

const fn case(name: &'static str, options: &'static [&'static str], sent: &'static str, tolerance: u8) -> Case {
    Case {
        name,
        options,
        screen: Screen::Plain,
        sent,
        tolerance,
    }
}

/// A client at work.
struct Seat<'a> {
    gateway: &'a Gateway,
    case: &'a Case,
    client: Client,
    moments: Vec<Moment>,
}

impl<'a> Seat<'a> {
    fn start(dir: &Path, gateway: &'a Gateway, case: &'a Case) -> anyhow::Result<Self> {
        let display = Display::start(dir, case.name, 1024, 768)?;
        if case.screen == Screen::Two {
            display.split(1024, 768)?;
        }
        let name = format!("/client-hostname:{}", case.name);
        let options = [case.options, &[name.as_str()]].concat();
        let client = Client::start_on(display, dir, case.name, gateway.port, USER, &options)?;
        Ok(Self {
            gateway,
            case,
            client,
            moments: Vec::new(),
        })
    }
}

/// How long a screen must rest before it counts; where clients resize, longer than a desktop takes to follow their windows.
const REST: Duration = Duration::from_millis(1500);
const REST_OF_RESIZED: Duration = Duration::from_secs(4);

/// Waits until all screens rest at once, and keeps what they show.
fn settle(seats: &mut [Seat<'_>], what: &'static str) -> anyhow::Result<()> {
    let mut last: Vec<Option<Picture>> = seats.iter().map(|_| None).collect();
    let (begun, mut since) = (Instant::now(), Instant::now());
    let rest = match seats.iter().any(|seat| seat.case.screen == Screen::Resized) {
        true => REST_OF_RESIZED,
        false => REST,
    };
    let mut has_changed = true;
    while has_changed || since.elapsed() < rest {
        has_changed = false;
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(180),
            "{what}: a screen never rests"
        );
        std::thread::sleep(Duration::from_millis(200));
        for (seat, last) in seats.iter().zip(&mut last) {
            let now = Some(seat.client.display.screenshot().context(seat.case.name)?);
            if *last != now {
                *last = now;
                has_changed = true;
                since = Instant::now();
            }
        }
    }
    // well inside of the rest, on both sides of the gateway
    let at = SystemTime::now() - Duration::from_millis(500);
    for (seat, screen) in seats.iter_mut().zip(last) {
        let screen = screen.context("a screen")?;
        seat.moments.push(Moment { at, screen, what });
    }
    Ok(())
}

/// Starts all clients, lets `work` happen on their desktops, and compares what they have seen with what was recorded.
fn are_recorded(
    dir: &Path,
    cases: &[(&Gateway, &[Case])],
    work: impl FnOnce(&[Seat<'_>]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut seats = Vec::new();
    for (gateway, cases) in cases {
        for case in *cases {
            seats.push(Seat::start(dir, gateway, case)?);
        }
    }
    for seat in &seats {
        let painted = seat.client.display.wait_painted(8);
        painted.with_context(|| format!("{}: {}", seat.case.name, seat.client.process.log()))?;
    }
    settle(&mut seats, "the first picture")?;
    work(&seats)?;
    for seat in seats.iter().filter(|seat| seat.case.screen == Screen::Resized) {
        let window = [
            "search",
            "--onlyvisible",
            "--class",
            "xfreerdp",
            "windowsize",
            "800",
            "600",
        ];
        seat.client.display.xdotool(&window)?;
    }
    for seat in &seats {
        let what = format!("{} to show the work", seat.case.name);
        seat.client.display.wait_changed(&seat.moments[0].screen, 100, &what)?;
    }
    settle(&mut seats, "after the work")?;
    for seat in &mut seats {
        let changed = seat.moments[1].screen.differing(&seat.moments[0].screen, 0);
        assert!(changed > 100, "{}: {changed} pixels changed", seat.case.name);
        seat.client.process.end();
    }
    for (gateway, cases) in cases {
        for index in 0..cases.len() {
            gateway.wait_recording(index, &["complete"])?;
        }
    }
    let problems: Vec<_> = seats.iter().flat_map(problems).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    Ok(())
}

/// What is wrong with a recording.
fn problems(seat: &Seat<'_>) -> Vec<String> {
    let gateway = seat.gateway;
    let Case {
        name, sent, tolerance, ..
    } = seat.case;
    let rows = gateway.recordings().unwrap_or_default();
    let Some(row) = rows.iter().find(|row| row["client_name"] == *name) else {
        return vec![format!("{name}: no recording")];
    };
    let id = row["id"].as_str().unwrap_or_default();
    let mut problems = Vec::new();
    for moment in &seat.moments {
        let frame = moment.offset(row).and_then(|at| gateway.frame(id, at));
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                problems.push(format!("{name}, {}: {error:#}", moment.what));
                continue;
            }
        };
        // what lies beyond a desktop that became smaller is the client's own
        let screen = match seat.case.screen {
            Screen::Resized => moment.screen.corner(frame.width, frame.height),
            Screen::Plain | Screen::Two => moment.screen.clone(),
        };
        let differing = screen.differing(&frame, *tolerance);
        if differing > 0 {
            let levels: Vec<_> = [0, 1, 2, 5, 10, 20, 50]
                .map(|level| screen.differing(&frame, level))
                .into();
            problems.push(format!(
                "{name}, {}: {differing} pixels differ by more than {tolerance}; by more than 0, 1, 2, 5, 10, 20, 50: {levels:?}",
                moment.what
            ));
            for (picture, who) in [(&screen, "client"), (&frame, "recording")] {
                let file = std::env::temp_dir().join(format!("deskreel-{name}-{who}.png"));
                problems.extend(picture.write_png(&file).err().map(|error| error.to_string()));
            }
        }
    }
    if seat.case.screen == Screen::Resized {
        let last = &seat.moments[1];
        let frame = last.offset(row).and_then(|at| gateway.frame(id, at));
        let size = frame.map(|frame| (frame.width, frame.height)).unwrap_or_default();
        if size != (800, 600) {
            problems.push(format!("{name}: {size:?} instead of 800x600"));
        }
    }
    let decoded = decoded(&gateway.process.log(), id);
    if !decoded.iter().any(|(name, count)| name == sent && *count > 0) {
        problems.push(format!("{name}: no {sent}: {decoded:?}"));
    }
    match gateway.run(&["recordings", "verify", id]) {
        Ok(report) if report.status.code() == Some(0) => (),
        Ok(report) => problems.push(format!("{name}: {}", String::from_utf8_lossy(&report.stdout))),
        Err(error) => problems.push(format!("{name}: {error:#}")),
    }
    problems
}

/// The tap's counts by encoding of one session, from the gateway's log.
fn decoded(log: &str, id: &str) -> Vec<(String, u64)> {
    let line = log
        .lines()
        .rfind(|line| line.contains(" decoded ") && line.contains(id))
        .unwrap_or_default();
    line.split_whitespace()
        .filter_map(|field| field.split_once('='))
        .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .collect()
}

fn gateway(dir: &Path, name: &str, desktop_port: u16) -> anyhow::Result<Gateway> {
    let settings = Settings {
        more: "log: {level: debug}\n".to_owned(),
        gateway: ", connections_per_address_max: 100, sessions_per_desktop_max: 100".to_owned(),
        ..Settings::of(desktop_port, "sync")
    };
    Gateway::start(&dir.join(name), &settings)
}

/// Types on each client's own desktop.
fn type_on_each(seats: &[Seat<'_>]) -> anyhow::Result<()> {
    for seat in seats {
        seat.client.click(300, 300)?;
        seat.client.type_text("seq 1 60; echo The quick brown fox")?;
        seat.client.key("Return")?;
    }
    Ok(())
}

#[test]
fn clients_of_xrdp() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("clients_of_xrdp") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start_for_many(dir.path())?;
    let vnc = xrdp.start_vnc(dir.path())?;
    let xorg_gate = gateway(dir.path(), "gateway", xrdp.port)?;
    let vnc_gate = gateway(dir.path(), "gateway-vnc", vnc.port)?;
    let xorg_cases = [
        Case {
            screen: Screen::Two,
            ..case("two-monitors", &["/multimon", "/nsc", "/jpeg"], "planar", 0)
        },
        case(
            "caches-24",
            &[
                "/bpp:24",
                "+bitmap-cache",
                "+glyph-cache",
                "+offscreen-cache",
                "/sec:tls",
            ],
            "rle",
            0,
        ),
        case("slow-16", &["/bpp:16", "-compression", "-fast-path"], "rle", 0),
        case("high-15", &["/bpp:15", "/compression-level:0"], "rle", 0),
        Case {
            screen: Screen::Resized,
            ..case(
                "rfx-resized",
                &["/rfx", "/dynamic-resolution", "+bitmap-cache"],
                "remote_fx",
                ROUNDED,
            )
        },
    ];
    let vnc_cases = [
        Case {
            screen: Screen::Resized,
            ..case("vnc-resized", &["/dynamic-resolution", "+offscreen-cache"], "planar", 0)
        },
        case("vnc-lan-16", &["/network:lan", "/bpp:16", "-fast-path"], "rle", 0),
    ];
    let cases = [(&xorg_gate, &xorg_cases[..]), (&vnc_gate, &vnc_cases[..])];
    are_recorded(dir.path(), &cases, type_on_each)
}

#[test]
fn clients_of_freerdp_shadow() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("clients_of_freerdp_shadow") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let shadow = Shadow::start(dir.path(), &[])?;
    let gate = gateway(dir.path(), "gateway", shadow.port)?;
    let cases = [
        case("auto", &[], "remote_fx", ROUNDED),
        case("gfx", &["/gfx", "/compression-level:2"], "planar", 0),
        case("gfx-rfx", &["/gfx:RFX"], "remote_fx", ROUNDED),
        case("gfx-avc420", &["/gfx:AVC420"], "planar", 0),
        case("lan-nsc", &["/network:lan", "/nsc", "/sec:tls"], "planar", 0),
        case(
            "caches-24",
            &["/bpp:24", "/compression-level:0", "+glyph-cache", "+bitmap-cache"],
            "rle",
            0,
        ),
        // with fewer bits, freerdp-shadow and xfreerdp don't understand each other without the fast path, nor at all with 8
        case("slow-32", &["-fast-path", "/rfx"], "remote_fx", ROUNDED),
        case("high-16", &["/bpp:16", "/compression-level:1"], "rle", 0),
        case("high-15", &["/bpp:15", "-compression"], "rle", 0),
    ];
    // one screen for all of them
    are_recorded(dir.path(), &[(&gate, &cases[..])], |seats| type_on_each(&seats[..1]))
}

#[test]
fn clients_of_weston() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("clients_of_weston") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let weston = Weston::start(dir.path())?;
    let gate = gateway(dir.path(), "gateway", weston.port)?;
    let cases = [
        case("auto", &[], "remote_fx", ROUNDED),
        case(
            "remotefx",
            &["/rfx", "-fast-path", "-compression"],
            "remote_fx",
            ROUNDED,
        ),
        case("nsc", &["/nsc", "/network:lan"], "ns_codec", 0),
        case("raw", &["/network:lan", "+bitmap-cache"], "raw", 0),
    ];
    are_recorded(dir.path(), &[(&gate, &cases[..])], |seats| type_on_each(&seats[..1]))
}
