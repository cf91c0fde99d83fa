//! Good logins kept in memory for minutes, as keyed hashes.
//!
//! A webmail logs in for each click; the second time costs a hash of microseconds. The key is
//! random, made at start and never stored, and the credentials' version is hashed in, so a changed
//! password or a removed user is forgotten at once and a memory dump shows no password hash that
//! could be guessed at without the key.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::directory::CredentialVersion;
use crate::hash::HashKind;
use crate::name::UserName;

/// Logins remembered at once. Past that the older ones are forgotten early.
const LOGINS_MAX: usize = 65_536;

/// The remembered logins.
pub struct Remembered {
    key: [u8; 32],
    keep: Duration,
    until: Mutex<HashMap<Token, Instant>>,
}

/// A login, hashed with the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 32]);

impl Remembered {
    /// Remembers each login for `keep`; zero remembers none.
    pub fn new(key: [u8; 32], keep: Duration) -> Remembered {
        Remembered { key, keep, until: Mutex::new(HashMap::new()) }
    }

    /// What stands for this user, this password and these credentials.
    pub fn token(&self, user: &UserName, password: &[u8], version: &CredentialVersion) -> Token {
        let name = user.as_str().as_bytes();
        let mut data = Vec::with_capacity(8 + name.len() + version.len() + password.len());
        data.extend_from_slice(&(name.len() as u64).to_le_bytes());
        data.extend_from_slice(name);
        data.extend_from_slice(version);
        data.extend_from_slice(password);
        let mut token = [0; 32];
        token.iter_mut().zip(HashKind::Sha256.hmac(&self.key, &data)).for_each(|(t, b)| *t = b);
        Token(token)
    }

    /// Whether this login succeeded not long ago.
    ///
    /// A hash table's comparison isn't constant in time, but what it compares is keyed.
    pub fn knows(&self, token: &Token, now: Instant) -> bool {
        self.until.lock().get(token).is_some_and(|&until| now < until)
    }

    /// Keeps a login that succeeded.
    pub fn keep(&self, token: Token, now: Instant) {
        if self.keep.is_zero() {
            return;
        }
        let mut logins = self.until.lock();
        if logins.len() >= LOGINS_MAX {
            logins.retain(|_, until| now < *until);
        }
        if logins.len() >= LOGINS_MAX {
            let half_way = now + self.keep / 2;
            logins.retain(|_, until| half_way < *until);
        }
        if logins.len() < LOGINS_MAX {
            logins.insert(token, now + self.keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_after_its_time_and_on_any_change() {
        let remembered = Remembered::new([1; 32], Duration::from_secs(60));
        let (jo, mo) = (UserName::new("jo").unwrap(), UserName::new("mo").unwrap());
        let now = Instant::now();
        let token = remembered.token(&jo, b"geheim", &[2; 32]);
        assert!(!remembered.knows(&token, now));
        remembered.keep(token, now);
        assert!(remembered.knows(&token, now + Duration::from_secs(59)));
        assert!(!remembered.knows(&token, now + Duration::from_secs(60)));
        for other in [
            remembered.token(&mo, b"geheim", &[2; 32]),
            remembered.token(&jo, b"Geheim", &[2; 32]),
            remembered.token(&jo, b"geheim", &[3; 32]),
        ] {
            assert!(!remembered.knows(&other, now));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let remembered = Remembered::new([1; 32], Duration::from_secs(60));
        let now = Instant::now();
        for n in 0..LOGINS_MAX as u64 + 10 {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            remembered.keep(Token(bytes), now);
        }
        assert!(remembered.until.lock().len() <= LOGINS_MAX);
    }
}
