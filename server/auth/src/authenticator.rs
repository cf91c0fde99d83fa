//! The one door: plain logins, SASL exchanges, LMTP's look-ups.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::acting::{Claim, may_act};
use crate::channel::Channel;
use crate::credential::PASSWORD_BYTES_MAX;
use crate::decoy::Decoy;
use crate::deny::{Denials, DenyList};
use crate::digest_md5;
use crate::directory::{Account, AuthError, Candidate, PassDb, PasswordCheck, Unavailable, UserDb};
use crate::hash::{HashKind, HmacKey, hex};
use crate::limit::{FailureSettings, Failures, Origin};
use crate::mechanism::Mechanism;
use crate::name::{LoginDomains, UserName};
use crate::pool::{HashPool, PoolSettings};
use crate::remember::Remembered;
use crate::sasl::Exchange;
use crate::scram::ScramVerifier;
use crate::token::{Refusal, TokenCheck};
use subtle::ConstantTimeEq as _;

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where the connection comes from.
    pub origin: Origin,
    /// `imap`, `pop3`, ...: for accounts that may not use all of them, and for logs.
    pub service: &'static str,
    /// What the service is called in the deny list: `imaps`.
    pub listener: Arc<str>,
}

impl Context {
    /// The service's name as GSSAPI has it registered, which DIGEST-MD5 uses.
    pub(crate) fn registered_service(&self) -> &'static str {
        match self.service {
            "pop3" => "pop",
            other => other,
        }
    }
}

/// Limits and times. Each field is a setting of the configuration's `[auth]`.
#[derive(Clone, Debug)]
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
    /// The realm that DIGEST-MD5 offers.
    pub realm: String,
    /// `user*master` logs `master` in as `user`, with this character between them.
    pub master_separator: Option<char>,
    /// What a domain, or none, in a name stands for.
    pub domains: LoginDomains,
    /// Whose mail ANONYMOUS reads.
    pub anonymous_user: Option<UserName>,
    /// Who may not log in.
    pub deny: Option<Arc<DenyList>>,
    /// Who says whose a bearer token is.
    pub tokens: Option<Arc<dyn TokenCheck>>,
    /// What is said about a token that is refused.
    pub token_refusal: Refusal,
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
            realm: String::new(),
            master_separator: None,
            domains: LoginDomains::default(),
            anonymous_user: None,
            deny: None,
            tokens: None,
            token_refusal: Refusal::default(),
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
    decoy: Arc<Decoy>,
    decoy_secret: [u8; 32],
    settings: Settings,
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
            decoy: Decoy::start()?,
            decoy_secret: secret()?,
            settings,
        }))
    }

    /// Logs in with a password in clear. A wrong one takes its time.
    pub async fn plain(
        &self,
        user: &str,
        password: &[u8],
        context: &Context,
    ) -> Result<Account, AuthError> {
        self.plain_as("", user, password, context).await
    }

    /// As [`Authenticator::plain`], to act as `authzid` unless that is empty.
    pub async fn plain_as(
        &self,
        authzid: &str,
        user: &str,
        password: &[u8],
        context: &Context,
    ) -> Result<Account, AuthError> {
        let claim = self.claim(user, authzid);
        let verified = match &claim.user {
            Some(name) if password.len() <= PASSWORD_BYTES_MAX => {
                self.verify(name, password, context).await
            }
            _ => Err(AuthError::Wrong),
        };
        self.conclude(&claim, verified, context).await
    }

    /// Logs in by POP3's APOP (RFC 1939 section 7): `digest` is what the client made of `stamp` and
    /// its password.
    pub async fn apop(
        &self,
        user: &str,
        stamp: &str,
        digest: &[u8],
        context: &Context,
    ) -> Result<Account, AuthError> {
        let claim = self.claim(user, "");
        let secrets = self.secrets(&claim, context).await?;
        let known = secrets.as_ref().and_then(|s| s.password());
        let password = known.map_or_else(|| hex(&self.decoy_secret), str::to_owned);
        let right = hex(&HashKind::Md5.digest(format!("{stamp}{password}").as_bytes()));
        let fits = bool::from(right.as_bytes().ct_eq(digest)) && known.is_some();
        self.conclude(&claim, verdict(fits), context).await
    }

    /// Begins a SASL exchange.
    pub fn begin(
        self: &Arc<Self>,
        mechanism: Mechanism,
        context: Context,
        channel: Channel,
    ) -> Exchange {
        Exchange::new(self.clone(), mechanism, context, channel)
    }

    /// Whether the mechanism can work with these settings, so that it makes sense to offer it.
    pub fn can(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::OAuthBearer | Mechanism::XOAuth2 => self.settings.tokens.is_some(),
            Mechanism::Anonymous => self.settings.anonymous_user.is_some(),
            _ => true,
        }
    }

    /// Who may not log in now.
    ///
    /// # Errors
    /// The deny list cannot be read.
    pub async fn denials(&self) -> Result<Arc<Denials>, Unavailable> {
        match &self.settings.deny {
            Some(list) => list.now().await,
            None => Ok(Arc::default()),
        }
    }

    /// As [`Authenticator::denials`], on a thread that may wait.
    ///
    /// # Errors
    /// The deny list cannot be read.
    pub fn denials_blocking(&self) -> Result<Arc<Denials>, Unavailable> {
        match &self.settings.deny {
            Some(list) => list.now_blocking(),
            None => Ok(Arc::default()),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The account, without a login: for delivery. `None` if there certainly is no such user.
    pub async fn lookup(&self, user: &UserName) -> Result<Option<Account>, Unavailable> {
        self.users.lookup(user).await
    }

    /// Whether the password is the user's.
    async fn verify(
        &self,
        user: &UserName,
        password: &[u8],
        context: &Context,
    ) -> Result<(), AuthError> {
        let Context { origin, service, .. } = *context;
        let candidate = self.passwords.find(user, service).await?;
        let (check, token): (Arc<dyn PasswordCheck>, _) = match candidate {
            Candidate::Known { check, version } => {
                let token = self.remembered.token(user, password, &version);
                if self.remembered.knows(&token, Instant::now()) {
                    return Ok(());
                }
                (check, Some(token))
            }
            Candidate::Unknown { decoy } => (decoy.unwrap_or_else(|| self.decoy.clone()), None),
        };
        if self.failures.is_limited(origin, Instant::now()) {
            return Err(AuthError::Limited);
        }
        let right = match check.remote() {
            Some(remote) => remote.check(password, service).await,
            None => {
                let given = password.to_vec();
                self.pool.run(origin, move || check.check(&given)).await?
            }
        };
        // For an unknown user the decoy's verdict, even its trouble, means nothing.
        let Some(token) = token else { return Err(AuthError::Wrong) };
        if !right? {
            return Err(AuthError::Wrong);
        }
        self.remembered.keep(token, Instant::now());
        Ok(())
    }

    async fn account(
        &self,
        user: &UserName,
        context: &Context,
        proof: Proof,
    ) -> Result<Account, AuthError> {
        let found = match proof {
            Proof::Password => self.users.proven(user).await?,
            Proof::Other => self.users.lookup(user).await?,
        };
        let Some(account) = found else {
            // Removed between the two questions, or two directories that disagree.
            return Err(AuthError::Wrong);
        };
        let attributes = &account.attributes;
        let refused = match context.service {
            "imap" | "smap" => attributes.disableimap,
            "pop3" => attributes.disablepop3,
            _ => false,
        };
        if refused || attributes.disabled {
            return Err(AuthError::Disabled);
        }
        if let Some(told) = self.denials().await?.of(account.name.as_str(), &context.listener)? {
            return Err(AuthError::Barred(told));
        }
        Ok(account)
    }

    /// Who is named by a name as clients send it, and an authorisation identity.
    pub(crate) fn claim(&self, named: &str, authzid: &str) -> Claim {
        Claim::new(named, authzid, self.settings.master_separator, &self.settings.domains)
    }

    /// The user's secrets, for a mechanism that never sees the password; `None` for an unknown user.
    pub(crate) async fn secrets(
        &self,
        claim: &Claim,
        context: &Context,
    ) -> Result<Option<Arc<dyn PasswordCheck>>, AuthError> {
        if self.failures.is_limited(context.origin, Instant::now()) {
            return Err(AuthError::Limited);
        }
        let Some(user) = &claim.user else { return Ok(None) };
        match self.passwords.find(user, context.service).await? {
            Candidate::Known { check, .. } => Ok(Some(check)),
            Candidate::Unknown { .. } => Ok(None),
        }
    }

    /// The verifier that a SCRAM exchange runs against, and whether it is real.
    pub(crate) async fn scram_verifier(
        &self,
        claim: &Claim,
        hash: HashKind,
        context: &Context,
    ) -> Result<(ScramVerifier, bool), AuthError> {
        let found = self.secrets(claim, context).await?.and_then(|s| s.scram(hash));
        let real = found.is_some();
        let decoy = || ScramVerifier::decoy(hash, &self.decoy_secret, &claim.named);
        Ok((found.unwrap_or_else(decoy), real))
    }

    /// Checks the answer to a CRAM challenge.
    pub(crate) async fn cram(
        &self,
        claim: &Claim,
        hash: HashKind,
        challenge: &[u8],
        digest: &[u8],
        context: &Context,
    ) -> Result<(), AuthError> {
        let secrets = self.secrets(claim, context).await?;
        let found = secrets.as_ref().and_then(|s| s.hmac_key(hash));
        if found.is_none()
            && let Some(remote) = secrets.as_ref().and_then(|s| s.remote())
            && let Some(right) = remote.cram(hash, challenge, digest, context.service).await?
        {
            return verdict(right);
        }
        let real = found.is_some();
        let key = found.or_else(|| HmacKey::new(hash, &self.decoy_secret));
        let right = key.map(|key| hex(&key.mac(challenge))).unwrap_or_default();
        verdict(bool::from(right.as_bytes().ct_eq(digest)) && real)
    }

    /// Checks a DIGEST-MD5 response; gives the proof of the server.
    pub(crate) async fn digest_md5(
        &self,
        claim: &Claim,
        response: &digest_md5::Response,
        context: &Context,
    ) -> Result<Vec<u8>, AuthError> {
        let secrets = self.secrets(claim, context).await?;
        let own = &self.settings.realm;
        let found = secrets.zip(claim.user.as_ref()).and_then(|(secrets, user)| {
            secrets.digest_md5(user, &response.user, &response.realm, own)
        });
        let real = found.is_some();
        let decoy =
            || digest_md5::secret(&response.user, &response.realm, &hex(&self.decoy_secret));
        let secret = found.unwrap_or_else(decoy);
        verdict(response.check(&secret) && real).map(|()| response.server_proof(&secret))
    }

    /// Ends a login: counts and delays a failure, without holding a thread; or finds the account
    /// that the client may use.
    pub(crate) async fn conclude(
        &self,
        claim: &Claim,
        verified: Result<(), AuthError>,
        context: &Context,
    ) -> Result<Account, AuthError> {
        let result = match (verified, &claim.user) {
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(AuthError::Wrong),
            (Ok(()), Some(user)) => self.admit(user, claim, context, Proof::Password).await,
        };
        match (&result, &claim.user) {
            (Ok(_), Some(user)) => self.failures.forget_user(user),
            (Err(AuthError::Wrong), user) => {
                let wait = self.failures.add(context.origin, user.as_ref(), Instant::now());
                tokio::time::sleep(wait).await;
            }
            _ => {}
        }
        result
    }

    /// As [`Authenticator::conclude`] after a proof that needs no password; the caller counts a
    /// failure, with another call.
    pub(crate) async fn conclude_quietly(
        &self,
        claim: &Claim,
        context: &Context,
    ) -> Result<Account, AuthError> {
        let Some(user) = &claim.user else { return Err(AuthError::Wrong) };
        self.admit(user, claim, context, Proof::Other).await
    }

    /// The account of a user who has proved to be `user`, or of the one that he may act as.
    async fn admit(
        &self,
        user: &UserName,
        claim: &Claim,
        context: &Context,
        proof: Proof,
    ) -> Result<Account, AuthError> {
        let own = self.account(user, context, proof).await;
        let Some(target) = &claim.acting_as else { return own };
        let own = own?;
        // Not allowed and not there are one answer: whoever may not act shall not learn who exists.
        let target = target.as_ref().map_err(|_| AuthError::Denied)?;
        let Some(other) = self.users.lookup(target).await? else { return Err(AuthError::Denied) };
        if !may_act(&own, &other) {
            return Err(AuthError::Denied);
        }
        let mut account = self.account(target, context, Proof::Other).await?;
        account.attributes.read_only |= own.attributes.read_only;
        Ok(Account { by: Some(own.name), ..account })
    }

    /// The account that ANONYMOUS opens: for reading only.
    pub(crate) async fn anonymous(&self, context: &Context) -> Result<Account, AuthError> {
        if self.failures.is_limited(context.origin, Instant::now()) {
            return Err(AuthError::Limited);
        }
        let user = self.settings.anonymous_user.as_ref().ok_or(AuthError::Disabled)?;
        let mut account = match self.account(user, context, Proof::Other).await {
            Err(AuthError::Wrong) => return Err(AuthError::Disabled),
            other => other?,
        };
        account.attributes.read_only = true;
        Ok(account)
    }

    /// The user that a bearer token names.
    pub(crate) async fn token_user(
        &self,
        token: &str,
        origin: Origin,
    ) -> Result<String, AuthError> {
        if self.failures.is_limited(origin, Instant::now()) {
            return Err(AuthError::Limited);
        }
        match &self.settings.tokens {
            Some(tokens) => tokens.check(token).await,
            None => Err(AuthError::Wrong),
        }
    }
}

/// How somebody proved who he is.
#[derive(Clone, Copy)]
enum Proof {
    /// By a password or a secret that the directory keeps.
    Password,
    /// By a certificate, by a token, or not at all.
    Other,
}

fn verdict(right: bool) -> Result<(), AuthError> {
    if right { Ok(()) } else { Err(AuthError::Wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Credentials;
    use crate::users::{self, NewUser, UserFile};

    struct Site {
        _dir: tempfile::TempDir,
        path: std::path::PathBuf,
        auth: Arc<Authenticator>,
    }

    fn context(origin: Origin) -> Context {
        Context { origin, service: "test", listener: "tests".into() }
    }

    fn from_outside() -> Context {
        let address = std::net::Ipv4Addr::new(192, 0, 2, 1);
        context(Origin::Address(std::net::IpAddr::V4(address)))
    }

    fn site(settings: Settings) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let user = |name, attributes| {
            NewUser::with_password(UserName::new(name).unwrap(), "geheim", attributes, "", &[])
                .unwrap()
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
        site.auth.plain(user, password.as_bytes(), &from_outside()).await
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
        let local = context(Origin::Local);
        assert_eq!(site.auth.plain("off", b"geheim", &local).await, Err(AuthError::Disabled));
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
