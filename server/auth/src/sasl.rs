//! SASL exchanges as steps of bytes: RFC 4422. Base64 is the protocol's affair.
//!
//! An exchange begins with the client's initial response, or with `None` if the client sent none;
//! each [`Step::Challenge`] is answered by one response until `Done` or `Failed`.

use std::sync::Arc;
use std::time::SystemTime;

use crate::acting::Claim;
use crate::authenticator::{Authenticator, Context};
use crate::channel::Channel;
use crate::digest_md5;
use crate::directory::{Account, AuthError};
use crate::hash::{HashKind, hex};
use crate::mechanism::Mechanism;
use crate::scram::{ClientFirst, ServerFirst};
use crate::token::Bearer;

/// Longest trace of an anonymous client that is logged: RFC 4505 section 2.
const TRACE_CHARS_MAX: usize = 255;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this and come back with the response.
    Challenge(Vec<u8>),
    /// Logged in.
    Done(Account),
    /// Not logged in.
    Failed(AuthError),
}

enum State {
    Start,
    LoginPassword {
        user: String,
    },
    ScramProof {
        claim: Claim,
        server: ServerFirst,
        real: bool,
    },
    Cram {
        challenge: Vec<u8>,
    },
    Digest {
        nonce: String,
    },
    /// The server has said all; the client answers with nothing.
    LastWord {
        account: Account,
    },
    /// The client was told why its token is refused, and answers with anything.
    TokenRefused {
        claim: Claim,
        error: AuthError,
    },
    Over,
}

/// One SASL exchange.
pub struct Exchange {
    authenticator: Arc<Authenticator>,
    mechanism: Mechanism,
    context: Context,
    channel: Channel,
    state: State,
    user: String,
}

impl Exchange {
    pub(crate) fn new(
        authenticator: Arc<Authenticator>,
        mechanism: Mechanism,
        context: Context,
        channel: Channel,
    ) -> Exchange {
        let (state, user) = (State::Start, String::new());
        Exchange { authenticator, mechanism, context, channel, state, user }
    }

    /// Who the client says it is, once it has said so: for the log. Not checked in any way.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Takes the client's response; `None` only at the start, when there is no initial response.
    pub async fn step(&mut self, response: Option<&[u8]>) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Start => self.start(response).await,
            State::LoginPassword { user } => {
                let password = response.unwrap_or_default();
                done(self.authenticator.plain(&user, password, &self.context).await)
            }
            State::ScramProof { claim, server, real } => {
                self.scram_proof(&claim, server, real, response.unwrap_or_default()).await
            }
            State::Cram { challenge } => self.cram(&challenge, response.unwrap_or_default()).await,
            State::Digest { nonce } => self.digest(&nonce, response.unwrap_or_default()).await,
            State::LastWord { account } if response.unwrap_or_default().is_empty() => {
                Step::Done(account)
            }
            State::LastWord { .. } => {
                Step::Failed(AuthError::Malformed("an empty response after the server's proof"))
            }
            State::TokenRefused { claim, error } => {
                done(self.authenticator.conclude(&claim, Err(error), &self.context).await)
            }
            State::Over => Step::Failed(AuthError::Malformed("a new exchange")),
        }
    }

    async fn start(&mut self, response: Option<&[u8]>) -> Step {
        let needs_challenge = matches!(self.mechanism, Mechanism::Cram(_) | Mechanism::DigestMd5);
        match (self.mechanism, response) {
            // RFC 4422 section 5: the server speaks first in these.
            (_, Some(_)) if needs_challenge => {
                Step::Failed(AuthError::Malformed("no initial response"))
            }
            (Mechanism::Cram(_), _) => match nonce() {
                Ok(nonce) => {
                    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
                    let challenge = format!("<{nonce}.{now}@{}>", self.channel.host).into_bytes();
                    self.ask(State::Cram { challenge: challenge.clone() }, &challenge)
                }
                Err(error) => Step::Failed(error),
            },
            (Mechanism::DigestMd5, _) => match nonce() {
                Ok(nonce) => {
                    let realm = &self.authenticator.settings().realm;
                    let challenge = digest_md5::challenge(realm, &nonce);
                    self.ask(State::Digest { nonce }, &challenge)
                }
                Err(error) => Step::Failed(error),
            },
            (Mechanism::Login, None) => self.ask(State::Start, b"Username:"),
            (_, None) => self.ask(State::Start, b""),
            (Mechanism::Plain, Some(response)) => self.plain(response).await,
            (Mechanism::Login, Some(user)) => {
                let user = String::from_utf8_lossy(user).into_owned();
                self.user.clone_from(&user);
                self.ask(State::LoginPassword { user }, b"Password:")
            }
            (Mechanism::Scram { hash, plus }, Some(response)) => {
                self.scram_first(hash, plus, response).await
            }
            (Mechanism::External, Some(authzid)) => self.external(authzid).await,
            (Mechanism::Anonymous, Some(trace)) => self.anonymous(trace).await,
            (Mechanism::OAuthBearer, Some(response)) => self.bearer(Bearer::parse(response)).await,
            (Mechanism::XOAuth2, Some(response)) => {
                self.bearer(Bearer::parse_xoauth2(response)).await
            }
        }
    }

    fn ask(&mut self, state: State, challenge: &[u8]) -> Step {
        self.state = state;
        Step::Challenge(challenge.to_vec())
    }

    async fn plain(&mut self, response: &[u8]) -> Step {
        let malformed =
            || Step::Failed(AuthError::Malformed("authorization NUL user NUL password in UTF-8"));
        let mut fields = response.split(|&b| b == 0);
        let (authzid, user, password) =
            match (fields.next(), fields.next(), fields.next(), fields.next()) {
                (Some(authzid), Some(user), Some(password), None) => (authzid, user, password),
                _ => return malformed(),
            };
        let (Ok(authzid), Ok(user)) = (std::str::from_utf8(authzid), std::str::from_utf8(user))
        else {
            return malformed();
        };
        user.clone_into(&mut self.user);
        done(self.authenticator.plain_as(authzid, user, password, &self.context).await)
    }

    async fn scram_first(&mut self, hash: HashKind, plus: bool, response: &[u8]) -> Step {
        let first = match ClientFirst::parse(response) {
            Ok(first) => first,
            Err(error) => return Step::Failed(error),
        };
        self.user.clone_from(&first.user);
        let authzid = first.authzid.as_deref().unwrap_or_default();
        let claim = self.authenticator.claim(&first.user, authzid);
        let found = self.authenticator.scram_verifier(&claim, hash, &self.context).await;
        let (verifier, real) = match found {
            Ok(found) => found,
            Err(error) => return Step::Failed(error),
        };
        match first.answer(verifier, plus, &self.channel) {
            Ok((server, message)) => self.ask(State::ScramProof { claim, server, real }, &message),
            Err(error) => Step::Failed(error),
        }
    }

    async fn scram_proof(
        &mut self,
        claim: &Claim,
        server: ServerFirst,
        real: bool,
        response: &[u8],
    ) -> Step {
        let (verified, last) = match server.finish(response) {
            Ok(last) if real => (Ok(()), last),
            Ok(_) => (Err(AuthError::Wrong), Vec::new()),
            Err(error) => (Err(error), Vec::new()),
        };
        match self.authenticator.conclude(claim, verified, &self.context).await {
            Ok(account) => self.ask(State::LastWord { account }, &last),
            Err(error) => Step::Failed(error),
        }
    }

    /// RFC 2195: the user's name, a space, the HMAC of our challenge in hexadecimal digits.
    async fn cram(&mut self, challenge: &[u8], response: &[u8]) -> Step {
        let Mechanism::Cram(hash) = self.mechanism else {
            return Step::Failed(AuthError::Malformed("a new exchange"));
        };
        // A name may hold blanks, a digest can't.
        let parts = std::str::from_utf8(response).ok().and_then(|r| r.rsplit_once(' '));
        let Some((user, digest)) = parts else {
            return Step::Failed(AuthError::Malformed("a name, a space and a digest"));
        };
        user.clone_into(&mut self.user);
        let claim = self.authenticator.claim(user, "");
        let digest = digest.to_ascii_lowercase();
        let (digest, context) = (digest.as_bytes(), &self.context);
        let verified = self.authenticator.cram(&claim, hash, challenge, digest, context).await;
        done(self.authenticator.conclude(&claim, verified, &self.context).await)
    }

    async fn digest(&mut self, nonce: &str, response: &[u8]) -> Step {
        let service = self.context.registered_service();
        let response = match digest_md5::Response::parse(response, nonce, service) {
            Ok(response) => response,
            Err(error) => return Step::Failed(error),
        };
        self.user.clone_from(&response.user);
        // `jo` of the realm `example.org` is `jo@example.org`.
        let realm = &response.realm;
        let is_whole = response.user.contains('@')
            || realm.is_empty()
            || *realm == self.authenticator.settings().realm;
        let named = match is_whole {
            true => response.user.clone(),
            false => format!("{}@{realm}", response.user),
        };
        let authzid = response.authzid.as_deref().unwrap_or_default();
        let claim = self.authenticator.claim(&named, authzid);
        let checked = self.authenticator.digest_md5(&claim, &response, &self.context).await;
        let (verified, proof) = match checked {
            Ok(proof) => (Ok(()), proof),
            Err(error) => (Err(error), Vec::new()),
        };
        match self.authenticator.conclude(&claim, verified, &self.context).await {
            Ok(account) => self.ask(State::LastWord { account }, &proof),
            Err(error) => Step::Failed(error),
        }
    }

    /// RFC 4422 appendix A. The handshake has verified the certificate; the first of its names that
    /// is a user's counts.
    async fn external(&mut self, authzid: &[u8]) -> Step {
        let Ok(authzid) = std::str::from_utf8(authzid) else {
            return Step::Failed(AuthError::Malformed("an authorization identity in UTF-8"));
        };
        let names = self.channel.certificate_users.clone();
        self.user = names.join(" ");
        for name in &names {
            let claim = self.authenticator.claim(name, authzid);
            match self.authenticator.conclude_quietly(&claim, &self.context).await {
                Err(AuthError::Wrong) => {}
                other => {
                    self.user.clone_from(name);
                    return done(other);
                }
            }
        }
        let nobody = self.authenticator.claim("", "");
        done(self.authenticator.conclude(&nobody, Err(AuthError::Wrong), &self.context).await)
    }

    async fn anonymous(&mut self, trace: &[u8]) -> Step {
        let trace = std::str::from_utf8(trace).ok();
        let Some(trace) = trace.filter(|t| t.chars().count() <= TRACE_CHARS_MAX) else {
            return Step::Failed(AuthError::Malformed(
                "a trace of at most 255 characters in UTF-8",
            ));
        };
        self.user = format!("anonymous {trace}").trim_end().to_owned();
        done(self.authenticator.anonymous(&self.context).await)
    }

    async fn bearer(&mut self, message: Result<Bearer, AuthError>) -> Step {
        let Bearer { named, token } = match message {
            Ok(bearer) => bearer,
            Err(error) => return Step::Failed(error),
        };
        self.user.clone_from(&named);
        let (claim, error) = match self.authenticator.token_user(&token, self.context.origin).await
        {
            Ok(user) => {
                let claim = self.authenticator.claim(&user, &named);
                match self.authenticator.conclude_quietly(&claim, &self.context).await {
                    Err(error) => (claim, error),
                    done => return self::done(done),
                }
            }
            Err(AuthError::Wrong) => (self.authenticator.claim(&named, ""), AuthError::Wrong),
            Err(error) => return Step::Failed(error),
        };
        let status = match error {
            AuthError::Wrong => "invalid_token",
            // The token is good and says too little.
            AuthError::Denied | AuthError::Disabled => "insufficient_scope",
            error => return Step::Failed(error),
        };
        let json = self.authenticator.settings().token_refusal.to_json(status);
        self.ask(State::TokenRefused { claim, error }, &json)
    }
}

fn done(result: Result<Account, AuthError>) -> Step {
    result.map_or_else(Step::Failed, Step::Done)
}

/// Random text that no other exchange has.
fn nonce() -> Result<String, AuthError> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|_| AuthError::Busy)?;
    Ok(hex(&random))
}

#[cfg(test)]
mod tests;
