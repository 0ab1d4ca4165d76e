//! A desktop sends the client to another machine: a real client comes back to the gateway and works at the desktop that is
//! known by that name, or is told that it may not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::PASSWORD;
use peers::gateway::Gateway;
use peers::graphics::{GraphicsDesktop, Redirection, USER};
use peers::process::{free_port, wait_for};

use crate::graphics::lossless;
use crate::nla::{OWN, files_with, set_password};

/// What the desktop says of an account elsewhere; nobody must ever see it.
const ELSEWHERE: &str = "Other-machine-1";

/// A redirection to `host` as a broker sends it: address, account and name.
fn to(host: &str) -> Vec<u8> {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect() };
    let mut body = vec![9, 0, 0, 0];
    // address, user name, domain, password, full name
    body.extend((0x1_u32 | 0x4 | 0x8 | 0x10 | 0x100).to_le_bytes());
    for field in ["192.0.2.7", "somebody", "FARM", ELSEWHERE, host] {
        let field = wide(field);
        body.extend(u32::try_from(field.len()).unwrap().to_le_bytes());
        body.extend(field);
    }
    let length = u16::try_from(body.len() + 4).unwrap().to_le_bytes();
    [&[0, 4], &length[..], &body].concat()
}

/// Two brokers, and behind the name that they tell a desktop with a picture; and one that leads to a desktop that takes what
/// people type. Alice and who is called as the login may use all, one session at a time; bob one broker alone.
fn configure(dir: &Path, [broker, early, sly, side]: [u16; 4]) -> anyhow::Result<u16> {
    let secret = dir.with_extension("secret");
    fs::create_dir_all(dir.join("resources"))?;
    fs::write(&secret, PASSWORD)?;
    let port = free_port()?;
    let yaml = format!(
        "data_dir: ./data\ngateway: {{listen: '127.0.0.1:{port}', default_desktop: broker, graphics: gfx}}\n\
         storages:\n  - {{name: disk, plugin: local, mode: sync, settings: {{path: ./recordings}}}}\n\
         access: {{resources_dir: ./resources}}\nlog: {{level: debug}}\n"
    );
    fs::write(dir.join("deskreel.yaml"), yaml)?;
    let mut resources = String::new();
    let login = format!(
        "{{logins: [{{login: {USER}, password: {{file: '{}'}}}}]}}",
        secret.display()
    );
    let injected = login.as_str();
    for (name, port, credentials) in [
        ("broker", broker, injected),
        ("early", early, injected),
        ("sly", sly, injected),
        ("side", side, injected),
        ("loose", side, "passthrough"),
    ] {
        resources += &format!(
            "{{kind: windows_desktop, version: v3, metadata: {{name: {name}, labels: {{at: {name}}}}}, \
              spec: {{addr: '127.0.0.1:{port}', gateway: {{credentials: {credentials}}}}}}}\n---\n"
        );
    }
    for (role, at) in [("both", "'*'"), ("one", "broker")] {
        resources += &format!(
            "{{kind: role, version: v7, metadata: {{name: {role}}}, spec: {{options: {{max_connections: 1}}, \
              allow: {{windows_desktop_labels: {{at: {at}}}, windows_desktop_logins: [{USER}]}}}}}}\n---\n"
        );
    }
    for (user, role) in [("alice", "both"), (USER, "both"), ("bob", "one")] {
        resources +=
            &format!("{{kind: user, version: v2, metadata: {{name: {user}}}, spec: {{roles: [{role}]}}}}\n---\n");
    }
    fs::write(dir.join("resources/all.yaml"), resources.trim_end_matches("---\n"))?;
    Ok(port)
}

#[test]
fn a_redirected_client_comes_back_and_works_at_the_other_desktop() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_redirected_client_comes_back_and_works_at_the_other_desktop") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("gateway");
    let broker = |host, before_picture| {
        let packet = to(host);
        GraphicsDesktop::start_redirecting(Redirection { packet, before_picture })
    };
    let (broker, early, sly) = (broker("SIDE", false)?, broker("SIDE", true)?, broker("LOOSE", false)?);
    let side = GraphicsDesktop::start(vec![lossless()])?;
    let listen = configure(&home, [broker.port, early.port, sly.port, side.port])?;
    for user in ["alice", USER, "bob"] {
        set_password(&home, user)?;
    }
    let gateway = Gateway::restart(&home, listen)?;
    let create = [
        "tickets",
        "create",
        "--user",
        "alice",
        "--desktop",
        "broker",
        "--ttl",
        "1h",
    ];
    let ticket = gateway.json(&create)?;
    let ticket = ticket["secret"].as_str().unwrap_or_default().to_owned();
    let mut recordings = 0;
    let mut before = serde_json::Value::Null;
    for (index, (security, user, password, token)) in [
        ("/sec:nla", "alice", OWN, "/load-balance-info:broker"),
        ("/sec:tls", "alice:broker", OWN, "/load-balance-info:broker"),
        ("/sec:nla", "alice:early", OWN, "/load-balance-info:early"),
        ("/sec:tls", "alice:early", OWN, "/load-balance-info:early"),
    ]
    .into_iter()
    .enumerate()
    {
        let own = format!("/p:{password}");
        let mut client = Client::start(
            dir.path(),
            &format!("client-{index}"),
            listen,
            user,
            &[security, "/gfx", &own, token],
        )?;
        client
            .display
            .wait_painted(8)
            .map_err(|error| error.context(client.process.log()).context(gateway.process.log()))?;
        client.process.end();
        // who is sent on before there is a picture leaves no recording
        let early = token.ends_with("early");
        for desktop in ["broker", "side"].into_iter().skip(early.into()) {
            let recording = gateway.wait_recording(recordings, &["complete"])?;
            recordings += 1;
            assert_eq!(recording["desktop"], desktop, "{security}: {recording}");
            assert_eq!(
                (&recording["user"], &recording["login"]),
                (&"alice".into(), &USER.into()),
                "{recording}"
            );
            assert_eq!(recording["identity"], "proven", "{recording}");
            if desktop == "side" && !early {
                let id = recording["id"].as_str().unwrap_or_default();
                let events = gateway.json(&["recordings", "events", id, "--channel", "session"])?;
                assert_eq!(events[0]["redirected_from"], before, "{events}");
                let trail = gateway.json(&["audit", "ls", "--session", id])?;
                let mut told = trail.as_array().into_iter().flatten();
                let start = told
                    .find(|event| event["code"] == "TDP00I")
                    .unwrap_or_else(|| panic!("{trail}"));
                assert_eq!(start["redirected_from"], before, "{trail}");
            }
            before = recording["id"].clone();
        }
    }

    // whom no role lets in there, who has a ticket for the broker alone, and whose password would come to a machine that
    // somebody else chose, is told so and gets no further
    for (user, name, password, token, why) in [
        ("bob", "bob", OWN, "/load-balance-info:broker", "denied_no_desktop"),
        (
            "alice",
            "alice:broker",
            &ticket,
            "/load-balance-info:broker",
            "a ticket lets into its one desktop only",
        ),
        (USER, USER, OWN, "/load-balance-info:sly", "the user's own password"),
    ] {
        let own = format!("/p:{password}");
        let mut client = Client::start(dir.path(), user, listen, name, &["/sec:nla", "/gfx", &own, token])?;
        let code = client.process.wait(Duration::from_secs(60))?;
        assert_ne!(code, Some(0), "{}", client.process.log());
        let recording = gateway.wait_recording(recordings, &["complete"])?;
        assert_eq!(recording["user"], user, "{recording}");
        recordings += 1;
        wait_for(Duration::from_secs(30), "the end in the audit log", || {
            let told = gateway.json(&["audit", "ls"])?.to_string();
            Ok(told.contains("redirect_refused") && told.contains(why))
        })?;
    }
    assert_eq!(gateway.recordings()?.len(), recordings);

    let log = gateway.process.log();
    assert_eq!(log.matches("reason=\"redirected\"").count(), 4, "{log}");
    let told = gateway.json(&["audit", "ls"])?.to_string();
    assert!(told.contains("redirected the client to SIDE"), "{told}");
    assert_eq!(files_with(&home, ELSEWHERE)?, Vec::<std::path::PathBuf>::new());
    assert!(!log.contains(ELSEWHERE));
    Ok(())
}
