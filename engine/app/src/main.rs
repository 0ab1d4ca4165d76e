//! Deskreel: a recording gateway for RDP. This binary is the gateway, the command line and the built-in demo.

#[allow(dead_code, reason = "used by serve and recordings as they land")]
mod catalog;
mod cmd;
#[allow(dead_code, unused_imports, reason = "used by serve and recordings as they land")]
mod demo;
mod gateway;
mod host;
#[allow(dead_code, reason = "used by serve as it lands")]
mod keys;
mod log;
mod output;
#[allow(dead_code, reason = "used by serve as it lands")]
mod pipeline;
mod replay;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::main()
}
