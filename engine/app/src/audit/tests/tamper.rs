//! Whatever is done to the log behind its back is found.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// A log of several files, and the paths of its files, oldest first.
fn bed(folder: &Path, events: usize) -> (Config, Vec<PathBuf>) {
    let mut config = config(folder, OnFailure::Strict);
    config.audit.file_max_bytes = 64 << 10;
    config.audit.files_max = 100;
    let audit = Audit::open(&config).unwrap();
    for number in 0..events {
        audit.note(Scope::Node {}, event(&format!("{number}{}", " ".repeat(8000))));
    }
    drop(audit);
    let audit = config.data_dir.join(FOLDER);
    let mut files: Vec<PathBuf> = files::older(&audit)
        .unwrap()
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    files.push(audit.join(files::CURRENT));
    (config, files)
}

fn findings(config: &Config) -> Vec<String> {
    let report = verify(&config.data_dir, None).unwrap();
    assert_eq!(report.whole, report.findings.is_empty());
    report.findings.into_iter().map(|finding| finding.problem).collect()
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn findings_name_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let (config, files) = bed(folder.path(), 30);
    assert!(files.len() > 2);
    let first = &files[0];
    let before = std::fs::read(first).unwrap();
    let undo = || std::fs::write(first, &before).unwrap();
    assert_eq!(findings(&config), [""; 0]);
    edit(first, |lines| lines[2] = lines[2].replace("open", "OPEN"));
    assert_eq!(
        findings(&config),
        ["line 3 of the log (the one before this) was changed"]
    );
    undo();
    edit(first, |lines| {
        lines.drain(1..3);
    });
    assert_eq!(
        findings(&config),
        ["lines 2 to 3 of the log are missing before this one"]
    );
    undo();
    edit(first, |lines| {
        lines.remove(0);
    });
    assert_eq!(
        findings(&config),
        ["lines 1 to 1 are missing, and no audit.log.rotate tells of it"]
    );
    undo();
    edit(first, |lines| lines.swap(1, 2));
    assert_eq!(findings(&config).len(), 3);
    undo();
    edit(first, |lines| lines[1] = "{}".to_owned());
    assert_eq!(findings(&config)[0], "is no line of an audit log");
    undo();
    std::fs::remove_file(&files[1]).unwrap();
    assert!(findings(&config)[0].contains("are missing before this one"));
}

#[test]
fn lines_removed_from_the_end_are_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (config, files) = bed(folder.path(), 3);
    edit(&files[0], |lines| {
        lines.pop();
    });
    assert_eq!(findings(&config), ["lines 3 to 3 of the log are missing at its end"]);
    // Going on does not hide it.
    let audit = Audit::open(&config).unwrap();
    audit.emit(Scope::Node {}, &event("after")).unwrap();
    drop(audit);
    assert_eq!(
        findings(&config),
        ["lines 3 to 3 of the log are missing before this one"]
    );
    let found = lines(&config.data_dir);
    assert_eq!(found[2]["event"], "audit.log.repair");
    assert_eq!(
        (&found[2]["missing_from"], &found[2]["missing_to"]),
        (&3.into(), &3.into())
    );
}

#[test]
fn the_last_line_and_the_head_are_watched_too() {
    let folder = tempfile::tempdir().unwrap();
    let (config, files) = bed(folder.path(), 3);
    edit(&files[0], |lines| lines[2] = lines[2].replace("open", "OPEN"));
    assert_eq!(findings(&config), ["the last line was changed"]);
    let audit = Audit::open(&config).unwrap();
    audit.emit(Scope::Node {}, &event("after")).unwrap();
    drop(audit);
    assert_eq!(
        findings(&config),
        ["line 3 of the log (the one before this) was changed"]
    );

    let folder = tempfile::tempdir().unwrap();
    let (config, _) = bed(folder.path(), 3);
    std::fs::remove_file(config.data_dir.join("audit/head")).unwrap();
    assert!(findings(&config)[0].contains("missing or unreadable"));
}

#[test]
fn a_digest_noted_elsewhere_proves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (config, _) = bed(folder.path(), 3);
    let head = verify(&config.data_dir, None).unwrap().head;
    let audit = Audit::open(&config).unwrap();
    audit.emit(Scope::Node {}, &event("after")).unwrap();
    drop(audit);
    assert!(verify(&config.data_dir, Some(&head)).unwrap().whole);
    // A log that was made anew as a whole is a chain, too, but not that one.
    std::fs::remove_dir_all(config.data_dir.join(FOLDER)).unwrap();
    let (config, _) = bed(folder.path(), 4);
    assert!(verify(&config.data_dir, None).unwrap().whole);
    assert!(!verify(&config.data_dir, Some(&head)).unwrap().whole);
}

#[derive(Debug, Clone)]
enum Harm {
    Flip { at: usize, bit: u8 },
    Remove { line: usize },
    Repeat { line: usize },
    Swap { line: usize },
    Cut { at: usize },
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<usize>(), 0_u8..8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        any::<usize>().prop_map(|line| Harm::Remove { line }),
        any::<usize>().prop_map(|line| Harm::Repeat { line }),
        any::<usize>().prop_map(|line| Harm::Swap { line }),
        any::<usize>().prop_map(|at| Harm::Cut { at }),
    ]
}

fn apply(harm: &Harm, bytes: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let count = lines.len();
    match *harm {
        Harm::Flip { at, bit } => {
            let mut bytes = bytes.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            return bytes;
        }
        Harm::Cut { at } => return bytes[..at % bytes.len()].to_vec(),
        Harm::Remove { line } => {
            lines.remove(line % count);
        }
        Harm::Repeat { line } => lines.insert(line % count, lines[line % count].clone()),
        Harm::Swap { line } => lines.swap(line % count, (line + 1) % count),
    }
    lines.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_harm_is_found_and_stays_found(harm in harm(), file in 0_usize..2) {
        let folder = tempfile::tempdir().unwrap();
        let (config, files) = bed(folder.path(), 10);
        let path = &files[file % files.len()];
        let before = std::fs::read(path).unwrap();
        let after = apply(&harm, &before);
        prop_assume!(after != before);
        std::fs::write(path, &after).unwrap();
        prop_assert!(!findings(&config).is_empty(), "{harm:?}");
        // A writer that comes later neither fails nor covers it up.
        let audit = Audit::open(&config).unwrap();
        audit.emit(Scope::Node {}, &event("after")).unwrap();
        drop(audit);
        prop_assert!(!findings(&config).is_empty(), "{harm:?}, hidden by the next line");
    }
}
