//! What listens on loopback on a thread of its own: the test desktops and what stands between them and the gateway.

use std::future::Future;
use std::net::TcpListener as StdListener;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ALL_VERSIONS;

use crate::connection;

/// Runs `serve` with a listener and a TLS certificate named after it; gives the port, and what ends it when it is dropped.
///
/// # Errors
/// No port, or no certificate can be made.
pub(crate) fn start<S, F>(name: &str, serve: S) -> anyhow::Result<(u16, oneshot::Sender<()>)>
where
    S: FnOnce(TcpListener, TlsAcceptor) -> F + Send + 'static,
    F: Future<Output = ()>,
{
    let tls = connection::tls_acceptor(name, ALL_VERSIONS)?;
    let listener = StdListener::bind("127.0.0.1:0").context("bind")?;
    listener.set_nonblocking(true).context("bind")?;
    let port = listener.local_addr().context("bind")?.port();
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    let listener = {
        let _in_runtime = runtime.enter();
        TcpListener::from_std(listener).context("listen")?
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, tls) => (),
                    _ = stopped => (),
                }
            });
        })
        .with_context(|| format!("start {name}"))?;
    Ok((port, stop))
}
