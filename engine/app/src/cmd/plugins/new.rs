//! `plugins new`: the crate of a new plugin.

use std::fs;
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use deskreel_sdk::abi::{ABI_MAJOR, SDK_VERSION};

use crate::cmd::{Outcome, UsageError};

/// Longest name of a plugin.
const NAME_MAX_BYTES: usize = 40;
/// Where the SDK is, unless `--sdk` says otherwise.
const SDK_REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Arguments of `plugins new`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel plugins new storage tape\n  deskreel plugins new exporter gif --sdk ../deskreel/sdk"
)]
pub(super) struct Args {
    /// What it is
    #[arg(value_enum)]
    kind: Kind,
    /// Its name, as in `plugin: NAME` of the configuration
    name: String,
    /// The folder to make [default: deskreel-KIND-NAME]
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
    /// A folder with the SDK, in a clone of the repository [default: the SDK from the repository on the net]
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Keeps recordings
    Storage,
    /// Turns recordings into other formats
    Exporter,
}

/// (path below the new folder, text with `{{..}}` where something goes in).
type Template = &'static [(&'static str, &'static str)];

const STORAGE: Template = &[
    ("Cargo.toml", include_str!("../../../../../sdk/templates/Cargo.toml.in")),
    (".gitignore", "/target\n"),
    (
        "README.md",
        include_str!("../../../../../sdk/templates/storage/README.md.in"),
    ),
    (
        "sample.yaml",
        include_str!("../../../../../sdk/templates/storage/sample.yaml.in"),
    ),
    (
        "src/lib.rs",
        include_str!("../../../../../sdk/templates/storage/src/lib.rs.in"),
    ),
];

const EXPORTER: Template = &[
    ("Cargo.toml", include_str!("../../../../../sdk/templates/Cargo.toml.in")),
    (".gitignore", "/target\n"),
    (
        "README.md",
        include_str!("../../../../../sdk/templates/exporter/README.md.in"),
    ),
    (
        "sample.yaml",
        include_str!("../../../../../sdk/templates/exporter/sample.yaml.in"),
    ),
    (
        "src/lib.rs",
        include_str!("../../../../../sdk/templates/exporter/src/lib.rs.in"),
    ),
];

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let name = &args.name;
    check_name(name).map_err(UsageError)?;
    let (kind, template) = match args.kind {
        Kind::Storage => ("storage", STORAGE),
        Kind::Exporter => ("exporter", EXPORTER),
    };
    let package = format!("deskreel-{kind}-{name}");
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&package));
    let sdk = sdk(args.sdk.as_deref())?;
    make_empty(&folder)?;
    for (file, text) in template {
        let path = folder.join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        let text = text
            .replace("{{kind}}", kind)
            .replace("{{name}}", name)
            .replace("{{package}}", &package)
            .replace("{{library}}", &format!("lib{}.so", package.replace('-', "_")))
            .replace("{{sdk}}", &sdk);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let library = format!("target/debug/lib{}.so", package.replace('-', "_"));
    println!(
        "made {}\nnext:\n  cd {}\n  cargo test\n  cargo build\n  deskreel plugins check {library} --settings sample.yaml",
        folder.display(),
        folder.display()
    );
    Ok(Outcome::Fine)
}

fn check_name(name: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("`{name}` can't be a plugin's name: {why}"));
    if name.is_empty() || name.len() > NAME_MAX_BYTES {
        return wrong("it has 1 to 40 characters");
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        return wrong("it is made of a-z, 0-9 and -");
    }
    if name.starts_with('-') || name.ends_with('-') {
        return wrong("it starts and ends with a letter or digit");
    }
    Ok(())
}

/// The SDK as a dependency in Cargo.toml.
fn sdk(folder: Option<&Path>) -> anyhow::Result<String> {
    let Some(folder) = folder else {
        return Ok(format!("{{ git = {} }}", quoted(SDK_REPOSITORY)));
    };
    let wrong = |why: &str| UsageError(format!("--sdk {}: {why}", folder.display()));
    let real = folder.canonicalize().map_err(|error| wrong(&error.to_string()))?;
    let manifest =
        fs::read_to_string(real.join("Cargo.toml")).map_err(|error| wrong(&format!("Cargo.toml: {error}")))?;
    if !manifest.contains("name = \"deskreel-sdk\"") {
        return Err(wrong("is not the folder of deskreel-sdk").into());
    }
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    if version.is_some_and(|version| version.trim_matches('"').split('.').next() != Some(&ABI_MAJOR.to_string())) {
        return Err(wrong(&format!(
            "has another major version than {SDK_VERSION}, which this engine speaks"
        ))
        .into());
    }
    let text = real.to_str().ok_or_else(|| wrong("the path is not UTF-8"))?;
    Ok(format!("{{ path = {} }}", quoted(text)))
}

/// A text as TOML, whose basic strings have JSON's escapes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Makes a folder, or takes one that is empty.
fn make_empty(folder: &Path) -> anyhow::Result<()> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(UsageError(format!("{} is not empty", folder.display())).into()),
        Err(error) if error.kind() == Io::NotFound => {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
        }
        Err(error) => Err(UsageError(format!("{}: {error}", folder.display())).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names() {
        for good in ["s3", "a", "tape-library", &"x".repeat(40)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "..", "ä", &"x".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
