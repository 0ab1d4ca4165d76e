//! Resources that are wrong, too large or too many: what happens is defined, and nothing of it widens access.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use peers::gateway::{Gateway, Settings, deskreel};
use peers::process::{free_port, wait_for};

use crate::access::Folder;

const OPEN: &str = "{allow: {windows_desktop_labels: {'*': '*'}, windows_desktop_logins: [root]}}";

fn role(name: &str, spec: &str) -> String {
    format!("kind: role\nversion: v7\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

fn user(name: &str, roles: &str) -> String {
    format!("kind: user\nversion: v2\nmetadata: {{name: {name}}}\nspec: {{roles: [{roles}]}}\n---\n")
}

fn desktop(name: &str) -> String {
    format!("kind: windows_desktop\nversion: v3\nmetadata: {{name: {name}}}\nspec: {{addr: 10.0.0.1}}\n---\n")
}

/// Creates what must be refused with exit code 2, and says why.
fn wrong(folder: &Folder, text: &str) -> String {
    let (code, out, err) = folder.create(&["-f"], text);
    assert_eq!(code, 2, "{out}{err}");
    err
}

#[test]
fn limits_and_dangling_names_are_errors_of_the_load() {
    let folder = Folder::new("");
    let deny = |labels: &str| format!("{{deny: {{windows_desktop_labels: {labels}}}}}");
    let expression = |text: &str| format!("{{allow: {{windows_desktop_labels_expression: '{text}'}}}}");
    let long = format!("labels[\"{}\"] == \"x\"", "x".repeat(8 << 10));
    let deep = format!("{}labels[\"a\"] == \"b\"{}", "(".repeat(70), ")".repeat(70));
    let cases = [
        (
            role("r", &deny("{env: '^(a{1000}){1000}$'}")),
            "the regex takes more than 1048576 bytes compiled",
        ),
        (role("r", &deny("{env: '^(dev$'}")), "windows_desktop_labels.env"),
        (
            role("r", &expression(&long)),
            "the expression is longer than 8192 bytes",
        ),
        (role("r", &expression(&deep)), "it is nested deeper than 64"),
        (role("r", &expression("labels[")), "windows_desktop_labels_expression"),
        (
            role(
                "r",
                "{allow: {rules: [{resources: [session], verbs: [read], where: 'x'}]}}",
            ),
            "rules[0].where",
        ),
        (
            role("r", "{allow: {windows_desktop_logins: ['{{nonsense}}']}}"),
            "windows_desktop_logins[0]",
        ),
        (
            format!(
                "# {}\n{}",
                "x".repeat(10),
                role("r", &format!("{{}} #{}", "x".repeat(1 << 20)))
            ),
            "resource_max_bytes",
        ),
        (user("u", "ghost"), "there is no role \"ghost\""),
        (user("u", &vec!["access"; 257].join(", ")), "more than 256 roles"),
        (
            format!("{}{}", role("r", "{}"), role("r", OPEN)),
            "used twice, first at ",
        ),
    ];
    for (text, says) in cases {
        let said = wrong(&folder, &text);
        assert!(said.contains(says), "{says}: {said}");
    }
    // nothing of all that is there
    assert!(!folder.ok(&["get", "all"]).contains("dynamic"));
    // two files of the folder with one name
    folder.write("resources/a.yaml", &role("twin", "{}"));
    folder.write("resources/b.yaml", &role("twin", OPEN));
    let (code, out, said) = folder.run(&["get", "role"]);
    assert!(code == 0 && !out.contains("twin"), "{code} {out}");
    assert!(
        said.contains("resources/b.yaml:3:") && said.contains("used twice, first at "),
        "{said}"
    );
    let said = folder.refused(2, &["resources", "check"]);
    assert!(said.contains("used twice, first at "), "{said}");
    // every wrong file is told of, not only the first
    folder.write("resources/a.yaml", "kind: role\nversion: v9\nmetadata: {name: a}\n");
    folder.write("resources/b.yaml", "kind: user\nversion: v9\nmetadata: {name: b}\n");
    let said = folder.refused(2, &["resources", "check"]);
    assert!(said.contains("a.yaml:2:") && said.contains("b.yaml:2:"), "{said}");
}

#[test]
fn what_is_odd_loads_and_opens_nothing() {
    let folder = Folder::new("");
    let regex = "{allow: {windows_desktop_labels: {env: '^(a|aa)+$'}, windows_desktop_logins: [root]}}";
    let unknown_trait =
        "{allow: {windows_desktop_labels: {'*': '*'}, windows_desktop_logins: ['{{external.no_such_trait}}']}}";
    let mfa = OPEN.replace("}}", "}, options: {require_session_mfa: yes}}");
    let text = [
        role("regex", regex),
        role("unknown", unknown_trait),
        role("mfa", &mfa),
        user("u", "regex, unknown"),
        user("m", "mfa"),
        desktop("d").replace("name: d", &format!("name: d, labels: {{env: {}b}}", "a".repeat(4000))),
    ];
    let (code, _, err) = folder.create(&[], &text.concat());
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("role/mfa: spec.options.require_session_mfa: this gateway can't check a second factor"),
        "{err}"
    );
    let (code, out, _) = folder.run(&["explain", "--user", "u", "--desktop", "d", "--format", "json"]);
    assert!(code == 3 && out.contains("\"no_login\""), "{code} {out}");
    let (code, out, _) = folder.run(&["explain", "--user", "m", "--desktop", "d", "--format", "json"]);
    assert!(code == 3 && out.contains("\"mfa_unavailable\""), "{code} {out}");
    // the presets are known to the check, and what is odd counts
    let file = folder
        .write("more.yaml", &(user("v", "access") + &role("mfa2", &mfa)))
        .display()
        .to_string();
    let (code, out, err) = folder.run(&["resources", "check", &file]);
    assert!(
        code == 3 && out.contains("warning: role/mfa2: spec.options.require_session_mfa"),
        "{code} {out}{err}"
    );
}

#[test]
fn ten_thousand_roles_and_desktops() {
    let folder = Folder::new("");
    let roles: String = (0..10_000).map(|n| role(&format!("r{n}"), "{}")).collect();
    let desktops: String = (0..10_000).map(|n| desktop(&format!("d{n}"))).collect();
    folder.write("resources/roles.yaml", &roles);
    folder.write("resources/desktops.yaml", &desktops);
    folder.write("resources/users.yaml", &user("u", "r9999, opener"));
    folder.write("resources/opener.yaml", &role("opener", OPEN));
    let list = folder.ok(&["get", "role"]);
    assert_eq!(list.lines().filter(|line| line.contains("config-file")).count(), 10_001);
    let decision = folder.json(&["explain", "--user", "u", "--desktop", "d77", "--login", "root"]);
    assert_eq!(decision["verdict"], "allow");
    assert_eq!(decision["roles"], serde_json::json!(["opener", "r9999"]));
    // each of them is told to the audit log when a command stores them
    folder.ok(&["lock", "--user", "mallory"]);
    let events = folder.json(&["audit", "ls"]);
    assert_eq!(events.as_array().map(Vec::len), Some(20_003));
}

#[test]
fn a_role_that_cannot_be_parsed_never_widens_access() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    fs::create_dir_all(dir.path().join("resources"))?;
    let file = dir.path().join("resources/roles.yaml");
    let good = role(
        "dev",
        "{allow: {windows_desktop_labels: {env: test}, windows_desktop_logins: [root]}}",
    );
    let desktops =
        "kind: windows_desktop\nversion: v3\nmetadata: {name: d-prod, labels: {env: prod}}\nspec: {addr: h}\n---\n";
    fs::write(&file, format!("{good}{desktops}{}", user("ann", "dev")))?;
    let mut gateway = Gateway::start(dir.path(), &Settings::of(free_port()?, "async"))?;
    let decide = |gateway: &Gateway, desktop: &str| -> anyhow::Result<String> {
        let decision = gateway.json(&["explain", "--user", "ann", "--login", "root", "--desktop", desktop])?;
        Ok(decision["verdict"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(decide(&gateway, "lab")?, "allow");
    assert_eq!(decide(&gateway, "d-prod")?, "deny");

    // somebody opens the role to everything and misspells it: nothing of that counts
    let bad = good
        .replace("{env: test}", "{'*': '*'}")
        .replace("logins: [root]", "login: [root]");
    fs::write(&file, format!("{bad}{desktops}{}", user("ann", "dev")))?;
    rustix::process::kill_process(gateway.process.pid(), rustix::process::Signal::HUP)?;
    wait_for(Duration::from_secs(60), "the log to say so", || {
        let log = gateway.process.log();
        Ok(log.contains("SIGHUP: nothing is changed") && log.contains("did you mean windows_desktop_logins?"))
    })?;
    let told = |gateway: &Gateway| -> anyhow::Result<()> {
        assert_eq!(decide(gateway, "lab")?, "allow");
        assert_eq!(decide(gateway, "d-prod")?, "deny");
        let shown = gateway.run(&["get", "role/dev"])?;
        let (out, err) = (String::from_utf8(shown.stdout)?, String::from_utf8(shown.stderr)?);
        assert!(out.contains("env: test"), "{out}");
        assert!(
            err.contains("roles.yaml:4:") && err.contains("what the resource folder said before stays in force"),
            "{err}"
        );
        let doctor = gateway.run(&["doctor"])?;
        let out = String::from_utf8(doctor.stdout)?;
        assert_eq!(doctor.status.code(), Some(2), "{out}");
        let line = out
            .lines()
            .find(|line| line.contains("roles.yaml:4:"))
            .unwrap_or_default();
        assert!(line.starts_with("error    resources"), "{out}");
        assert!(
            line.contains("(in force is revision ") && line.contains(" of role/dev, from "),
            "{line}"
        );
        Ok(())
    };
    told(&gateway)?;
    // nor after a start, which says so and goes by what it had
    let port = gateway.port;
    gateway.process.end();
    told(&gateway)?;
    let gateway = Gateway::restart(dir.path(), port)?;
    wait_for(Duration::from_secs(60), "the log to say so", || {
        Ok(gateway
            .process
            .log()
            .contains("what the resource folder said before stays in force"))
    })?;
    told(&gateway)?;
    // a gateway that has nothing to go by does not start
    let other = Folder::new("");
    other.write("resources/roles.yaml", &bad);
    let said = other.refused(2, &["serve"]);
    assert!(said.contains("did you mean windows_desktop_logins?"), "{said}");
    let (code, out, _) = other.run(&["doctor"]);
    assert!(
        code == 2 && out.contains("the folder was never loaded, so the gateway does not start"),
        "{code} {out}"
    );
    Ok(())
}

#[test]
fn everything_wrong_with_a_load_is_said_at_once() {
    let folder = Folder::new("");
    let both = format!(
        "{}{}",
        role(
            "typo",
            "{options: {desktop_clipbord: true}, allow: {windows_desktop_logins: ['{{internal.nobody}}']}}"
        ),
        role("pattern", "{deny: {windows_desktop_labels: {env: '^(dev$'}}}")
    );
    let said = wrong(&folder, &both);
    assert!(said.contains("did you mean desktop_clipboard?"), "{said}");
    for place in [
        "role/pattern: spec.deny.windows_desktop_labels.env",
        "role/typo: spec.allow.windows_desktop_logins[0]",
    ] {
        assert!(said.contains(place), "{said}");
    }
    folder.write("resources/both.yaml", &both);
    let said = folder.refused(2, &["resources", "check"]);
    assert!(
        said.contains("did you mean desktop_clipboard?") && said.contains("role/pattern"),
        "{said}"
    );
    // what a change does to claimed names is told, too
    folder.write("resources/both.yaml", &desktop("d1"));
    let opener = folder.write("opener.yaml", &role("access", OPEN)).display().to_string();
    let claimed = ["--set", "access.claimed_identity=allow", "resources", "diff", &opener];
    let (code, out, said) = folder.run(&claimed);
    assert!(
        code == 3 && out.contains("(any claimed name)  d1"),
        "{code} {out}{said}"
    );
    // and so are their roles
    folder.write("resources/both.yaml", &role("pattern", OPEN));
    let claims = [
        "--set",
        "access.claimed_identity=allow",
        "--set",
        "access.claimed_roles=[ghost]",
    ];
    let said = folder.refused(2, &[&claims[..], &["config", "check"]].concat());
    assert!(
        said.contains("access.claimed_roles: there is no role \"ghost\""),
        "{said}"
    );
}

/// Another account of the machine hears what it can do, whatever it asks, and nothing wrong.
#[test]
fn other_accounts_hear_what_to_do() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be somebody else");
        return;
    }
    let folder = Folder::new("");
    folder.ok(&["users", "add", "ann", "--roles", "access"]);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("deskreel");
    fs::copy(deskreel(), &binary).unwrap();
    let commands = [
        "get role",
        "users ls",
        "users passwd ann",
        "tickets ls",
        "sessions ls",
        "recordings ls",
        "audit ls",
        "lock --user ann",
        "explain --user ann --desktop lab",
        "who-can --desktop lab",
        "storages ls",
        "keys show",
        "serve",
    ];
    let run = |command: &str| {
        let mut run = Command::new(&binary);
        run.args(command.split(' '))
            .arg("--config")
            .arg(folder.path().join("deskreel.yaml"));
        run.uid(65534).gid(65534).stdin(Stdio::null()).output().unwrap()
    };
    for command in commands {
        let output = run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(
            said.contains("run this as root, as in `sudo deskreel ...`"),
            "{command}: {said}"
        );
    }
    let output = run("doctor");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("error    account") && !said.contains("catalog  "),
        "{said}"
    );
}

#[test]
fn several_are_removed_or_none() {
    let folder = Folder::new("");
    folder.create(&[], &format!("{}{}", user("carol", "access"), user("dave", "access")));
    let said = folder.refused(1, &["users", "rm", "carol", "nobody"]);
    assert!(said.contains("there is no user/nobody"), "{said}");
    let said = folder.refused(1, &["rm", "user/dave", "role/none"]);
    assert!(said.contains("there is no role/none"), "{said}");
    let users = folder.ok(&["users", "ls"]);
    assert!(users.contains("carol") && users.contains("dave"), "{users}");
    folder.ok(&["rm", "user/carol", "user/dave"]);
    assert!(!folder.ok(&["users", "ls"]).contains("carol"));
}

#[test]
fn a_folder_that_is_gone_or_another_one_takes_nothing_away() {
    let folder = Folder::new("");
    folder.write(
        "resources/roles.yaml",
        &role("kept", "{deny: {windows_desktop_logins: [root]}}"),
    );
    // stores what the configuration says
    folder.create(&[], &user("carol", "kept"));
    assert!(folder.ok(&["get", "role"]).contains("kept"));
    // a command that was given another folder changes what it was asked to, and nothing else
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    folder.write("elsewhere/other.yaml", &role("other", "{}"));
    let elsewhere = format!("access.resources_dir={}", elsewhere.display());
    folder.run(&["--set", &elsewhere, "lock", "--user", "carol"]);
    let roles = folder.ok(&["get", "role"]);
    assert!(roles.contains("kept") && !roles.contains("other"), "{roles}");
    // nor does a folder that isn't mounted
    fs::rename(folder.path().join("resources"), folder.path().join("away")).unwrap();
    let (code, roles, said) = folder.run(&["get", "role"]);
    assert!(code == 0 && roles.contains("kept"), "{code} {roles}");
    assert!(
        said.contains("is missing, and resources were loaded from there before"),
        "{said}"
    );
    folder.create(&[], &role("added", "{}"));
    fs::rename(folder.path().join("away"), folder.path().join("resources")).unwrap();
    assert!(folder.ok(&["get", "role"]).contains("kept"));
    let audit = folder.ok(&["audit", "ls"]);
    assert!(!audit.contains("role.deleted"), "{audit}");
}
