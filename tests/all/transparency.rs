//! What a desktop and its client are told with the gateway in between, beside what they are told without it; and how many bytes
//! that takes.

use std::path::Path;

use anyhow::Context as _;
use deskreel_rdp::wire::capability::set;
use deskreel_rdp::wire::connect::block;
use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER, Xrdp};
use peers::display::Display;
use peers::gateway::{Gateway, Settings};
use peers::spy::{Facts, Seen, Spy};
use peers::weston::Weston;

/// What of a client's capabilities doesn't reach the desktop: drawing orders and their caches, compression of channels (which
/// is none of the picture's), windows of their own.
const TAKEN_AWAY: [u16; 9] = [
    set::ORDER,
    set::GLYPH_CACHE,
    set::OFFSCREEN_CACHE,
    set::BRUSH,
    set::DRAW_NINE_GRID,
    set::DRAW_GDI_PLUS,
    set::VIRTUAL_CHANNEL,
    set::RAIL,
    set::WINDOW_LIST,
];
/// Options of a channel in `CS_NET`: 4 bytes behind 8 of its name.
const CHANNEL_BYTES: usize = 12;
const CHANNEL_NAME_BYTES: usize = 8;

/// One client at a port, from its first picture over a burst of text to its end.
fn work(dir: &Path, label: &str, port: u16, options: &[&str]) -> anyhow::Result<()> {
    let display = Display::start(dir, label, 1024, 768)?;
    if options.contains(&"/multimon") {
        display.split(1024, 768)?;
    }
    let mut client = Client::start_on(display, dir, label, port, USER, options)?;
    client.display.wait_painted(8).with_context(|| client.process.log())?;
    client.display.wait_settled()?;
    client.click(300, 300)?;
    client.type_text("seq 1 60")?;
    let before = client.display.wait_settled()?;
    client.key("Return")?;
    client.display.wait_changed(&before, 500, "the numbers")?;
    client.display.wait_settled()?;
    client.process.end();
    Ok(())
}

/// How many bytes of the desktop there may be with the gateway for 100 without it.
const BYTES_PERCENT: u64 = 105;
/// Sessions that are compared at most: what a desktop puts in one frame, and what in two, is up to the moment.
const ATTEMPTS: usize = 16;

/// The same work directly and through the gateway, as the desktop sees it, and the latter as the client sees it. Where the
/// desktop is `quiet`, paints nothing by itself, the bytes are compared as well.
fn compare(dir: &Path, desktop: u16, options: &[&str], quiet: bool) -> anyhow::Result<()> {
    let near_desktop = Spy::start(desktop)?;
    let gateway = Gateway::start(&dir.join("gateway"), &Settings::of(near_desktop.port, "sync"))?;
    let near_client = Spy::start(gateway.port)?;
    let (mut without, mut with) = (u64::MAX, u64::MAX);
    for attempt in 1..=ATTEMPTS {
        work(dir, "direct", near_desktop.port, options)?;
        work(dir, "through", near_client.port, options)?;
        let (at_desktop, at_client) = (near_desktop.seen(), near_client.seen());
        let [.., direct, through] = &at_desktop[..] else {
            anyhow::bail!("{} connections", at_desktop.len());
        };
        let client = at_client.last().context("no connection of the client")?;
        told_the_same(options, direct, through, client)?;
        legs(options, through, client);
        (without, with) = (without.min(direct.to_client_bytes), with.min(client.to_client_bytes));
        eprintln!("{options:?}: {without} bytes without the gateway, {with} with it");
        if !quiet || with * 100 <= without * BYTES_PERCENT {
            return Ok(());
        }
        assert!(
            attempt < ATTEMPTS,
            "{options:?}: {without} bytes without the gateway, {with} with it"
        );
    }
    Ok(())
}

fn told_the_same(options: &[&str], direct: &Seen, through: &Seen, client: &Seen) -> anyhow::Result<()> {
    let (told, as_told) = (direct.facts()?, through.facts()?);
    assert_eq!(
        comparable(&as_told),
        comparable(&told),
        "{options:?}: what the desktop is told"
    );
    // ... and it answers the same, which the client gets
    assert_eq!(as_told.demanded, told.demanded, "{options:?}");
    assert_eq!(
        comparable(&client.facts()?),
        comparable(&told),
        "{options:?}: what the client tells"
    );
    Ok(())
}

/// Facts without what the gateway takes away.
fn comparable(facts: &Facts) -> Facts {
    let mut facts = facts.clone();
    for (kind, body) in &mut facts.client {
        match *kind {
            block::CS_NET => {
                let channels = body.get_mut(4..).unwrap_or_default().chunks_exact_mut(CHANNEL_BYTES);
                channels.for_each(|channel| channel[CHANNEL_NAME_BYTES..].fill(0));
            }
            block::CS_MULTITRANSPORT => body.fill(0),
            _ => (),
        }
    }
    facts.confirmed.retain(|(kind, _)| !TAKEN_AWAY.contains(kind));
    facts.demanded.retain(|(kind, _)| *kind != set::VIRTUAL_CHANNEL);
    facts
}

/// What the gateway adds to a leg, or keeps from it: in thousandths, at most.
const LEG_MAX: u64 = 10;
/// What neither leg has less of.
const WORK_BYTES: u64 = 5_000;

fn legs(options: &[&str], through: &Seen, client: &Seen) {
    assert!(
        through.to_client_bytes > WORK_BYTES,
        "{options:?}: {} bytes",
        through.to_client_bytes
    );
    for (one, other) in [
        (through.to_client_bytes, client.to_client_bytes),
        (through.to_desktop_bytes, client.to_desktop_bytes),
    ] {
        assert!(
            one.abs_diff(other) * 1000 <= one * LEG_MAX,
            "{options:?}: {one} and {other} bytes"
        );
    }
}

#[test]
fn desktops_and_clients_are_told_the_same_with_the_gateway() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("desktops_and_clients_are_told_the_same_with_the_gateway") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let folder = |name: &str| -> anyhow::Result<std::path::PathBuf> {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let xrdp = Xrdp::start_for_many(dir.path())?;
    compare(
        &folder("one")?,
        xrdp.port,
        &["/multimon", "/rfx", "+bitmap-cache", "+glyph-cache"],
        true,
    )?;
    compare(
        &folder("two")?,
        xrdp.port,
        &["/bpp:24", "/sound", "+clipboard", "/dynamic-resolution"],
        true,
    )?;
    let weston = Weston::start(&folder("weston")?)?;
    // its cursor blinks
    compare(&folder("three")?, weston.port, &["/rfx", "/network:lan"], false)?;
    let shadow = Shadow::start(&folder("shadow")?, &[])?;
    compare(&folder("four")?, shadow.port, &["/rfx", "/gfx"], true)
}
