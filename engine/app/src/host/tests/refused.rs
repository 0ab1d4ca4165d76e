//! Files that aren't usable plugins: each error names the file, the configuration key and its own reason.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;
use crate::host::meta;
use crate::usage::UsageError;

fn metadata(abi: u32, kind: &str, name: &str) -> String {
    format!(r#"{{"abi":{abi},"kind":"{kind}","name":"{name}","version":"1","sdk":"{abi}.0.0","rustc":"x"}}"#)
}

/// Compiles C to a library, with a metadata section if there is one to have.
fn compile(path: &Path, metadata: Option<&str>, code: &str) {
    let source = path.with_extension("c");
    let section = metadata.map(|text| {
        let quoted = text.replace('"', "\\\"");
        format!("__attribute__((section(\".deskreel.meta\"), used)) static const char meta[] = \"{quoted}\";\n")
    });
    std::fs::write(&source, section.unwrap_or_default() + code).unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(path)
        .arg(&source)
        .status()
        .unwrap();
    assert!(status.success());
}

impl Setup {
    /// Asserts that a storage from this file is refused, for this reason.
    async fn refuses(&self, path: &Path, plugin: &str, reason: &str) {
        let error = self
            .error(&format!("{{name: x, plugin: {plugin}, path: {}}}", show(path)))
            .await;
        let text = error.to_string();
        assert!(error.is::<UsageError>(), "{text}");
        for part in [show(path).as_str(), "storages[0].path: ", "deskreel.yaml:2:", reason] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        assert!(text.len() < 4000, "{} bytes of error", text.len());
    }
}

#[tokio::test]
async fn files_that_are_no_plugins() {
    let setup = Setup::new();
    let file = setup.path("x.so");
    setup.refuses(&file, "x", "No such file or directory").await;
    setup.refuses(setup.folder.path(), "x", "is not a file").await;
    std::fs::write(
        &file,
        "not a library at all, but long enough to be taken for a header of one, were it not text",
    )
    .unwrap();
    setup.refuses(&file, "x", "not a shared library").await;
    std::fs::write(&file, "").unwrap();
    setup.refuses(&file, "x", "not a shared library").await;
    compile(&file, None, "int x;");
    setup
        .refuses(&file, "x", "a library without the section .deskreel.meta")
        .await;
    compile(&file, Some("{}"), "int x;");
    setup
        .refuses(
            &file,
            "x",
            "its section .deskreel.meta is not understood: missing field `abi`",
        )
        .await;
    compile(&file, Some(&metadata(1, "storage", "x")), "int x;");
    setup
        .refuses(&file, "x", "the plugin lacks the symbol deskreel_storage_v1: ")
        .await;
    // A library that was loaded stays: from here on each needs a file of its own.
    let file = setup.path("y.so");
    compile(
        &file,
        Some(&metadata(1, "storage", "x")),
        "int deskreel_storage_v1[200] = {1};",
    );
    setup
        .refuses(&file, "x", "what its symbol names was not made by the Deskreel SDK")
        .await;
    let file = setup.path("z.so");
    compile(
        &file,
        Some(&metadata(1, "storage", "x")),
        "extern int missing(); int x() { return missing(); }",
    );
    setup.refuses(&file, "x", "undefined symbol: missing").await;
}

#[tokio::test]
async fn plugins_that_are_not_the_one_that_is_meant() {
    let setup = Setup::new();
    let file = setup.path("x.so");
    compile(
        &file,
        Some(&metadata(2, "storage", "x")),
        "int deskreel_storage_v2[200];",
    );
    setup
        .refuses(
            &file,
            "x",
            "the plugin speaks ABI 2 (SDK 2.0.0), this engine speaks ABI 1",
        )
        .await;
    compile(&file, Some(&metadata(1, "exporter", "x")), "int x;");
    setup
        .refuses(&file, "x", "is the exporter plugin `x`, where a storage belongs")
        .await;
    let local = built("libdeskreel_storage_local.so");
    setup
        .refuses(&local, "memory", "is the storage plugin `local`, not `memory`")
        .await;
    let storage = format!(
        "{{name: x, plugin: local, path: {}, sha256: {}}}",
        show(&local),
        "0".repeat(64)
    );
    let error = setup.error(&storage).await.to_string();
    assert!(error.contains("the configuration wants 0000"), "{error}");
}

#[tokio::test]
async fn files_that_others_may_write() {
    let setup = Setup::new();
    let file = setup.path("libdeskreel_storage_local.so");
    std::fs::copy(built("libdeskreel_storage_local.so"), &file).unwrap();
    let chmod = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    chmod(&file, 0o646);
    setup
        .refuses(&file, "local", "the file can be written by others (mode 646)")
        .await;
    chmod(&file, 0o644);
    chmod(setup.folder.path(), 0o777);
    setup
        .refuses(&file, "local", "can be written by others (mode 777)")
        .await;
    chmod(setup.folder.path(), 0o1777);
    setup
        .open(&[&format!(
            "{{name: x, plugin: local, path: {}, settings: {{path: y}}}}",
            show(&file)
        )])
        .await
        .unwrap();
}

/// A link in a safe folder to a file that others may replace.
#[tokio::test]
async fn links_are_followed_before_the_check() {
    let setup = Setup::new();
    let chmod = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let (safe, open_to_all) = (setup.path("safe"), setup.path("open"));
    for folder in [&safe, &open_to_all] {
        std::fs::create_dir(folder).unwrap();
        chmod(folder, 0o755);
    }
    let file = open_to_all.join("libdeskreel_storage_local.so");
    std::fs::copy(built("libdeskreel_storage_local.so"), &file).unwrap();
    chmod(&file, 0o644);
    let link = safe.join("libdeskreel_storage_local.so");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let usable = format!(
        "{{name: x, plugin: local, path: {}, settings: {{path: y}}}}",
        show(&link)
    );
    setup.open(&[&usable]).await.unwrap();
    chmod(&open_to_all, 0o777);
    let reason = format!("its folder {} can be written by others (mode 777)", show(&open_to_all));
    setup.refuses(&link, "local", &reason).await;
    chmod(&open_to_all, 0o755);
    chmod(&safe, 0o777);
    setup.refuses(&link, "local", "the folder of its link").await;
    // What is loaded is the file that was checked.
    assert_eq!(
        crate::host::file::check(&file, None).unwrap(),
        file.canonicalize().unwrap()
    );
    chmod(&safe, 0o755);
    assert_eq!(
        crate::host::file::check(&link, None).unwrap(),
        file.canonicalize().unwrap()
    );
}

#[tokio::test]
async fn a_name_that_is_nowhere() {
    let setup = Setup::new();
    let error = setup.error("{name: x, plugin: locl}").await.to_string();
    assert!(
        error.contains("storages[0].plugin: no storage plugin `locl`: libdeskreel_storage_locl.so is not in "),
        "{error}"
    );
    // others may have been built beside them
    let (_, there) = error
        .split_once("storage plugins there: ")
        .expect("the plugins that are there");
    let there: Vec<&str> = there.trim_end().split(", ").collect();
    assert!(there.contains(&"local") && there.contains(&"memory"), "{error}");
}

/// A library that is cut off must be refused before it is mapped: reading past the end of a mapping ends the process.
#[test]
fn a_library_that_is_cut_off_anywhere() {
    let setup = Setup::new();
    let file = setup.path("x.so");
    let whole = std::fs::read(built("libdeskreel_storage_memory.so")).unwrap();
    let mut lengths: Vec<usize> = (0..200).chain((0..whole.len()).step_by(whole.len() / 50)).collect();
    lengths.push(whole.len() - 1);
    for length in lengths {
        std::fs::write(&file, &whole[..length]).unwrap();
        let error = meta::read(&file).unwrap_err();
        assert!(error.starts_with("is not a Deskreel plugin: "), "{length}: {error}");
    }
    assert!(meta::read(&built("libdeskreel_storage_memory.so")).is_ok());
}

/// Foreign bytes in the header and the tables: refused or read, but never a panic and never much memory.
#[test]
fn a_library_with_wrong_bytes() {
    let setup = Setup::new();
    let file = setup.path("x.so");
    compile(&file, Some(&metadata(1, "storage", "x")), "int x;");
    let whole = std::fs::read(&file).unwrap();
    let tables = u64::from_le_bytes(whole[40..48].try_into().unwrap()) as usize;
    let places = (0..64).chain(64..64 + 56 * 4).chain(tables..whole.len());
    for place in places {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] = value;
            std::fs::write(&file, &bytes).unwrap();
            let _ = meta::read(&file);
        }
    }
}
