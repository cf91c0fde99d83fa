//! What we offer, when.

use auth::Mechanism;
use config::Config;

use crate::net::Conn;

/// Before and after login.
const ALWAYS: &[&str] = &["IMAP4rev1", "IMAP4rev2", "LITERAL+", "ID", "ENABLE"];

/// After login, whatever the configuration says. One a line.
const LOGGED_IN: &[&str] = &[
    "IDLE",
    "NAMESPACE",
    "CHILDREN",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "UIDPLUS",
    "UNSELECT",
    "MOVE",
    "ESEARCH",
    "SEARCHRES",
    "BINARY",
    "MULTIAPPEND",
    "CONDSTORE",
    "STATUS=SIZE",
];

/// The words of CAPABILITY for this connection now.
pub(super) fn words(conn: &Conn, logged_in: bool, config: &Config) -> String {
    let mut words = ALWAYS.join(" ");
    let mut offer = |word: &str, on: bool| {
        if on {
            words.push(' ');
            words.push_str(word);
        }
    };
    if !logged_in {
        offer("SASL-IR", true);
        offer("STARTTLS", conn.may_start_tls());
        offer("LOGINDISABLED", !conn.may_log_in());
        if conn.may_log_in() {
            for mechanism in Mechanism::ALL {
                offer(&format!("AUTH={}", mechanism.name()), true);
            }
        }
        return words;
    }
    for word in LOGGED_IN {
        offer(word, true);
    }
    offer("SEARCH=FUZZY", config.search.fuzzy);
    words
}
