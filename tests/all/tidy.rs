//! Rules about the tree that a machine can hold.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use peers::process::run;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The crates that `package` is built from, without what only its tests need.
fn dependencies(package: &str) -> Vec<String> {
    let manifest = root().join("Cargo.toml").display().to_string();
    let tree = run(
        &std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()),
        &[
            "tree",
            "--locked",
            "--manifest-path",
            &manifest,
            "-p",
            package,
            "-e",
            "normal",
            "--prefix",
            "none",
        ],
    )
    .unwrap();
    let tree = String::from_utf8(tree).unwrap();
    tree.lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn pure_crates_stay_pure() {
    for package in ["deskreel-recording", "deskreel-rdp", "deskreel-policy"] {
        for forbidden in ["tokio", "rusqlite", "abi_stable", "libloading"] {
            assert!(
                !dependencies(package).iter().any(|name| name == forbidden),
                "{package} depends on {forbidden}"
            );
        }
    }
    for package in ["deskreel-recording", "deskreel-rdp"] {
        let ours: Vec<_> = dependencies(package)
            .into_iter()
            .filter(|name| name.starts_with("deskreel"))
            .collect();
        assert!(ours.is_empty(), "{package} depends on {ours:?}");
    }
}

#[test]
fn plugins_know_the_sdk_alone() {
    for package in [
        "deskreel-sdk",
        "deskreel_storage_gcs",
        "deskreel_storage_local",
        "deskreel_storage_s3",
        "deskreel_exporter_mp4",
        "deskreel_exporter_frames",
        "deskreel_exporter_webm",
        "deskreel_exporter_gif",
        "deskreel_exporter_json",
    ] {
        let ours: Vec<_> = dependencies(package)
            .into_iter()
            .filter(|name| name.starts_with("deskreel") && name != "deskreel-sdk" && name != package)
            .collect();
        assert!(ours.is_empty(), "{package} depends on {ours:?}");
    }
}

#[test]
fn the_engine_links_no_plugin() {
    let linked: Vec<_> = dependencies("deskreel")
        .into_iter()
        .filter(|name| {
            name.starts_with("deskreel_storage") || name.starts_with("deskreel_exporter") || name == "openh264"
        })
        .collect();
    assert!(linked.is_empty(), "the engine links {linked:?}");
}

#[test]
fn the_gateway_does_not_reach_into_other_fronts() {
    for file in rust_files(&root().join("engine/app/src/gateway")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for forbidden in ["crate::web", "crate::replay", "crate::cmd"] {
            assert!(!text.contains(forbidden), "{} uses {forbidden}", file.display());
        }
    }
}

#[test]
fn files_stay_readable() {
    let long: Vec<_> = rust_files(&root())
        .into_iter()
        // Tests are lists: they may be longer.
        .filter(|file| !file.display().to_string().contains("tests"))
        .map(|file| (std::fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > 800)
        .collect();
    assert!(long.is_empty(), "files of more than 800 lines: {long:?}");
}

/// Whoever reads the audit log finds each of its events explained.
#[test]
fn every_audit_event_is_documented() {
    let audit = root().join("engine/app/src/audit");
    let mut sources = rust_files(&audit.join("event"));
    sources.push(audit.join("event.rs"));
    let page = std::fs::read_to_string(root().join("docs/audit-events.md")).unwrap();
    let words: BTreeSet<&str> = page
        .split(|letter: char| letter != '.' && letter != '_' && !letter.is_ascii_alphanumeric())
        .collect();
    let mut found = 0;
    for source in sources {
        let text = std::fs::read_to_string(source).unwrap();
        // ("name", "CODE")
        for pair in text
            .split("(\"")
            .skip(1)
            .filter_map(|rest| rest.split_once("\")"))
            .map(|(pair, _)| pair)
        {
            let Some((name, code)) = pair.split_once("\", \"") else {
                continue;
            };
            if name.contains('.') && code.ends_with(['I', 'W', 'E']) {
                assert!(
                    words.contains(name) && words.contains(code),
                    "{name} {code} is not in docs/audit-events.md"
                );
                found += 1;
            }
        }
    }
    assert!(found >= 60, "{found} events");
}

/// Whoever wants to fuzz finds each target in the list, with seeds.
#[test]
fn every_fuzz_target_has_seeds() {
    let fuzz = root().join("tests/fuzz");
    let readme = std::fs::read_to_string(fuzz.join("README.md")).unwrap();
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let targets = rust_files(&fuzz.join("fuzz_targets"));
    assert!(targets.len() >= 5);
    for target in targets {
        let name = target.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not in Cargo.toml"
        );
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in README.md"));
        let seeds = row.rsplit('|').nth(1).unwrap_or_default();
        let folders: Vec<&str> = seeds.split('`').skip(1).step_by(2).collect();
        assert!(!folders.is_empty(), "{name} has no seeds");
        for folder in folders {
            let files = std::fs::read_dir(root().join(folder)).unwrap().count();
            assert!(files > 0, "{folder} is empty");
        }
    }
}

/// Each rule that mutes the compiler says why.
#[test]
fn unsafe_code_stands_only_at_the_abi() {
    for file in rust_files(&root()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let inside = file.strip_prefix(root()).unwrap().display().to_string();
        let allowed = [
            "sdk/src/abi",
            "engine/app/src/host",
            "tests/",
            "sdk/tests",
            // libvpx is a C library, and no safe binding compiles with Debian's
            "plugins/exporter-webm/src/vp9.rs",
        ];
        if allowed.iter().any(|folder| inside.starts_with(folder)) {
            continue;
        }
        let unsafe_line = text
            .lines()
            .find(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        assert!(unsafe_line.is_none(), "{inside}: {unsafe_line:?}");
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "t2" {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files
}
