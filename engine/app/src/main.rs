//! Deskreel: a recording gateway for RDP. This binary is the gateway, the command line and the built-in demo.

mod access;
mod audit;
mod catalog;
mod cmd;
mod control;
mod credentials;
mod demo;
mod digest;
mod doctor;
mod dumps;
mod event_row;
mod exports;
mod gateway;
mod host;
mod keep;
mod keys;
mod log;
mod node;
mod output;
mod pipeline;
mod private;
mod replay;
mod usage;
mod web;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::main()
}
