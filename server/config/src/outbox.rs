//! A mailbox whose messages are sent: Courier's `OUTBOX`, `SENDMAIL`, `HEADERFROM` and
//! `OUTBOX_MULTIPLE_SEND`.

use serde::{Deserialize, Serialize};

/// A mailbox whose messages are sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbox {
    /// Its name, the same for every user. Empty: nothing is sent.
    pub mailbox: String,
    /// The program that sends, and its first arguments.
    pub sendmail: Vec<String>,
    /// Header field that tells who sent it, in what is sent. Empty: none.
    pub header_from: String,
    /// Whether one command may send several messages.
    pub multiple_send: bool,
    /// The program is killed, and the message counts as not sent, after this time.
    pub seconds_max: u64,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox {
            mailbox: String::new(),
            sendmail: vec!["/usr/sbin/sendmail".to_owned()],
            header_from: "X-IMAP-Sender".to_owned(),
            multiple_send: false,
            seconds_max: 60,
        }
    }
}
