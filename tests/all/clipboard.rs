//! Text, pictures and files pass through the relayed clipboard, and what passed is told by its digest.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::gateway::{Gateway, Settings};
use peers::process::{run, wait_for};
use serde_json::json;

use crate::rights::Seat;

#[test]
fn text_passes_both_ways() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("text_passes_both_ways") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    let settings = Settings::of(xrdp.port, "sync");
    let gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    let client = Client::start(dir.path(), "client", gateway.port, USER, &["+clipboard"])?;
    client.display.wait_painted(8)?;
    client.display.wait_settled()?;
    client.click(300, 300)?;

    // To the desktop: the client's user copies, the desktop's user pastes into a file.
    let mut copy = client
        .display
        .command("xclip")
        .args(["-selection", "clipboard", "-i"])
        .stdin(Stdio::piped())
        .spawn()?;
    copy.stdin.take().unwrap().write_all(b"from the client")?;
    copy.wait()?;
    std::thread::sleep(Duration::from_secs(1));
    let pasted = std::path::PathBuf::from(format!("/home/{USER}/pasted"));
    let _ = std::fs::remove_file(&pasted);
    wait_for(Duration::from_secs(60), "the client's text on the desktop", || {
        client.type_text("xclip -selection clipboard -o > ~/pasted")?;
        client.key("Return")?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(std::fs::read_to_string(&pasted).unwrap_or_default() == "from the client")
    })?;

    // To the client: the other way round.
    client.type_text("echo -n from the desktop | xclip -selection clipboard -i")?;
    client.key("Return")?;
    wait_for(Duration::from_secs(60), "the desktop's text at the client", || {
        let got = client
            .display
            .command("timeout")
            .args(["20", "xclip", "-selection", "clipboard", "-o"])
            .output()?;
        Ok(got.stdout == b"from the desktop")
    })
}

/// The SHA-256 of bytes in a file of this machine.
fn digest(file: &std::path::Path) -> anyhow::Result<String> {
    let said = String::from_utf8(run("sha256sum", &[file])?)?;
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}

#[test]
fn pictures_and_files_pass_and_are_told_by_their_digest() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("pictures_and_files_pass_and_are_told_by_their_digest") else {
        return Ok(());
    };
    let seat = Seat::take("")?;
    let dir = tempfile::tempdir()?;
    // 16 by 16 pixels of 24 bits
    let mut dib = [40_u32, 16, 16].map(u32::to_le_bytes).concat();
    dib.extend([1, 0, 24, 0]);
    dib.extend([0, 768, 2835, 2835, 0, 0].map(u32::to_le_bytes).concat());
    dib.extend((0..768).map(|at| (at * 7 % 251) as u8));
    let mut picture = b"BM".to_vec();
    picture.extend([14 + dib.len() as u32, 0, 54].map(u32::to_le_bytes).concat());
    picture.extend(&dib);
    seat.copy_as("image/bmp", &picture)?;
    wait_for(Duration::from_secs(60), "the picture on the desktop", || {
        let said = seat.on_desktop(
            "picture",
            "timeout 5 xclip -selection clipboard -t image/bmp -o | head -c 2",
        )?;
        Ok(said.starts_with("BM"))
    })?;

    let file = dir.path().join("note.txt");
    std::fs::write(&file, "a file of the client\n".repeat(500))?;
    seat.copy_as("text/uri-list", format!("file://{}\r\n", file.display()).as_bytes())?;
    let wanted = digest(&file)?;
    wait_for(Duration::from_secs(60), "the file on the desktop", || {
        let said = seat.on_desktop(
            "file",
            "timeout 5 xclip -selection clipboard -t text/uri-list -o; timeout 5 cat ~/thinclient_drives/.clipboard/note.txt | sha256sum",
        )?;
        Ok(said.contains(&wanted))
    })?;

    let whole = dir.path().join("dib");
    std::fs::write(&whole, &dib)?;
    let (events, trail) = seat.leave("clipboard")?;
    for (name, digest, length) in [
        ("picture", digest(&whole)?, dib.len()),
        ("file", digest(&file)?, 10_500),
    ] {
        let is_it = |event: &&serde_json::Value| {
            event["kind"] == "transferred" && event["direction"] == "to_desktop" && event["sha256"] == json!(digest)
        };
        let told = events
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{name}: {events:#?}"));
        assert_eq!(told["length"], length, "{told}");
        assert!(
            trail.iter().any(|event| event["sha256"] == json!(digest)),
            "{name}: {trail:#?}"
        );
    }
    Ok(())
}
