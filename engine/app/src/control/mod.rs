//! The control socket `data_dir/control.sock`: how the commands under `deskreel sessions` reach a running gateway.
//!
//! A Unix socket of mode 0600. Who is at the other end says the kernel: root and the gateway's own account may do
//! everything, any other account what the rules of its Deskreel user say, if the file system lets it come that far. One request a connection, one line of JSON ([`protocol`]); answers are
//! lines of JSON too. [`server`] answers, [`client`] asks, [`watch`] is the stream of one running session.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod server;
mod watch;

#[cfg(test)]
mod tests;

/// The socket's name below `data_dir`.
pub(crate) const SOCKET: &str = "control.sock";
