#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use tempfile::TempDir;

use super::desktop::host_and_port;
use super::read::RESOURCE_MAX_BYTES;
use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn errors(files: &[(&str, &str)]) -> Vec<String> {
    let dir = folder(files);
    let errors = load_resources(dir.path()).unwrap_err().to_string();
    let prefix = format!("{}/", dir.path().display());
    errors.lines().map(|line| line.replace(&prefix, "")).collect()
}

fn desktop(spec: &str) -> String {
    format!("kind: windows_desktop\nversion: v3\nmetadata: {{name: lab}}\nspec: {spec}\n")
}

#[test]
fn a_folder_of_streams() {
    let two = format!(
        "# first\n{}---\n---\n{}",
        desktop("{addr: b}"),
        desktop("{addr: 'b:1'}").replace("lab", "a.b")
    );
    let dir = folder(&[("x.yaml", &two), ("y.yml", ""), (".hidden.yaml", "?"), ("z.txt", "?")]);
    let resources = load_resources(dir.path()).unwrap();
    let names: Vec<(&str, &str)> = resources
        .desktops
        .iter()
        .map(|desktop| (desktop.name.as_str(), desktop.addr.as_str()))
        .collect();
    assert_eq!(names, [("a.b", "b:1"), ("lab", "b:3389")]);
    assert_eq!(resources.files.len(), 2);
    assert!(!resources.folder_missing);
    let desktop = resources.desktop("lab").unwrap();
    assert_eq!(
        desktop.gateway.tls,
        DesktopTls {
            verify: Verify::Pin,
            sha256: None,
            ca: None
        }
    );
    assert_eq!(desktop.gateway.bulk_compression, BulkCompression::Keep);
    assert_eq!(desktop.gateway.graphics, None);
}

#[test]
fn no_folder_is_no_error() {
    let dir = folder(&[]);
    let resources = load_resources(&dir.path().join("none")).unwrap();
    assert!(resources.folder_missing && resources.desktops.is_empty());
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(load_resources(&dir.path().join("file")).is_err());
}

#[test]
fn every_error_of_every_document() {
    let text = "\
kind: node
version: v7
metadata: {name: dev}
---
kind: windows_desktop
version: v2
metadata: {name: lab, expires: never}
spec:
  addr: 5
  gateway:
    tls: {verfy: none}
    bulk_compression: on
---
kind: windows_desktop
version: v3
metadata: {labels: {a: 1, b: [x]}}
spec: {domain: corp, x: 1, gateway: {credentials: {logins: []}}}
---
[1]
---
version: v3
---
kind: window_desktop
";
    assert_eq!(
        errors(&[("r.yaml", text)]).join("\n"),
        "\
r.yaml:1:7: node/dev: unsupported kind (known: role, user, windows_desktop, session_recording_config, lock)
r.yaml:6:10: windows_desktop/lab: version: \"v2\" is not one of: v3
r.yaml:7:32: windows_desktop/lab: metadata.expires: \"never\" is not a time: write it as 2026-03-01T00:00:00Z or 2026-03-01T00:00:00+01:00
r.yaml:9:9: windows_desktop/lab: spec.addr: \"5\" is a number or a boolean here; quote it: '5'
r.yaml:11:11: windows_desktop/lab: spec.gateway.tls.verfy: unknown field, did you mean verify?
r.yaml:12:23: windows_desktop/lab: spec.gateway.bulk_compression: \"on\" is not one of: keep, clear
r.yaml:14:1: windows_desktop: metadata.name: missing, it must be written (a text)
r.yaml:14:1: windows_desktop: spec.addr: missing, it must be written (a text)
r.yaml:16:24: windows_desktop: metadata.labels.a: \"1\" is a number or a boolean here; quote it: '1'
r.yaml:16:30: windows_desktop: metadata.labels.b: must be a text, not a list
r.yaml:17:22: windows_desktop: spec.x: unknown field (known: addr, domain, non_ad, screen_size, record_session, gateway)
r.yaml:19:1: a resource must be a map with kind, version, metadata and spec
r.yaml:21:1: kind is missing: write one of role, user, windows_desktop, session_recording_config, lock
r.yaml:23:7: window_desktop: unknown kind, did you mean windows_desktop?"
    );
}

#[test]
fn names_are_unique_over_all_files() {
    let text = desktop("{addr: a}");
    assert_eq!(
        errors(&[("a.yaml", &text), ("b.yaml", &text)])[0]
            .split(": used")
            .next()
            .unwrap(),
        "b.yaml:3:18: windows_desktop/lab: metadata.name"
    );
    assert!(errors(&[("a.yaml", &text.replace("lab", "'a/b'"))])[0].contains("must be 1 to 255 bytes without /"));
    let user = "kind: user\nversion: v2\nmetadata: {name: 'ann:lab'}\nspec: {roles: [access]}\n";
    assert!(errors(&[("a.yaml", user)])[0].contains("must have no colon"));
    assert!(errors(&[("a.yaml", &text.replace("lab", "\"a\\nb\""))])[0].contains("control characters"));
}

#[test]
fn tls_keys_belong_together() {
    let sha = "0".repeat(64);
    let tls = |tls: &str| desktop(&format!("{{addr: a, gateway: {{tls: {tls}}}}}"));
    for (text, expected) in [
        (
            tls("{verify: ca}"),
            "spec.gateway.tls.verify: ca needs spec.gateway.tls.ca, a PEM file of trusted roots",
        ),
        (tls("{ca: x.pem}"), "spec.gateway.tls.ca: belongs to verify: ca only"),
        (
            tls("{verify: none, ca: x.pem}"),
            "spec.gateway.tls.ca: belongs to verify: ca only",
        ),
        (
            tls(&format!("{{verify: none, sha256: '{sha}'}}")),
            "spec.gateway.tls.sha256: belongs to verify: pin only",
        ),
        (
            tls("{sha256: abc}"),
            "spec.gateway.tls.sha256: \"abc\" is not a SHA-256: write its 64 hex digits",
        ),
    ] {
        let found = errors(&[("d.yaml", &text)]);
        assert!(found.len() == 1 && found[0].ends_with(expected), "{text}: {found:?}");
    }
    let dir = folder(&[("d.yaml", &tls("{verify: ca, ca: ./x.pem}"))]);
    let resources = load_resources(dir.path()).unwrap();
    assert_eq!(resources.desktops[0].gateway.tls.ca, Some(dir.path().join("x.pem")));
    let dir = folder(&[(
        "d.yaml",
        &tls(&format!("{{sha256: '{}'}}", "AB:".repeat(32).trim_end_matches(':'))),
    )]);
    let resources = load_resources(dir.path()).unwrap();
    assert_eq!(resources.desktops[0].gateway.tls.sha256, Some("ab".repeat(32)));
}

#[test]
fn addresses() {
    for (addr, expected) in [
        ("h", Some("h:3389")),
        ("h.example:1", Some("h.example:1")),
        ("10.0.0.1", Some("10.0.0.1:3389")),
        ("[::1]", Some("[::1]:3389")),
        ("[fe80::1]:99", Some("[fe80::1]:99")),
        ("::1", None),
        ("h:", None),
        ("h:0", None),
        ("h:65536", None),
        ("h:+1", None),
        ("h:1:2", None),
        ("[::1]x", None),
        ("[h]", None),
        ("a b", None),
        ("", None),
        (":1", None),
        ("[::1", None),
    ] {
        assert_eq!(host_and_port(addr).as_deref(), expected, "{addr}");
    }
}

proptest! {
    #[test]
    fn random_streams_never_panic(text in "((kind|version|metadata|spec|name|addr|windows_desktop|v3|gateway|tls|role): ?| |\n|  |---\n|\\{|\\}|\\[|\\]|,|&a|\\*a|'|\"|é){0,60}") {
        let dir = folder(&[("r.yaml", &text)]);
        let _ = load_resources(dir.path());
    }

    #[test]
    fn random_addresses_never_panic(text in "\\PC{0,30}|[\\[\\]:0-9a-f.]{0,20}") {
        let _ = host_and_port(&text);
    }
}

#[test]
fn logins_and_where_their_secrets_are() {
    let spec = "{addr: a, gateway: {security: nla, credentials: {logins: [\
                {login: svc, domain: CORP, password: {env: LAB_PASSWORD}}, \
                {login: b, password: {file: secrets/b}}, \
                {login: c, password: {command: [pass, show, lab]}}, \
                {login: d, password: hunter2}]}}}";
    let dir = folder(&[("x.yaml", &desktop(spec))]);
    let resources = load_resources(dir.path()).unwrap();
    let gateway = &resources.desktop("lab").unwrap().gateway;
    assert_eq!(gateway.security, DesktopSecurity::Nla);
    let Credentials::Logins(logins) = &gateway.credentials else {
        panic!("{:?}", gateway.credentials)
    };
    assert_eq!(logins[0].domain.as_deref(), Some("CORP"));
    assert_eq!(logins[0].password, SecretSource::Env("LAB_PASSWORD".to_owned()));
    assert_eq!(logins[1].password, SecretSource::File(dir.path().join("secrets/b")));
    let words = ["pass", "show", "lab"].map(str::to_owned).to_vec();
    assert_eq!(logins[2].password, SecretSource::Command(words));
    assert!(!format!("{gateway:?}").contains("hunter2"), "{gateway:?}");

    let word = folder(&[("x.yaml", &desktop("{addr: a, gateway: {credentials: passthrough}}"))]);
    let resources = load_resources(word.path()).unwrap();
    assert_eq!(
        resources.desktop("lab").unwrap().gateway.credentials,
        Credentials::Passthrough
    );
}

#[test]
fn secrets_that_are_none() {
    let login = |login: &str| desktop(&format!("{{addr: a, gateway: {{credentials: {{logins: [{login}]}}}}}}"));
    let one = |text: &str| errors(&[("x.yaml", &login(text))]).join("\n");
    assert!(one("{login: a, password: {vault: x}}").contains("{env: NAME}, {file: PATH} or {command:"));
    assert!(one("{login: a, password: {env: A, file: b}}").contains("must be one of"));
    assert!(one("{login: a, password: {command: []}}").contains("must be one of"));
    assert!(one("{login: a}").contains("password: missing"));
    assert!(one("{login: a, password: {env: A}}, {login: A, password: {env: A}}").contains("stands there twice"));
}

#[test]
fn each_document_has_a_limit() {
    let role = |name: &str, filler: usize| {
        let text = "x".repeat(filler);
        format!("kind: role\nversion: v7\nmetadata: {{name: {name}, description: {text}}}\n")
    };
    let room = RESOURCE_MAX_BYTES - role("a", 0).len() - "---\n".len();
    // two that are just small enough, in one file that is larger than one may be
    let two = format!("{}---\n{}", role("a", room), role("b", room));
    let dir = folder(&[("r.yaml", &two)]);
    assert_eq!(load_resources(dir.path()).unwrap().documents.len(), 2);
    let large = format!("{}---\n{}---\n{}", role("a", 0), role("b", room + 5), role("c", 0));
    assert_eq!(
        errors(&[("r.yaml", &large)]),
        ["r.yaml:5:1: larger than 1048576 bytes (resource_max_bytes)"]
    );
}
