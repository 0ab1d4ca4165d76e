//! Tells the crate which compiler builds it, for the plugin's metadata.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok();
    let version = version
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_default();
    let version = version.trim().trim_start_matches("rustc ");
    println!(
        "cargo::rustc-env=DESKREEL_RUSTC_VERSION={}",
        if version.is_empty() { "unknown" } else { version }
    );
    println!("cargo::rerun-if-changed=build.rs");
}
