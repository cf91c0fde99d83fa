//! What wrong passwords cost: a delay that doubles, and a limit for an address.
//!
//! Failures leak away with time, at a rate that allows `failures_per_address_max` in each
//! `failure_window`. A user's failures delay only failing logins, so nobody can lock another out;
//! an address at its limit is refused outright, but logins still remembered get through. Logins
//! from the machine itself (a webmail, a proxy) have no limit, since many users come that way.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::name::UserName;

/// Addresses and users whose failures are kept, each. The oldest are forgotten past that.
const RECORDS_MAX: usize = 65_536;

/// Where a login comes from, as far as limits care: IPv4 addresses one by one, IPv6 by /64, which
/// one host owns whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A unix socket, or a loopback address.
    Local,
    /// An address, or the first of its network.
    Address(IpAddr),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Origin {
        match address.to_canonical() {
            address if address.is_loopback() => Origin::Local,
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                Origin::Address(Ipv6Addr::from(network).into())
            }
            v4 => Origin::Address(v4),
        }
    }
}

/// The settings; names are those of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct FailureSettings {
    /// Delay after a first wrong password.
    pub delay_first: Duration,
    /// Longest delay.
    pub delay_max: Duration,
    /// Wrong passwords from one address within `failure_window` before it is refused.
    pub failures_per_address_max: u32,
    /// Time in which that many failures are forgotten.
    pub failure_window: Duration,
}

#[derive(Clone, Copy)]
struct Level {
    /// Failures, leaking.
    failures: f64,
    at: Instant,
}

#[derive(Default)]
struct Levels<K>(HashMap<K, Level>);

impl<K: Hash + Eq + Clone> Levels<K> {
    fn level<Q: Hash + Eq + ?Sized>(&self, key: &Q, per_second: f64, now: Instant) -> f64
    where
        K: std::borrow::Borrow<Q>,
    {
        let left = |l: &Level| l.failures - (now - l.at).as_secs_f64() * per_second;
        self.0.get(key).map_or(0.0, |l| left(l).max(0.0))
    }

    fn add(&mut self, key: K, per_second: f64, now: Instant) -> f64 {
        let failures = self.level(&key, per_second, now) + 1.0;
        if self.0.len() >= RECORDS_MAX && !self.0.contains_key(&key) {
            self.forget(now);
        }
        self.0.insert(key, Level { failures, at: now });
        failures
    }

    /// Makes room: forgets the older half, by the last failure.
    fn forget(&mut self, now: Instant) {
        let mut ages: Vec<Duration> = self.0.values().map(|l| now - l.at).collect();
        let middle = ages.len() / 2;
        let (_, &mut median, _) = ages.select_nth_unstable(middle);
        self.0.retain(|_, l| now - l.at < median);
    }
}

/// The failures of late.
pub struct Failures {
    settings: FailureSettings,
    addresses: Mutex<Levels<Origin>>,
    users: Mutex<Levels<UserName>>,
}

impl Failures {
    /// None yet.
    pub fn new(settings: FailureSettings) -> Failures {
        Failures {
            settings,
            addresses: Mutex::new(Levels(HashMap::new())),
            users: Mutex::new(Levels(HashMap::new())),
        }
    }

    fn per_second(&self) -> f64 {
        let window = self.settings.failure_window.as_secs_f64().max(1.0);
        f64::from(self.settings.failures_per_address_max.max(1)) / window
    }

    /// Whether logins from `origin` are refused now.
    pub fn is_limited(&self, origin: Origin, now: Instant) -> bool {
        let level = self.addresses.lock().level(&origin, self.per_second(), now);
        // Compared from below: a level that has leaked by a hair is still at the limit.
        origin != Origin::Local && level > f64::from(self.settings.failures_per_address_max) - 1.0
    }

    /// Counts a failure; gives the time that the answer must wait.
    pub fn add(&self, origin: Origin, user: Option<&UserName>, now: Instant) -> Duration {
        let per_second = self.per_second();
        let from_address = match origin {
            Origin::Local => 1.0,
            address => self.addresses.lock().add(address, per_second, now),
        };
        let of_user = user.map_or(1.0, |u| self.users.lock().add(u.clone(), per_second, now));
        let doublings = (from_address.max(of_user) - 1.0).clamp(0.0, 16.0);
        self.settings.delay_first.mul_f64(doublings.exp2()).min(self.settings.delay_max)
    }

    /// A good login: the user's failures are forgotten, the address's are not, or one good
    /// account would pay for guessing at all others.
    pub fn forget_user(&self, user: &UserName) {
        self.users.lock().0.remove(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: FailureSettings = FailureSettings {
        delay_first: Duration::from_secs(1),
        delay_max: Duration::from_secs(10),
        failures_per_address_max: 5,
        failure_window: Duration::from_secs(50),
    };

    fn at(address: &str) -> Origin {
        Origin::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn origins_are_networks_of_one_host() {
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:2"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_eq!(at("::ffff:127.0.0.1"), Origin::Local);
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let failures = Failures::new(SETTINGS);
        let jo = UserName::new("jo").unwrap();
        let now = Instant::now();
        let delays: Vec<_> =
            (0..6).map(|_| failures.add(Origin::Local, Some(&jo), now).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10]);
        failures.forget_user(&jo);
        assert_eq!(failures.add(Origin::Local, Some(&jo), now).as_secs(), 1);
    }

    #[test]
    fn an_address_is_refused_at_its_limit_and_not_before() {
        let failures = Failures::new(SETTINGS);
        let now = Instant::now();
        for n in 0..5 {
            assert!(!failures.is_limited(at("192.0.2.1"), now), "{n}");
            failures.add(at("192.0.2.1"), None, now);
        }
        assert!(failures.is_limited(at("192.0.2.1"), now));
        assert!(!failures.is_limited(at("192.0.2.2"), now));
        assert!(!failures.is_limited(at("192.0.2.1"), now + Duration::from_secs(11)));
    }

    #[test]
    fn the_machine_itself_has_no_limit() {
        let failures = Failures::new(SETTINGS);
        let now = Instant::now();
        for _ in 0..100 {
            failures.add(Origin::Local, None, now);
        }
        assert!(!failures.is_limited(Origin::Local, now));
    }

    #[test]
    fn memory_is_bounded() {
        let mut levels = Levels(HashMap::new());
        let start = Instant::now();
        for n in 0..RECORDS_MAX * 2 {
            levels.add(n, 1.0, start + Duration::from_micros(n as u64));
        }
        assert!(levels.0.len() <= RECORDS_MAX);
        assert!(levels.0.contains_key(&(RECORDS_MAX * 2 - 1)));
    }
}
