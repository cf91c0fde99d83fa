//! The one door: plain logins, SASL exchanges, LMTP's look-ups.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::credential::{Credentials, PASSWORD_BYTES_MAX};
use crate::directory::{Account, AuthError, Candidate, PassDb, PasswordCheck, Unavailable, UserDb};
use crate::limit::{FailureSettings, Failures, Origin};
use crate::name::UserName;
use crate::pool::{HashPool, PoolSettings};
use crate::remember::Remembered;
use crate::sasl::{Exchange, Mechanism};
use crate::scram::{ScramVerifier, ServerFirst};

/// Who is asking.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Where the connection comes from.
    pub origin: Origin,
    /// `imap`, `pop3`, ...: for directories that decide by service, and for logs.
    pub service: &'static str,
}

/// Limits and times. Each field is a setting of the configuration's `[auth]`.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threads that hash passwords.
    pub hash_threads: usize,
    /// Logins that may wait for a thread, in all.
    pub hash_queue_max: usize,
    /// Logins that may wait for a thread, from one address.
    pub hash_queue_per_address_max: usize,
    /// How long a good login is remembered; zero: not at all.
    pub remember: Duration,
    /// Delay after a first wrong password; doubles with each further one.
    pub failure_delay_first: Duration,
    /// Longest delay after a wrong password.
    pub failure_delay_max: Duration,
    /// Wrong passwords from one address within the window before it is refused.
    pub failures_per_address_max: u32,
    /// Time in which that many failures are forgotten.
    pub failure_window: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            hash_threads: 2,
            hash_queue_max: 1024,
            hash_queue_per_address_max: 64,
            remember: Duration::from_secs(5 * 60),
            failure_delay_first: Duration::from_secs(1),
            failure_delay_max: Duration::from_secs(15),
            failures_per_address_max: 50,
            failure_window: Duration::from_secs(10 * 60),
        }
    }
}

/// Checks logins for all sessions of all cores.
pub struct Authenticator {
    passwords: Arc<dyn PassDb>,
    users: Arc<dyn UserDb>,
    pool: HashPool,
    failures: Failures,
    remembered: Remembered,
    decoy: Arc<Credentials>,
    decoy_secret: [u8; 32],
}

impl Authenticator {
    /// Starts the hashing threads. `passwords` and `users` are often one object.
    ///
    /// # Errors
    /// The system gives no threads or no random numbers.
    pub fn start(
        passwords: Arc<dyn PassDb>,
        users: Arc<dyn UserDb>,
        settings: Settings,
    ) -> std::io::Result<Arc<Authenticator>> {
        let secret = || {
            let mut secret = [0u8; 32];
            getrandom::fill(&mut secret).map_err(std::io::Error::other).map(|()| secret)
        };
        // Of a password that nobody knows, for unknown users where the directory has no users.
        let nobody: String = secret()?.iter().map(|b| format!("{b:02x}")).collect();
        let decoy = Credentials::for_password(&nobody).map_err(std::io::Error::other)?;
        Ok(Arc::new(Authenticator {
            passwords,
            users,
            pool: HashPool::start(PoolSettings {
                threads: settings.hash_threads,
                queue_max: settings.hash_queue_max,
                queue_per_address_max: settings.hash_queue_per_address_max,
            })?,
            failures: Failures::new(FailureSettings {
                delay_first: settings.failure_delay_first,
                delay_max: settings.failure_delay_max,
                failures_per_address_max: settings.failures_per_address_max,
                failure_window: settings.failure_window,
            }),
            remembered: Remembered::new(secret()?, settings.remember),
            decoy: Arc::new(decoy),
            decoy_secret: secret()?,
        }))
    }

    /// Logs in with a password in clear. A wrong one takes its time.
    pub async fn plain(
        &self,
        user: &str,
        password: &[u8],
        context: Context,
    ) -> Result<Account, AuthError> {
        let name = UserName::new(user).ok();
        let result = match &name {
            Some(name) if password.len() <= PASSWORD_BYTES_MAX => {
                self.check(name, password, context.origin).await
            }
            _ => Err(AuthError::Wrong),
        };
        self.settle(name.as_ref(), context.origin, result).await
    }

    /// Begins a SASL exchange.
    pub fn begin(self: &Arc<Self>, mechanism: Mechanism, context: Context) -> Exchange {
        Exchange::new(self.clone(), mechanism, context)
    }

    /// The account, without a login: for delivery. `None` if there certainly is no such user.
    pub async fn lookup(&self, user: &UserName) -> Result<Option<Account>, Unavailable> {
        self.users.lookup(user).await
    }

    async fn check(
        &self,
        user: &UserName,
        password: &[u8],
        origin: Origin,
    ) -> Result<Account, AuthError> {
        let candidate = self.passwords.find(user).await?;
        let (check, token): (Arc<dyn PasswordCheck>, _) = match candidate {
            Candidate::Known { check, version, .. } => {
                let token = self.remembered.token(user, password, &version);
                if self.remembered.knows(&token, Instant::now()) {
                    return self.account(user).await;
                }
                (check, Some(token))
            }
            Candidate::Unknown { decoy } => (decoy.unwrap_or_else(|| self.decoy.clone()), None),
        };
        if self.failures.is_limited(origin, Instant::now()) {
            return Err(AuthError::Limited);
        }
        let given = password.to_vec();
        let right = self.pool.run(origin, move || check.check(&given)).await?;
        // For an unknown user the decoy's verdict, even its trouble, means nothing.
        let Some(token) = token else { return Err(AuthError::Wrong) };
        if !right? {
            return Err(AuthError::Wrong);
        }
        let account = self.account(user).await?;
        self.remembered.keep(token, Instant::now());
        Ok(account)
    }

    async fn account(&self, user: &UserName) -> Result<Account, AuthError> {
        match self.users.lookup(user).await? {
            Some(account) if account.attributes.disabled => Err(AuthError::Disabled),
            Some(account) => Ok(account),
            // Removed between the two questions, or two directories that disagree.
            None => Err(AuthError::Wrong),
        }
    }

    /// Counts a failure and waits, without holding a thread.
    async fn settle(
        &self,
        user: Option<&UserName>,
        origin: Origin,
        result: Result<Account, AuthError>,
    ) -> Result<Account, AuthError> {
        match (&result, user) {
            (Ok(_), Some(user)) => self.failures.forget_user(user),
            (Err(AuthError::Wrong), _) => {
                tokio::time::sleep(self.failures.add(origin, user, Instant::now())).await;
            }
            _ => {}
        }
        result
    }

    /// The verifier that a SCRAM exchange for `user` runs against, and whether it is real.
    pub(crate) async fn scram_verifier(
        &self,
        user: Option<&UserName>,
        named: &str,
        origin: Origin,
    ) -> Result<(ScramVerifier, bool), AuthError> {
        if self.failures.is_limited(origin, Instant::now()) {
            return Err(AuthError::Limited);
        }
        let found = match user {
            None => None,
            Some(user) => match self.passwords.find(user).await? {
                Candidate::Known { scram, .. } => scram,
                Candidate::Unknown { .. } => None,
            },
        };
        let real = found.is_some();
        Ok((found.unwrap_or_else(|| ScramVerifier::decoy(&self.decoy_secret, named)), real))
    }

    /// Checks a SCRAM proof; gives the account and the server's final message.
    pub(crate) async fn scram_finish(
        &self,
        user: Option<&UserName>,
        server: ServerFirst,
        real: bool,
        message: &[u8],
        origin: Origin,
    ) -> Result<(Account, Vec<u8>), AuthError> {
        let proof = server.finish(message);
        let (result, last) = match (proof, user) {
            (Ok(last), Some(user)) if real => (self.account(user).await, last),
            (Err(error @ AuthError::Malformed(_)), _) => (Err(error), Vec::new()),
            _ => (Err(AuthError::Wrong), Vec::new()),
        };
        self.settle(user, origin, result).await.map(|account| (account, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::{self, NewUser, UserFile};

    struct Site {
        _dir: tempfile::TempDir,
        path: std::path::PathBuf,
        auth: Arc<Authenticator>,
    }

    const FROM_OUTSIDE: Context = Context {
        origin: Origin::Address(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))),
        service: "test",
    };

    fn site(settings: Settings) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let user = |name, attributes| {
            NewUser::with_password(UserName::new(name).unwrap(), "geheim", attributes).unwrap()
        };
        users::edit(&path, |d| d.add_all([user("jo", ""), user("off", "disabled=yes")])).unwrap();
        let file = Arc::new(UserFile::open(&path).unwrap());
        let auth = Authenticator::start(file.clone(), file, settings).unwrap();
        Site { _dir: dir, path, auth }
    }

    fn quick() -> Settings {
        Settings { failure_delay_first: Duration::from_millis(1), ..Settings::default() }
    }

    async fn plain(site: &Site, user: &str, password: &str) -> Result<Account, AuthError> {
        site.auth.plain(user, password.as_bytes(), FROM_OUTSIDE).await
    }

    #[tokio::test]
    async fn right_wrong_unknown_disabled() {
        let site = site(quick());
        assert_eq!(plain(&site, "Jo", "geheim").await.unwrap().name.as_str(), "jo");
        assert_eq!(plain(&site, "jo", "Geheim").await, Err(AuthError::Wrong));
        assert_eq!(plain(&site, "nobody", "geheim").await, Err(AuthError::Wrong));
        assert_eq!(plain(&site, "no/body", "geheim").await, Err(AuthError::Wrong));
        assert_eq!(plain(&site, "off", "geheim").await, Err(AuthError::Disabled));
        assert_eq!(plain(&site, "off", "wrong").await, Err(AuthError::Wrong));
    }

    #[tokio::test]
    async fn a_remembered_login_costs_no_hash_and_dies_with_the_password() {
        let site = site(quick());
        plain(&site, "jo", "geheim").await.unwrap();
        let start = Instant::now();
        for _ in 0..100 {
            plain(&site, "jo", "geheim").await.unwrap();
        }
        let hundred = start.elapsed();
        assert!(hundred < Duration::from_millis(100), "{hundred:?}");

        let jo = UserName::new("jo").unwrap();
        let other = Credentials::for_password("anders").unwrap();
        users::edit(&site.path, |d| d.set_credentials(&jo, other)).unwrap();
        assert_eq!(plain(&site, "jo", "geheim").await, Err(AuthError::Wrong));
        plain(&site, "jo", "anders").await.unwrap();
        users::edit(&site.path, |d| d.remove(&jo)).unwrap();
        assert_eq!(plain(&site, "jo", "anders").await, Err(AuthError::Wrong));
        assert_eq!(site.auth.lookup(&jo).await, Ok(None));
    }

    #[tokio::test]
    async fn an_address_at_its_limit_is_refused_but_remembered_logins_pass() {
        let site = site(Settings { failures_per_address_max: 3, ..quick() });
        plain(&site, "jo", "geheim").await.unwrap();
        for _ in 0..3 {
            assert_eq!(plain(&site, "off", "wrong").await, Err(AuthError::Wrong));
        }
        assert_eq!(plain(&site, "off", "geheim").await, Err(AuthError::Limited));
        plain(&site, "jo", "geheim").await.unwrap();
        let local = Context { origin: Origin::Local, service: "test" };
        assert_eq!(site.auth.plain("off", b"geheim", local).await, Err(AuthError::Disabled));
    }

    #[tokio::test]
    async fn unknown_users_take_as_long_as_wrong_passwords() {
        let site = site(Settings { failure_delay_first: Duration::ZERO, ..Settings::default() });
        let mut times = [Duration::ZERO; 2];
        for _ in 0..3 {
            for (time, user) in times.iter_mut().zip(["jo", "nobody"]) {
                let start = Instant::now();
                plain(&site, user, "wrong").await.unwrap_err();
                *time += start.elapsed();
            }
        }
        let ratio = times[0].as_secs_f64() / times[1].as_secs_f64();
        assert!((0.2..5.0).contains(&ratio), "{times:?}");
    }

    #[tokio::test]
    async fn wrong_passwords_wait() {
        let delay = Duration::from_millis(300);
        let site = site(Settings { failure_delay_first: delay, ..Settings::default() });
        let start = Instant::now();
        plain(&site, "jo", "wrong").await.unwrap_err();
        assert!(start.elapsed() >= delay);
    }
}
