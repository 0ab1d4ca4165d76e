#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A folder with a configuration file, and the sources that read it.
struct Case {
    dir: TempDir,
    sources: Sources,
}

impl Case {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources {
            working_dir: dir.path().to_owned(),
            ..Sources::default()
        };
        Self { dir, sources }
    }

    fn file(text: &str) -> Self {
        let mut case = Self::empty();
        std::fs::write(case.dir.path().join("d.yaml"), text).unwrap();
        case.sources.file = Some(PathBuf::from("d.yaml"));
        case
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.sources
            .flags
            .push((key.to_owned(), value.to_owned(), format!("--set {key}")));
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn errors(&self) -> Vec<String> {
        load(&self.sources)
            .unwrap_err()
            .to_string()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

fn errors(text: &str) -> Vec<String> {
    Case::file(text).errors()
}

#[test]
fn defaults_are_whole_and_valid() {
    let case = Case::empty();
    let loaded = case.load();
    let config = &loaded.config;
    assert_eq!(config.data_dir, case.dir.path().join("data"));
    assert_eq!(config.spool.path, case.dir.path().join("data/spool"));
    assert_eq!(config.gateway.listen, "127.0.0.1:3389".parse::<SocketAddr>().unwrap());
    assert_eq!(config.session_recording.mode, RecordingMode::On);
    assert_eq!(config.session_recording.on_failure, OnFailure::Strict);
    assert_eq!(config.recording.frame_interval, Duration::from_millis(40));
    assert_eq!(config.recording.segment_max_age, None);
    assert_eq!(config.segment_max_age(), Duration::from_secs(60));
    assert_eq!(config.access.claimed_identity, ClaimedIdentity::Deny);
    assert_eq!(config.storages[0].settings, json!({"path": "./recordings"}));
    assert_eq!(config.storages[0].mode, Mode::Async);
    assert!(loaded.entries().iter().all(|entry| entry.origin == Origin::Default));
}

#[test]
fn the_issues_example_loads() {
    let case = Case::file(
        "data_dir: ./data\nplugin_dirs: []\ngateway:\n  listen: 127.0.0.1:3389\n  certificate: null\n  private_key: null\n  \
         default_desktop: lab\nsession_recording: {mode: on, on_failure: strict}\nstorages:\n  \
         - {name: disk, plugin: local, mode: sync, settings: {path: ./recordings}}\nexporters:\n  \
         - {name: mp4, plugin: mp4, mode: sync, settings: {}}\n  - {name: webm, plugin: webm, mode: sync, settings: {}}\n  - {name: frames, plugin: frames, mode: sync, settings: {}}\n\
         access:\n  resources_dir: ./resources\n  claimed_identity: allow\n  claimed_roles: [access]\n",
    );
    let loaded = case.load();
    assert_eq!(loaded.config.gateway.default_desktop.as_deref(), Some("lab"));
    assert_eq!(loaded.config.storages[0].mode, Mode::Sync);
    assert_eq!(loaded.config.segment_max_age(), Duration::from_secs(10));
    assert_eq!(loaded.config.access.claimed_identity, ClaimedIdentity::Allow);
    assert_eq!(loaded.config.exporters[1].source_key, "exporters[1]");
}

#[test]
fn relative_paths_start_at_the_files_folder() {
    let case = Case::empty();
    std::fs::create_dir(case.dir.path().join("etc")).unwrap();
    std::fs::write(
        case.dir.path().join("etc/d.yaml"),
        "data_dir: ./x\nplugin_dirs: /opt/p\nspool: {path: ../s}\n",
    )
    .unwrap();
    let sources = Sources {
        file: Some(PathBuf::from("etc/d.yaml")),
        ..case.sources.clone()
    };
    let config = load(&sources).unwrap().config;
    assert_eq!(config.data_dir, case.dir.path().join("etc/x"));
    assert_eq!(config.plugin_dirs, [PathBuf::from("/opt/p")]);
    assert_eq!(config.spool.path, case.dir.path().join("etc/../s"));
    assert_eq!(config.base_dir, case.dir.path().join("etc"));
}

#[test]
fn later_layers_win_and_each_value_knows_its_origin() {
    let file = "gateway:\n  listen: 127.0.0.1:1\n  sessions_max: 1\n  default_desktop: one\nstorages:\n  - name: a\n    \
                plugin: local\n    settings: {path: x, n: [1, {m: 2}]}\n";
    let case = Case::file(file)
        .env("DESKREEL_GATEWAY", "{listen: '127.0.0.1:2', sessions_max: 2}")
        .env("DESKREEL_GATEWAY__SESSIONS_MAX", "3")
        .env("DESKREEL_CONFIG", "ignored.yaml")
        .env("OTHER", "x")
        .flag("gateway.sessions_max", "4")
        .flag("gateway.sessions_max", "5");
    let loaded = case.load();
    assert_eq!(
        loaded.config.gateway.listen,
        "127.0.0.1:2".parse::<SocketAddr>().unwrap()
    );
    assert_eq!(loaded.config.gateway.sessions_max, 5);
    assert_eq!(loaded.config.gateway.default_desktop.as_deref(), Some("one"));
    let origin = |key: &str| loaded.origin(key).to_string();
    assert_eq!(origin("gateway.listen"), "DESKREEL_GATEWAY");
    assert_eq!(origin("gateway.sessions_max"), "--set gateway.sessions_max");
    assert_eq!(origin("gateway.default_desktop"), "d.yaml:4:20");
    assert_eq!(origin("gateway.connect_timeout"), "default");
    assert_eq!(origin("storages[0].name"), "d.yaml:6:11");
    assert_eq!(origin("storages[0].mode"), "default");
    assert_eq!(origin("storages[0].settings.n[1].m"), "d.yaml:8:36");
    assert_eq!(origin("storages[0].settings.not_there"), "d.yaml:8:5");
    assert_eq!(
        loaded.config.storages[0].settings,
        json!({"path": "x", "n": [1, {"m": 2}]})
    );
}

#[test]
fn lists_are_replaced_as_a_whole() {
    let case = Case::file("storages: [{name: a, plugin: local}, {name: b, plugin: local}]\n").env(
        "DESKREEL_STORAGES",
        "[{name: c, plugin: s3, mode: sync, settings: {bucket: x, parts: 3}}]",
    );
    let loaded = case.load();
    assert_eq!(loaded.config.storages.len(), 1);
    assert_eq!(loaded.config.storages[0].settings, json!({"bucket": "x", "parts": 3}));
    assert_eq!(
        loaded.origin("storages[0].settings.parts").to_string(),
        "DESKREEL_STORAGES"
    );
    assert_eq!(loaded.origin("storages[0].required").to_string(), "default");
}

#[test]
fn null_sets_the_default_back() {
    let case = Case::file("gateway: {default_desktop: lab, sessions_max: 7}\nstorages: []\nlog:\n")
        .env("DESKREEL_GATEWAY__DEFAULT_DESKTOP", "")
        .env("DESKREEL_GATEWAY__SESSIONS_MAX", "null")
        .env("DESKREEL_STORAGES", "~");
    let loaded = case.load();
    assert_eq!(loaded.config.gateway.default_desktop, None);
    assert_eq!(loaded.config.gateway.sessions_max, 100);
    assert_eq!(loaded.config.storages[0].name, "disk");
    assert_eq!(
        loaded.origin("gateway.sessions_max").to_string(),
        "DESKREEL_GATEWAY__SESSIONS_MAX"
    );
}

#[test]
fn session_recording_is_a_word_or_a_map() {
    for text in [
        "off",
        "OFF",
        "false",
        "No",
        "'off'",
        "0",
        "{mode: off}",
        "{mode: Off, on_failure: best_effort}",
    ] {
        let loaded = Case::file(&format!("session_recording: {text}\n")).load();
        assert_eq!(loaded.config.session_recording.mode, RecordingMode::Off, "{text}");
    }
    for text in [
        "on",
        "true",
        "yes",
        "{mode: true}",
        "{on_failure: strict}",
        "{}",
        "null",
    ] {
        let loaded = Case::file(&format!("session_recording: {text}\n")).load();
        assert_eq!(loaded.config.session_recording.mode, RecordingMode::On, "{text}");
    }
    let loaded = Case::file("session_recording: on\n")
        .env("DESKREEL_SESSION_RECORDING", "off")
        .load();
    assert_eq!(loaded.config.session_recording.mode, RecordingMode::Off);
    assert_eq!(
        loaded.origin("session_recording.mode").to_string(),
        "DESKREEL_SESSION_RECORDING"
    );
    // the scalar sets the mode alone
    let loaded = Case::file("session_recording: {mode: off, on_failure: best_effort}\n")
        .flag("session_recording", "on")
        .load();
    assert_eq!(loaded.config.session_recording.mode, RecordingMode::On);
    assert_eq!(loaded.config.session_recording.on_failure, OnFailure::BestEffort);
}

#[test]
fn recording_words_of_teleport_are_known_and_its_nesting_is_explained() {
    let mode = |text: &str| Case::file(text).load().config.session_recording.mode;
    assert_eq!(mode("session_recording: node-sync\n"), ClusterMode::Sync);
    assert_eq!(mode("session_recording: {mode: proxy}\n"), ClusterMode::On);
    assert_eq!(mode("session_recording: {mode: no}\n"), ClusterMode::Off);
    assert_eq!(
        errors("auth_service:\n  enabled: yes\n  session_recording: node\n"),
        [
            "d.yaml:3:3: auth_service.session_recording: write session_recording at the top level, not inside auth_service"
        ]
    );
}

#[test]
fn all_errors_come_at_once_with_their_places() {
    let text = "\
gateway:
  listn: 127.0.0.1:1
  sessions_max: 0
  certificate: 5
  handshake_timeout: 12
listen: x
recording: {segment_max_bytes: 1KiB, capture_wire: false, encryption: {}}
session_recording: {mode: maybe, on_failure: best-effort}
storages:
  - {name: A, plugin: local}
  - {plugin: local, mode: fast, required: perhaps}
  - local
exporters: {name: mp4}
spool: 3
gateway: {}
";
    assert_lines(
        &errors(text),
        "\
d.yaml:2:3: gateway.listn: unknown key, did you mean listen?
d.yaml:3:17: gateway.sessions_max: \"0\" is not a number from 1 to 65535
d.yaml:4:16: gateway.certificate: \"5\" is a number or a boolean here; quote it: '5'
d.yaml:5:22: gateway.handshake_timeout: \"12\" is not a duration: write it as 12.5s, 1h30m or 30d (units ns, us, ms, s, m, h, d)
d.yaml:6:1: listen: unknown key, did you mean gateway.listen?
d.yaml:7:32: recording.segment_max_bytes: \"1KiB\" is out of range: 64KiB to 256MiB
d.yaml:7:38: recording.capture_wire: this version does not support the key yet; remove it
d.yaml:7:59: recording.encryption: this version does not support the key yet; remove it
d.yaml:8:27: session_recording.mode: \"maybe\" is not one of: off, on, node, proxy, node-sync, proxy-sync
d.yaml:8:46: session_recording.on_failure: \"best-effort\" is not one of: strict, best_effort, did you mean best_effort?
d.yaml:10:12: storages[0].name: \"A\" is not a name: use up to 63 of a-z, 0-9, - and _
d.yaml:11:5: storages[1].name: missing, it must be written (a name)
d.yaml:11:27: storages[1].mode: \"fast\" is not one of: sync, async
d.yaml:11:43: storages[1].required: \"perhaps\" is not a boolean: write true or false
d.yaml:12:5: storages[2]: must be a map of keys (name, plugin, path, sha256, mode, required, op_timeout, concurrency_max, puts_per_second_max, bytes_per_second_max, settings), not a single value
d.yaml:13:12: exporters: must be a list of entries, not a map
d.yaml:14:8: spool: must be a map of keys, not a single value (known: path, max_bytes, min_free_bytes, reserve_bytes)
d.yaml:15:1: gateway: duplicate key, first on line 1",
    );
}

/// Compares line by line, so that a failure shows both texts whole.
fn assert_lines(found: &[String], expected: &str) {
    let found = found.join("\n");
    assert!(found == expected, "found:\n{found}\n\nexpected:\n{expected}");
}

#[test]
fn a_typo_of_a_required_key_is_one_error() {
    assert_eq!(
        errors("storages: [{nme: disk, plugin: local}]\n"),
        ["d.yaml:1:13: storages[0].nme: unknown key, did you mean name?"]
    );
}

#[test]
fn dotted_keys_are_no_paths() {
    for text in [
        "gateway.listen: 127.0.0.1:1\n",
        "'': 1\n",
        "'storages[0]': {}\n",
        "'storages[]': {name: a}\n",
    ] {
        assert_eq!(errors(text).len(), 1, "{text}: {:?}", errors(text));
        assert!(errors(text)[0].contains("unknown key"), "{text}: {:?}", errors(text));
    }
}

#[test]
fn broken_files_say_where() {
    assert_eq!(errors("a: [\n"), errors("a: [\n"));
    assert!(
        errors("gateway:\n  listen: [\n")[0].starts_with("d.yaml:3:1: not YAML: "),
        "{:?}",
        errors("gateway:\n  listen: [\n")
    );
    assert_eq!(
        errors("log: {level: info}\n---\nlog: {level: info}\n"),
        ["d.yaml:3:1: a second document starts here; a configuration file is one document"]
    );
    assert!(
        errors("- a\n")[0].starts_with("d.yaml:1:1: must be a map of keys, not a list"),
        "{:?}",
        errors("- a\n")
    );

    let mut case = Case::file("");
    std::fs::write(case.dir.path().join("d.yaml"), b"a: b\nc: \xff\n").unwrap();
    assert_eq!(case.errors(), ["d.yaml:2:4: not UTF-8 from here on"]);
    std::fs::write(case.dir.path().join("d.yaml"), vec![b'#'; 2 << 20]).unwrap();
    assert_eq!(case.errors(), ["d.yaml: larger than 1048576 bytes"]);
    case.sources.file = Some(PathBuf::from("none.yaml"));
    assert!(
        case.errors()[0].starts_with("none.yaml: can't be opened: "),
        "{:?}",
        case.errors()
    );
}

#[test]
fn variables_and_flags_name_the_nearest_key() {
    let case = Case::file("log: {level: warm}\n")
        .env("DESKREEL_GATEWAY__LISTN", "127.0.0.1:1")
        .env("DESKREEL_GATWAY__LISTEN", "127.0.0.1:1")
        .env("DESKREEL_STORAGES__0__NAME", "x")
        .env("DESKREEL_LOG__LEVEL", "loud")
        .env("DESKREEL_EXPORTERS", "[{name: a, plugn: b}, [")
        .env("DESKREEL_RECORDING__ENCRYPTION", "x")
        .env("DESKREEL_", "x")
        .flag("storages[0].name", "x")
        .flag("gateway.listen", "nowhere")
        .flag("level", "info");
    assert_lines(
        &case.errors(),
        "\
d.yaml:1:14: log.level: \"warm\" is not one of: error, warn, info, debug, trace, did you mean warn?
DESKREEL_: unknown key (known sections: data_dir, plugin_dirs, gateway, session_recording, recording, spool, storages, retention, catalog, exporters, exports, access, audit, web, log)
DESKREEL_EXPORTERS: exporters: not YAML: while parsing a node, did not find expected node content (line 2, column 1 of the value)
DESKREEL_GATEWAY__LISTN: gateway.listn: unknown key, did you mean DESKREEL_GATEWAY__LISTEN?
DESKREEL_GATWAY__LISTEN: gatway.listen: unknown key, did you mean DESKREEL_GATEWAY__LISTEN?
DESKREEL_LOG__LEVEL: log.level: \"loud\" is not one of: error, warn, info, debug, trace
DESKREEL_RECORDING__ENCRYPTION: recording.encryption: this version does not support the key yet; remove it
DESKREEL_STORAGES__0__NAME: storages.0.name: storages is a list, set it as a whole: DESKREEL_STORAGES='[..]'
--set gateway.listen: gateway.listen: \"nowhere\" is not an address: write IP:port, such as 0.0.0.0:3389 or [::]:3389
--set level: level: unknown key, did you mean log.level?
--set storages[0].name: storages[0].name: storages is a list, set it as a whole: storages='[..]'",
    );
    let case = Case::empty()
        .env("DESKREEL_LOG__LEVEL", "info")
        .env("DESKREEL_log__level", "warn");
    assert_eq!(
        case.errors(),
        ["DESKREEL_log__level: log.level: sets the same key as DESKREEL_LOG__LEVEL"]
    );
}

#[test]
fn scalars_of_variables_need_no_quotes() {
    let case = Case::empty()
        .env("DESKREEL_GATEWAY__LISTEN", "[::1]:3390")
        .env("DESKREEL_GATEWAY__DEFAULT_DESKTOP", "007")
        .env("DESKREEL_DATA_DIR", "/a: b # c")
        .env("DESKREEL_SPOOL__PATH", "'null'")
        .env("DESKREEL_ACCESS__CLAIMED_ROLES", "dev")
        .env("DESKREEL_PLUGIN_DIRS", "[/a, /b]")
        .env("DESKREEL_RECORDING__SEGMENT_MAX_AGE", " 1m30s ");
    let config = case.load().config;
    assert_eq!(config.gateway.listen, "[::1]:3390".parse::<SocketAddr>().unwrap());
    assert_eq!(config.gateway.default_desktop.as_deref(), Some("007"));
    assert_eq!(config.data_dir, PathBuf::from("/a: b # c"));
    assert_eq!(config.spool.path, case.dir.path().join("null"));
    assert_eq!(config.access.claimed_roles, ["dev"]);
    assert_eq!(config.plugin_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(config.segment_max_age(), Duration::from_secs(90));
}

#[test]
fn keys_are_checked_together() {
    assert_eq!(
        errors("storages: []\n"),
        ["d.yaml:1:1: storages: at least one is needed while session_recording is on"]
    );
    assert_eq!(
        Case::file("storages: []\nsession_recording: off\n")
            .load()
            .config
            .storages,
        []
    );
    let text = "gateway: {certificate: a.pem}\nspool: {max_bytes: 4MiB}\nstorages:\n- {name: a, plugin: local, required: false}\n\
                - {name: a, plugin: s3, required: no}\nexporters: [{name: x, plugin: mp4, when: session.recorded}]\n";
    assert_lines(
        &errors(text),
        "\
d.yaml:1:24: gateway.certificate: needs gateway.private_key beside it
d.yaml:2:20: spool.max_bytes: must hold two segments of recording.segment_max_bytes at least
d.yaml:3:1: storages: at least one must be required while session_recording is on
d.yaml:5:10: storages[1].name: storages[0] is named a too
d.yaml:6:42: exporters[0].when: is for exporters with mode: async; the command that asks says it of the others",
    );
}

#[test]
fn retention_deletes_nothing_unless_it_says_so() {
    let unset = Case::empty().load().config.retention;
    assert_eq!((unset.default, unset.rules.len()), (None, 0));
    let text = "retention:\n  default: 365d\n  rules:\n    - {keep: 30d, labels: {env: [dev, test], team: x}, users: al*}\n    \
                - {keep: never, where: 'session.recorded'}\n    - {keep: 0, desktops: [a, b]}\n";
    let set = Case::file(text).load().config.retention;
    assert_eq!(set.default, Some(Duration::from_secs(365 * 86_400)));
    assert_eq!(set.rules[0].labels["env"], ["dev", "test"]);
    assert_eq!(set.rules[0].users, ["al*"]);
    // 0 is no time after which something is deleted
    assert_eq!([set.rules[1].keep, set.rules[2].keep], [None, None]);
    assert_eq!(
        errors("retention: {rules: [{keep: 1d}, {users: [a]}, {keep: soon, users: [a]}]}\n").len(),
        2
    );
    assert_eq!(
        errors("retention: {rules: [{keep: 1d}]}\n"),
        [
            "d.yaml:1:21: retention.rules[0]: must name users, desktops, labels or where; what counts for all recordings is retention.default"
        ]
    );
}

#[test]
fn security_of_the_client_leg() {
    let of = |text: &str| Case::file(text).load().config.gateway;
    assert_eq!(of("").client_security, [ClientSecurity::Nla, ClientSecurity::Tls]);
    assert_eq!(
        of("gateway: {client_security: tls}\n").client_security,
        [ClientSecurity::Tls]
    );
    assert_eq!(of("gateway: {tls_min: 1.3}\n").tls_min, TlsMin::Tls13);
    assert_eq!(
        (of("").graphics, of("gateway: {graphics: gfx}\n").graphics),
        (Graphics::Auto, Graphics::Gfx)
    );
    let listeners = of("gateway: {listeners: [{listen: '0.0.0.0:3390', desktop: lab}]}\n").listeners;
    assert_eq!(
        (listeners[0].listen.port(), listeners[0].desktop.as_str()),
        (3390, "lab")
    );
    assert!(errors("gateway: {client_security: []}\n")[0].contains("must name nla, tls or both"));
    assert!(errors("gateway: {client_security: [nla, rdp]}\n")[0].contains("not one of: nla, tls"));
    assert!(errors("gateway: {tls_min: 1.1}\n")[0].contains("not one of: 1.2, 1.3"));
}

#[test]
fn access_keys() {
    let access = |text: &str| Case::file(&format!("access: {text}\n")).load().config.access;
    let defaults = access("{}");
    assert_eq!((defaults.session_ttl_max, defaults.client_idle_timeout), (None, None));
    assert_eq!(defaults.locking_mode, LockingMode::BestEffort);
    assert_eq!(defaults.lock_stale_max, Duration::from_secs(300));
    assert_eq!(defaults.claimed_roles, ["access"]);
    let set = access(
        "{session_ttl_max: 12h, client_idle_timeout: never, locking_mode: strict, lock_stale_max: 1m, \
         require_session_mfa: hardware_key, host_labels: [{match: '^ts', labels: {tier: terminal}}]}",
    );
    assert_eq!(set.session_ttl_max, Some(Duration::from_secs(12 * 3600)));
    assert!(set.require_session_mfa && !defaults.require_session_mfa);
    assert_eq!(set.host_labels[0].labels["tier"], "terminal");
    assert_eq!(access("{session_ttl_max: 0}").session_ttl_max, None);
    assert!(errors("access: {session_ttl_max: soon}\n")[0].ends_with("; never for none"));
}

#[test]
fn settings_keep_their_types() {
    let text = "storages: [{name: a, plugin: b, settings: {a: 1, b: -2, c: 1.5, d: yes, e: true, f: '1', g: null, h: 0x10, \
                i: 007x, j: 18446744073709551615, k: [], l: {}, 'x.y': 1.0e3}}]\n";
    let settings = Case::file(text).load().config.storages[0].settings.clone();
    assert_eq!(
        settings,
        json!({"a": 1, "b": -2, "c": 1.5, "d": "yes", "e": true, "f": "1", "g": null, "h": 16, "i": "007x",
            "j": u64::MAX, "k": [], "l": {}, "x.y": 1000.0})
    );
    assert!(errors("storages: [{name: a, plugin: b, settings: {a: .nan}}]\n")[0].contains("can't be said in JSON"));
}

#[test]
fn many_errors_are_counted() {
    let text: String = (0..500).map(|index| format!("zzz{index}: 1\n")).collect();
    let found = errors(&text);
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "and 400 more errors");
}

#[test]
fn messages_hold_nothing_for_the_terminal() {
    let found = errors("\"a\\e[31m\": 1\nlog: {level: \"\\e[0m\"}\n");
    assert!(found.iter().all(|line| !line.contains('\u{1b}')), "{found:?}");
}

#[test]
fn entries_follow_the_documentation() {
    let keys: Vec<String> = Case::empty()
        .load()
        .entries()
        .into_iter()
        .map(|entry| entry.key)
        .collect();
    assert_eq!(keys[..3], ["data_dir", "plugin_dirs", "gateway.listen"]);
    let storage: Vec<&String> = keys.iter().filter(|key| key.starts_with("storages[0]")).collect();
    assert_eq!(storage[0], "storages[0].name");
    assert_eq!(storage[storage.len() - 1], "storages[0].settings.path");
}

/// A value for `gateway.sessions_max` at each layer, or none.
fn layer() -> impl Strategy<Value = Option<u16>> {
    prop::option::of(1_u16..1000)
}

proptest! {
    #[test]
    fn the_highest_layer_that_speaks_wins(file in layer(), section in layer(), variable in layer(), flag in layer()) {
        let text = file.map(|value| format!("gateway: {{sessions_max: {value}}}\n")).unwrap_or_default();
        let mut case = Case::file(&text);
        if let Some(value) = section {
            case = case.env("DESKREEL_GATEWAY", &format!("{{sessions_max: {value}}}"));
        }
        if let Some(value) = variable {
            case = case.env("DESKREEL_GATEWAY__SESSIONS_MAX", &value.to_string());
        }
        if let Some(value) = flag {
            case = case.flag("gateway.sessions_max", &value.to_string());
        }
        let expected = flag.or(variable).or(section).or(file).unwrap_or(100);
        prop_assert_eq!(case.load().config.gateway.sessions_max, u32::from(expected));
    }

    #[test]
    fn random_values_of_known_keys_never_panic(index in any::<prop::sample::Index>(), value in "\\PC{0,20}|[-0-9.a-z:'\"\\[\\]{}, ]{0,30}") {
        let key = schema::CONFIG.keys[index.index(schema::CONFIG.keys.len())].path;
        let spelled = key.to_uppercase().replace('.', "__");
        let _ = load(&Case::empty().env(&format!("DESKREEL_{spelled}"), &value).sources);
        let _ = load(&Case::empty().flag(key, &value).sources);
        let nested = key.split('.').rev().fold(value, |inner, name| {
            if let Some(list) = name.strip_suffix("[]") { format!("{{{list}: [{inner}]}}") } else { format!("{{{name}: {inner}}}") }
        });
        let _ = load(&Case::file(&nested).sources);
    }

    #[test]
    fn random_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let case = Case::file("");
        std::fs::write(case.dir.path().join("d.yaml"), &bytes).unwrap();
        let _ = load(&case.sources);
        let _ = load_resources(case.dir.path());
    }
}
