//! How many connections may be on their way to a session, how many sessions open, and how many of both from one address (of
//! IPv6: a /64). Who has not logged on takes no session's place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::end::{EndReason, Ended};

/// Counts connections and sessions; see [`Limits::admit`] and [`Permit::enter`].
#[derive(Debug)]
pub(super) struct Limits {
    maxima: Maxima,
    open: Mutex<Open>,
}

/// What may be open at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maxima {
    /// `gateway.sessions_max`
    pub(super) sessions: usize,
    /// `gateway.connections_pending_max`
    pub(super) pending: usize,
    /// `gateway.connections_per_address_max`
    pub(super) per_address: usize,
}

#[derive(Debug, Default)]
struct Open {
    /// Connections that are no session yet.
    pending: usize,
    sessions: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to one connection; given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<Limits>,
    address: IpAddr,
    /// It is a session. Changed under the lock of the counts.
    is_session: AtomicBool,
}

/// What one subscriber has: an IPv4 address, however the socket spells it, or a /64 of IPv6.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Limits {
    pub(super) fn new(maxima: Maxima) -> Arc<Self> {
        Arc::new(Self {
            maxima,
            open: Mutex::default(),
        })
    }

    /// Admits one more connection from `address`.
    ///
    /// # Errors
    /// The limit that is reached, by its configuration key.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Ended> {
        let address = network(address);
        let Maxima {
            pending, per_address, ..
        } = self.maxima;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.pending >= pending {
            return Err(Ended::new(
                EndReason::TooManyPending,
                format!("gateway.connections_pending_max ({pending}) connections have not logged on yet"),
            ));
        }
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        if here >= per_address {
            return Err(Ended::new(
                EndReason::TooManyFromAddress,
                format!("gateway.connections_per_address_max ({per_address}) connections are open from {address}"),
            ));
        }
        open.by_address.insert(address, here + 1);
        open.pending += 1;
        Ok(Permit {
            limits: Arc::clone(self),
            address,
            is_session: AtomicBool::new(false),
        })
    }

    /// How many connections are open, sessions or not yet.
    pub(super) fn open(&self) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.pending + open.sessions
    }
}

impl Permit {
    /// The connection becomes a session: its user is let in. Once it is one, nothing happens.
    ///
    /// # Errors
    /// [`EndReason::TooManySessions`]
    pub(super) fn enter(&self) -> Result<(), Ended> {
        let max = self.limits.maxima.sessions;
        let mut open = self.limits.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_session.load(Ordering::Relaxed) {
            return Ok(());
        }
        if open.sessions >= max {
            return Err(Ended::new(
                EndReason::TooManySessions,
                format!("gateway.sessions_max ({max}) sessions are open"),
            ));
        }
        open.pending = open.pending.saturating_sub(1);
        open.sessions += 1;
        self.is_session.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = match self.is_session.load(Ordering::Relaxed) {
            true => &mut open.sessions,
            false => &mut open.pending,
        };
        *counted = counted.saturating_sub(1);
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn limits(sessions: usize, pending: usize, per_address: usize) -> Arc<Limits> {
        Limits::new(Maxima {
            sessions,
            pending,
            per_address,
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn limits_hold_and_are_given_back() {
        let limits = limits(9, 3, 2);
        let [a, b, c] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(address);
        let first = limits.admit(a).unwrap();
        let _second = limits.admit(address("::ffff:10.0.0.1")).unwrap();
        assert_eq!(limits.admit(a).unwrap_err().reason, EndReason::TooManyFromAddress);
        let _third = limits.admit(b).unwrap();
        assert_eq!(limits.admit(c).unwrap_err().reason, EndReason::TooManyPending);
        drop(first);
        assert_eq!(limits.open(), 2);
        let _fourth = limits.admit(a).unwrap();
        assert_eq!(limits.open(), 3);
    }

    #[test]
    fn who_has_not_logged_on_takes_no_session() {
        let limits = limits(2, 3, 9);
        let a = address("10.0.0.1");
        let [first, second, third] = [(); 3].map(|()| limits.admit(a).unwrap());
        assert_eq!(limits.admit(a).unwrap_err().reason, EndReason::TooManyPending);
        first.enter().unwrap();
        first.enter().unwrap();
        second.enter().unwrap();
        assert_eq!(third.enter().unwrap_err().reason, EndReason::TooManySessions);
        // two sessions, and three that wait
        let waiting = [(); 2].map(|()| limits.admit(a).unwrap());
        assert_eq!(limits.admit(a).unwrap_err().reason, EndReason::TooManyPending);
        assert_eq!(limits.open(), 5);
        drop(first);
        third.enter().unwrap();
        drop((second, third, waiting));
        assert_eq!(limits.open(), 0);
    }

    #[test]
    fn a_64_of_ipv6_is_one_address() {
        let limits = limits(9, 9, 1);
        let _first = limits.admit(address("2001:db8::1")).unwrap();
        let refused = limits.admit(address("2001:db8::ffff:1")).unwrap_err();
        assert_eq!(refused.reason, EndReason::TooManyFromAddress);
        limits.admit(address("2001:db8:0:1::1")).unwrap();
    }
}
