//! What we offer, when.

use auth::Mechanism;

use crate::net::Conn;

/// The words of CAPABILITY for this connection now. `fuzzy`: as the configuration has it.
pub(super) fn words(conn: &Conn, logged_in: bool, fuzzy: bool) -> String {
    let mut words = String::from("IMAP4rev1 IMAP4rev2 LITERAL+ ID ENABLE");
    if !logged_in {
        words.push_str(" SASL-IR");
        if conn.may_start_tls() {
            words.push_str(" STARTTLS");
        }
        if conn.may_log_in() {
            for mechanism in Mechanism::ALL {
                words.push_str(" AUTH=");
                words.push_str(mechanism.name());
            }
        } else {
            words.push_str(" LOGINDISABLED");
        }
        return words;
    }
    words.push_str(
        " IDLE NAMESPACE CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE \
         UIDPLUS UNSELECT MOVE ESEARCH SEARCHRES BINARY MULTIAPPEND CONDSTORE STATUS=SIZE",
    );
    if fuzzy {
        words.push_str(" SEARCH=FUZZY");
    }
    words
}
