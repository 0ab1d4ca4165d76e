//! Desktops whose certificates were renewed.

use std::fs;
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER};
use peers::gateway::{Gateway, Settings};
use peers::process::wait_for;

/// The log says what to do, and a running gateway takes it at once.
#[test]
fn a_renewed_certificate_is_forgotten_while_the_gateway_runs() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_renewed_certificate_is_forgotten_while_the_gateway_runs") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let shadow = Shadow::start(dir.path(), &[])?;
    let home = dir.path().join("gateway");
    fs::create_dir_all(home.join("data"))?;
    // as if it had shown another one before
    let old = "5e".repeat(32);
    let pin = serde_json::json!({"lab": {"addr": format!("127.0.0.1:{}", shadow.port), "sha256": &old}});
    fs::write(home.join("data/pins.json"), pin.to_string())?;
    let gateway = Gateway::start(&home, &Settings::of(shadow.port, "sync"))?;
    let _refused = Client::start(dir.path(), "refused", gateway.port, USER, &[])?;
    wait_for(Duration::from_secs(60), "the refusal in the log", || {
        let log = gateway.process.log();
        Ok(log.contains("desktop_pin_mismatch") && log.contains("deskreel pins rm lab"))
    })?;
    let pins = gateway.json(&["pins", "ls"])?;
    assert_eq!(
        (&pins[0]["desktop"], &pins[0]["sha256"]),
        (&"lab".into(), &old.as_str().into())
    );

    let unknown = gateway.run(&["pins", "rm", "lab", "lap"])?;
    let said = String::from_utf8(unknown.stderr)?;
    assert!(
        unknown.status.code() == Some(1) && said.contains("desktop lap"),
        "{said}"
    );
    assert_eq!(gateway.json(&["pins", "ls"])?, pins, "all or none");
    let forgotten = gateway.run(&["pins", "rm", "lab"])?;
    assert!(
        forgotten.status.success(),
        "{}",
        String::from_utf8_lossy(&forgotten.stderr)
    );

    let mut client = Client::start(dir.path(), "client", gateway.port, USER, &[])?;
    client.display.wait_painted(3)?;
    client.process.end();
    gateway.wait_recording(0, &["complete"])?;
    let pins = gateway.json(&["pins", "ls"])?;
    assert!(
        pins[0]["desktop"] == "lab" && pins[0]["sha256"] != old.as_str(),
        "{pins}"
    );
    let told = gateway.json(&["audit", "ls", "--event", "desktop.update"])?;
    let changed = |event: &serde_json::Value| event["name"] == "lab" && event["changed"] == serde_json::json!(["pin"]);
    assert!(told.as_array().unwrap().iter().any(changed), "{told}");
    Ok(())
}
