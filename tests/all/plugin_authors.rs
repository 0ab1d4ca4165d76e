//! From an empty folder to a checked plugin, outside of the workspace, as docs/plugin-authors.md walks through it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use peers::gateway::{Gateway, deskreel, run_in};
use peers::process::free_port;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder of the binary and of the plugins that were built with it.
fn built(name: &str) -> PathBuf {
    deskreel().with_file_name(name)
}

fn run<I: IntoIterator<Item: AsRef<OsStr>>>(folder: &Path, arguments: I) -> Output {
    let mut command = Command::new(deskreel());
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("DESKREEL_CONFIG");
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A crate that `plugins new` made.
struct Author {
    folder: PathBuf,
    library: PathBuf,
}

impl Author {
    fn new(dir: &Path, kind: &str, name: &str) -> Self {
        let sdk = root().join("sdk");
        let made = run(dir, ["plugins", "new", kind, name, "--sdk", &sdk.display().to_string()]);
        assert!(made.status.success(), "{}", said(&made));
        assert!(said(&made).contains("cargo test"), "{}", said(&made));
        let folder = dir.join(format!("deskreel-{kind}-{name}"));
        // What an author's cargo would fetch is here already, and is built as the engine's tests of plugins build it: once.
        fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        fs::create_dir(folder.join(".cargo")).unwrap();
        fs::write(
            folder.join(".cargo/config.toml"),
            "[profile.dev]\ndebug = false\nincremental = false\n",
        )
        .unwrap();
        let library = target().join(format!("debug/libdeskreel_{kind}_{name}.so"));
        Self { folder, library }
    }

    fn cargo(&self, arguments: &[&str]) -> Output {
        let mut cargo = Command::new(
            std::env::var_os("CARGO")
                .filter(|cargo| cargo != "true")
                .unwrap_or_else(|| "cargo".into()),
        );
        cargo.args(arguments).args(["--offline", "--target-dir"]).arg(target());
        cargo.current_dir(&self.folder).output().unwrap()
    }

    fn build(&self) {
        let output = self.cargo(&["build"]);
        assert!(output.status.success(), "{}", said(&output));
    }

    fn check(&self, more: &[&str]) -> Output {
        let library = self.library.display().to_string();
        let arguments = ["plugins", "check", &library, "--settings", "sample.yaml"];
        run(&self.folder, arguments.iter().chain(more))
    }

    /// Replaces a piece of its code.
    fn change(&self, text: &str, replacement: &str) {
        let path = self.folder.join("src/lib.rs");
        let code = fs::read_to_string(&path).unwrap();
        assert!(code.contains(text), "{text}");
        fs::write(&path, code.replace(text, replacement)).unwrap();
    }
}

/// The target folder that the engine's tests build plugins in.
fn target() -> PathBuf {
    deskreel().ancestors().nth(2).unwrap().join("plugin-variants")
}

fn failed(output: &Output) -> Vec<String> {
    let rows: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)));
    let rows = rows.as_array().unwrap().iter().filter(|row| row["ok"] == false);
    rows.map(|row| {
        format!(
            "{}: {}",
            row["check"].as_str().unwrap(),
            row["problem"].as_str().unwrap()
        )
    })
    .collect()
}

#[test]
fn a_storage_from_an_empty_folder_to_a_running_gateway() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(dir.path(), "storage", "tape");
    let tested = author.cargo(&["test"]);
    assert!(
        tested.status.success() && said(&tested).contains("15 passed"),
        "{}",
        said(&tested)
    );
    author.build();
    let green = author.check(&[]);
    assert!(
        green.status.success() && said(&green).contains("storage plugin tape 0.1.0 keeps the contract: 16 of 16"),
        "{}",
        said(&green)
    );

    // The gateway runs with it.
    let home = dir.path().join("home");
    fs::create_dir(&home)?;
    let port = free_port()?;
    fs::write(
        home.join("deskreel.yaml"),
        format!(
            "data_dir: ./data\ngateway: {{listen: '127.0.0.1:{port}'}}\nstorages:\n  - {{name: archive, plugin: tape, path: '{}', \
             settings: {{object_max_bytes: 9000000}}}}\n",
            author.library.display()
        ),
    )?;
    let gateway = Gateway::restart(&home, port)?;
    let listed = gateway.json(&["storages", "ls"])?;
    assert_eq!(
        (&listed[0]["name"], &listed[0]["plugin"]),
        (&"archive".into(), &"tape".into()),
        "{listed}"
    );
    let checked = gateway.json(&["storages", "check", "archive"])?;
    assert_eq!(checked[0]["ok"], true, "{checked}");
    assert_eq!(run_in(&home, &["config", "check"])?.status.code(), Some(0));
    drop(gateway);

    // A defect of each sort is found, and the rest goes on.
    author.change(
        "Some(there) if *there != bytes =>",
        "Some(there) if *there != bytes && key.as_str() != \"other/a\" =>",
    );
    author.change(
        "Some(_) => Ok(()),",
        "Some(_) => { objects.insert(key.clone(), bytes); Ok(()) }",
    );
    author.change(
        "        self.objects().remove(key);\n",
        "        if key.as_str() == \"gone\" { std::process::exit(0) }\n\
         \x20       if key.as_str().starts_with(\"agree/\") { std::future::pending::<()>().await }\n        self.objects().remove(key);\n",
    );
    author.change(
        "-> Result<Self> {\n        Ok(Self { objects",
        "-> Result<Self> {\n        std::mem::forget(std::fs::File::open(\"/\")?);\n        Ok(Self { objects",
    );
    author.build();
    let check = |timeout, some: &[&'static str]| {
        let only = some.iter().flat_map(|name| ["--only", *name]);
        let red = author.check(
            &["--format", "json", "--timeout", timeout]
                .into_iter()
                .chain(only)
                .collect::<Vec<_>>(),
        );
        assert_eq!(red.status.code(), Some(4), "{}", said(&red));
        failed(&red)
    };
    let mut failed = check("60s", &["same_key_other_bytes", "missing_objects", "sizes", "paging"]);
    failed.extend(check("3s", &["stat_list_and_delete_agree"]));
    let starts = [
        "same_key_other_bytes: other bytes of the same length should fail as `already exists`, but gave ()",
        "missing_objects: the plugin ended the process, with exit code 0",
        "stat_list_and_delete_agree: not done after 3s, and killed",
    ];
    assert_eq!(failed.len(), starts.len(), "{failed:#?}");
    for (failed, start) in failed.iter().zip(starts) {
        assert!(failed.starts_with(start), "{failed}");
    }
    // Threads of a pool may take a while to end, so this is waited for.
    let red = author.check(&["--format", "json", "--only", "open_and_close"]);
    let leaks = self::failed(&red);
    assert!(
        leaks.len() == 1 && leaks[0].starts_with("open_and_close: 200 times opened and closed: "),
        "{leaks:?}"
    );
    Ok(())
}

#[test]
fn an_exporter_from_an_empty_folder_to_a_green_check() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(dir.path(), "exporter", "lines");
    let tested = author.cargo(&["test"]);
    assert!(
        tested.status.success() && said(&tested).contains("9 passed"),
        "{}",
        said(&tested)
    );
    author.build();
    let green = author.check(&[]);
    assert!(
        green.status.success() && said(&green).contains("exporter plugin lines 0.1.0 keeps the contract: 9 of 9"),
        "{}",
        said(&green)
    );
    author.change(
        "let line = columns",
        "assert!(frame.width > 1, \"a narrow frame\");\n        let line = columns",
    );
    author.change(
        "self.frames += 1;",
        "self.frames += 1;\n        if frame.time_ns > 400_000_000 { std::process::abort() }",
    );
    author.build();
    let red = author.check(&["--format", "json", "--only", "resizes", "--only", "frames"]);
    assert_eq!(red.status.code(), Some(4), "{}", said(&red));
    let failed = failed(&red);
    assert_eq!(failed.len(), 2, "{failed:#?}");
    assert!(
        failed[0].starts_with("frames: the plugin crashed: its process ended by signal 6 (SIGABRT)"),
        "{failed:#?}"
    );
    assert!(
        failed[1].starts_with("resizes: lines: a resized frame: plugin panicked: a narrow frame"),
        "{failed:#?}"
    );
    Ok(())
}

/// What comes with Deskreel keeps the contract as a built file, too.
#[test]
fn the_plugins_of_the_house_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("local.yaml"), "path: ./objects\n").unwrap();
    for (file, settings) in [
        ("libdeskreel_storage_local.so", Some("local.yaml")),
        ("libdeskreel_exporter_frames.so", None),
        ("libdeskreel_exporter_mp4.so", None),
    ] {
        let file = built(file).display().to_string();
        let mut arguments = vec!["plugins", "check", &file];
        arguments.extend(settings.into_iter().flat_map(|settings| ["--settings", settings]));
        let output = run(dir.path(), arguments);
        assert!(output.status.success(), "{}", said(&output));
    }
    // Nothing is left of it but the plugin's own folder.
    let left: Vec<_> = fs::read_dir(dir.path().join("objects"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.iter().all(|name| name == "~tmp"), "{left:?}");
}

#[test]
fn what_can_not_be_checked_is_refused_in_plain_words() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let here = dir.path();
    let local = built("libdeskreel_storage_local.so").display().to_string();
    fs::create_dir(here.join("objects"))?;
    fs::write(here.join("objects/recording"), "do not touch")?;
    fs::write(here.join("full.yaml"), "path: ./objects\n")?;
    fs::write(here.join("wrong.yaml"), "pth: ./objects\n")?;
    fs::write(
        here.join("other.yaml"),
        "storages: [{name: a, plugin: s3, settings: {}}]\n",
    )?;
    fs::write(here.join("text.so"), "no plugin")?;
    for (arguments, words) in [
        (
            vec![local.as_str(), "--settings", "full.yaml"],
            "the storage is not empty, it has `recording`: the checks need one of their own",
        ),
        (
            vec![&local, "--settings", "wrong.yaml"],
            "wrong.yaml: settings.pth: unknown setting, did you mean `path`?",
        ),
        (vec![&local], "settings.path: is missing"),
        (
            vec![&local, "--settings", "other.yaml"],
            "other.yaml: `storages` has no entry with `plugin: local`",
        ),
        (vec![&local, "--settings", "none.yaml"], "none.yaml: No such file"),
        (
            vec![&local, "--only", "sise"],
            "--only sise: the checks of a storage are settings, sizes, ",
        ),
        (vec!["text.so"], "text.so: "),
        (vec!["none.so"], "none.so: No such file"),
    ] {
        let output = run(here, ["plugins", "check"].iter().chain(&arguments));
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    assert_eq!(fs::read_to_string(here.join("objects/recording"))?, "do not touch");
    for (arguments, words) in [
        (["storage", "Tape", "."], "`Tape` can't be a plugin's name"),
        (["storage", "tape", "objects"], "objects is not empty"),
    ] {
        let [kind, name, path] = arguments;
        let output = run(here, ["plugins", "new", kind, name, "--path", path]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    let output = run(here, ["plugins", "new", "storage", "tape", "--sdk", "objects"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let made = fs::read_dir(here)?
        .filter_map(Result::ok)
        .any(|entry| entry.file_name() == "deskreel-storage-tape");
    assert!(!made, "a refused `plugins new` left a folder");
    Ok(())
}
