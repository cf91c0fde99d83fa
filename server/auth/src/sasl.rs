//! SASL mechanisms as steps of bytes: RFC 4422. Base64 is the protocol's affair.
//!
//! An exchange begins with the client's initial response, or with `None` if the client sent none;
//! each [`Step::Challenge`] is answered by one response until `Done` or `Failed`.

use std::sync::Arc;

use crate::authenticator::{Authenticator, Context};
use crate::directory::{Account, AuthError};
use crate::name::UserName;
use crate::scram::{ClientFirst, ServerFirst};

/// A mechanism that we offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Never standardised; old clients know no other.
    Login,
    /// RFC 7677.
    ScramSha256,
}

impl Mechanism {
    /// All of them, best first.
    pub const ALL: [Mechanism; 3] = [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
        }
    }

    /// The mechanism of that name, in any case.
    pub fn parse(name: &[u8]) -> Option<Mechanism> {
        Self::ALL.into_iter().find(|m| m.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether it shows the password to the server, and to the network without TLS.
    pub const fn is_plaintext(self) -> bool {
        matches!(self, Mechanism::Plain | Mechanism::Login)
    }
}

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
    LoginPassword { user: String },
    ScramProof { user: Option<UserName>, server: ServerFirst, real: bool },
    ScramDone { account: Account },
    Over,
}

/// One SASL exchange.
pub struct Exchange {
    authenticator: Arc<Authenticator>,
    mechanism: Mechanism,
    context: Context,
    state: State,
    user: String,
}

impl Exchange {
    pub(crate) fn new(
        authenticator: Arc<Authenticator>,
        mechanism: Mechanism,
        context: Context,
    ) -> Exchange {
        Exchange { authenticator, mechanism, context, state: State::Start, user: String::new() }
    }

    /// Who the client says it is, once it has said so: for the log. Not checked in any way.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Takes the client's response; `None` only at the start, when there is no initial response.
    pub async fn step(&mut self, response: Option<&[u8]>) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Start => match (self.mechanism, response) {
                (Mechanism::Login, None) => self.ask(State::Start, b"Username:"),
                (_, None) => self.ask(State::Start, b""),
                (Mechanism::Plain, Some(response)) => self.plain(response).await,
                (Mechanism::Login, Some(user)) => {
                    let user = String::from_utf8_lossy(user).into_owned();
                    self.user.clone_from(&user);
                    self.ask(State::LoginPassword { user }, b"Password:")
                }
                (Mechanism::ScramSha256, Some(response)) => self.scram_first(response).await,
            },
            State::LoginPassword { user } => {
                let password = response.unwrap_or_default();
                done(self.authenticator.plain(&user, password, self.context).await)
            }
            State::ScramProof { user, server, real } => {
                let message = response.unwrap_or_default();
                let origin = self.context.origin;
                let finished =
                    self.authenticator.scram_finish(user.as_ref(), server, real, message, origin);
                match finished.await {
                    Ok((account, last)) => self.ask(State::ScramDone { account }, &last),
                    Err(error) => Step::Failed(error),
                }
            }
            State::ScramDone { account } if response.unwrap_or_default().is_empty() => {
                Step::Done(account)
            }
            State::ScramDone { .. } => {
                Step::Failed(AuthError::Malformed("an empty response after the server's proof"))
            }
            State::Over => Step::Failed(AuthError::Malformed("a new exchange")),
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
        if !acts_as_itself(authzid, user) {
            return Step::Failed(AuthError::Wrong);
        }
        done(self.authenticator.plain(user, password, self.context).await)
    }

    async fn scram_first(&mut self, response: &[u8]) -> Step {
        let first = match ClientFirst::parse(response) {
            Ok(first) => first,
            Err(error) => return Step::Failed(error),
        };
        self.user.clone_from(&first.user);
        if !acts_as_itself(first.authzid.as_deref().unwrap_or_default(), &first.user) {
            return Step::Failed(AuthError::Wrong);
        }
        let user = UserName::new(&first.user).ok();
        let origin = self.context.origin;
        let found = self.authenticator.scram_verifier(user.as_ref(), &first.user, origin).await;
        let (verifier, real) = match found {
            Ok(found) => found,
            Err(error) => return Step::Failed(error),
        };
        match first.answer(verifier) {
            Ok((server, message)) => self.ask(State::ScramProof { user, server, real }, &message),
            Err(_) => Step::Failed(AuthError::Busy),
        }
    }
}

fn done(result: Result<Account, AuthError>) -> Step {
    result.map_or_else(Step::Failed, Step::Done)
}

/// Acting as somebody else needs an administrator's right, which nobody has yet.
fn acts_as_itself(authzid: &str, user: &str) -> bool {
    authzid.is_empty() || (UserName::new(authzid).is_ok_and(|a| UserName::new(user) == Ok(a)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticator::Settings;
    use crate::limit::Origin;
    use crate::users::{self, NewUser, UserFile};

    const CONTEXT: Context = Context { origin: Origin::Local, service: "test" };

    fn authenticator() -> (tempfile::TempDir, Arc<Authenticator>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let user = NewUser::with_password(UserName::new("jo").unwrap(), "geheim", "").unwrap();
        users::edit(&path, |d| d.add(user)).unwrap();
        let file = Arc::new(UserFile::open(&path).unwrap());
        let failure_delay_first = std::time::Duration::ZERO;
        let settings = Settings { failure_delay_first, ..Settings::default() };
        let auth = Authenticator::start(file.clone(), file, settings).unwrap();
        (dir, auth)
    }

    /// Sends `responses` in turn; gives the last step.
    async fn run(
        auth: &Arc<Authenticator>,
        mechanism: Mechanism,
        responses: &[Option<&[u8]>],
    ) -> Step {
        let mut exchange = auth.begin(mechanism, CONTEXT);
        let mut step = Step::Failed(AuthError::Busy);
        for response in responses {
            step = exchange.step(*response).await;
        }
        step
    }

    fn is_jo(step: &Step) -> bool {
        matches!(step, Step::Done(account) if account.name.as_str() == "jo")
    }

    #[tokio::test]
    async fn plain_with_and_without_initial_response() {
        let (_dir, auth) = authenticator();
        let good: &[u8] = b"\0jo\0geheim";
        assert!(is_jo(&run(&auth, Mechanism::Plain, &[Some(good)]).await));
        let first = run(&auth, Mechanism::Plain, &[None]).await;
        assert_eq!(first, Step::Challenge(vec![]));
        assert!(is_jo(&run(&auth, Mechanism::Plain, &[None, Some(good)]).await));
        assert!(is_jo(&run(&auth, Mechanism::Plain, &[Some(b"JO\0jo\0geheim")]).await));
        for wrong in [&b"mo\0jo\0geheim"[..], b"\0jo\0Geheim", b"\0\0", b"\0mo\0geheim"] {
            let step = run(&auth, Mechanism::Plain, &[Some(wrong)]).await;
            assert_eq!(step, Step::Failed(AuthError::Wrong), "{wrong:?}");
        }
        for bad in [&b""[..], b"jo", b"\0jo", b"\0jo\0ge\0heim", b"\0\xff\0geheim"] {
            let step = run(&auth, Mechanism::Plain, &[Some(bad)]).await;
            assert!(matches!(step, Step::Failed(AuthError::Malformed(_))), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn login_asks_twice() {
        let (_dir, auth) = authenticator();
        let all: [Option<&[u8]>; 3] = [None, Some(b"jo"), Some(b"geheim")];
        assert_eq!(run(&auth, Mechanism::Login, &all[..1]).await, challenge("Username:"));
        assert_eq!(run(&auth, Mechanism::Login, &all[..2]).await, challenge("Password:"));
        assert!(is_jo(&run(&auth, Mechanism::Login, &all).await));
        assert!(is_jo(&run(&auth, Mechanism::Login, &all[1..]).await));
    }

    fn challenge(text: &str) -> Step {
        Step::Challenge(text.as_bytes().to_vec())
    }

    /// The client's side, for the password "geheim".
    fn client_final(server_first: &str, password: &str) -> String {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD as BASE64;
        use sha2::{Digest as _, Sha256};
        let field = |p| server_first.split(',').find_map(|f| f.strip_prefix(p)).unwrap();
        let (nonce, iterations) = (field("r="), field("i=").parse().unwrap());
        let salt = BASE64.decode(field("s=")).unwrap();
        let salted =
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, iterations);
        let client_key = crate::scram::hmac(&salted, b"Client Key");
        let message = format!("n=jo,r=abc,{server_first},c=biws,r={nonce}");
        let signature = crate::scram::hmac(&Sha256::digest(client_key), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        format!("c=biws,r={nonce},p={}", BASE64.encode(proof))
    }

    async fn scram(auth: &Arc<Authenticator>, password: &str) -> Step {
        let mut exchange = auth.begin(Mechanism::ScramSha256, CONTEXT);
        let Step::Challenge(first) = exchange.step(Some(b"n,,n=jo,r=abc")).await else {
            panic!("no server-first-message");
        };
        let last = client_final(std::str::from_utf8(&first).unwrap(), password);
        match exchange.step(Some(last.as_bytes())).await {
            Step::Challenge(proof) => {
                assert!(proof.starts_with(b"v="));
                exchange.step(Some(b"")).await
            }
            other => other,
        }
    }

    #[tokio::test]
    async fn scram_proves_both_sides() {
        let (_dir, auth) = authenticator();
        assert!(is_jo(&scram(&auth, "geheim").await));
        assert_eq!(scram(&auth, "Geheim").await, Step::Failed(AuthError::Wrong));
    }

    #[tokio::test]
    async fn scram_does_not_tell_who_exists() {
        let (_dir, auth) = authenticator();
        let mut salts = Vec::new();
        for user in ["nobody", "nobody", "jo"] {
            let first = format!("n,,n={user},r=abc");
            let step = run(&auth, Mechanism::ScramSha256, &[Some(first.as_bytes())]).await;
            let Step::Challenge(answer) = step else { panic!("{user} is told apart") };
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.ends_with(",i=32768"), "{answer}");
            salts.push(answer.split(',').nth(1).unwrap().to_owned());
        }
        assert_eq!(salts[0], salts[1]);
    }
}
