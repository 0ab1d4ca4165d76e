//! The built-in demo: a desktop and a client of ours on both sides of the real gateway. It needs nothing installed and
//! proves nothing alone; the tests use real peers.

pub(crate) mod client;
pub(crate) mod desktop;
mod scene;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;
    use std::time::Duration;

    use super::client::{self, Script};
    use super::desktop::{Desktop, PASSWORD, SIZE, USER};
    use crate::gateway::tls::any_certificate;

    fn script(desktop: &Desktop, password: &'static str) -> Script {
        Script {
            address: desktop.address,
            user: USER,
            password,
            size: SIZE,
            duration: Duration::from_secs(2),
            tls: any_certificate().unwrap(),
            trusts: Box::new(|_certificate| true),
            progress: Box::new(|_passed| {}),
        }
    }

    #[test]
    fn the_client_sees_the_desktop() {
        let desktop = Desktop::start().unwrap();
        let seen = client::run(script(&desktop, PASSWORD)).unwrap();
        assert_eq!((seen.width, seen.height), SIZE);
        let mut colours: Vec<[u8; 3]> = seen
            .rgba
            .chunks_exact(4)
            .map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect();
        colours.sort_unstable();
        colours.dedup();
        assert!(colours.len() > 100, "{} colours of a picture with many", colours.len());
        // One client after another.
        client::run(script(&desktop, PASSWORD)).unwrap();
        assert!(client::run(script(&desktop, "wrong")).is_err(), "a wrong password");
    }
}
