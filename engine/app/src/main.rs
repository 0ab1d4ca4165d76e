//! Deskreel: a recording gateway for RDP. This binary is the gateway, the command line and the built-in demo.

mod catalog;
mod cmd;
#[allow(dead_code, unused_imports, reason = "used by serve and recordings as they land")]
mod demo;
mod gateway;
mod host;
mod keys;
mod log;
mod output;
mod pipeline;
mod replay;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::main()
}
