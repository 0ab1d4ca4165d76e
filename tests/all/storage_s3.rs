//! Sessions that are recorded into an S3 bucket: delivered while they run or afterwards, past a server that dies, and readable
//! from there alone.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER};
use peers::faults::Faults;
use peers::gateway::{Gateway, deskreel, run_in};
use peers::process::{free_port, wait_for};
use peers::seaweed::{BUCKET, KEY, LOCKED_BUCKET, SECRET, Seaweed};

/// Settings of the plugin in the bucket of the server at a port, as they follow `settings:`.
fn settings(prefix: &str, server_port: u16) -> String {
    format!(
        "bucket: {BUCKET}, prefix: {prefix}, endpoint: 'http://127.0.0.1:{server_port}', access_key_id: {KEY}, \
         secret_access_key: {{file: s3.secret}}"
    )
}

/// Writes the configuration of a gateway in front of a desktop whose only storage is a bucket; gives the gateway's port.
pub(crate) fn configure(
    dir: &Path,
    desktop_port: u16,
    plugin: &str,
    mode: &str,
    settings: &str,
) -> anyhow::Result<u16> {
    let port = free_port()?;
    fs::create_dir_all(dir.join("resources"))?;
    fs::write(dir.join("s3.secret"), SECRET)?;
    let yaml = format!(
        "data_dir: ./data\n\
         gateway: {{listen: '127.0.0.1:{port}', default_desktop: lab}}\n\
         recording: {{segment_max_age: 1s}}\n\
         storages: [{{name: archive, plugin: {plugin}, mode: {mode}, settings: {{{settings}}}}}]\n\
         access: {{resources_dir: ./resources, claimed_identity: allow, claimed_roles: [access]}}\n"
    );
    fs::write(dir.join("deskreel.yaml"), yaml)?;
    let desktop = format!(
        "kind: windows_desktop\nversion: v3\nmetadata: {{name: lab}}\n\
         spec: {{addr: '127.0.0.1:{desktop_port}', gateway: {{tls: {{verify: pin}}, credentials: passthrough}}}}\n"
    );
    fs::write(dir.join("resources/lab.yaml"), desktop)?;
    Ok(port)
}

/// A gateway in front of a desktop whose only storage is the bucket.
fn gateway(dir: &Path, desktop_port: u16, server_port: u16, mode: &str) -> anyhow::Result<Gateway> {
    let port = configure(dir, desktop_port, "s3", mode, &settings(mode, server_port))?;
    Gateway::restart(dir, port)
}

/// Runs `deskreel storages check` with these variables and none of the cloud's own; gives its exit code and what it says.
pub(crate) fn check(dir: &Path, variables: &[(&str, String)]) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = Command::new(deskreel());
    command
        .args(["storages", "check", "--config"])
        .arg(dir.join("deskreel.yaml"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_") || name.starts_with("GOOGLE_")) {
        command.env_remove(name);
    }
    command.env("HOME", dir).envs(variables.iter().cloned());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), said))
}

/// What lies in the spool for a recording.
fn spooled(dir: &Path, id: &str) -> usize {
    fs::read_dir(dir.join("data/spool").join(id)).map_or(0, |entries| entries.flatten().count())
}

/// Verified and exported with nothing but what is in the bucket.
fn is_whole_there(gateway: &Gateway, id: &str) -> anyhow::Result<()> {
    wait_for(Duration::from_secs(60), "the spool to be empty", || {
        Ok(spooled(&gateway.dir, id) == 0)
    })?;
    let verified = gateway.run(&["recordings", "verify", id])?;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned() + &String::from_utf8_lossy(&verified.stderr);
    assert_eq!(verified.status.code(), Some(0), "{said}");
    let video = gateway.dir.join("session.mp4").display().to_string();
    let exported = gateway.run(&["recordings", "export", id, "--format", "mp4", "-o", &video])?;
    assert!(
        exported.status.success(),
        "{}",
        String::from_utf8_lossy(&exported.stderr)
    );
    assert!(fs::metadata(&video)?.len() > 5_000, "the video");
    Ok(())
}

fn begin(dir: &Path, gateway: &Gateway) -> anyhow::Result<Client> {
    let client = Client::start(dir, "client", gateway.port, USER, &[])?;
    client.display.wait_painted(8)?;
    Ok(client)
}

#[test]
fn a_server_that_dies_during_the_session_is_caught_up_with() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_server_that_dies_during_the_session_is_caught_up_with") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let mut server = Seaweed::start(&dir.path().join("server"))?;
    let shadow = Shadow::start(dir.path(), &[])?;
    let gateway = gateway(&dir.path().join("gateway"), shadow.port, server.port, "async")?;
    let client = begin(dir.path(), &gateway)?;
    client.type_text("before")?;
    std::thread::sleep(Duration::from_secs(3));
    server.kill();
    client.type_text("while it is away")?;
    std::thread::sleep(Duration::from_secs(3));
    drop(client);
    let row = gateway.wait_recording(0, &["delivering"])?;
    let id = row["id"].as_str().context("an id")?.to_owned();
    assert!(spooled(&gateway.dir, &id) > 0, "nothing waits: {row}");
    server.restart()?;
    let row = gateway.wait_recording(0, &["complete"])?;
    assert_eq!(row["id"].as_str(), Some(id.as_str()));
    is_whole_there(&gateway, &id)
}

#[test]
fn sync_delivery_keeps_up_and_leaves_nothing_in_the_spool() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("sync_delivery_keeps_up_and_leaves_nothing_in_the_spool") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let server = Seaweed::shared()?;
    let shadow = Shadow::start(dir.path(), &[])?;
    let gateway = gateway(&dir.path().join("gateway"), shadow.port, server, "sync")?;
    let client = begin(dir.path(), &gateway)?;
    for _ in 0..4 {
        client.type_text("some text")?;
        std::thread::sleep(Duration::from_secs(1));
        for row in gateway.recordings()? {
            let id = row["id"].as_str().unwrap_or_default();
            assert_eq!(spooled(&gateway.dir, id), 0, "sync writes to the disk");
        }
    }
    drop(client);
    let row = gateway.wait_recording(0, &["complete"])?;
    is_whole_there(&gateway, row["id"].as_str().context("an id")?)
}

/// A short session; gives its recording's id. Others may be in the catalog by then: those of the same bucket.
fn record(dir: &Path, gateway: &Gateway, text: &str) -> anyhow::Result<String> {
    let client = begin(dir, gateway)?;
    client.type_text(text)?;
    // Its own recording is the one that is not closed.
    let mut id = None;
    wait_for(Duration::from_secs(60), "the session to be listed", || {
        let open = gateway
            .recordings()?
            .into_iter()
            .find(|row| row["state"] == "recording");
        id = open.and_then(|row| row["id"].as_str().map(str::to_owned));
        Ok(id.is_some())
    })?;
    let id = id.context("an id")?;
    std::thread::sleep(Duration::from_secs(2));
    drop(client);
    wait_for(Duration::from_secs(180), "the recording to be complete", || {
        let rows = gateway.recordings()?;
        Ok(rows.iter().any(|row| row["id"] == *id && row["state"] == "complete"))
    })?;
    Ok(id)
}

/// Two gateways that know nothing of each other but the bucket: each lists, shows and verifies what the other recorded.
#[test]
fn two_gateways_share_a_bucket() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("two_gateways_share_a_bucket") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let server = Seaweed::shared()?;
    let shadow = Shadow::start(dir.path(), &[])?;
    let mut nodes = Vec::new();
    for name in ["one", "two"] {
        let home = dir.path().join(name);
        let port = configure(&home, shadow.port, "s3", "async", &settings("shared", server))?;
        let gateway = Gateway::restart(&home, port)?;
        let id = record(dir.path(), &gateway, name)?;
        nodes.push((gateway, id));
    }
    assert_ne!(nodes[0].1, nodes[1].1);
    for (here, there) in [(0, 1), (1, 0)] {
        let (gateway, own) = &nodes[here];
        let (other, foreign) = &nodes[there];
        let synced = gateway.run(&["catalog", "sync"])?;
        assert_eq!(
            synced.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&synced.stderr)
        );
        let rows = gateway.recordings()?;
        let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
        ids.sort_unstable();
        let mut both = [own.as_str(), foreign.as_str()];
        both.sort_unstable();
        assert_eq!(ids, both);
        let key = other.dir.join("data/keys/node.pub.pem").display().to_string();
        let verified = gateway.run(&["recordings", "verify", foreign, "--public-key", &key])?;
        let said = String::from_utf8_lossy(&verified.stdout).into_owned() + &String::from_utf8_lossy(&verified.stderr);
        assert_eq!(verified.status.code(), Some(0), "{said}");
        // Its last picture, however long the first one took.
        let row = rows
            .iter()
            .find(|row| row["id"] == **foreign)
            .context("the foreign row")?;
        let end = row["duration_ms"].as_f64().context("a length")? / 1000.0;
        let picture = gateway.frame(foreign, end)?;
        let same = other.frame(foreign, end)?;
        assert!(picture == same, "the other's picture is another one here");
    }
    Ok(())
}

/// Both are killed in the middle of a session, now the one first, now the other, time and again: what was durable arrives.
fn killed_again_and_again(mode: &str) -> anyhow::Result<()> {
    const ROUNDS: usize = 3;
    let dir = tempfile::tempdir()?;
    let mut server = Seaweed::start(&dir.path().join("server"))?;
    let shadow = Shadow::start(dir.path(), &[])?;
    let home = dir.path().join("gateway");
    let port = configure(&home, shadow.port, "s3", mode, &settings("killed", server.port))?;
    for round in 0..ROUNDS {
        // It closes what the last round left while the next session runs.
        let mut gateway = Gateway::restart(&home, port)?;
        let client = begin(dir.path(), &gateway)?;
        client.type_text("some text")?;
        std::thread::sleep(Duration::from_secs(3));
        if round % 2 == 0 {
            server.kill();
            std::thread::sleep(Duration::from_secs(1));
        }
        gateway.process.kill();
        server.kill();
        drop(client);
        drop(gateway);
        server.restart()?;
    }
    let gateway = Gateway::restart(&home, port)?;
    for round in 0..ROUNDS {
        let row = gateway
            .wait_recording(round, &["recovered"])
            .with_context(|| format!("the server: {}", server.log()))?;
        let id = row["id"].as_str().context("an id")?.to_owned();
        wait_for(Duration::from_secs(60), "the spool to be empty", || {
            Ok(spooled(&gateway.dir, &id) == 0)
        })?;
        // True, but for its end. A server that was killed does not find all volumes of its own at once.
        let mut said = String::new();
        wait_for(Duration::from_secs(120), "the recording to be verified", || {
            let verified = gateway.run(&["recordings", "verify", &id])?;
            said = String::from_utf8_lossy(&verified.stdout).into_owned() + &String::from_utf8_lossy(&verified.stderr);
            Ok(verified.status.code() == Some(3))
        })
        .with_context(|| format!("{said}{}", server.log()))?;
        let length = row["duration_ms"].as_f64().context("a length")? / 1000.0;
        assert!(gateway.frame(&id, length)?.colours() >= 8, "round {round}: {row}");
    }
    Ok(())
}

#[test]
fn gateway_and_server_are_killed_again_and_again_async() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("gateway_and_server_are_killed_again_and_again_async") else {
        return Ok(());
    };
    killed_again_and_again("async")
}

#[test]
fn gateway_and_server_are_killed_again_and_again_sync() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("gateway_and_server_are_killed_again_and_again_sync") else {
        return Ok(());
    };
    killed_again_and_again("sync")
}

/// Retention goes to the bucket with each object, and the bucket keeps it against the gateway itself.
#[test]
fn what_is_delivered_to_a_bucket_with_object_lock_is_locked() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("what_is_delivered_to_a_bucket_with_object_lock_is_locked") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let proxy = Faults::start(Seaweed::shared()?)?;
    let shadow = Shadow::start(dir.path(), &[])?;
    let home = dir.path().join("gateway");
    let locked = settings("locked", proxy.port).replace(BUCKET, LOCKED_BUCKET) + ", object_lock: governance";
    let port = configure(&home, shadow.port, "s3", "async", &locked)?;
    let file = home.join("deskreel.yaml");
    fs::write(&file, fs::read_to_string(&file)? + "retention: {default: 1d}\n")?;
    let gateway = Gateway::restart(&home, port)?;
    let id = record(dir.path(), &gateway, "locked")?;
    let puts: Vec<String> = proxy
        .heads()
        .into_iter()
        .filter(|head| head.starts_with("PUT ") && head.contains(&id))
        .map(|head| head.to_ascii_lowercase())
        .collect();
    assert!(puts.len() >= 2, "{puts:?}");
    for put in &puts {
        assert!(
            put.contains("x-amz-object-lock-mode: governance") && put.contains("x-amz-object-lock-retain-until-date: "),
            "{put}"
        );
    }
    // The rules change, and its time is over: the bucket goes by what it was told.
    let purged = gateway.json(&["recordings", "purge", "--yes", "--set", "retention.default=1ms"])?;
    let error = purged[0]["storages"][0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("retained until"), "{purged}");
    let verified = gateway.run(&["recordings", "verify", &id])?;
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    Ok(())
}

/// What is wrong with the settings is said before anybody connects, in words and without the secret.
#[test]
fn a_gateway_says_what_is_wrong_with_its_bucket() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Seaweed::shared()?;
    configure(dir.path(), 1, "s3", "sync", &settings("../sync", server))?;
    let served = run_in(dir.path(), &["serve"])?;
    let said = String::from_utf8_lossy(&served.stderr);
    assert!(!served.status.success() && said.contains("prefix: "), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    configure(
        dir.path(),
        1,
        "s3",
        "sync",
        &settings("sync", server).replace(BUCKET, "no-such-bucket"),
    )?;
    let (code, said) = check(dir.path(), &[])?;
    assert!(
        code != Some(0) && said.contains("no-such-bucket") && !said.contains(SECRET),
        "{code:?}: {said}"
    );
    Ok(())
}

/// Keys in the settings are all that is used; without any, the chain ends at the metadata service.
#[test]
fn keys_in_the_settings_ask_no_metadata_service() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Seaweed::shared()?;
    let metadata = Faults::start(server)?;
    let variables = [(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        format!("http://127.0.0.1:{}", metadata.port),
    )];
    configure(dir.path(), 1, "s3", "sync", &settings("metadata", server))?;
    let (code, said) = check(dir.path(), &variables)?;
    assert_eq!(code, Some(0), "{said}");
    assert!(metadata.heads().is_empty(), "{:?}", metadata.heads());
    let chain = format!("bucket: {BUCKET}, endpoint: 'http://127.0.0.1:{server}'");
    configure(dir.path(), 1, "s3", "sync", &chain)?;
    let (code, said) = check(dir.path(), &variables)?;
    assert!(code != Some(0) && said.contains("credentials"), "{said}");
    assert!(!metadata.heads().is_empty(), "nobody asked: {said}");
    Ok(())
}
