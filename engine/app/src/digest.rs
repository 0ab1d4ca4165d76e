//! The digest of what is handed out, for the audit log.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// SHA-256 of a file, hexadecimal. Of a folder: of what `sha256sum *` prints in it, files in byte order of their names.
///
/// # Errors
/// Files that can't be read.
pub(crate) fn digest_of(path: &Path) -> anyhow::Result<String> {
    if !path.is_dir() {
        return file_digest(path).with_context(|| format!("read {}", path.display()));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        names.push(entry.with_context(|| format!("read {}", path.display()))?.file_name());
    }
    names.sort();
    let mut hash = Sha256::new();
    for name in names {
        let digest = digest_of(&path.join(&name))?;
        hash.update(format!("{digest}  {}\n", name.to_string_lossy()));
    }
    Ok(hex::encode(hash.finalize()))
}

fn file_digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn as_sha256sum_says() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "1").unwrap();
        std::fs::write(folder.path().join("b"), "2").unwrap();
        let one = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
        assert_eq!(digest_of(&folder.path().join("a")).unwrap(), one);
        let two = "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35";
        let listing = format!("{one}  a\n{two}  b\n");
        let expected = hex::encode(Sha256::digest(listing));
        assert_eq!(digest_of(folder.path()).unwrap(), expected);
    }
}
