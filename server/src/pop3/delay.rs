//! LOGIN-DELAY: RFC 2449 section 6.5. When each user logged in, as long as that matters.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Users remembered before those whose delay is over are looked for.
const USERS_SWEEP: usize = 4096;

/// The last logins, for all cores.
#[derive(Default)]
pub struct LoginDelays(Mutex<HashMap<String, Instant>>);

impl LoginDelays {
    /// Notes a login; `false` if the user's last one is less than `delay` ago, and then this one
    /// isn't noted.
    pub(super) fn admit(&self, user: &str, delay: Duration, now: Instant) -> bool {
        if delay.is_zero() {
            return true;
        }
        let mut logins = self.0.lock();
        let early = |last: &Instant| now.saturating_duration_since(*last) < delay;
        if logins.get(user).is_some_and(early) {
            return false;
        }
        if logins.len() >= USERS_SWEEP {
            logins.retain(|_, last| early(last));
        }
        logins.insert(user.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_login_waits_for_its_time() {
        let delays = LoginDelays::default();
        let (delay, now) = (Duration::from_secs(60), Instant::now());
        assert!(delays.admit("jo", delay, now));
        assert!(!delays.admit("jo", delay, now + Duration::from_secs(59)));
        assert!(delays.admit("mo", delay, now));
        assert!(delays.admit("jo", delay, now + delay));
        assert!(delays.admit("jo", Duration::ZERO, now + delay));
        for n in 0..USERS_SWEEP * 2 {
            delays.admit(&n.to_string(), delay, now + Duration::from_secs(n as u64));
        }
        assert!(delays.0.lock().len() <= USERS_SWEEP);
    }
}
