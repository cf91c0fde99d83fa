//! `cursus status`, `check`, `recover`, `checkpoint`, `reload`.

use admin::{CoreStalls, Reply, Request};
use config::Config;
use serde_json::{Value, json};

use crate::failure::{Failed, Kind};
use crate::output::{Output, Table};
use crate::place::{self, Opened, Place};

/// An answer to some other question: a defect, or a server of another version.
pub(crate) fn unexpected(reply: &Reply) -> Failed {
    Failed::new(Kind::Incomplete, format!("unexpected answer: {reply:?}"))
}

/// Does `cursus status`.
pub fn status(config: &Config, out: &Output) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let asked = place.ask(Request::Status);
    let closed = place.close();
    let status = match asked? {
        Reply::Status(status) => status,
        other => return Err(unexpected(&other)),
    };
    out.table(&status, || {
        let row = |key: &str, value: String| vec![key.to_owned(), value];
        let mut rows = vec![row("version", status.version.clone())];
        if status.running {
            let state = if status.draining { "stopping" } else { "running" };
            rows.push(row("server", format!("{state}, pid {}", status.pid)));
            rows.push(row("uptime", human_seconds(status.uptime_seconds)));
            rows.push(row("file access", status.io.clone()));
            let s = status.sessions;
            let sessions = format!("{} IMAP, {} POP3, {} LMTP", s.imap, s.pop3, s.lmtp);
            rows.push(row("sessions", sessions));
            let t = status.totals;
            rows.push(row("logins", format!("{}, {} failed", t.logins, t.login_failures)));
            let deliveries = format!("{}, {} failed", t.deliveries, t.delivery_failures);
            rows.push(row("deliveries", deliveries));
        } else {
            rows.push(row("server", "not running".to_owned()));
        }
        for (core, stalls) in status.stalls.iter().enumerate() {
            for (what, buckets) in [
                ("late", &stalls.late_us),
                ("busy", &stalls.busy_us),
                ("turns", &stalls.turns_us),
                ("turns own", &stalls.turns_own_us),
                ("turns busy", &stalls.turns_busy_us),
            ] {
                let at = |share| CoreStalls::quantile_us(buckets, share) as f64 / 1000.0;
                let text = format!(
                    "p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max {:.1} ms",
                    at(0.5),
                    at(0.99),
                    at(0.999),
                    at(1.0)
                );
                rows.push(row(&format!("core {core} {what}"), text));
            }
        }
        figures("store", &status.store, &mut rows);
        Table { headings: &["what", "value"], rows }
    });
    closed
}

/// The store's figures, a row each; those within others after the name of these. What is empty
/// says nothing.
fn figures(name: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    let text = match value {
        Value::Null => return,
        Value::Object(map) => {
            for (key, inner) in map {
                figures(&format!("{name} {}", key.replace('_', " ")), inner, rows);
            }
            return;
        }
        Value::Array(list) if list.is_empty() => return,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    rows.push(vec![name.to_owned(), text]);
}

fn human_seconds(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Does `cursus check`: fails if anything is wrong.
pub fn check(user: Option<&str>, config: &Config, out: &Output) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let asked = place.ask(Request::Check { user: user.map(str::to_owned) });
    let closed = place.close();
    let (mailboxes, messages, findings) = match asked? {
        Reply::Checked { mailboxes, messages, findings } => (mailboxes, messages, findings),
        other => return Err(unexpected(&other)),
    };
    let summary = format!("{messages} messages in {mailboxes} mailboxes");
    let text = findings.iter().fold(String::new(), |text, f| text + f + "\n") + &summary;
    let value = json!({ "mailboxes": mailboxes, "messages": messages, "findings": findings });
    out.line(&value, &text);
    Failed::unless_clean(findings.len()).and(closed)
}

/// Does `cursus recover`: opening recovers, closing leaves an empty log.
pub fn recover(config: &Config, out: &Output) -> Result<(), Failed> {
    if place::connect(config)?.is_some() {
        let message = "a server runs on this store: it has recovered it when it started";
        out.line(&json!({ "recovered": false, "reason": message }), message);
        return Ok(());
    }
    let mut place = Place::Store(Box::new(Opened::open(config)?));
    let asked = place.ask(Request::Status);
    place.close()?;
    let store = match asked? {
        Reply::Status(status) => status.store,
        other => return Err(unexpected(&other)),
    };
    let text = "recovered: the files are up to date and the log is empty";
    out.line(&json!({ "recovered": true, "store": store }), text);
    Ok(())
}

/// Does `cursus checkpoint`.
pub fn checkpoint(config: &Config, out: &Output) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let asked = place.ask(Request::Checkpoint);
    let closed = place.close();
    asked?;
    out.line(&json!({ "checkpoint": true }), "the files are up to date");
    closed
}

/// Does `cursus reload`.
pub fn reload(config: &Config, out: &Output) -> Result<(), Failed> {
    let Some(mut client) = place::connect(config)? else {
        let socket = config.admin_socket();
        let message = format!("no server answers on {}", socket.display());
        return Err(Failed::new(Kind::Unreachable, message));
    };
    client.ask(Request::Reload)?;
    out.line(&json!({ "reloaded": true }), "reloaded");
    Ok(())
}
