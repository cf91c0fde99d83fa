//! Passwords that are learned at login: which server is asked, as the configuration says.

use std::sync::Arc;
use std::time::Duration;

use auth::backends::Chain;
use auth::directory::PassDb;
use auth::learn::{Learning, Settings};
use client::login::{Asking, try_password};
use client::{Error, Server, Tls};
use config::{Config, LearnName, LearnProtocol, LearnTls};

/// Who knows passwords: the back ends, and behind them the old server where one is configured.
///
/// # Errors
/// What is wrong with the setting.
pub fn passwords(config: &Config, users: &Arc<Chain>) -> Result<Arc<dyn PassDb>, String> {
    let learn = &config.auth.learn;
    if !learn.is_on() {
        return Ok(users.clone());
    }
    let (host, port) = learn.address().ok_or("expected a host, perhaps with :port")?;
    let until = learn.until_unix().ok_or("expected a day in auth.learn.until")?;
    let tls = match learn.tls {
        LearnTls::Implicit => Tls::Implicit,
        LearnTls::Starttls => Tls::StartTls,
        LearnTls::None => Tls::None,
    };
    let asking = match learn.protocol {
        LearnProtocol::Imap => Asking::Imap,
        LearnProtocol::Pop3 => Asking::Pop3,
    };
    let timeout = Duration::from_secs(learn.timeout_seconds);
    let server = Server::new(host, port, tls, learn.ca.as_deref(), false, timeout);
    let server = server.map_err(|e| e.to_string())?;
    let ask = move |user: &str, password: &str| match try_password(&server, asking, user, password)
    {
        Ok(()) => Ok(true),
        Err(Error::Refused(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    };
    let settings = Settings {
        ask: Box::new(ask),
        server: learn.server.clone(),
        until,
        questions_max: learn.questions_max,
        wait_max: timeout,
        without_domain: learn.name == LearnName::Local,
        users_file: config.users_file(),
        record: config.state_dir.join("learned.jsonl"),
    };
    let file = users.backends().find(|backend| backend.kind() == "users");
    let file = file.ok_or("auth.backends has no \"users\"")?.clone();
    tracing::info!(target: "cursus", server = learn.server, until = learn.until, "learning passwords");
    if learn.tls == LearnTls::None {
        tracing::warn!(target: "cursus", server = learn.server, "passwords go to it in the clear");
    }
    Ok(Arc::new(Learning::new(users.clone(), file, settings)))
}
