//! The control socket `data_dir/control.sock`: how the commands under `deskreel sessions` reach a running gateway.
//!
//! A Unix socket of mode 0600 that root and the gateway's own account may use; others are refused by their peer
//! credentials, whatever the file system says. One request a connection, one line of JSON ([`protocol`]); answers are
//! lines of JSON too. [`server`] answers, [`client`] asks, [`watch`] is the stream of one running session.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod server;
mod watch;

#[cfg(test)]
mod tests;

/// The socket's name below `data_dir`.
pub(crate) const SOCKET: &str = "control.sock";
