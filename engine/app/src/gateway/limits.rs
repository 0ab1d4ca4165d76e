//! How many sessions may be open at once, in all and from one address (of IPv6: a /64).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::end::{EndReason, Ended};

/// Counts the open sessions; see [`Limits::admit`].
#[derive(Debug)]
pub(super) struct Limits {
    sessions_max: usize,
    per_address_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to one session; given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<Limits>,
    address: IpAddr,
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
    pub(super) fn new(sessions_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            sessions_max,
            per_address_max,
            open: Mutex::default(),
        })
    }

    /// Admits one more session from `address`.
    ///
    /// # Errors
    /// The limit that is reached, by its configuration key.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Ended> {
        let address = network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.sessions_max {
            return Err(Ended::new(
                EndReason::TooManySessions,
                format!("gateway.sessions_max ({}) sessions are open", self.sessions_max),
            ));
        }
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        if here >= self.per_address_max {
            return Err(Ended::new(
                EndReason::TooManyFromAddress,
                format!(
                    "gateway.connections_per_address_max ({}) sessions are open from {address}",
                    self.per_address_max
                ),
            ));
        }
        open.by_address.insert(address, here + 1);
        open.total += 1;
        Ok(Permit {
            limits: Arc::clone(self),
            address,
        })
    }

    /// How many sessions are open.
    pub(super) fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
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

    #[test]
    fn limits_hold_and_are_given_back() {
        let limits = Limits::new(3, 2);
        let a: IpAddr = "10.0.0.1".parse().unwrap();
        let a_mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let b: IpAddr = "10.0.0.2".parse().unwrap();
        let c: IpAddr = "10.0.0.3".parse().unwrap();
        let first = limits.admit(a).unwrap();
        let _second = limits.admit(a_mapped).unwrap();
        assert_eq!(limits.admit(a).unwrap_err().reason, EndReason::TooManyFromAddress);
        let _third = limits.admit(b).unwrap();
        assert_eq!(limits.admit(c).unwrap_err().reason, EndReason::TooManySessions);
        drop(first);
        assert_eq!(limits.open(), 2);
        let _fourth = limits.admit(a).unwrap();
        assert_eq!(limits.open(), 3);
    }

    #[test]
    fn a_64_of_ipv6_is_one_address() {
        let limits = Limits::new(9, 1);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let _first = limits.admit(address("2001:db8::1")).unwrap();
        let refused = limits.admit(address("2001:db8::ffff:1")).unwrap_err();
        assert_eq!(refused.reason, EndReason::TooManyFromAddress);
        limits.admit(address("2001:db8:0:1::1")).unwrap();
    }
}
