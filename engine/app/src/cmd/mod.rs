//! The command line: one file a command, one place that prints errors and picks the exit code.

mod audit;
mod catalog;
mod change;
mod config;
mod create;
mod demo;
mod doctor;
mod edit;
mod explain;
mod exports;
mod get;
mod keys;
mod lock;
mod pins;
mod plugins;
mod progress;
mod recordings;
mod resources;
mod rm;
mod serve;
mod sessions;
mod storages;
mod tickets;
mod users;
mod who_can;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use deskreel_config::{Loaded, LogLevel, Sources};

use crate::output::{Format, visible_lines};
use crate::usage::UsageError;

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit code 0.
    Fine,
    /// Exit code 3: done, with findings such as gaps, a recovered end or a denial.
    Findings,
    /// Exit code 4: verification failed.
    Broken,
    /// Exit code 2: what an operator wrote can't be loaded, as has been told.
    Misconfigured,
}

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// Configuration file (also DESKREEL_CONFIG)
    #[arg(long, global = true, env = "DESKREEL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set one configuration key, above file and environment; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl Global {
    /// Loads the configuration: `--config` or DESKREEL_CONFIG, else `deskreel.yaml` in the working folder if there is
    /// one, else no file; then the environment, then `--set`.
    ///
    /// # Errors
    /// A [`UsageError`] with everything that is wrong.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        let working_dir = std::env::current_dir().context("find the working folder")?;
        let file = self.config.clone().or_else(|| {
            let here = PathBuf::from(FILE_NAME);
            here.exists().then_some(here)
        });
        let mut env = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with("DESKREEL_")) else {
                continue;
            };
            match value.into_string() {
                Ok(value) => env.push((name.to_owned(), value)),
                Err(_) => return Err(UsageError(format!("{name}: the value is not UTF-8")).into()),
            }
        }
        let mut flags = Vec::new();
        for set in &self.set {
            let Some((key, value)) = set.split_once('=') else {
                return Err(UsageError(format!("--set {set}: write it as KEY=VALUE")).into());
            };
            flags.push((key.to_owned(), value.to_owned(), format!("--set {key}")));
        }
        let sources = Sources {
            file,
            env,
            flags,
            working_dir,
        };
        deskreel_config::load(&sources).map_err(|errors| UsageError(errors.to_string()).into())
    }
}

impl Global {
    /// As [`load`](Self::load), and starts the log for a command: what a healthy gateway tells is no news at a prompt.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn load_quietly(&self) -> anyhow::Result<Loaded> {
        let loaded = self.load()?;
        let mut log = loaded.config.log;
        if log.level == LogLevel::Info {
            log.level = LogLevel::Warn;
        }
        crate::log::init(log);
        Ok(loaded)
    }

    /// The flags that name this configuration to another process of this program. What was found in the working folder and
    /// the environment is found there, too.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let config = self.config.iter().flat_map(|file| ["--config".into(), file.into()]);
        let set = self.set.iter().flat_map(|set| ["--set".into(), set.into()]);
        config.chain(set).collect()
    }
}

/// The configuration file that is read from the working folder when none is named.
const FILE_NAME: &str = "deskreel.yaml";

impl Global {
    /// The configuration file that was read and why it was that one.
    pub(crate) fn file_and_why(&self, loaded: &Loaded) -> String {
        match (&loaded.file, &self.config) {
            (None, _) => format!("none (no --config, no DESKREEL_CONFIG, no {FILE_NAME} in the working folder)"),
            (Some(file), Some(_)) => file.display().to_string(),
            (Some(file), None) => format!("{} (found in the working folder)", file.display()),
        }
    }
}

/// The flag of every command that prints a listing; such a command flattens this into its arguments. It is not a
/// global flag because `recordings export --format` names a file format.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Listing {
    /// How the listing is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Parser)]
#[command(
    name = "deskreel",
    version,
    about = "Recording gateway for RDP",
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read and check the audit log
    Audit(audit::Args),
    /// Make the catalog anew from a storage, or bring it in step with all of them
    Catalog(catalog::Args),
    /// Check or show the configuration
    Config(config::Args),
    /// Store resources: roles, users, desktops, locks, recording settings
    Create(create::Args),
    /// Show resources in force
    Get(get::Args),
    /// Edit a resource in an editor
    Edit(edit::Args),
    /// Remove resources
    Rm(rm::Args),
    /// Lock somebody or something out, at once
    Lock(lock::Args),
    /// Add, list and remove users, set their passwords
    Users(users::Args),
    /// Explain who may do what, with every vote and reason
    Explain(explain::Args),
    /// List who may open a desktop, or do something with a recording
    WhoCan(who_can::Args),
    /// Check files of resources, and see what they would change
    Resources(resources::Args),
    /// Look whether this node is as it should be; every finding says what to do
    Doctor(doctor::Args),
    /// Record a session of a built-in desktop, verify it and export it to a video
    Demo(demo::Args),
    /// Show plugins
    Plugins(plugins::Args),
    /// List, show, verify, look at and export recordings
    Recordings(recordings::Args),
    /// List and ask for exports that are made in the background
    Exports(exports::Args),
    /// Run the gateway until SIGTERM or SIGINT
    Serve(serve::Args),
    /// List, watch and end the sessions that run now
    Sessions(sessions::Args),
    /// List, check, measure, compare and copy storages
    Storages(storages::Args),
    /// This node's signing key
    Keys(keys::Args),
    /// List and forget certificates of desktops that were trusted on first use
    Pins(pins::Args),
    /// Make, list and withdraw one-time tickets
    Tickets(tickets::Args),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Parses the command line, runs the command and turns its outcome into the exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(3),
        Ok(Outcome::Broken) => ExitCode::from(4),
        Ok(Outcome::Misconfigured) => ExitCode::from(2),
        Err(error) => {
            eprintln!("deskreel: {}", visible_lines(&format!("{error:#}")));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    match cli.command {
        Command::Audit(args) => audit::run(&cli.global, args),
        Command::Catalog(args) => catalog::run(&cli.global, args),
        Command::Config(args) => config::run(&cli.global, &args),
        Command::Create(args) => create::run(&cli.global, &args),
        Command::Get(args) => get::run(&cli.global, &args),
        Command::Edit(args) => edit::run(&cli.global, &args),
        Command::Rm(args) => rm::run(&cli.global, &args),
        Command::Lock(args) => lock::run(&cli.global, &args),
        Command::Users(args) => users::run(&cli.global, args),
        Command::Explain(args) => explain::run(&cli.global, &args),
        Command::WhoCan(args) => who_can::run(&cli.global, &args),
        Command::Resources(args) => resources::run(&cli.global, &args),
        Command::Doctor(args) => doctor::run(&cli.global, &args),
        Command::Demo(args) => demo::run(&args),
        Command::Plugins(args) => plugins::run(&cli.global, args),
        Command::Recordings(args) => recordings::run(&cli.global, args),
        Command::Exports(args) => exports::run(&cli.global, args),
        Command::Serve(args) => serve::run(&cli.global, &args),
        Command::Sessions(args) => sessions::run(&cli.global, &args),
        Command::Storages(args) => storages::run(&cli.global, args),
        Command::Keys(args) => keys::run(&cli.global, &args),
        Command::Pins(args) => pins::run(&cli.global, args),
        Command::Tickets(args) => tickets::run(&cli.global, args),
        Command::Completions { shell } => {
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "deskreel", &mut std::io::stdout());
            Ok(Outcome::Fine)
        }
    }
}
