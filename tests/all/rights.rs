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
use serde_json::Value;

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
pub(crate) struct Seat {
    pub(crate) client: Client,
    gateway: Gateway,
    _xrdp: Xrdp,
    _dir: tempfile::TempDir,
}

impl Seat {
    pub(crate) fn take(options: &str) -> anyhow::Result<Self> {
        Self::take_at(options, "")
    }

    /// `more`: lines for `deskreel.yaml`.
    fn take_at(options: &str, more: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let xrdp = Xrdp::start(dir.path())?;
        let gateway_dir = dir.path().join("gateway");
        role(&gateway_dir, options)?;
        let mut settings = Settings::of(xrdp.port, "sync");
        more.clone_into(&mut settings.more);
        let gateway = Gateway::start(&gateway_dir, &settings)?;
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
    pub(crate) fn copy_at_client(&self, text: &str) -> anyhow::Result<()> {
        self.copy_as("UTF8_STRING", text.as_bytes())
    }

    /// The same of something else than text.
    pub(crate) fn copy_as(&self, target: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let mut copy = self
            .client
            .display
            .command("xclip")
            .args(["-selection", "clipboard", "-t", target, "-i"])
            .stdin(Stdio::piped())
            .spawn()?;
        copy.stdin.take().unwrap().write_all(bytes)?;
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
            .args(["20", "xclip", "-selection", "clipboard", "-o"])
            .output()?;
        Ok(String::from_utf8_lossy(&got.stdout).into_owned())
    }

    /// Runs a command on the desktop, which writes what it says, and then `done`, into a file.
    pub(crate) fn on_desktop(&self, name: &str, command: &str) -> anyhow::Result<String> {
        let file = format!("/home/{USER}/{name}");
        let _ = std::fs::remove_file(&file);
        let mut said = String::new();
        wait_for(Duration::from_secs(60), &format!("{command} on the desktop"), || {
            self.client
                .type_text(&format!("({command}; echo done) > {file} 2>&1"))?;
            self.client.key("Return")?;
            for _ in 0..40 {
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

    /// Ends the session; the events of one channel in its recording, and what the audit log has of it.
    pub(crate) fn leave(mut self, channel: &str) -> anyhow::Result<(Vec<Value>, Vec<Value>)> {
        self.client.process.end();
        let recording = self.gateway.wait_recording(0, &["complete", "not_recorded"])?;
        let id = recording["id"].as_str().unwrap_or_default();
        let list = |events: Value| events.as_array().cloned().unwrap_or_default();
        let events = match recording["state"].as_str() {
            Some("not_recorded") => Vec::new(),
            _ => list(self.gateway.json(&["recordings", "events", id, "--channel", channel])?),
        };
        let trail = list(self.gateway.json(&["audit", "ls", "--session", id])?);
        Ok((events, trail))
    }
}

/// The events of this code, all of which have this name.
fn of_code<'a>(trail: &'a [Value], code: &str, name: &str) -> Vec<&'a Value> {
    let events: Vec<&Value> = trail.iter().filter(|event| event["code"] == code).collect();
    assert!(events.iter().all(|event| event["event"] == name), "{events:#?}");
    events
}

/// SHA-256 of "from the client" and of "from the desktop" as the clipboard carries them: UTF-16 with a NUL.
const CLIENT_TEXT: &str = "462b52efac4e86b16877ad31b8dbc038af0fd23013acd2e3f5c5822f8b2e334f";
const DESKTOP_TEXT: &str = "b48f0eb662de855750870f516610100a75034e963b7cd697ed3ffb3373d1eb0b";

/// The desktop's paste, bounded: a clipboard that is closed must not make anybody wait.
const PASTE: &str = "timeout 5 xclip -selection clipboard -o";

#[test]
fn a_clipboard_that_opens_to_the_desktop_only() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("a_clipboard_that_opens_to_the_desktop_only") else {
        return Ok(());
    };
    let seat = Seat::take("desktop_clipboard: to_desktop")?;
    seat.copy_at_client("from the client")?;
    wait_for(Duration::from_secs(60), "the client's text on the desktop", || {
        Ok(seat.on_desktop("pasted", PASTE)? == "from the clientdone\n")
    })?;
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
    let (events, trail) = seat.leave("clipboard")?;
    let denied = |event: &Value| event["kind"] == "denied" && event["direction"] == "to_client";
    assert!(events.iter().any(denied), "{events:?}");
    assert!(
        !format!("{events:?}{trail:?}").contains("from the client"),
        "facts only, no text"
    );
    let sent = of_code(&trail, "TDP02I", "desktop.clipboard.send");
    let whole = |event: &&&Value| event["length"] == 32 && event["sha256"] == CLIENT_TEXT;
    assert!(sent.iter().any(|event| whole(&event)), "{trail:#?}");
    assert_eq!(
        of_code(&trail, "TDP03I", "desktop.clipboard.receive"),
        Vec::<&Value>::new()
    );
    let blocked = of_code(&trail, "DRC02W", "desktop.clipboard.blocked");
    let from_desktop = |event: &&Value| {
        let formats = event["formats"].as_array().map_or(0, Vec::len);
        event["direction"] == "from_desktop" && formats > 0
    };
    assert!(!blocked.is_empty() && blocked.iter().all(from_desktop), "{blocked:#?}");
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
    wait_for(Duration::from_secs(60), "the desktop's text at the client", || {
        Ok(seat.paste_at_client()? == "from the desktop")
    })?;
    let (events, trail) = seat.leave("clipboard")?;
    let denied = |event: &Value| event["kind"] == "denied" && event["direction"] == "to_desktop";
    assert!(events.iter().any(denied), "{events:?}");
    let received = of_code(&trail, "TDP03I", "desktop.clipboard.receive");
    let whole = |event: &&Value| event["sha256"] == DESKTOP_TEXT;
    assert!(received.iter().any(whole), "{trail:#?}");
    assert_eq!(
        of_code(&trail, "TDP02I", "desktop.clipboard.send"),
        Vec::<&Value>::new()
    );
    let blocked = of_code(&trail, "DRC02W", "desktop.clipboard.blocked");
    let to_desktop = |event: &&Value| event["direction"] == "to_desktop";
    assert!(!blocked.is_empty() && blocked.iter().all(to_desktop), "{blocked:#?}");
    Ok(())
}

/// What passes through the clipboard is told though nothing, or nothing of the clipboard, is recorded: how much and in which
/// form, not its hash.
fn told_without_recording(options: &str, more: &str) -> anyhow::Result<()> {
    let seat = Seat::take_at(options, more)?;
    seat.copy_at_client("from the client")?;
    wait_for(Duration::from_secs(60), "the client's text on the desktop", || {
        Ok(seat.on_desktop("pasted", PASTE)? == "from the clientdone\n")
    })?;
    seat.on_desktop(
        "copied",
        "echo -n from the desktop | xclip -selection clipboard -i >/dev/null",
    )?;
    wait_for(Duration::from_secs(60), "the desktop's text at the client", || {
        Ok(seat.paste_at_client()? == "from the desktop")
    })?;
    let (events, trail) = seat.leave("clipboard")?;
    assert_eq!(events, Vec::<Value>::new());
    for (code, name, length) in [
        ("TDP02I", "desktop.clipboard.send", 32),
        ("TDP03I", "desktop.clipboard.receive", 34),
    ] {
        let told = of_code(&trail, code, name);
        assert!(told.iter().any(|event| event["length"] == length), "{code}: {trail:#?}");
        let formats = |event: &&Value| event["formats"].as_array().is_some_and(|formats| formats.len() == 1);
        assert!(told.iter().all(formats), "{told:#?}");
        assert!(told.iter().all(|event| event["sha256"].is_null()), "{told:#?}");
    }
    Ok(())
}

#[test]
fn the_audit_log_hears_of_the_clipboard_though_nothing_is_recorded() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("the_audit_log_hears_of_the_clipboard_though_nothing_is_recorded") else {
        return Ok(());
    };
    told_without_recording("", "session_recording: off\n")
}

#[test]
fn the_audit_log_hears_of_a_clipboard_that_is_not_recorded() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("the_audit_log_hears_of_a_clipboard_that_is_not_recorded") else {
        return Ok(());
    };
    told_without_recording("record_session: {clipboard: none}", "")
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
    let (events, trail) = seat.leave("session")?;
    let told = of_code(&trail, "DRC00W", "desktop.channel.denied");
    for (channel, option) in [
        ("rdpdr", "desktop_directory_sharing"),
        ("rdpsnd", "desktop_audio_output"),
        ("cliprdr", "desktop_clipboard"),
    ] {
        let denied = |event: &Value| event["kind"] == "channel_denied" && event["name"] == channel;
        assert!(events.iter().any(denied), "{channel}: {events:?}");
        let told = told.iter().find(|event| event["channel"] == channel);
        let reason = told.and_then(|event| event["reason"].as_str()).unwrap_or_default();
        // the role, too
        assert!(
            reason.contains(option) && reason.contains("access"),
            "{channel}: {trail:#?}"
        );
    }
    assert!(
        !of_code(&trail, "DRC01I", "desktop.channel.open").is_empty(),
        "{trail:#?}"
    );
    let open = |event: &Value| event["kind"] == "channel_opened" && event["name"] == "drdynvc";
    assert!(events.iter().any(open), "{events:?}");
    Ok(())
}
