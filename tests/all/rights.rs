//! Roles that close channels: what is closed stays closed, and nobody waits for it.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::gateway::{Gateway, Settings};
use peers::process::wait_for;

/// Writes the role `access`, which the gateways of these tests give to whoever comes.
pub(crate) fn role(gateway_dir: &Path, options: &str) -> anyhow::Result<()> {
    let resources = gateway_dir.join("resources");
    std::fs::create_dir_all(&resources)?;
    let role = format!(
        "kind: role\nversion: v7\nmetadata: {{name: access}}\nspec:\n  allow:\n    windows_desktop_labels: {{'*': '*'}}\n    \
         windows_desktop_logins: ['{{{{internal.windows_logins}}}}']\n  options: {{{options}}}\n"
    );
    Ok(std::fs::write(resources.join("access.yaml"), role)?)
}

/// A person at a painted desktop, with a terminal that has the focus.
struct Seat {
    client: Client,
    gateway: Gateway,
    _xrdp: Xrdp,
    _dir: tempfile::TempDir,
}

impl Seat {
    fn take(options: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let xrdp = Xrdp::start(dir.path())?;
        let gateway_dir = dir.path().join("gateway");
        role(&gateway_dir, options)?;
        let gateway = Gateway::start(&gateway_dir, &Settings::of(xrdp.port, "sync"))?;
        let channels = ["+clipboard", "/sound:sys:fake", "/drive:home,/tmp"];
        let client = Client::start(dir.path(), "client", gateway.port, USER, &channels)?;
        client
            .display
            .wait_painted(8)
            .map_err(|error| error.context(gateway.process.log()))?;
        client.display.wait_settled()?;
        client.click(300, 300)?;
        Ok(Self {
            client,
            gateway,
            _xrdp: xrdp,
            _dir: dir,
        })
    }

    /// The client's user copies.
    fn copy_at_client(&self, text: &str) -> anyhow::Result<()> {
        let mut copy = self
            .client
            .display
            .command("xclip")
            .args(["-selection", "clipboard", "-i"])
            .stdin(Stdio::piped())
            .spawn()?;
        copy.stdin.take().unwrap().write_all(text.as_bytes())?;
        copy.wait()?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// What the client's user would paste.
    fn paste_at_client(&self) -> anyhow::Result<String> {
        let got = self
            .client
            .display
            .command("timeout")
            .args(["3", "xclip", "-selection", "clipboard", "-o"])
            .output()?;
        Ok(String::from_utf8_lossy(&got.stdout).into_owned())
    }

    /// Runs a command on the desktop, which writes what it says, and then `done`, into a file.
    fn on_desktop(&self, name: &str, command: &str) -> anyhow::Result<String> {
        let file = format!("/home/{USER}/{name}");
        let _ = std::fs::remove_file(&file);
        let mut said = String::new();
        wait_for(Duration::from_secs(60), &format!("{command} on the desktop"), || {
            self.client
                .type_text(&format!("({command}; echo done) > {file} 2>&1"))?;
            self.client.key("Return")?;
            for _ in 0..8 {
                std::thread::sleep(Duration::from_millis(500));
                said = std::fs::read_to_string(&file).unwrap_or_default();
                if said.ends_with("done\n") {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .map_err(|error| error.context(self.gateway.process.log()))?;
        Ok(said)
    }

    /// Ends the session and gives the events of one channel.
    fn leave(mut self, channel: &str) -> anyhow::Result<Vec<serde_json::Value>> {
        self.client.process.end();
        let recording = self.gateway.wait_recording(0, &["complete"])?;
        let id = recording["id"].as_str().unwrap_or_default();
        let events = self.gateway.json(&["recordings", "events", id, "--channel", channel])?;
        Ok(events.as_array().cloned().unwrap_or_default())
    }
}

/// The desktop's paste, bounded: a clipboard that is closed must not make anybody wait.
const PASTE: &str = "timeout 5 xclip -selection clipboard -o";

#[test]
fn a_clipboard_that_opens_to_the_desktop_only() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("a_clipboard_that_opens_to_the_desktop_only") else {
        return Ok(());
    };
    let seat = Seat::take("desktop_clipboard: to_desktop")?;
    seat.copy_at_client("from the client")?;
    assert_eq!(seat.on_desktop("pasted", PASTE)?, "from the clientdone\n");
    seat.on_desktop(
        "copied",
        "echo -n secret of the desktop | xclip -selection clipboard -i >/dev/null",
    )?;
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        seat.paste_at_client()?,
        "from the client",
        "nothing came from the desktop"
    );
    let events = seat.leave("clipboard")?;
    let denied = |event: &serde_json::Value| event["kind"] == "denied" && event["direction"] == "to_client";
    assert!(events.iter().any(denied), "{events:?}");
    assert!(
        !format!("{events:?}").contains("from the client"),
        "facts only, no text"
    );
    Ok(())
}

#[test]
fn a_clipboard_that_opens_to_the_client_only() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("a_clipboard_that_opens_to_the_client_only") else {
        return Ok(());
    };
    let seat = Seat::take("desktop_clipboard: from_desktop")?;
    seat.copy_at_client("secret of the client")?;
    let pasted = seat.on_desktop("pasted", PASTE)?;
    assert!(!pasted.contains("secret"), "{pasted}");
    seat.on_desktop(
        "copied",
        "echo -n from the desktop | xclip -selection clipboard -i >/dev/null",
    )?;
    wait_for(Duration::from_secs(30), "the desktop's text at the client", || {
        Ok(seat.paste_at_client()? == "from the desktop")
    })?;
    let events = seat.leave("clipboard")?;
    let denied = |event: &serde_json::Value| event["kind"] == "denied" && event["direction"] == "to_desktop";
    assert!(events.iter().any(denied), "{events:?}");
    Ok(())
}

#[test]
fn a_session_without_channels() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("a_session_without_channels") else {
        return Ok(());
    };
    let seat = Seat::take(
        "desktop_clipboard: false, desktop_directory_sharing: false, desktop_printer: false, desktop_smart_card: false, \
         desktop_serial_port: false, desktop_usb: false, desktop_audio_output: false, desktop_audio_input: false, \
         desktop_camera: false, desktop_other_channels: false",
    )?;
    seat.copy_at_client("secret of the client")?;
    let pasted = seat.on_desktop("pasted", PASTE)?;
    assert!(!pasted.contains("secret"), "{pasted}");
    seat.on_desktop(
        "copied",
        "echo -n secret of the desktop | xclip -selection clipboard -i >/dev/null",
    )?;
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(seat.paste_at_client()?, "secret of the client");
    let events = seat.leave("session")?;
    for channel in ["rdpdr", "rdpsnd", "cliprdr"] {
        let denied = |event: &serde_json::Value| event["kind"] == "channel_denied" && event["name"] == channel;
        assert!(events.iter().any(denied), "{channel}: {events:?}");
    }
    let open = |event: &serde_json::Value| event["kind"] == "channel_opened" && event["name"] == "drdynvc";
    assert!(events.iter().any(open), "{events:?}");
    Ok(())
}
