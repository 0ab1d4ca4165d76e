//! The demo works, and every `deskreel` command in the documents does what they say: it is run on the demo's recording.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use peers::gateway::{Gateway, deskreel, run_in};
use serde_json::Value;

/// Runs for ever, makes what the others look at, needs a session that is open (limits.rs), a second storage (keep.rs), a desktop of
/// the name (pins.rs) or a new plugin (plugin_authors.rs): other tests run it.
const RUN_ELSEWHERE: &[&str] = &[
    "pins rm",
    "plugins check",
    "storages copy",
    "serve",
    "demo",
    "sessions show",
    "sessions watch",
    "sessions terminate",
    "recordings play",
];

/// (document, command) of every line in a fenced block that begins with `deskreel`.
fn commands() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut documents = vec![root.join("README.md")];
    documents.extend(
        fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    documents.extend(
        fs::read_dir(root.join("plugins"))
            .unwrap()
            .map(|entry| entry.unwrap().path().join("README.md")),
    );
    documents.sort();
    let mut commands = Vec::new();
    for document in documents
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
    {
        let text = fs::read_to_string(&document).unwrap();
        let mut fenced = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            let command = line.trim_start().trim_start_matches("$ ");
            if fenced && command.starts_with("deskreel ") {
                commands.push((document.clone(), command.split(" #").next().unwrap().trim().to_owned()));
            }
        }
    }
    commands
}

#[test]
fn the_demo_and_every_documented_command() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("demo");
    let demo = Command::new(deskreel())
        .args(["demo", "--seconds", "5", "--data-dir"])
        .arg(&home)
        .current_dir(dir.path())
        .output()?;
    let said = String::from_utf8_lossy(&demo.stdout).into_owned() + &String::from_utf8_lossy(&demo.stderr);
    assert_eq!(demo.status.code(), Some(0), "deskreel demo: {said}");

    let listed = run_in(&home, &["recordings", "ls", "--format", "json"])?;
    let rows: Value = serde_json::from_slice(&listed.stdout)?;
    let row = &rows[0];
    assert_eq!(row["state"], "complete", "{row}");
    assert_eq!(row["desktop"], "demo");
    let id = row["id"].as_str().unwrap_or_default().to_owned();
    assert!(
        home.join(format!("{id}.mp4")).metadata()?.len() > 10_000,
        "the demo's video"
    );

    // The documents speak of a running gateway and of a user who is there.
    let _gateway = Gateway::restart(&home, listening_port(&home)?)?;
    let added = run_in(
        &home,
        &["users", "add", "alice", "--roles", "access", "--logins", "alice"],
    )?;
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));

    let commands = commands();
    assert!(commands.len() >= 10, "found only {commands:?}");
    for (index, (document, command)) in commands.iter().enumerate() {
        let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        let plain = arguments.join(" ");
        if RUN_ELSEWHERE.iter().any(|elsewhere| plain.starts_with(elsewhere)) {
            continue;
        }
        let here = dir.path().join(format!("command-{index}"));
        fs::create_dir(&here)?;
        let mut deskreel = Command::new(deskreel());
        deskreel
            .args(
                arguments
                    .iter()
                    .map(|argument| if *argument == "ID" { id.as_str() } else { argument }),
            )
            .current_dir(&here)
            .stdin(Stdio::from(password(dir.path())?))
            .env("DESKREEL_CONFIG", home.join("deskreel.yaml"));
        let output = deskreel.output()?;
        assert!(
            output.status.success(),
            "{}: {command}: {}: {}",
            document.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// The port that the demo's gateway was on, which its configuration keeps.
pub(crate) fn listening_port(home: &Path) -> anyhow::Result<u16> {
    let shown = run_in(home, &["config", "show", "--format", "json"])?;
    let said = String::from_utf8_lossy(&shown.stdout);
    let port = said
        .split("\"127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    port.and_then(|port| port.parse().ok())
        .with_context(|| format!("gateway.listen in {said}"))
}

/// What a command reads that asks for a password.
fn password(dir: &Path) -> anyhow::Result<fs::File> {
    let path = dir.join("password");
    fs::write(&path, "A-documented-1\n")?;
    Ok(fs::File::open(path)?)
}
