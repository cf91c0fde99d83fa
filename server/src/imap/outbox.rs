//! What is put into the outbox is sent: Courier's XCOURIEROUTBOX.
//!
//! APPEND's messages are sent once they are stored, and removed again if that fails; those of COPY
//! and MOVE are sent before they are put there. So a failure leaves everything as it was, and a
//! message that nobody has heard of as sent may be sent twice, but is not lost.

use engine::{Mailbox, Namespace, View};
use protocol::types::Uid;

use super::reply::{End, Reply};
use super::session::Session;
use super::sharing::Place;
use crate::outbox::Sending;

impl Session {
    /// Whether what goes into this mailbox is sent.
    pub(super) fn is_outbox(&self, place: &Place) -> bool {
        let config = self.services.config();
        let outbox = &config.outbox.mailbox;
        !outbox.is_empty() && place.own && place.name == Namespace::canonical(outbox)
    }

    /// Why so many messages can't be sent by one command.
    pub(super) fn outbox_refusal(&self, messages: usize) -> Option<Reply> {
        let many = messages > 1 && !self.services.config().outbox.multiple_send;
        many.then(|| Reply::no("One message at a time is sent").word("ALERT"))
    }

    /// Sends messages, one after the other.
    ///
    /// # Errors
    /// Within, the refusal: the rest was not sent.
    pub(super) async fn send(
        &mut self,
        mailbox: &Mailbox,
        view: &View,
        uids: &[Uid],
    ) -> Result<Result<(), Reply>, End> {
        for (sent, uid) in uids.iter().enumerate() {
            let services = self.services.clone();
            let Ok(user) = self.user() else { return Ok(Err(Reply::bad("Log in first"))) };
            let one = async {
                let (_, record) = view.record_of(*uid).ok_or("the message is gone")?;
                let file = mailbox.message(&services.lane, &record).await;
                let file = file.map_err(|error| error.to_string())?;
                let mut served = file.served(0, file.stored_size(), 0, u64::MAX);
                let mut sending = Sending::begin(&services.config().outbox, user.name())?;
                while let Some(piece) = served.next().await.map_err(|error| error.to_string())? {
                    sending.piece(piece).await;
                }
                sending.end().await
            };
            let counted = (sent as u64, uids.len() as u64);
            let name = user.name().to_owned();
            if let Err(error) = self.working(Some(counted), one).await? {
                self.services.log_error(&self.conn, Some(&name), "send a message", &error);
                let text = match sent {
                    0 => "The message could not be sent".to_owned(),
                    _ => format!("{sent} messages were sent, the next one could not be"),
                };
                return Ok(Err(Reply::no(text).word("ALERT")));
            }
            let (addr, session) = (self.conn.peer(), self.conn.id());
            tracing::info!(target: "cursus::outbox", user = ?name, uid = uid.0, %addr, %session, "sent");
        }
        Ok(Ok(()))
    }
}
