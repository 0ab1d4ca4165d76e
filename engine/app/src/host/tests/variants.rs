//! Plugins built with other versions of the SDK: a copy of it is changed, and the test plugin built on the copy.

use std::fs;
use std::process::{Command, Output};

use super::*;
use crate::host::{library, meta};

struct Variant {
    workspace: tempfile::TempDir,
}

impl Variant {
    /// Copies the SDK and the test plugin, and changes files of the SDK: file, text, replacement.
    fn new(changes: &[(&str, &str, &str)]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let workspace = tempfile::tempdir().unwrap();
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let (before, rest) = manifest.split_once("members = [").unwrap();
        let (_, after) = rest.split_once(']').unwrap();
        // without the workspace's profiles: what is built here runs for a moment
        let (after, _) = after.split_once("\n[profile.").unwrap();
        let members = r#"members = ["sdk", "tests/fixtures/storage-memory"]"#;
        let profile = "[profile.dev]\ndebug = false\nincremental = false\n";
        fs::write(
            workspace.path().join("Cargo.toml"),
            format!("{before}{members}{after}\n{profile}"),
        )
        .unwrap();
        fs::copy(root.join("Cargo.lock"), workspace.path().join("Cargo.lock")).unwrap();
        for folder in ["sdk", "tests/fixtures/storage-memory"] {
            copy(&root.join(folder), &workspace.path().join(folder));
        }
        for (file, text, replacement) in changes {
            let path = workspace.path().join("sdk").join(file);
            let content = fs::read_to_string(&path).unwrap();
            assert!(content.contains(text), "{file} lacks {text:?}");
            fs::write(&path, content.replace(text, replacement)).unwrap();
        }
        Self { workspace }
    }

    fn cargo(&self, command: &str, args: &[&str], environment: &[(&str, &Path)]) -> Output {
        // target/debug/deps/<this binary>
        let target = std::env::current_exe()
            .unwrap()
            .ancestors()
            .nth(3)
            .unwrap()
            .join("plugin-variants");
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(&self.workspace)
            .arg(command)
            .args(["--offline", "-p", "deskreel_storage_memory", "--target-dir"])
            .arg(target)
            .args(args)
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    /// Builds the plugin and copies it to a place of its own: the next build overwrites it.
    fn build(&self) -> PathBuf {
        let output = self.cargo("build", &[], &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let name = "libdeskreel_storage_memory.so";
        let target = std::env::current_exe()
            .unwrap()
            .ancestors()
            .nth(3)
            .unwrap()
            .join("plugin-variants/debug");
        let own = self.workspace.path().join(name);
        fs::copy(target.join(name), &own).unwrap();
        own
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// One after the other: they share a target folder, so that the SDK's dependencies are built once.
#[test]
fn plugins_of_other_sdks() {
    a_changed_field_type_is_refused_within_a_major();
    another_major_is_refused_whether_or_not_its_symbol_says_so();
    an_appended_method_loads_in_both_directions();
    a_plugin_that_aborts_on_panic_does_not_compile();
}

fn a_changed_field_type_is_refused_within_a_major() {
    let plugin = Variant::new(&[
        ("src/abi/types.rs", "    code: u16,", "    code: u32,"),
        (
            "src/abi/types.rs",
            "code: error.kind().code(),",
            "code: error.kind().code().into(),",
        ),
        (
            "src/abi/types.rs",
            "ErrorKind::from_code(error.code)",
            "ErrorKind::from_code(error.code as u16)",
        ),
    ]);
    let path = plugin.build();
    assert_eq!(meta::read(&path).unwrap().abi, 1);
    let error = library::load_storage(&path).err().unwrap();
    assert!(
        error.contains("its binary interface differs from this engine's"),
        "{error}"
    );
    assert!(error.len() < 3000, "{} bytes of error", error.len());
}

fn another_major_is_refused_whether_or_not_its_symbol_says_so() {
    let version = ("Cargo.toml", "version = \"1.0.0\"", "version = \"2.0.0\"");
    let variant = Variant::new(&[version]);
    let path = variant.build();
    let error = library::load_storage(&path).err().unwrap();
    assert!(
        error.contains("it was built with version 2.0.0 of the SDK, this engine speaks 1.x"),
        "{error}"
    );

    let variant = Variant::new(&[
        version,
        ("src/abi/mod.rs", "ABI_MAJOR: u32 = 1", "ABI_MAJOR: u32 = 2"),
        (
            "src/abi/macros.rs",
            "\"deskreel_storage_v1\"",
            "\"deskreel_storage_v2\"",
        ),
    ]);
    let path = variant.build();
    assert_eq!(meta::read(&path).unwrap().abi, 2);
    let error = library::load_storage(&path).err().unwrap();
    assert!(
        error.contains("the plugin lacks the symbol deskreel_storage_v1: "),
        "{error}"
    );
}

fn an_appended_method_loads_in_both_directions() {
    let newer = Variant::new(&[
        ("Cargo.toml", "version = \"1.0.0\"", "version = \"1.7.0\""),
        (
            "src/abi/types.rs",
            "    pub check: extern \"C\" fn(this: &Handle, done: Completion<()>) -> Running,\n",
            "    pub check: extern \"C\" fn(this: &Handle, done: Completion<()>) -> Running,\n    \
             /// New.\n    pub appended: extern \"C\" fn(this: &Handle, number: u64) -> u64,\n",
        ),
        (
            "src/abi/storage.rs",
            "            check: check::<E>,\n",
            "            check: check::<E>,\n            appended: appended::<E>,\n",
        ),
        (
            "src/abi/storage.rs",
            "fn put_options(",
            "extern \"C\" fn appended<E: Exported>(_: &Handle, number: u64) -> u64 { number }\n\nfn put_options(",
        ),
    ]);
    let path = newer.build();
    let library = library::load_storage(&path).unwrap();
    assert_eq!(library.info().name, "memory");

    // The other way round: the newer SDK's host, in the test plugin's own ABI test, runs the plugin of this build.
    let older = built("libdeskreel_storage_memory.so");
    let output = newer.cargo("test", &["--test", "abi"], &[("DESKREEL_TEST_PLUGIN", &older)]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("test paging ... ok"), "{text}");
}

fn a_plugin_that_aborts_on_panic_does_not_compile() {
    let output = Variant::new(&[]).cargo("rustc", &["--lib", "--", "-C", "panic=abort"], &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("a Deskreel plugin needs panic = \"unwind\""), "{text}");
}
