//! What we offer, when. Every word that can stand in CAPABILITY is here, and has a row in
//! `docs/protocols.md`.

use std::borrow::Cow;

use config::{Config, Utf8};
use engine::Authority;

use super::names::Names;
use super::sharing::Viewer;
use crate::net::Conn;
use crate::services::Services;

/// Before and after login.
const ALWAYS: &[&str] = &[
    "IMAP4rev1",
    "IMAP4rev2",
    "LITERAL+",
    "ID",
    "ENABLE",
    "LANGUAGE",
    "LOGIN-REFERRALS",
    // Of use behind a login alone, but Cyrus's cyradm asks only before it.
    "METADATA",
    "LIST-EXTENDED",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
];

/// Until a login, and of no use behind it.
const BEFORE_LOGIN: &[&str] = &["SASL-IR"];

/// After login, whatever the configuration says. One a line.
const LOGGED_IN: &[&str] = &[
    "IDLE",
    "NAMESPACE",
    "ACL",
    "ANNOTATE-EXPERIMENT-1",
    "RIGHTS=texk",
    "ACL2=UNION",
    "LIST-MYRIGHTS",
    "CHILDREN",
    "LIST-STATUS",
    "UIDPLUS",
    "UNSELECT",
    "MOVE",
    "ESEARCH",
    "SEARCHRES",
    "SORT",
    "SORT=DISPLAY",
    "SORT=MODSEQ",
    "SORT=UID",
    "ESORT",
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "MULTISEARCH",
    "WITHIN",
    "I18NLEVEL=2",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "THREAD=REFS",
    "BINARY",
    "MULTIAPPEND",
    "CONDSTORE",
    "STATUS=SIZE",
    "OBJECTID",
    "PREVIEW",
    "SAVEDATE",
    "QRESYNC",
    "UIDONLY",
    "PARTIAL",
    "UIDBATCHES",
    "INPROGRESS",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "QUOTA=RES-MAILBOX",
    "QUOTA=RES-ANNOTATION-STORAGE",
    "FILTERS",
    "LIST-METADATA",
    "XLIST",
    "SCAN",
    "DIGEST=SHA1",
    "NOTIFY",
    "CATENATE",
    "REPLACE",
    "URLAUTH",
    "URLAUTH=BINARY",
    "URL-PARTIAL",
    "MAILBOX-REFERRALS",
];

/// After login, for administrators.
const ADMINISTERING: &[&str] = &["QUOTASET"];

/// The words of CAPABILITY for this connection now; `viewer` once somebody has logged in.
pub(super) fn words(conn: &Conn, viewer: Option<&Viewer>, services: &Services) -> String {
    let config = services.config();
    let suppressed = &config.imap.suppress_capabilities;
    let told = |word: &str| !suppressed.iter().any(|s| s.eq_ignore_ascii_case(word));
    let always: Vec<&str> = ALWAYS.iter().copied().filter(|word| told(word)).collect();
    let mut words = always.join(" ");
    let mut offer = |word: &str, on: bool| {
        if on && told(word) {
            words.push(' ');
            words.push_str(word);
        }
    };
    let Some(viewer) = viewer else {
        BEFORE_LOGIN.iter().for_each(|word| offer(word, true));
        offer("SMAP1", config.imap.smap && conn.may_log_in());
        offer("STARTTLS", conn.may_start_tls());
        offer("LOGINDISABLED", !conn.may_log_in() || !services.takes_passwords());
        if conn.may_log_in() {
            for mechanism in services.mechanisms(conn) {
                offer(&format!("AUTH={}", mechanism.name()), true);
            }
        }
        return words;
    };
    LOGGED_IN.iter().for_each(|word| offer(word, true));
    let administers = viewer.principal.authority != Authority::Nothing;
    ADMINISTERING.iter().for_each(|word| offer(word, administers));
    offer("COMPRESS=DEFLATE", config.imap.compress_level > 0 && !conn.is_compressed());
    configured(&config, Some(&viewer.names)).iter().for_each(|word| offer(word, true));
    words
}

/// Words for users that the configuration decides on. One a line.
fn configured(config: &Config, names: Option<&Names>) -> Vec<String> {
    let mut words = Vec::new();
    let mut offer = |word: &str, on: bool| words.extend(on.then(|| word.to_owned()));
    offer(&format!("APPENDLIMIT={}", config.limits.message_bytes_max), true);
    offer("SEARCH=FUZZY", config.search.fuzzy);
    offer("UNAUTHENTICATE", config.imap.unauthenticate);
    offer("UTF8=ACCEPT", config.imap.utf8 == Utf8::Accept);
    offer("UTF8=ONLY", config.imap.utf8 == Utf8::Only);
    offer("XMAGICTRASH", config.trash.move_expunged);
    let outbox = &config.outbox.mailbox;
    // As this client has to call it.
    let name = names.map_or(Cow::Borrowed(outbox.as_str()), |names| names.own(outbox));
    offer(&format!("XCOURIEROUTBOX={name}"), !outbox.is_empty());
    let (message_limit, save_limit) = (config.imap.message_limit, config.imap.save_limit);
    offer(&format!("MESSAGELIMIT={message_limit}"), message_limit > 0);
    offer(&format!("SAVELIMIT={save_limit}"), save_limit > 0);
    words
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use auth::Mechanism;

    use super::*;

    /// All that can be offered; an argument that is a number of the configuration as `n`.
    fn offered() -> BTreeSet<String> {
        let mut config = Config::embedded(Path::new("/nowhere"));
        config.search.fuzzy = true;
        (config.imap.message_limit, config.imap.save_limit) = (1, 1);
        config.trash.move_expunged = true;
        config.outbox.mailbox = "name".to_owned();
        let numbers = |word: String| match word.split_once('=') {
            Some((name, n)) if n.bytes().all(|b| b.is_ascii_digit()) => format!("{name}=n"),
            _ => word,
        };
        let fixed = [
            ALWAYS,
            ADMINISTERING,
            BEFORE_LOGIN,
            LOGGED_IN,
            &["STARTTLS", "LOGINDISABLED", "SMAP1", "COMPRESS=DEFLATE", "UTF8=ONLY"],
        ]
        .concat();
        let mechanisms = Mechanism::ALL.iter().map(|m| format!("AUTH={}", m.name()));
        let fixed = fixed.into_iter().map(str::to_owned).chain(mechanisms);
        fixed.chain(configured(&config, None).into_iter().map(numbers)).collect()
    }

    /// The cells of a section's rows.
    fn rows<'d>(document: &'d str, section: &str) -> Vec<Vec<&'d str>> {
        let (_, behind) = document.split_once(&format!("\n## {section}\n")).unwrap();
        let section = behind.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let cells = |row: &'d str| row[1..row.len() - 1].split('|').map(str::trim).collect();
        rows.map(cells).collect()
    }

    /// What stands in backquotes.
    fn quoted(cell: &str) -> impl Iterator<Item = &str> {
        cell.split('`').skip(1).step_by(2)
    }

    fn assert_exists(root: &Path, test: &str) {
        let (file, name) = test.rsplit_once("::").expect(test);
        let folder = if file.contains('/') { "" } else { "server/tests/sessions/" };
        let source = std::fs::read_to_string(root.join(format!("{folder}{file}.rs"))).expect(test);
        assert!(source.contains(&format!("fn {name}(")), "{test} does not exist");
    }

    #[test]
    fn every_word_has_a_row_in_the_document_and_every_row_its_tests() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let document = std::fs::read_to_string(root.join("docs/protocols.md")).unwrap();
        let mut documented = BTreeSet::new();
        for section in ["IMAP", "POP3", "LMTP"] {
            for row in rows(&document, section) {
                let [words, rfc, state, _limits, tests] = row[..] else {
                    panic!("not five cells: {row:?}")
                };
                assert!(!rfc.is_empty() && !state.is_empty(), "empty cells: {row:?}");
                assert!(quoted(tests).next().is_some(), "no test: {row:?}");
                quoted(tests).for_each(|test| assert_exists(&root, test));
                if section == "IMAP" {
                    for word in quoted(words) {
                        assert!(documented.insert(word.to_owned()), "two rows for {word}");
                    }
                }
            }
        }
        assert_eq!(documented, offered(), "left: documented, right: offered");
    }
}
