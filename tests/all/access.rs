//! Resources on the command line: made, shown, edited, removed; who wins over whom; what a running gateway sees.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use peers::gateway::{Gateway, Settings, deskreel, run_in};
use peers::process::free_port;
use serde_json::Value;

/// A folder with a configuration and no gateway.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("resources")).unwrap();
        let folder = Self(dir);
        folder.write("deskreel.yaml", &format!("data_dir: ./data\n{more}"));
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        parts(&run_in(self.path(), arguments).unwrap())
    }

    /// Runs a command that must end well; its output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    }

    /// Runs a command that must be refused; what it says.
    pub(crate) fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let (found, out, err) = self.run(arguments);
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        err.replace(&format!("{}/", self.path().display()), "")
    }

    pub(crate) fn create(&self, flags: &[&str], text: &str) -> (i32, String, String) {
        let file = self.write("new.yaml", text).display().to_string();
        self.run(&[&["create"], flags, &[&file]].concat())
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--format", "json"]].concat())).unwrap()
    }
}

fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

const DESKTOPS: &str = "\
kind: windows_desktop
version: v3
metadata: {name: d-dev, labels: {env: dev}}
spec: {addr: '10.0.0.5'}
---
kind: windows_desktop
version: v3
metadata: {name: d-prod, labels: {env: prod}}
spec: {addr: '10.0.0.6'}
";

const DEV: &str = "\
kind: role
version: v7
metadata: {name: dev}
spec:
  allow: {windows_desktop_labels: {env: dev}, windows_desktop_logins: ['{{internal.windows_logins}}']}
";

#[test]
fn resources_from_create_to_rm() {
    let folder = Folder::new("");
    folder.write("resources/desktops.yaml", DESKTOPS);
    assert_eq!(
        folder.create(&[], DEV),
        (0, "role/dev created\n".to_owned(), String::new())
    );
    assert_eq!(
        folder.ok(&["users", "add", "alice", "--roles", "dev", "--logins", "alice,root"]),
        "user/alice created\n"
    );

    // kept over processes, with who says them
    let role = folder.json(&["get", "role/dev"]);
    assert_eq!(role["metadata"]["labels"]["teleport.dev/origin"], "dynamic");
    assert_eq!(role["spec"]["allow"]["windows_desktop_labels"]["env"], "dev");
    let list = folder.ok(&["get", "all", "--origin"]);
    for (name, origin) in [("access", "defaults"), ("d-dev", "config-file"), ("alice", "dynamic")] {
        let line = list.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        assert!(line.is_some_and(|line| line.contains(origin)), "{name}: {list}");
    }
    assert!(list.contains("desktops.yaml:6"), "{list}");
    // what get prints can be stored again
    let yaml = folder.ok(&["get", "role/dev", "--format", "yaml"]);
    assert_eq!(folder.create(&["-f"], &yaml).1, "role/dev unchanged\n");

    // decisions, from the same function as the gateway's
    folder.ok(&["explain", "--user", "alice", "--desktop", "d-dev", "--login", "root"]);
    let denied = folder.run(&["explain", "--user", "alice", "--desktop", "d-prod", "--format", "json"]);
    let decision: Value = serde_json::from_str(&denied.1).unwrap();
    assert_eq!((denied.0, &decision["reason"]), (3, &Value::from("no_desktop")));
    let mut both = folder.json(&["explain", "--user", "alice", "--desktop", "d-dev"]);
    assert_eq!(both["verdict"], "need_login");
    assert_eq!(both["logins"].take(), serde_json::json!(["alice", "root"]));
    assert_eq!(folder.json(&["who-can", "--desktop", "d-dev"])[0]["user"], "alice");
    assert_eq!(folder.run(&["who-can", "--desktop", "d-prod"]).0, 3);
    // with another role, or without
    folder.ok(&["explain", "--user", "alice", "--desktop", "d-prod", "--role", "access"]);
    assert_eq!(
        folder
            .run(&[
                "explain",
                "--user",
                "alice",
                "--desktop",
                "d-dev",
                "--without-role",
                "dev"
            ])
            .0,
        3
    );

    // locks
    folder.ok(&[
        "lock",
        "--user",
        "alice",
        "--message",
        "under investigation",
        "--name",
        "l1",
        "--ttl",
        "1h",
    ]);
    let locked = folder.run(&["explain", "--user", "alice", "--desktop", "d-dev", "--format", "json"]);
    assert!(locked.0 == 3 && locked.1.contains("under investigation"), "{locked:?}");
    folder.ok(&[
        "explain",
        "--user",
        "alice",
        "--desktop",
        "d-dev",
        "--at",
        "2099-01-01T00:00:00Z",
    ]);
    assert_eq!(folder.ok(&["rm", "lock/l1"]), "lock/l1 deleted\n");
    folder.ok(&["explain", "--user", "alice", "--desktop", "d-dev"]);

    // a role that goes takes its users' access with it
    let (code, out, err) = folder.run(&["rm", "role/dev"]);
    assert_eq!((code, out.as_str()), (0, "role/dev deleted\n"));
    assert!(err.contains("user/alice has the role"), "{err}");
    let denied = folder.run(&["explain", "--user", "alice", "--desktop", "d-dev", "--format", "json"]);
    assert!(denied.1.contains("role_unknown"), "{denied:?}");
    assert_eq!(folder.refused(1, &["rm", "role/de"]), "deskreel: there is no role/de\n");

    // and all of it is in the audit log
    let events = folder.ok(&["audit", "ls", "--format", "json"]);
    for event in [
        "role.created",
        "user.create",
        "lock.created",
        "lock.deleted",
        "role.deleted",
    ] {
        assert!(events.contains(event), "{event}: {events}");
    }
    assert!(events.contains("local:"), "{events}");
}

#[test]
fn all_errors_at_once_and_nothing_stored() {
    let folder = Folder::new("");
    let text = format!(
        "{DEV}---\nkind: role\nversion: v7\nmetadata: {{name: b}}\nspec:\n  options: {{desktop_clipbord: yes}}\n  allow:\n    \
         windows_desktop_labels: {{env: 5}}\n---\nkind: user\nversion: v1\nmetadata: {{name: u}}\n"
    );
    let (code, _, err) = folder.create(&[], &text);
    assert_eq!(code, 2);
    let file = folder.path().join("new.yaml").display().to_string();
    let err = err.replace(&file, "new.yaml");
    assert_eq!(
        err,
        "deskreel: new.yaml:11:13: role/b: spec.options.desktop_clipbord: unknown field, did you mean desktop_clipboard?\n\
         new.yaml:13:35: role/b: spec.allow.windows_desktop_labels.env: \"5\" is a number or a boolean here; quote it: '5'\n\
         new.yaml:16:10: user/u: version: \"v1\" is not one of: v2\n"
    );
    assert!(!folder.ok(&["get", "role"]).contains("dev"));
    // languages inside roles are checked too, at their place
    let bad = DEV.replace("env: dev", "env: '^(dev$'");
    let (code, _, err) = folder.create(&[], &bad);
    assert!(
        code == 2 && err.contains("new.yaml:5:4") && err.contains("windows_desktop_labels.env"),
        "{err}"
    );
    let ghost = "kind: user\nversion: v2\nmetadata: {name: u}\nspec: {roles: [acces]}\n";
    let (code, _, err) = folder.create(&[], ghost);
    assert!(
        code == 2 && err.contains("there is no role \"acces\", did you mean access?"),
        "{err}"
    );
}

#[test]
fn who_wins_over_whom() {
    let folder = Folder::new("session_recording: off\n");
    let config = |mode: &str| format!("kind: session_recording_config\nversion: v2\nspec: {{mode: {mode}}}\n");
    let mode = || folder.json(&["get", "session_recording_config"])["spec"]["mode"].take();
    assert_eq!(mode(), "off");
    assert!(
        folder
            .ok(&["get", "session_recording_config", "--origin"])
            .starts_with("# config-file, ")
    );
    let (code, _, err) = folder.create(&[], &config("node"));
    assert_eq!(
        (code, err.as_str()),
        (1, "deskreel: session_recording_config exists, use -f to replace it\n")
    );
    let (code, _, err) = folder.create(&["-f"], &config("node"));
    let place = format!("{}/deskreel.yaml:2", folder.path().display());
    assert_eq!(
        (code, err),
        (
            1,
            format!(
                "deskreel: session_recording_config is set in {place}, remove it there and restart, or add --confirm to \
                 replace it until the next start\n"
            )
        )
    );
    assert!(
        folder
            .refused(1, &["rm", "session_recording_config"])
            .contains("remove it there to reset it")
    );
    let (code, out, err) = folder.create(&["-f", "--confirm"], &config("node-sync"));
    assert_eq!((code, out.as_str()), (0, "session_recording_config updated\n"));
    assert!(err.contains("in force again at the next start or reload"), "{err}");
    assert_eq!(mode(), "node-sync");
    // until then it can't be taken away either: that would leave neither of the two
    assert_eq!(
        folder.refused(1, &["rm", "session_recording_config"]),
        "deskreel: session_recording_config is set in deskreel.yaml:2 and replaced until the next start or reload, which \
         puts it back; to be rid of it, remove it there\n"
    );
    assert_eq!(mode(), "node-sync");
    // the section is gone: what commands said holds, then what is built in
    folder.write("deskreel.yaml", "data_dir: ./data\n");
    assert_eq!(mode(), "node-sync");
    folder.ok(&["rm", "session_recording_config"]);
    assert_eq!(mode(), "node");
    let (code, _, err) = folder.create(&[], &config("off"));
    assert_eq!((code, err.as_str()), (0, ""));
    // a variable says it too, and says so
    let output = Command::new(deskreel())
        .args(["get", "session_recording_config", "--origin", "--config"])
        .arg(folder.path().join("deskreel.yaml"))
        .env("DESKREEL_SESSION_RECORDING", "node")
        .output()
        .unwrap();
    assert!(
        parts(&output)
            .1
            .starts_with("# config-file, DESKREEL_SESSION_RECORDING\n"),
        "{output:?}"
    );
}

/// Runs `edit` with an editor that puts `text` into the file, or runs `sed` on it.
fn edit(folder: &Folder, what: &str, editor: &str) -> (i32, String, String) {
    let output = Command::new(deskreel())
        .args(["edit", what, "--config"])
        .arg(folder.path().join("deskreel.yaml"))
        .env("EDITOR", editor)
        .env_remove("VISUAL")
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    parts(&output)
}

#[test]
fn edit_shows_the_difference_and_keeps_the_text() {
    let folder = Folder::new("");
    folder.create(&[], DEV);
    assert_eq!(
        edit(&folder, "role/dev", "true"),
        (0, "not changed\n".to_owned(), String::new())
    );
    let (code, out, err) = edit(&folder, "role/dev", "sed -i s/env:.dev/env:\\ test/");
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("-      env: dev\n+      env: test\n"), "{out}");
    assert!(out.ends_with("role/dev updated\n"), "{out}");
    // a wrong edit stores nothing and loses nothing
    let (code, _, err) = edit(
        &folder,
        "role/dev",
        "sed -i s/windows_desktop_labels/windows_desktop_labls/",
    );
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("did you mean windows_desktop_labels?"), "{err}");
    let kept = err.split("your text is kept in ").nth(1).unwrap().trim();
    assert!(fs::read_to_string(kept).unwrap().contains("windows_desktop_labls"));
    // somebody else was faster
    let other = folder.write("other.yaml", &DEV.replace("env: dev", "env: prod"));
    let script = folder.write(
        "editor.sh",
        &format!(
            "sed -i 's/env: test/env: qa/' \"$1\"\n{} create -f {} --config {} > /dev/null\n",
            deskreel().display(),
            other.display(),
            folder.path().join("deskreel.yaml").display()
        ),
    );
    let (code, _, err) = edit(&folder, "role/dev", &format!("sh {}", script.display()));
    assert!(
        code == 1 && err.contains("role/dev has changed since it was read (revision "),
        "{code} {err}"
    );
    assert!(folder.ok(&["get", "role/dev"]).contains("env: prod"));
    let (code, _, err) = edit(&folder, "role/dev", "sed -i s/name:.dev/name:\\ other/");
    assert!(code == 2 && err.contains("kind and name can't be edited"), "{err}");
}

#[test]
fn what_a_change_would_change() {
    let folder = Folder::new("");
    folder.write("resources/desktops.yaml", DESKTOPS);
    folder.create(&[], DEV);
    folder.ok(&["users", "add", "alice", "--roles", "dev", "--logins", "alice"]);
    let new = DEV.replace("env: dev", "env: [dev, prod]") + "  options: {desktop_clipboard: off}\n";
    let file = folder.write("new.yaml", &new).display().to_string();
    let (code, out, err) = folder.run(&["resources", "diff", &file]);
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("rights.clipboard: both -> off"), "{out}");
    let prod = out.lines().find(|line| line.contains("d-prod")).unwrap();
    assert!(
        prod.contains("deny no_desktop") && prod.contains("allow alice"),
        "{out}"
    );
    assert!(out.ends_with("2 of 2 decisions change\n"), "{out}");
    // nothing was stored
    assert!(folder.ok(&["get", "role/dev"]).contains("env: dev"));
    folder.ok(&["explain", "--user", "alice", "--desktop", "d-prod", "--file", &file]);
    let same = folder.write("same.yaml", DEV).display().to_string();
    assert_eq!(folder.ok(&["resources", "diff", &same]), "0 of 2 decisions change\n");

    let odd = DEV
        .replace("env: dev", "env: nowhere")
        .replace("name: dev", "name: odd")
        .replace("'{{internal.windows_logins}}'", "admin");
    let odd = folder.write("odd.yaml", &odd).display().to_string();
    let (code, out, _) = folder.run(&["resources", "check", &odd]);
    assert!(
        code == 3 && out.contains("opens no desktop that there is"),
        "{code} {out}"
    );
    let (code, out, _) = folder.run(&["resources", "check", &file]);
    assert_eq!((code, out.as_str()), (0, "1 resources in 1 files, 0 findings\n"));
}

#[test]
fn the_example_resources_mean_what_they_say() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/resources");
    let folder = Folder::new("");
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join("resources").join(path.file_name().unwrap())).unwrap();
    }
    folder.ok(&["resources", "check"]);
    let decision = |user: &str, desktop: &str, login: &str| {
        let (_, out, err) = folder.run(&[
            "explain",
            "--user",
            user,
            "--desktop",
            desktop,
            "--login",
            login,
            "--format",
            "json",
        ]);
        serde_json::from_str::<Value>(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
    };
    let alice = decision("alice", "lab", "alice");
    assert_eq!(alice["verdict"], "allow", "{alice}");
    assert_eq!(alice["recording"]["level"], "strict");
    assert_eq!(alice["rights"]["clipboard"], "to_desktop");
    assert_eq!(alice["limits"]["ends_after"], "12h");
    assert_eq!(decision("alice", "lab", "root")["reason"], "deny_login");
    assert_eq!(decision("alice", "accounting", "alice")["reason"], "no_desktop");
    let bob = decision("bob", "accounting", "clerk");
    assert_eq!(
        (&bob["verdict"], &bob["recording"]["clipboard"]),
        (&Value::from("allow"), &Value::from("text"))
    );
    assert_eq!(decision("bob", "accounting", "guest")["reason"], "locked");
}

#[test]
fn a_running_gateway_sees_commands_and_reloads() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let gateway = Gateway::start(dir.path(), &Settings::of(free_port()?, "async"))?;
    let seen = |what: &str| -> anyhow::Result<()> {
        peers::process::wait_for(Duration::from_secs(60), what, || {
            Ok(gateway.process.log().contains(what))
        })
    };
    let output = gateway.run(&["lock", "--user", "mallory"])?;
    assert!(output.status.success(), "{output:?}");
    seen("resources have changed")?;
    // the folder is read again when told so; what is wrong changes nothing and says so
    fs::write(
        dir.path().join("resources/bad.yaml"),
        "kind: role\nversion: v9\nmetadata: {name: x}\n",
    )?;
    let pid = gateway.process.pid();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP)?;
    seen("SIGHUP: nothing is changed")?;
    // commands go by what the gateway goes by, so locking works while the folder is broken
    let output = gateway.run(&["lock", "--user", "eve"])?;
    assert!(output.status.success(), "{output:?}");
    fs::write(dir.path().join("resources/bad.yaml"), DEV)?;
    rustix::process::kill_process(pid, rustix::process::Signal::HUP)?;
    seen("SIGHUP: resources are read again")?;
    let shown = gateway.run(&["get", "role/dev"])?;
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("config-file"),
        "{shown:?}"
    );
    // what a reload changed is in the audit log, with the keys that differ
    fs::write(
        dir.path().join("resources/bad.yaml"),
        DEV.replace("env: dev", "env: qa"),
    )?;
    rustix::process::kill_process(pid, rustix::process::Signal::HUP)?;
    let changed = || -> anyhow::Result<Vec<String>> {
        let events = gateway.json(&["audit", "ls"])?;
        let events = events.as_array().cloned().unwrap_or_default();
        let of_dev = events.iter().filter(|event| event["name"] == "dev");
        Ok(of_dev
            .map(|event| format!("{} {} {}", event["code"], event["origin"], event["changed"]))
            .collect())
    };
    peers::process::wait_for(Duration::from_secs(60), "the event of the change", || {
        Ok(changed()?.len() == 2)
    })?;
    assert_eq!(
        changed()?,
        [
            r#""T9000I" "config-file" []"#,
            r#""T9002I" "config-file" ["spec.allow.windows_desktop_labels.env"]"#
        ]
    );
    Ok(())
}

#[test]
fn an_edit_shows_no_secret() {
    let folder = Folder::new("");
    let desktop = "kind: windows_desktop\nversion: v3\nmetadata: {name: d}\nspec: {addr: h, gateway: {credentials: {logins: \
                   [{login: a, password: first-secret}]}}}\n";
    folder.create(&[], desktop);
    let (code, out, err) = edit(&folder, "windows_desktop/d", "sed -i 's/.hidden./second-secret/'");
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("only secrets change, which are not shown\n"), "{out}");
    let (code, out, err) = edit(
        &folder,
        "windows_desktop/d",
        "sed -i -e 's/.hidden./third-secret/' -e 's/addr: h/addr: other/'",
    );
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("+  addr: other") && !format!("{out}{err}").contains("-secret"),
        "{out}{err}"
    );
    let stored = folder.ok(&["get", "windows_desktop/d"]);
    assert!(!stored.contains("-secret"), "{stored}");
}
