//! Tests that hold the example files and the documentation to the registry.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use crate::resources::schema::{DESKTOP, LOCK, RECORDING, ROLE, USER};
use crate::scalar::{format_duration, format_size};
use crate::schema::{CONFIG, Key, Kind, Schema, pattern_of};
use crate::{Loaded, Sources, load, load_resources, yaml};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The example file with every key in force: `#key` becomes `key`, while `# prose` stays.
fn uncommented() -> String {
    let text = std::fs::read_to_string(root().join("deskreel.yaml")).unwrap();
    let mut out = String::new();
    for line in text.lines() {
        let key = line.trim_start();
        match key.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') && !key.is_empty() => {
                out.push_str(&line.replacen('#', "", 1));
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

fn load_text(text: &str) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("deskreel.yaml"), text).unwrap();
    let sources = Sources {
        file: Some(PathBuf::from("deskreel.yaml")),
        working_dir: PathBuf::from(dir.path()),
        ..Sources::default()
    };
    let mut loaded = load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
    // the folder is the one thing that may differ
    loaded.config.base_dir = PathBuf::new();
    loaded
}

/// Every key path of a YAML text, as patterns.
fn patterns(node: &yaml::Node, path: &str, out: &mut Vec<String>) {
    match &node.value {
        yaml::Yaml::Mapping(pairs)
            if CONFIG
                .key(&pattern_of(path))
                .is_none_or(|key| matches!(key.kind, Kind::Sections)) =>
        {
            for pair in pairs {
                patterns(&pair.value, &crate::schema::join(path, &pair.key), out);
            }
        }
        yaml::Yaml::Sequence(items) if CONFIG.is_section(&format!("{path}[]")) => {
            out.push(path.to_owned());
            for (index, item) in items.iter().enumerate() {
                patterns(item, &format!("{path}[{index}]"), out);
            }
        }
        _ => out.push(pattern_of(path)),
    }
}

#[test]
fn the_example_file_is_the_defaults() {
    let text = std::fs::read_to_string(root().join("deskreel.yaml")).unwrap();
    let (as_it_is, in_force, defaults) = (load_text(&text), load_text(&uncommented()), load_text(""));
    assert_eq!(as_it_is.values, defaults.values);
    assert_eq!(in_force.values, defaults.values);
    // and it does set them
    assert!(
        as_it_is
            .entries()
            .iter()
            .all(|entry| entry.origin == crate::Origin::Default)
    );
    let from_file = |loaded: &Loaded| {
        let entries = loaded.entries().into_iter();
        entries
            .filter(|entry| matches!(entry.origin, crate::Origin::File { .. }))
            .count()
    };
    // Of the exporters only the first shows all keys.
    let spared = 6 * (in_force.config.exporters.len() - 1);
    assert!(
        from_file(&in_force) + spared >= in_force.entries().len(),
        "{:#?}",
        in_force.entries()
    );
}

#[test]
fn the_example_file_has_every_key_in_order() {
    let parsed = yaml::parse(&uncommented());
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    let mut found = Vec::new();
    patterns(&parsed.documents[0], "", &mut found);
    let mut seen = std::collections::HashSet::new();
    found.retain(|pattern| seen.insert(pattern.clone()));
    // entries of a list that is empty by default have no line of their own
    let is_empty = |path: &str| {
        let list = path.split_once("[]").map_or(path, |(list, _)| list);
        list != path && CONFIG.key(list).is_some_and(|key| key.default == Some("[]"))
    };
    let keys = CONFIG.keys.iter().map(|key| key.path);
    let expected: Vec<&str> = keys.filter(|path| !is_empty(path)).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_example_resources_load() {
    let resources = load_resources(&root().join("resources")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(resources.desktops.len(), 2);
    assert_eq!(resources.warnings, []);
    let kinds: std::collections::BTreeSet<_> = resources.documents.iter().map(|document| document.kind).collect();
    assert_eq!(kinds.len(), 4);
    assert_eq!(resources.desktop("lab").unwrap().addr, "10.0.0.5:3389");
    assert_eq!(
        resources
            .desktop("accounting")
            .unwrap()
            .gateway
            .tls
            .sha256
            .as_ref()
            .unwrap()
            .len(),
        64
    );
}

/// The documentation's row of a key, without its meaning.
fn row(key: &Key) -> [String; 3] {
    let range = match key.kind {
        Kind::Duration { min, max } => format!(" [{}, {}]", format_duration(min), format_duration(max)),
        Kind::Size { min, max } => format!(" [{}, {}]", format_size(min), format_size(max)),
        Kind::Count { min, max } => format!(" [{min}, {max}]"),
        _ => String::new(),
    };
    let default = key.default.map(|default| format!("`{default}`")).unwrap_or_default();
    [
        format!("`{}`", key.path),
        format!("{}{range}", key.kind.noun()),
        default,
    ]
}

#[test]
fn the_documentation_has_every_key() {
    let page = |name: &str| std::fs::read_to_string(root().join("../docs").join(name)).unwrap();
    let text = page("configuration.md") + &page("roles.md");
    let rows = |heading: &str| -> Vec<[String; 3]> {
        let table = text
            .split(heading)
            .nth(1)
            .unwrap_or_else(|| panic!("no table {heading}"));
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        rows.map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 6, "four cells: {line}");
            let exempt = matches!(cells[1], "`kind`" | "`version`");
            assert!(exempt || !cells[4].is_empty(), "no meaning: {line}");
            [cells[1].to_owned(), cells[2].to_owned(), cells[3].to_owned()]
        })
        .collect()
    };
    let expected = |schema: &Schema| schema.keys.iter().map(row).collect::<Vec<_>>();
    assert_eq!(rows("| key | type | default | meaning |"), expected(&CONFIG));
    assert_eq!(rows("| field | type | default | meaning |"), expected(&DESKTOP));
    let kinds = [
        ("role", &ROLE),
        ("user", &USER),
        ("session_recording_config", &RECORDING),
        ("lock", &LOCK),
    ];
    for (kind, schema) in kinds {
        let heading = format!("| field of {kind} | type | default | meaning |");
        assert_eq!(rows(&heading), expected(schema), "{kind}");
    }
}
