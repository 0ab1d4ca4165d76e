//! What passes beside the picture: devices, sound, touch, monitors, facts of the session. A real client at a desktop that uses all
//! channels; where no client here has the hardware, one by script.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deskreel_rdp::Direction;
use deskreel_rdp::wire::channel::{Chunk, single_chunk};
use deskreel_rdp::wire::dvc::{self, DvcPdu};
use deskreel_rdp::wire::mcs::{self, DomainPdu};
use deskreel_rdp::wire::{monitor, rdpdr, touch};
use ironrdp_tokio::FramedWrite as _;
use peers::Peers;
use peers::channels::{COOKIE, ChannelsDesktop, DYNAMIC, Heard, SECOND_MONITOR, SIZE, USER};
use peers::client::Client;
use peers::connection::{DynamicClient, connect_dynamic};
use peers::desktop::PASSWORD;
use peers::display::Display;
use peers::gateway::{Gateway, Settings};
use peers::process::wait_for;
use serde_json::{Value, json};
use tokio_rustls::rustls::ALL_VERSIONS;

use crate::nla::files_with;
use crate::rights::role;

const PATIENCE: Duration = Duration::from_secs(60);
/// Channels that would carry screen or input past the recording.
const FORBIDDEN: &[&str] = &[DYNAMIC[4], DYNAMIC[5], DYNAMIC[6], DYNAMIC[7], DYNAMIC[8]];

struct Seat {
    dir: tempfile::TempDir,
    desktop: ChannelsDesktop,
    gateway: Gateway,
}

impl Seat {
    fn take(options: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let desktop = ChannelsDesktop::start()?;
        let home = dir.path().join("gateway");
        role(&home, options)?;
        let gateway = Gateway::start(&home, &Settings::of(desktop.port, "sync"))?;
        Ok(Self { dir, desktop, gateway })
    }

    /// A client with everything that it can redirect.
    fn client(&self, port: u16, more: &[&str]) -> anyhow::Result<Client> {
        let options = [
            "/printer:Office,MS Publisher Imagesetter",
            "/drive:home,/tmp",
            "/sound:sys:fake",
            "/multitouch",
            "/disp",
            "/echo",
            "/network:auto",
        ];
        Client::start(self.dir.path(), "client", port, USER, &[&options[..], more].concat())
    }

    fn wait_heard(&self, what: &str, is_so: impl Fn(&Heard) -> bool) -> anyhow::Result<Heard> {
        wait_for(PATIENCE, what, || Ok(is_so(&self.desktop.heard()))).map_err(|error| {
            error
                .context(format!("{:?}", self.desktop.heard()))
                .context(self.gateway.process.log())
        })?;
        Ok(self.desktop.heard())
    }

    /// The events of the `index`-th recording, and what the audit log has of its session.
    fn told(&self, index: usize) -> anyhow::Result<(Value, Vec<Value>, Vec<Value>)> {
        let recording = self.gateway.wait_recording(index, &["complete"])?;
        let id = recording["id"].as_str().unwrap_or_default();
        let list = |events: Value| events.as_array().cloned().unwrap_or_default();
        let events = list(self.gateway.json(&["recordings", "events", id])?);
        let trail = list(self.gateway.json(&["audit", "ls", "--session", id])?);
        let verified = self.gateway.run(&["recordings", "verify", id])?;
        assert_eq!(
            verified.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&verified.stdout)
        );
        Ok((recording, events, trail))
    }
}

/// The first event with these members.
#[track_caller]
fn find<'a>(events: &'a [Value], members: &Value) -> &'a Value {
    let members = members.as_object().unwrap();
    let is_it = |event: &&Value| members.iter().all(|(name, value)| event[name] == *value);
    events
        .iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("{members:?} is not in {events:#?}"))
}

/// Where the desktop says that its monitors are.
fn monitors() -> Value {
    let (width, height) = (i32::from(SIZE.0), SIZE.1);
    json!([
        {"x": 0, "y": 0, "width": SECOND_MONITOR, "height": height, "primary": true},
        {"x": SECOND_MONITOR, "y": 0, "width": width - SECOND_MONITOR, "height": height, "primary": false},
    ])
}

#[test]
fn what_a_client_has_reaches_the_desktop_and_is_told() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("what_a_client_has_reaches_the_desktop_and_is_told") else {
        return Ok(());
    };
    let seat = Seat::take("")?;
    // a client that has no fast path
    let mut client = seat.client(seat.gateway.port, &["-fast-path"])?;
    let heard = seat.wait_heard("all channels in use", |heard| {
        heard.played && heard.devices.len() >= 2 && heard.dynamic.len() == DYNAMIC.len()
    })?;
    let has = |kind: u32| heard.devices.iter().any(|(known, _)| *known == kind);
    assert!(has(rdpdr::device::PRINTER) && has(rdpdr::device::DRIVE), "{heard:?}");
    for name in [touch::CHANNEL, monitor::DISPLAY_CHANNEL, "ECHO"] {
        assert_eq!(heard.status(name), Some(0), "{name}: {heard:?}");
    }
    for name in FORBIDDEN {
        assert_eq!(heard.status(name), Some(dvc::STATUS_UNSUCCESSFUL), "{name}: {heard:?}");
    }
    // ready for fingers; an echo
    seat.wait_heard("words on dynamic channels", |heard| {
        let says = |name: &str, start: &[u8]| {
            let mut said = heard.said.iter();
            said.any(|(known, message)| known == name && message.starts_with(start))
        };
        says(touch::CHANNEL, &[2, 0]) && says("ECHO", b"echo")
    })?;
    client
        .display
        .xdotool(&["mousemove", "300", "200", "click", "1", "click", "4", "key", "a"])?;
    seat.wait_heard("slow-path input", |heard| heard.slow >= 3)?;
    assert_eq!(seat.desktop.heard().fast, 0);
    client.process.end();

    let (_, events, trail) = seat.told(0)?;
    let session = |kind: &str| json!({"channel": "session", "kind": kind});
    let logon = find(&events, &session("logon"));
    assert_eq!(
        (&logon["ok"], &logon["login"]),
        (&true.into(), &format!("LAB\\{USER}").into())
    );
    assert_eq!(find(&events, &session("monitors"))["monitors"], monitors());
    let network = find(&events, &session("network"));
    assert_eq!(
        (&network["round_trip_min_ms"], &network["round_trip_ms"]),
        (&11.into(), &33.into())
    );
    assert_eq!(network["bandwidth_kbit"], 22_000);
    for name in [
        touch::CHANNEL,
        monitor::DISPLAY_CHANNEL,
        "ECHO",
        "rdpdr",
        "rdpsnd",
        "drdynvc",
    ] {
        find(&events, &json!({"kind": "channel_opened", "name": name}));
        find(&trail, &json!({"code": "DRC01I", "channel": name}));
    }
    for name in FORBIDDEN.iter().chain(&["of_nobody"]) {
        find(
            &events,
            &json!({"kind": "channel_denied", "name": name, "dynamic": true}),
        );
        find(&trail, &json!({"code": "DRC00W", "channel": name}));
    }
    find(&events, &json!({"channel": "drive", "operation": "announce"}));
    let click = json!({"kind": "mouse_button", "button": "left", "down": true, "x": 300, "y": 200});
    find(&events, &click);
    find(&events, &json!({"kind": "wheel", "horizontal": false, "delta": 120}));
    let end = find(&trail, &json!({"code": "TDP01I"}));
    assert_eq!(end["logon"], format!("LAB\\{USER}"), "{end}");
    assert_eq!(end["network"]["round_trip_ms"], 33, "{end}");
    assert!(end["events"]["input"].as_u64() > Some(2), "{end}");
    // as words
    let id = end["sid"].as_str().unwrap_or_default();
    let words = seat.gateway.run(&["recordings", "events", id, "--format", "text"])?;
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    let told = format!("The screen is several monitors: {SECOND_MONITOR}x768 at 0, 0; 424x768 at {SECOND_MONITOR}, 0");
    assert!(words.contains(&told), "{words}");
    assert_eq!(
        files_with(&seat.gateway.dir, std::str::from_utf8(&COOKIE)?)?,
        Vec::<std::path::PathBuf>::new()
    );
    Ok(())
}

#[test]
fn what_a_role_denies_is_answered_for_and_nobody_waits() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("what_a_role_denies_is_answered_for_and_nobody_waits") else {
        return Ok(());
    };
    let seat = Seat::take(
        "desktop_printer: false, desktop_audio_output: false, desktop_audio_input: false, desktop_other_channels: false",
    )?;
    let mut client = seat.client(seat.gateway.port, &[])?;
    let heard = seat.wait_heard("an answer about each channel, and the drive", |heard| {
        !heard.devices.is_empty() && heard.dynamic.len() == DYNAMIC.len()
    })?;
    assert!(
        heard.devices.iter().all(|(kind, _)| *kind == rdpdr::device::DRIVE),
        "{heard:?}"
    );
    for name in FORBIDDEN.iter().chain(&["AUDIO_INPUT", "of_nobody"]) {
        assert_eq!(heard.status(name), Some(dvc::STATUS_UNSUCCESSFUL), "{name}: {heard:?}");
    }
    assert_eq!(heard.status(touch::CHANNEL), Some(0));
    // the session goes on, and ends as its user wants
    client.display.xdotool(&["mousemove", "500", "300", "click", "3"])?;
    client.process.wait(PATIENCE)?;
    let heard = seat.desktop.heard();
    assert!(heard.formats.is_none() && !heard.played && heard.fast > 0, "{heard:?}");

    let (recording, events, trail) = seat.told(0)?;
    for (channel, option) in [
        ("rdpdr", "desktop_printer"),
        ("rdpsnd", "desktop_audio_output"),
        ("AUDIO_INPUT", "desktop_audio_input"),
    ] {
        find(&events, &json!({"kind": "channel_denied", "name": channel}));
        let told = find(&trail, &json!({"code": "DRC00W", "channel": channel}));
        assert!(told["reason"].as_str().unwrap_or_default().contains(option), "{told}");
    }
    // the desktop's own word about the end
    assert!(
        recording["end_reason"]
            .as_str()
            .unwrap_or_default()
            .starts_with("logged_off"),
        "{recording}"
    );
    let end = find(&events, &json!({"channel": "session", "kind": "end"}));
    assert_eq!((&end["reason"], &end["error_info"]), (&"logged_off".into(), &12.into()));
    find(&events, &json!({"kind": "alert", "name": "desktop_error"}));
    assert_eq!(find(&trail, &json!({"code": "TDP01I"}))["error_info"], 12);
    Ok(())
}

/// Passes bytes on to the gateway until it is cut.
struct Wire {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(gateway: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let streams = Arc::clone(&open);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", gateway)) else {
                    return;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
                        return;
                    };
                    std::thread::spawn(move || {
                        let mut buffer = [0; 16 << 10];
                        while let Ok(count @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                streams.lock().unwrap().extend([client, server]);
            }
        });
        Ok(Self { port, open })
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The desktop has given the client a cookie, which lets it in again without a password: at the gateway it does not count.
#[test]
fn a_client_that_reconnects_is_let_in_and_recorded_anew() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_client_that_reconnects_is_let_in_and_recorded_anew") else {
        return Ok(());
    };
    let seat = Seat::take("")?;
    let wire = Wire::to(seat.gateway.port)?;
    let mut client = seat.client(wire.port, &["+auto-reconnect", "/auto-reconnect-max-retries:5"])?;
    let is_up = |heard: &Heard, count: usize| heard.sessions == count && heard.dynamic.len() == count * DYNAMIC.len();
    seat.wait_heard("the first session", |heard| is_up(heard, 1))?;
    wire.cut();
    let first = seat.gateway.wait_recording(0, &["complete"])?;
    seat.wait_heard("the second session", |heard| is_up(heard, 2))
        .map_err(|error| error.context(client.process.log()))?;
    client.process.end();
    let (second, events, trail) = seat.told(1)?;
    assert_ne!(first["id"], second["id"]);
    assert_eq!((&first["user"], &first["login"]), (&second["user"], &second["login"]));
    assert_eq!(events[0]["kind"], "start");
    find(&trail, &json!({"code": "TDP00I", "success": true}));
    assert_eq!(
        files_with(&seat.gateway.dir, std::str::from_utf8(&COOKIE)?)?,
        Vec::<std::path::PathBuf>::new()
    );
    Ok(())
}

/// What a client with a touch screen, a pen and a microphone says.
async fn fingers(mut client: DynamicClient) -> anyhow::Result<()> {
    let finger = [
        3, 0, 25, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0x41, 0x2C, 0x40, 0xC8, 0x19, 0x81, 0x2A, 0x80, 0xC6, 0x81, 0x2E, 0x80,
        0xCA,
    ];
    let lifted = [3, 0, 17, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0x41, 0x2C, 0x40, 0xC8, 4];
    // near the screen with its other end, and pressed
    let pen = [
        8, 0, 20, 0, 0, 0, 0, 1, 1, 0, 1, 3, 0x41, 0x90, 0x41, 0x2C, 0x19, 4, 0x42, 0x00,
    ];
    let mut wish: Vec<u8> = [2, 96, 40, 2].map(u32::to_le_bytes).concat();
    for (primary, left, width) in [(1_u32, 0_u32, 800_u32), (0, 800, 640)] {
        wish.extend(
            [primary, left, 0, width, 600, 0, 0, 0, 100, 100]
                .map(u32::to_le_bytes)
                .concat(),
        );
    }
    let mut said = 0;
    while said < 4 {
        let (_, bytes) = client.framed.read_pdu().await?;
        let Ok(DomainPdu::Data(data)) = mcs::domain_pdu(&bytes) else {
            continue;
        };
        if data.channel != client.channel {
            continue;
        }
        let chunk = Chunk::parse(bytes.get(data.payload).unwrap_or_default())?;
        let answers = match DvcPdu::parse(chunk.data, true)? {
            DvcPdu::Capabilities { .. } => vec![vec![0x50, 0, 1, 0]],
            DvcPdu::CreateRequest { id, .. } => vec![dvc::create_response(id, 0)],
            DvcPdu::Data { id, .. } => {
                said += 1;
                match DYNAMIC[id as usize - 1] {
                    touch::CHANNEL => [&finger[..], &lifted, &pen]
                        .map(|message| dvc::data(id, message))
                        .concat(),
                    monitor::DISPLAY_CHANNEL => dvc::data(id, &wish),
                    "AUDIO_INPUT" => dvc::data(id, &[1, 1, 0, 0, 0]),
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        };
        for answer in answers {
            let pdu = mcs::send_data(
                Direction::ToDesktop,
                client.user_channel,
                client.channel,
                &single_chunk(&answer),
            );
            client.framed.write_all(&pdu).await?;
        }
    }
    client.framed.write_all(&mcs::disconnect_ultimatum()).await?;
    Ok(())
}

#[test]
fn fingers_pens_and_wishes_for_monitors_are_recorded() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("fingers_pens_and_wishes_for_monitors_are_recorded") else {
        return Ok(());
    };
    let seat = Seat::take("")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let port = seat.gateway.port;
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let client = connect_dynamic(stream, ALL_VERSIONS, (USER, PASSWORD), SIZE).await?;
        tokio::time::timeout(PATIENCE, fingers(client)).await?
    })?;
    let heard = seat.wait_heard("fingers, a pen, a wish and a microphone", |heard| {
        let says = |name: &str| heard.said.iter().filter(|(known, _)| known == name).count();
        says(touch::CHANNEL) == 3 && says(monitor::DISPLAY_CHANNEL) == 1 && says("AUDIO_INPUT") == 1
    })?;
    assert_eq!(heard.status("AUDIO_INPUT"), Some(0));
    let (_, events, trail) = seat.told(0)?;
    let touched =
        |state: &str| json!({"channel": "input", "kind": "touch", "id": 0, "state": state, "x": 300, "y": 200});
    find(&events, &touched("down"));
    find(&events, &touched("up"));
    let pen = json!({"kind": "pen", "id": 1, "state": "down", "x": 400, "y": 300, "pressure": 512, "eraser": true});
    find(&events, &pen);
    let wish = find(&events, &json!({"kind": "monitors", "asked": true}));
    assert_eq!(
        wish["monitors"][1],
        json!({"x": 800, "y": 0, "width": 640, "height": 600, "primary": false})
    );
    let end = find(&trail, &json!({"code": "TDP01I"}));
    assert_eq!(end["events"]["input"], 3, "{end}");
    let id = end["sid"].as_str().unwrap_or_default();
    let words = seat.gateway.run(&["recordings", "events", id, "--format", "text"])?;
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    for line in [
        "Touched with a finger at 300, 200",
        "Touched with a pen at 400, 300",
        "The client asks for monitors: 800x600 at 0, 0; 640x600 at 800, 0",
    ] {
        assert!(words.contains(line), "{line}: {words}");
    }
    Ok(())
}

/// Xvfb has one screen, of which RandR makes two monitors.
#[test]
fn a_client_with_two_monitors_is_recorded_with_both() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_client_with_two_monitors_is_recorded_with_both") else {
        return Ok(());
    };
    let seat = Seat::take("")?;
    let display = Display::start(seat.dir.path(), "client", SIZE.0, SIZE.1)?;
    let (first, second) = (SECOND_MONITOR, i32::from(SIZE.0) - SECOND_MONITOR);
    for (name, place) in [
        ("one", format!("{first}/159x{}/203+0+0", SIZE.1)),
        ("two", format!("{second}/112x{}/203+{first}+0", SIZE.1)),
    ] {
        let output = if name == "one" { "screen" } else { "none" };
        let status = display
            .command("xrandr")
            .args(["--setmonitor", name, &place, output])
            .status()?;
        assert!(status.success(), "xrandr --setmonitor {name} {place}");
    }
    let mut client = Client::start_on(
        display,
        seat.dir.path(),
        "client",
        seat.gateway.port,
        USER,
        &["/multimon"],
    )?;
    seat.wait_heard("a session", |heard| {
        heard.sessions == 1 && heard.dynamic.len() == DYNAMIC.len()
    })
    .map_err(|error| error.context(client.process.log()))?;
    client.process.end();
    let (_, events, _) = seat.told(0)?;
    assert_eq!(events[0]["monitors"], monitors(), "{}", events[0]);
    // the desktop begins with one, as IronRDP's acceptor always does, and takes both then
    let told: Vec<&Value> = events.iter().filter(|event| event["kind"] == "monitors").collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!((&told[0]["monitors"], &told[1]["monitors"]), (&json!([]), &monitors()));
    Ok(())
}
