//! GENURLAUTH: RFC 4467 section 7.

use protocol::imap::encode;
use protocol::imap::url::ImapUrl;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::super::url::{is_here, token};

pub(in super::super) async fn run(session: &mut Session, urls: Vec<(String, String)>) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    let mut line = b"* GENURLAUTH".to_vec();
    for (rump, mechanism) in &urls {
        let url = match ImapUrl::parse(rump) {
            Ok(url) => url,
            Err(error) => return Ok(Reply::bad(error.to_string())),
        };
        let owner = url.server.as_ref().and_then(|server| server.user.as_deref());
        let (Some(mailbox), Some(auth)) = (&url.mailbox, &url.auth) else {
            return Ok(Reply::bad("missing access identifier in supplied URL"));
        };
        if mechanism != "INTERNAL" || auth.token.is_some() {
            return Ok(Reply::bad("expected a URL without token, and INTERNAL"));
        }
        match owner {
            None => return Ok(Reply::bad("missing owner username in supplied URL")),
            Some(owner) if owner != user.name() || !is_here(session, &url) => {
                return Ok(Reply::bad("expected a URL of your own mail here"));
            }
            Some(_) => {}
        }
        if url.uid.is_none() {
            return Ok(Reply::bad("expected ;UID= in supplied URL"));
        }
        let key = match user.url_key(mailbox).await {
            Ok(key) => key,
            Err(engine::Error::NoSuchMailbox) => return Ok(Reply::bad("no such mailbox")),
            Err(error) => return Ok(session.failure("make a URL's key", &error, "NONEXISTENT")),
        };
        let digits: String = token(&key, rump).iter().map(|b| format!("{b:02x}")).collect();
        line.push(b' ');
        encode::string(&mut line, format!("{rump}:internal:{digits}").as_bytes(), false);
    }
    line.extend_from_slice(b"\r\n");
    session.conn.out.push_vec(line);
    Ok(Reply::ok("Completed"))
}
