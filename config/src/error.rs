//! Errors that say where: file, line, column, variable or flag, and the key.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Built in.
    Default,
    /// A YAML file.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// Line, from 1; 0 when the error is about the file as a whole.
        line: usize,
        /// Column in characters, from 1; 0 when the error is about the file as a whole.
        column: usize,
    },
    /// An environment variable.
    Variable {
        /// Its name.
        name: String,
    },
    /// A flag of the command line.
    Flag {
        /// The flag as it was written, such as `--set gateway.listen`.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable { name } | Self::Flag { name } => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where it stands.
    pub origin: Origin,
    /// What it is about: a key such as `storages[0].name`, or `windows_desktop/lab: spec.addr`. Empty when the place says it all.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong, in the order of the sources. Never empty. Prints one error a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Errors(pub Vec<ConfigError>);

/// Errors of one load that are kept; what is beyond is counted.
const ERRORS_MAX: usize = 100;

impl Errors {
    /// The first hundred of `errors`, and how many there are beyond.
    #[must_use]
    pub fn bounded(mut errors: Vec<ConfigError>) -> Self {
        if errors.len() > ERRORS_MAX {
            let message = format!("and {} more errors", errors.len() - ERRORS_MAX);
            errors.truncate(ERRORS_MAX);
            errors.push(ConfigError {
                origin: Origin::Default,
                key: String::new(),
                message,
            });
        }
        Self(errors)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}
