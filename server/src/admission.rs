//! Who may connect: the bounds on connections, in total and by address.
//!
//! Invariant: every admitted connection holds one [`Slot`], and dropping it undoes exactly what
//! admitting counted. Used by the acceptor only, so the lock is never contended for long.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use config::{Limits, Listener, Protocol};
use parking_lot::Mutex;

use crate::net::Peer;

/// Counts connections.
#[derive(Default)]
pub struct Admission {
    by_address: Mutex<HashMap<IpAddr, usize>>,
    by_listener: Mutex<HashMap<String, AtListener>>,
    by_protocol: [AtomicUsize; Protocol::ALL.len()],
    total: AtomicUsize,
}

/// Connections of one listener, where it has limits of its own.
#[derive(Default)]
struct AtListener {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a connection was not admitted, with the limit that it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `limits.connections_max`
    Total(usize),
    /// `limits.connections_per_address_max` or `limits.connections_loopback_max`
    Address(usize),
    /// `listener.connections_max`
    Listener(usize),
    /// `listener.connections_per_address_max`
    ListenerAddress(usize),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Total(limit) => write!(f, "{limit} connections are open (all clients)"),
            Refusal::Listener(limit) => write!(f, "{limit} connections are open here"),
            Refusal::ListenerAddress(limit) => {
                write!(f, "{limit} connections are open here from this address")
            }
            Refusal::Address(limit) => write!(f, "{limit} connections are open from this address"),
        }
    }
}

/// The place of one connection under the limits; dropping it frees the place.
///
/// Boxed: every session holds one as long as it lives, and needs it at its end.
pub struct Slot(
    #[allow(dead_code, reason = "what it counted falls when it is dropped")] Box<Counted>,
);

/// What was counted.
struct Counted {
    admission: Arc<Admission>,
    protocol: Protocol,
    ip: Option<IpAddr>,
    /// The listener's address, where it has limits of its own.
    listener: Option<String>,
    core_load: Arc<AtomicUsize>,
}

impl Admission {
    /// Counts a connection, or says which limit it meets. `core_load` is raised too, and falls
    /// with the slot.
    pub fn admit(
        self: &Arc<Self>,
        peer: Peer,
        listener: &Listener,
        limits: &Limits,
        core_load: &Arc<AtomicUsize>,
    ) -> Result<Slot, Refusal> {
        let total_max = limits.connections_max;
        if self.total.load(Ordering::Relaxed) >= total_max {
            return Err(Refusal::Total(total_max));
        }
        let own = self.admit_at(peer, listener)?;
        if let Some(ip) = peer.ip() {
            let address_max = match ip.is_loopback() {
                true => limits.connections_loopback_max,
                false => limits.connections_per_address_max,
            };
            let mut by_address = self.by_address.lock();
            let count = by_address.entry(ip).or_insert(0);
            if *count >= address_max {
                drop(by_address);
                self.leave(own.as_deref(), peer.ip());
                return Err(Refusal::Address(address_max));
            }
            *count += 1;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        let protocol = listener.protocol;
        self.by_protocol[protocol.index()].fetch_add(1, Ordering::Relaxed);
        core_load.fetch_add(1, Ordering::Relaxed);
        let core_load = core_load.clone();
        let (admission, ip) = (self.clone(), peer.ip());
        Ok(Slot(Box::new(Counted { admission, protocol, ip, listener: own, core_load })))
    }

    /// Counts at a listener with limits of its own, and gives its address then.
    fn admit_at(&self, peer: Peer, listener: &Listener) -> Result<Option<String>, Refusal> {
        let (total_max, address_max) =
            (listener.connections_max, listener.connections_per_address_max);
        if total_max == 0 && address_max == 0 {
            return Ok(None);
        }
        let name = listener.address.to_string();
        let mut all = self.by_listener.lock();
        let here = all.entry(name.clone()).or_default();
        if total_max > 0 && here.total >= total_max {
            return Err(Refusal::Listener(total_max));
        }
        if let Some(ip) = peer.ip() {
            let count = here.by_address.entry(ip).or_default();
            if address_max > 0 && *count >= address_max {
                return Err(Refusal::ListenerAddress(address_max));
            }
            *count += 1;
        }
        here.total += 1;
        Ok(Some(name))
    }

    fn leave(&self, listener: Option<&str>, ip: Option<IpAddr>) {
        let mut all = self.by_listener.lock();
        let Some(here) = listener.and_then(|name| all.get_mut(name)) else { return };
        here.total -= 1;
        if let Some(ip) = ip
            && let Some(count) = here.by_address.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                here.by_address.remove(&ip);
            }
        }
    }

    /// Connections open now.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Connections open now that speak `protocol`.
    pub fn count(&self, protocol: Protocol) -> usize {
        self.by_protocol[protocol.index()].load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(ip) = self.ip {
            let mut by_address = self.admission.by_address.lock();
            if let Some(count) = by_address.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&ip);
                }
            }
        }
        self.admission.leave(self.listener.as_deref(), self.ip);
        self.admission.by_protocol[self.protocol.index()].fetch_sub(1, Ordering::Relaxed);
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        self.core_load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from_addr(text.parse().unwrap())
    }

    #[test]
    fn limits_hold_at_their_value_and_slots_come_back() {
        let admission = Arc::new(Admission::default());
        let load = Arc::new(AtomicUsize::new(0));
        let limits = Limits {
            connections_max: 4,
            connections_per_address_max: 2,
            connections_loopback_max: 3,
            ..Limits::default()
        };
        let listener = Listener::new(Protocol::Imap, "127.0.0.1:143".to_owned().into());
        let admit = |p| admission.admit(p, &listener, &limits, &load);
        let far = peer("192.0.2.1:1");
        let mut slots = vec![admit(far).ok().unwrap(), admit(peer("192.0.2.1:2")).ok().unwrap()];
        assert_eq!(admit(far).err(), Some(Refusal::Address(2)));
        slots.push(admit(peer("192.0.2.2:1")).ok().unwrap());
        slots.push(admit(Peer::Unix).ok().unwrap());
        assert_eq!(admit(Peer::Unix).err(), Some(Refusal::Total(4)));
        assert_eq!(admission.count(Protocol::Imap), 4);
        drop(slots);
        assert_eq!((admission.total(), load.load(Ordering::Relaxed)), (0, 0));
        assert!(admission.by_address.lock().is_empty());
        let near: Vec<_> = (0..3).map(|_| admit(peer("127.0.0.1:1")).ok().unwrap()).collect();
        assert_eq!(admit(peer("127.0.0.1:1")).err(), Some(Refusal::Address(3)));
        drop(near);
    }
    #[test]
    fn a_listener_may_have_limits_of_its_own() {
        let admission = Arc::new(Admission::default());
        let load = Arc::new(AtomicUsize::new(0));
        let limits = Limits::default();
        let listener = Listener {
            connections_max: 3,
            connections_per_address_max: 2,
            ..Listener::new(Protocol::Pop3, "127.0.0.1:110".to_owned().into())
        };
        let other = Listener { address: "127.0.0.1:111".to_owned().into(), ..listener.clone() };
        let admit = |text: &str, at: &Listener| admission.admit(peer(text), at, &limits, &load);
        let mut slots = vec![
            admit("192.0.2.1:1", &listener).ok().unwrap(),
            admit("192.0.2.1:2", &listener).ok().unwrap(),
        ];
        let refused = admit("192.0.2.1:3", &listener).err();
        assert_eq!(refused, Some(Refusal::ListenerAddress(2)));
        slots.push(admit("192.0.2.2:1", &listener).ok().unwrap());
        assert_eq!(admit("192.0.2.3:1", &listener).err(), Some(Refusal::Listener(3)));
        slots.push(admit("192.0.2.1:4", &other).ok().unwrap());
        drop(slots);
        assert!(admit("192.0.2.1:5", &listener).is_ok());
        let few = Limits { connections_per_address_max: 1, ..Limits::default() };
        let first = admission.admit(peer("192.0.2.9:1"), &listener, &few, &load).ok().unwrap();
        let second = admission.admit(peer("192.0.2.9:2"), &listener, &few, &load);
        assert_eq!(second.err(), Some(Refusal::Address(1)));
        drop(first);
        let all = admission.by_listener.lock();
        assert!(all.values().all(|here| here.total == 0 && here.by_address.is_empty()));
    }
}
