//! Clipboard text passes both ways through the relayed channel.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::gateway::{Gateway, Settings};
use peers::process::wait_for;

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
    wait_for(Duration::from_secs(30), "the client's text on the desktop", || {
        client.type_text("xclip -selection clipboard -o > ~/pasted")?;
        client.key("Return")?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(std::fs::read_to_string(&pasted).unwrap_or_default() == "from the client")
    })?;

    // To the client: the other way round.
    client.type_text("echo -n from the desktop | xclip -selection clipboard -i")?;
    client.key("Return")?;
    wait_for(Duration::from_secs(30), "the desktop's text at the client", || {
        let got = client
            .display
            .command("timeout")
            .args(["3", "xclip", "-selection", "clipboard", "-o"])
            .output()?;
        Ok(got.stdout == b"from the desktop")
    })
}
