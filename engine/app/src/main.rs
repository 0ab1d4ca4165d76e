//! Deskreel: a recording gateway for RDP. This binary is the gateway, the command line and the built-in demo.

mod cmd;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::main()
}
