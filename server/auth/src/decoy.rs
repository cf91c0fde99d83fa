//! The password of users who do not exist: as dear to check as anybody's, so that the time does not
//! tell that they don't.
//!
//! Its hash takes longer to make than all else at a start, so it is made beside it; who asks before
//! it is there waits, on a hashing thread.

use std::io;
use std::sync::{Arc, OnceLock};

use crate::credential::{Credentials, PasswordError};
use crate::directory::{PasswordCheck, Unavailable};

/// Of a password that nobody knows, for unknown users where the directory has no users.
#[derive(Default)]
pub(crate) struct Decoy(OnceLock<Result<Credentials, String>>);

impl Decoy {
    /// Begins to make it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start() -> io::Result<Arc<Decoy>> {
        let decoy = Arc::new(Decoy::default());
        let making = decoy.clone();
        let thread = std::thread::Builder::new().name("cursus-decoy".to_owned());
        thread.spawn(move || {
            // What fails here is told by who asks.
            let _ = making.made();
        })?;
        Ok(decoy)
    }

    fn made(&self) -> &Result<Credentials, String> {
        self.0.get_or_init(|| make().map_err(|error| error.to_string()))
    }
}

fn make() -> Result<Credentials, PasswordError> {
    let mut secret = [0u8; 32];
    getrandom::fill(&mut secret).map_err(|_| PasswordError::Random)?;
    let nobody: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    Credentials::for_password(&nobody)
}

impl PasswordCheck for Decoy {
    fn check(&self, password: &[u8]) -> Result<bool, Unavailable> {
        match self.made() {
            Ok(credentials) => credentials.check(password),
            // Nobody may log in by it either way; only the time was to be gained.
            Err(reason) => {
                tracing::error!(%reason, "no hash for users who do not exist");
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_before_it_is_there_and_lets_nobody_in() {
        let decoy = Decoy::start().unwrap();
        assert!(!decoy.check(b"secret").unwrap());
        assert!(decoy.made().is_ok());
    }
}
