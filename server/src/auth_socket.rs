//! Logins of an SMTP server's clients: Dovecot's authentication client protocol, on a listener of
//! the protocol `auth`.
//!
//! Invariants: a login costs here what it costs by IMAP, delays and limits by the address that the SMTP
//! server names included; a login that waits for its delay holds up none of the others on its
//! connection; mechanisms that bind to the TLS connection are not offered, since it ends elsewhere.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use auth::{AuthError, Channel, Context, Mechanism, Origin, Step};
use config::PlainLogin;
use protocol::auth::{self as wire, Auth, Command, LINE_BYTES_MAX, VERSION_MAJOR};
use tokio::sync::mpsc;

use crate::lines::{Incoming, LineReader};
use crate::net::Conn;
use crate::services::Services;

/// Logins under way on one connection.
const LOGINS_MAX: usize = 256;
/// Time that a client may be silent: an SMTP server keeps its connection while it has nobody to log in.
const IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Time that a client has for one response.
const RESPONSE_MAX: Duration = Duration::from_secs(150);

/// Connections so far; each has a number in its greeting.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// Serves one connection to its end.
pub fn run(conn: Conn, services: Rc<Services>) -> impl Future<Output = ()> {
    let (answer, answers) = mpsc::channel(LOGINS_MAX);
    let mut session = Session {
        conn,
        services,
        lines: LineReader::new(LINE_BYTES_MAX),
        logins: HashMap::new(),
        answer,
        answers,
    };
    async move {
        let reason = session.serve().await;
        session.services.log_end(&session.conn, None, &reason);
        session.conn.close().await;
    }
}

struct Session {
    conn: Conn,
    services: Rc<Services>,
    lines: LineReader,
    /// Where each login that is under way takes its responses.
    logins: HashMap<u32, mpsc::Sender<Vec<u8>>>,
    answer: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
}

/// A line for the client, from a login.
struct Answer {
    id: u32,
    text: String,
    /// The login is over.
    ends: bool,
}

impl Session {
    async fn serve(&mut self) -> String {
        let mut cookie = [0u8; 16];
        if getrandom::fill(&mut cookie).is_err() {
            return "the system gives no random numbers".to_owned();
        }
        let names: Vec<&str> = self.mechanisms().map(Mechanism::name).collect();
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let text = wire::greeting(names.into_iter(), std::process::id(), number, &cookie);
        self.conn.out.push(text.as_bytes());
        loop {
            let deadline = tokio::time::Instant::now() + IDLE_MAX;
            let incoming = tokio::select! {
                biased;
                answer = self.answers.recv() => {
                    // The session has a sender of its own, so there is always one.
                    let Some(Answer { id, text, ends }) = answer else { continue };
                    if ends {
                        self.logins.remove(&id);
                    }
                    self.conn.out.push(text.as_bytes());
                    continue;
                }
                incoming = self.lines.next(&mut self.conn, &self.services, deadline) => incoming,
            };
            let line = match incoming {
                Incoming::Line(line) => line,
                Incoming::TooLong => return "line too long".to_owned(),
                Incoming::End(end) => return end.reason(),
            };
            let command = match Command::parse(&line) {
                Ok(command) => command,
                Err(error) => return error.to_string(),
            };
            match command {
                Command::Version(VERSION_MAJOR) | Command::Cpid | Command::Other => {}
                Command::Version(_) => return "a version that is unknown".to_owned(),
                Command::Auth(auth) => self.begin(*auth),
                Command::Cont { id, response } => {
                    // One that is over, or has a response already, needs none.
                    if let Some(login) = self.logins.get(&id) {
                        let _ = login.try_send(response);
                    }
                }
                Command::Cancel(id) => drop(self.logins.remove(&id)),
            }
        }
    }

    /// What is offered here: all that is configured and needs no TLS connection of ours.
    fn mechanisms(&self) -> impl Iterator<Item = Mechanism> {
        let offered = self.services.mechanisms(&self.conn);
        offered.into_iter().filter(|m| !m.is_plus() && *m != Mechanism::External)
    }

    fn begin(&mut self, auth: Auth) {
        let id = auth.id;
        let mechanism = Mechanism::parse(auth.mechanism.as_bytes());
        let mechanism = mechanism.filter(|m| self.mechanisms().any(|offered| offered == *m));
        let refusal = if self.logins.len() >= LOGINS_MAX || self.logins.contains_key(&id) {
            Some(("too many logins, or a number that is in use", true))
        } else if mechanism.is_none() {
            Some(("unsupported mechanism", false))
        } else if !may_log_in(self.conn.listener().plain_login, &auth) {
            Some(("use TLS first", false))
        } else {
            None
        };
        let (Some(mechanism), None) = (mechanism, refusal) else {
            let (reason, temporary) = refusal.unwrap_or(("unsupported mechanism", false));
            self.conn.out.push(wire::fail(id, "", Some(reason), temporary).as_bytes());
            return;
        };
        let (sender, responses) = mpsc::channel(1);
        self.logins.insert(id, sender);
        let login = Login {
            services: self.services.clone(),
            session: self.conn.id().to_string(),
            answer: self.answer.clone(),
            responses,
            mechanism,
            auth,
        };
        let meter = self.services.meter.clone();
        drop(tokio::task::spawn_local(meter.measured("AUTH", login.run())));
    }
}

/// Whether a login may begin without TLS, or with it: the SMTP server says whether there is any.
fn may_log_in(plain_login: PlainLogin, auth: &Auth) -> bool {
    let local = auth.remote.is_none_or(|ip| ip.to_canonical().is_loopback());
    match plain_login {
        PlainLogin::Never => auth.secured,
        PlainLogin::Loopback => auth.secured || local,
        PlainLogin::Always => true,
    }
}

/// One login.
struct Login {
    services: Rc<Services>,
    session: String,
    answer: mpsc::Sender<Answer>,
    responses: mpsc::Receiver<Vec<u8>>,
    mechanism: Mechanism,
    auth: Auth,
}

impl Login {
    async fn run(mut self) {
        let id = self.auth.id;
        let origin = self.auth.remote.map_or(Origin::Local, Origin::from);
        let service = match self.auth.service.as_str() {
            "imap" => "imap",
            "pop3" => "pop3",
            _ => "smtp",
        };
        let channel = Channel { host: self.services.hostname().to_owned(), ..Channel::default() };
        // The mail transport's own listeners have no names here.
        let context = Context { origin, service, listener: self.auth.service.as_str().into() };
        let mut exchange = self.services.auth.begin(self.mechanism, context, channel);
        let mut response = self.auth.response.take();
        let mut begun = Instant::now();
        let result = loop {
            match exchange.step(response.as_deref()).await {
                Step::Done(account) => break Ok(account),
                Step::Failed(error) => break Err(error),
                Step::Challenge(challenge) => {
                    let text = wire::challenge(id, &challenge);
                    let sent = self.answer.send(Answer { id, text, ends: false }).await;
                    let next = tokio::time::timeout(RESPONSE_MAX, self.responses.recv()).await;
                    match (sent, next) {
                        (Ok(()), Ok(Some(next))) => response = Some(next),
                        // The client gave up, or left.
                        _ => return self.end(wire::fail(id, "", None, false)).await,
                    }
                    begun = Instant::now();
                }
            }
        };
        let said = exchange.user().to_owned();
        self.log(&said, &result, begun.elapsed());
        let text = match &result {
            Ok(account) => wire::ok(id, account.name.as_str()),
            Err(error) => {
                let reason = error.is_temporary().then_some("try again later");
                wire::fail(id, &said, reason, error.is_temporary())
            }
        };
        self.end(text).await;
    }

    async fn end(&self, text: String) {
        // The client may have left.
        let _ = self.answer.send(Answer { id: self.auth.id, text, ends: true }).await;
    }

    fn log(&self, said: &str, result: &Result<auth::Account, AuthError>, duration: Duration) {
        let totals = &self.services.shared().totals;
        let addr = self.auth.remote.map(|ip: IpAddr| ip.to_string()).unwrap_or_default();
        let (session, service, tls) = (&self.session, &self.auth.service, self.auth.secured);
        let (mechanism, duration_us) = (self.mechanism.name(), duration.as_micros() as u64);
        match result {
            Ok(account) => {
                totals.logins.fetch_add(1, Ordering::Relaxed);
                let (user, by) = (account.name.as_str(), account.by.as_ref().map(|n| n.as_str()));
                tracing::info!(target: "cursus::login", protocol = "auth", ?service, ?user, by, %addr,
                    %session, mechanism, tls, duration_us, "login");
            }
            Err(reason) => {
                totals.login_failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(target: "cursus::login", protocol = "auth", ?service, user = ?said,
                    %addr, %session, mechanism, tls, %reason, duration_us, "login failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_need_tls_or_a_listener_that_allows_them_without() {
        let of = |secured, remote: Option<&str>| Auth {
            secured,
            remote: remote.map(|ip| ip.parse().unwrap()),
            ..Auth::default()
        };
        let (near, far) = (of(false, Some("127.0.0.1")), of(false, Some("192.0.2.1")));
        let secured = of(true, Some("192.0.2.1"));
        for (plain_login, allowed) in [
            (PlainLogin::Never, [false, false, true]),
            (PlainLogin::Loopback, [true, false, true]),
            (PlainLogin::Always, [true, true, true]),
        ] {
            let found = [&near, &far, &secured].map(|auth| may_log_in(plain_login, auth));
            assert_eq!(found, allowed, "{plain_login:?}");
        }
    }
}
