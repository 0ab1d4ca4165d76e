//! The gateway does not touch the user's picture.

use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::gateway::{Gateway, Settings};
use peers::picture::Picture;
use peers::process::wait_for;

use crate::sessions::Moment;

fn settled(dir: &std::path::Path, label: &str, port: u16) -> anyhow::Result<Picture> {
    let mut client = Client::start(dir, label, port, USER, &[])?;
    client.display.wait_painted(8)?;
    // Away from everything that reacts to a pointer.
    client.display.xdotool(&["mousemove", "900", "700"])?;
    let picture = client.display.wait_settled()?;
    client.process.end();
    Ok(picture)
}

#[test]
fn users_see_what_they_see_without_the_gateway() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("users_see_what_they_see_without_the_gateway") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    let settings = Settings::of(xrdp.port, "async");
    let gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    // xrdp keeps the desktop of a user who left: all three see the same one.
    let first = settled(dir.path(), "first", xrdp.port)?;
    let through = settled(dir.path(), "through", gateway.port)?;
    let direct = settled(dir.path(), "direct", xrdp.port)?;
    assert_eq!(
        first.differing(&direct, 0),
        0,
        "the desktop itself changed, nothing can be compared"
    );
    assert_eq!(through.differing(&direct, 0), 0, "the gateway changed the picture");
    Ok(())
}

/// A resize in mid-session makes the desktop deactivate and activate anew: the filter and the tap must follow.
#[test]
fn a_resize_is_followed() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("a_resize_is_followed") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    let settings = Settings::of(xrdp.port, "sync");
    let gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    let mut client = Client::start(dir.path(), "client", gateway.port, USER, &["/dynamic-resolution"])?;
    client.display.wait_painted(8)?;
    let before = Moment::now(&client, "before the resize")?;
    client.display.xdotool(&[
        "search",
        "--onlyvisible",
        "--class",
        "xfreerdp",
        "windowsize",
        "800",
        "600",
    ])?;
    // The client's window changes before the desktop follows it, which no screenshot tells apart.
    std::thread::sleep(Duration::from_secs(4));
    let after = Moment::now(&client, "after the resize")?;
    client.process.end();
    let recording = gateway.wait_recording(0, &["complete"])?;
    let id = recording["id"].as_str().unwrap_or_default();
    let mut sizes = Vec::new();
    for moment in [before, after] {
        let frame = gateway.frame(id, moment.offset(&recording)?)?;
        sizes.push((frame.width, frame.height));
    }
    assert_eq!(
        sizes,
        [(1024, 768), (800, 600)],
        "the recording's sizes before and after the resize"
    );
    wait_for(Duration::from_secs(5), "the gateway to serve on", || {
        Ok(peers::process::listens(gateway.port))
    })
}
