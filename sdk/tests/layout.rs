//! The binary interface is written down: `abi-v1.txt` changes in the same commit as the types that cross, and a reviewer sees
//! whether something was only appended. `DESKREEL_UPDATE=1 cargo test -p deskreel-sdk --test layout` writes it anew.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

/// The declarations of all types that cross, without comments and with one field a line.
fn listing(source: &str) -> String {
    let code: Vec<&str> = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let mut out = String::new();
    for part in code.join("\n").split("#[repr(C)]").skip(1) {
        let start = part.find("pub struct").unwrap();
        let end = start + part[start..].find("\n}").unwrap();
        let appended_after =
            part[start..end].replace("#[sabi(last_prefix_field)]", "/* later methods follow this one */");
        let flat = appended_after
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace("( ", "(")
            .replace(", )", ")");
        let (name, fields) = flat.split_once(" {").unwrap();
        out.push_str(name);
        out.push('\n');
        let mut depth = 0;
        let mut line = String::new();
        for letter in fields.chars() {
            match letter {
                '(' | '<' => depth += 1,
                ')' | '>' if !line.ends_with('-') => depth -= 1,
                ',' if depth == 0 => {
                    out.push_str(&format!("    {}\n", line.trim()));
                    line.clear();
                    continue;
                }
                _ => {}
            }
            line.push(letter);
        }
        assert!(line.trim().is_empty(), "{line}");
    }
    out
}

#[test]
fn the_interface_is_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = listing(&std::fs::read_to_string(folder.join("src/abi/types.rs")).unwrap());
    assert!(
        found.contains("pub struct StorageModule\n    pub init: extern \"C\" fn(log: LogTarget)\n"),
        "{found}"
    );
    let file = folder.join("abi-v1.txt");
    if std::env::var_os("DESKREEL_UPDATE").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == written,
        "the ABI differs from {}: see sdk/src/abi/mod.rs for what may change. Now:\n{found}",
        file.display()
    );
}
