//! Roles, users, locks and recording settings: what loads, what it becomes, what is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::OnFailure;

fn read(text: &str) -> Stream {
    let options = ReadOptions {
        file: Path::new("r.yaml"),
        base: Path::new("/etc"),
        skip_foreign: false,
    };
    read_resources(text, &options)
}

fn messages(found: &[ConfigError]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

fn one(text: &str) -> Document {
    let mut stream = read(text);
    assert_eq!(messages(&stream.errors), [""; 0], "{text}");
    assert_eq!(stream.documents.len(), 1);
    stream.documents.remove(0)
}

fn role(spec: &str) -> Role {
    match one(&format!(
        "kind: role\nversion: v7\nmetadata: {{name: dev}}\nspec: {spec}\n"
    ))
    .resource
    {
        Resource::Role(role) => role,
        other => panic!("{other:?}"),
    }
}

fn errors(kind: &str, version: &str, spec: &str) -> Vec<String> {
    let text = format!("kind: {kind}\nversion: {version}\nmetadata: {{name: x}}\nspec: {spec}\n");
    messages(&read(&text).errors)
}

#[test]
fn a_role_of_teleport_loads() {
    // as `tctl get role/x` prints it
    let text = "\
kind: role
metadata:
  description: Access to desktops
  id: 1646853471123
  labels: {}
  name: x
  namespace: default
  revision: 4d5f
spec:
  allow:
    app_labels: {'*': '*'}
    db_labels_expression: 'true'
    kubernetes_resources: [{kind: pod, name: '*', namespace: '*', verbs: ['*']}]
    node_labels: {'*': '*'}
    windows_desktop_labels: {env: dev, team: [blue, 'r*']}
    windows_desktop_logins: '{{internal.windows_logins}}'
    rules:
    - {resources: [event], verbs: [list, read], actions: ['log(\"x\")']}
    - {resources: session, verbs: list, where: 'contains(session.participants, user.metadata.name)'}
  deny: {}
  options:
    cert_format: standard
    create_desktop_user: false
    create_host_user: false
    desktop_clipboard: true
    desktop_directory_sharing: yes
    device_trust_mode: ''
    enhanced_recording: [command, network]
    forward_agent: false
    idp: {saml: {enabled: true}}
    max_session_ttl: 30h0m0s
    client_idle_timeout: 0s
    max_connections: 0
    pin_source_ip: false
    record_session: {default: best_effort, desktop: true, ssh: best_effort}
    ssh_file_copy: true
version: v6
";
    let text = &text.replace("    device_trust_mode: ''\n", "");
    let document = one(text);
    let Resource::Role(role) = &document.resource else {
        panic!("{document:?}")
    };
    assert_eq!(role.allow.windows_desktop_labels["team"], ["blue", "r*"]);
    assert_eq!(role.allow.windows_desktop_labels["env"], ["dev"]);
    assert_eq!(role.allow.windows_desktop_logins, ["{{internal.windows_logins}}"]);
    assert_eq!(role.allow.rules[1].resources, ["session"]);
    assert_eq!(role.options.desktop_clipboard, Some(ClipboardRight::Both));
    assert_eq!(role.options.desktop_directory_sharing, Some(true));
    assert_eq!(role.options.max_session_ttl, Some(Duration::from_secs(30 * 3600)));
    assert_eq!(role.options.client_idle_timeout, None);
    assert_eq!(role.options.max_connections, None);
    let record = role.options.record_session.unwrap();
    assert_eq!(
        (record.desktop, record.default),
        (Some(RecordVote::On), Some(OnFailure::BestEffort))
    );
    let warnings = messages(&read(text).warnings);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("r.yaml:11:5: role/x: no effect here: spec.allow.app_labels, "),
        "{warnings:?}"
    );
    for field in [
        "spec.allow.db_labels_expression",
        "spec.options.idp",
        "spec.allow.rules[0].actions",
        "record_session.ssh",
    ] {
        assert!(warnings[0].contains(field), "{field}: {warnings:?}");
    }
    // what is stored keeps the foreign fields and loses what is computed
    assert_eq!(document.source["spec"]["options"]["cert_format"], "standard");
    assert!(document.source["metadata"].get("revision").is_none());
}

#[test]
fn options_in_all_their_spellings() {
    let clipboard = |word: &str| {
        role(&format!("{{options: {{desktop_clipboard: {word}}}}}"))
            .options
            .desktop_clipboard
    };
    assert_eq!(clipboard("no"), Some(ClipboardRight::Off));
    assert_eq!(clipboard("'On'"), Some(ClipboardRight::Both));
    assert_eq!(clipboard("to_desktop"), Some(ClipboardRight::ToDesktop));
    assert_eq!(clipboard("null"), None);
    let vote = |word: &str| {
        let record = role(&format!("{{options: {{record_session: {{desktop: {word}}}}}}}"))
            .options
            .record_session;
        record.and_then(|record| record.desktop)
    };
    assert_eq!(vote("false"), Some(RecordVote::Off));
    assert_eq!(vote("'yeah'"), Some(RecordVote::On));
    assert_eq!(vote("best_effort"), Some(RecordVote::BestEffort));
    assert_eq!(vote("~"), None);
    let mfa = |word: &str| {
        role(&format!("{{options: {{require_session_mfa: {word}}}}}"))
            .options
            .require_session_mfa
    };
    for (word, expected) in [
        ("0", SessionMfa::No),
        ("true", SessionMfa::Yes),
        ("2", SessionMfa::HardwareKey),
        ("5", SessionMfa::HardwareKeyTouchAndPin),
        ("hardware_key_pin", SessionMfa::HardwareKeyPin),
    ] {
        assert_eq!(mfa(word), Some(expected), "{word}");
    }
    let ttl = |word: &str| {
        role(&format!("{{options: {{max_session_ttl: {word}}}}}"))
            .options
            .max_session_ttl
    };
    assert_eq!(ttl("1h30m"), Some(Duration::from_secs(5400)));
    assert_eq!(ttl("2d"), Some(Duration::from_secs(172_800)));
    assert_eq!((ttl("never"), ttl("0"), ttl("-5m")), (None, None, None));
    assert_eq!(role("{}").options, RoleOptions::default());
}

#[test]
fn roles_that_are_refused() {
    for (spec, expected) in [
        (
            "{options: {desktop_clipbord: true}}",
            "r.yaml:4:18: role/x: spec.options.desktop_clipbord: unknown field, did you mean desktop_clipboard?",
        ),
        (
            "{options: {desktop_usb: maybe}}",
            "r.yaml:4:31: role/x: spec.options.desktop_usb: \"maybe\" is not a boolean: write true or false",
        ),
        (
            "{allow: {windows_desktop_logins: [5]}}",
            "r.yaml:4:41: role/x: spec.allow.windows_desktop_logins[0]: \"5\" is a number or a boolean here; quote it: '5'",
        ),
        (
            "{allow: {windows_desktop_labels: {env: true}}}",
            "r.yaml:4:46: role/x: spec.allow.windows_desktop_labels.env: \"true\" is a number or a boolean here; quote it: 'true'",
        ),
        (
            "{allow: {rules: [{verbs: [read]}]}}",
            "r.yaml:4:24: role/x: spec.allow.rules[0].resources: missing, it must be written (a list of texts)",
        ),
        (
            "{allow: {namespaces: [prod]}}",
            "r.yaml:4:29: role/x: spec.allow.namespaces[0]: only default and * are known",
        ),
        (
            "{options: {max_session_ttl: soon}}",
            "r.yaml:4:35: role/x: spec.options.max_session_ttl: \"soon\" is not a duration: write it as 12.5s, 1h30m or 30d (units ns, us, ms, s, m, h, d); never for none",
        ),
        (
            "{options: {lock: relaxed}}",
            "r.yaml:4:24: role/x: spec.options.lock: \"relaxed\" is not one of: strict, best_effort",
        ),
        (
            "{allow: {}, allow: {}}",
            "r.yaml:4:19: allow: duplicate key, first on line 4",
        ),
    ] {
        assert_eq!(errors("role", "v7", spec), [expected], "{spec}");
    }
    assert_eq!(
        errors("role", "v2", "{}"),
        ["r.yaml:2:10: role/x: version: \"v2\" is not one of: v3, v4, v5, v6, v7"]
    );
    let text = "kind: role\nversion: v7\nmetadata: {name: x, namespace: prod}\nsub_kind: y\n";
    assert_eq!(
        messages(&read(text).errors),
        [
            "r.yaml:3:32: role/x: metadata.namespace: only default is known",
            "r.yaml:4:11: role/x: sub_kind: \"y\" is not known"
        ]
    );
}

#[test]
fn users_and_their_dates() {
    let text = "kind: user\nversion: v2\nmetadata: {name: alice, expires: '2026-03-01T00:00:00Z'}\nspec:\n  roles: dev\n  \
                traits: {logins: null, windows_logins: alice}\n  expires: '0001-01-01T00:00:00Z'\n  status: {is_locked: yes, \
                locked_message: x}\n  created_by: {user: {name: y}}\n  local_auth: {password_hash: abc}\nstatus: {x: 1}\n";
    let document = one(text);
    let Resource::User(user) = &document.resource else {
        panic!()
    };
    assert_eq!(user.roles, ["dev"]);
    assert_eq!(user.traits["windows_logins"], ["alice"]);
    assert!(user.traits["logins"].is_empty() && user.is_locked && user.lock_expires.is_none());
    assert_eq!(user.metadata.expires, document.expires);
    assert_eq!(document.expires.unwrap().year(), 2026);
    assert_eq!(
        messages(&read(text).warnings),
        ["r.yaml:10:3: user/alice: no effect here: spec.local_auth"]
    );
    // dropped, not only without effect: it is neither stored nor shown
    assert!(
        !document.source.to_string().contains("local_auth"),
        "{}",
        document.source
    );
    assert_eq!(document.origin("spec.traits.windows_logins").to_string(), "r.yaml:6:42");
    assert_eq!(
        document.origin("spec.traits.windows_logins[0]").to_string(),
        "r.yaml:6:42"
    );
    assert_eq!(document.origin("spec.nothing").to_string(), "r.yaml:4:1");
    assert!(errors("user", "v2", "{expires: tomorrow}")[0].contains("is not a time"));
}

#[test]
fn locks_and_recording_settings() {
    assert_eq!(
        errors("lock", "v2", "{target: {node: x}}"),
        ["r.yaml:4:8: lock/x: spec.target: locks nothing: write user, role, windows_desktop or login"]
    );
    let text = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: a, device: d}, message: ''}\n";
    let Resource::Lock(lock) = one(text).resource else {
        panic!()
    };
    assert_eq!((lock.target.user.as_deref(), lock.message), (Some("a"), None));

    let recording = |spec: &str| {
        let text = format!("kind: session_recording_config\nversion: v2\nspec: {spec}\n");
        let document = one(&text);
        assert_eq!(document.name, RECORDING_CONFIG_NAME);
        match document.resource {
            Resource::Recording(settings) => settings,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(recording("{}"), RecordingSettings::default());
    assert_eq!(recording("{mode: proxy-sync}").mode, ClusterMode::Sync);
    assert_eq!(
        recording("{mode: off, proxy_checks_host_keys: yes}").mode,
        ClusterMode::Off
    );
    let wrong = "{mode: nodes, encryption: {enabled: true, manual_key_management: {}}}";
    let found = errors("session_recording_config", "v2", wrong).join("\n");
    assert!(
        found.contains("\"nodes\" is not one of: off, on, node, proxy, node-sync, proxy-sync, did you mean node?"),
        "{found}"
    );
    assert!(found.contains("recording.encryption.recipients"), "{found}");
}

#[test]
fn desktops_of_teleport() {
    let text = "kind: dynamic_windows_desktop\nversion: v1\nmetadata: {name: d.x}\nspec:\n  addr: h\n  domain: corp.example\n  \
                non_ad: true\n  host_id: 3f\n  screen_size: {width: 1920, height: 1080}\n  record_session: {desktop: strict}\n";
    let document = one(text);
    let Resource::Desktop(desktop) = &document.resource else {
        panic!()
    };
    assert_eq!(
        (desktop.domain.as_deref(), desktop.non_ad),
        (Some("corp.example"), true)
    );
    assert_eq!(
        desktop.screen_size,
        Some(ScreenSize {
            width: 1920,
            height: 1080
        })
    );
    assert_eq!(desktop.record, Some(RecordVote::Strict));
    assert_eq!(document.source["kind"], "windows_desktop");
    // what was stored is read back as it was
    let again = read_stored(&document.source, Path::new("/etc")).unwrap();
    assert_eq!(again.resource, document.resource);
    for (spec, expected) in [
        (
            "{addr: h, record_session: {desktop: false}}",
            "a desktop can only raise recording",
        ),
        (
            "{addr: h, screen_size: {width: 8193, height: 1}}",
            "\"8193\" is not a number from 0 to 8192",
        ),
        ("{addr: h, screen_size: {width: 1}}", "needs both width and height"),
        (
            "{addr: h, gateway: {channels: {}}}",
            "this version does not support the field yet; remove it",
        ),
    ] {
        let found = errors("windows_desktop", "v3", spec);
        assert!(found.len() == 1 && found[0].ends_with(expected), "{spec}: {found:?}");
    }
}

#[test]
fn foreign_kinds_can_be_skipped() {
    let text = "kind: token\nversion: v2\nmetadata: {name: t}\n---\nkind: role\nversion: v7\nmetadata: {name: r}\n";
    let stream = read(text);
    assert_eq!(stream.errors.len(), 1);
    let options = ReadOptions {
        file: Path::new("r.yaml"),
        base: Path::new("/"),
        skip_foreign: true,
    };
    let stream = read_resources(text, &options);
    assert_eq!((stream.errors.len(), stream.documents.len()), (0, 1));
    assert_eq!(
        messages(&stream.warnings),
        ["r.yaml:1:7: token/t: unsupported kind, skipped"]
    );
}

#[test]
fn many_roles_in_one_stream() {
    let one = "kind: role\nversion: v7\nmetadata: {name: rN}\nspec: {allow: {windows_desktop_labels: {env: [a, b]}, windows_desktop_logins: [x]}}\n";
    let text: Vec<String> = (0..10_000).map(|index| one.replace('N', &index.to_string())).collect();
    let stream = read(&text.join("---\n"));
    assert_eq!((stream.errors.len(), stream.documents.len()), (0, 10_000));
    // but not more than aliases may make of it
    let bomb = format!("a: &a [{}]\n", vec!["x"; 400].join(","));
    let bomb = format!("{bomb}b: &b [{}]\n", vec!["*a"; 100].join(","));
    let bomb = vec![bomb; 50].join("---\n");
    assert!(
        messages(&read(&bomb).errors)
            .iter()
            .any(|error| error.contains("aliases make too much"))
    );
}

proptest! {
    #[test]
    fn what_was_stored_reads_back_the_same(
        logins in prop::collection::vec("[a-z ]{0,6}|[0-9]{1,3}|yes|null", 0..4),
        vote in prop::sample::select(vec!["true", "no", "strict", "~", "'best_effort'"]),
        label in "[a-z*]{1,5}|'5'|'true'",
    ) {
        let logins: Vec<String> = logins.iter().map(|login| format!("'{login}x'")).collect();
        let text = format!(
            "kind: role\nversion: v5\nmetadata: {{name: r}}\nspec: {{allow: {{windows_desktop_logins: [{}], windows_desktop_labels: \
             {{k: '{}'}}}}, options: {{record_session: {{desktop: {vote}}}, max_connections: 3, desktop_usb: off}}}}\n",
            logins.join(", "),
            label.trim_matches('\''),
        );
        let document = one(&text);
        let again = read_stored(&document.source, Path::new("/etc")).unwrap();
        prop_assert_eq!(again.resource, document.resource);
        prop_assert_eq!(again.source, document.source);
    }

    #[test]
    fn random_resources_never_panic(text in "((kind: |version: |metadata: |spec: |name: |allow: |deny: |options: |rules: |target: |user|role|lock|v2|v7|windows_desktop_labels: |record_session: |expires: |2026-01-01T00:00:00Z|desktop: | |\n|  |---\n|\\{|\\}|\\[|\\]|,|'|\"){0,40})") {
        let _ = read(&text);
    }
}
