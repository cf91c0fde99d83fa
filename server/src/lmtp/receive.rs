//! One message streaming into the store, for all its recipients.

use config::OverQuota;
use engine::{Appended, Delivery, Target};
use protocol::lmtp::{Enhanced, Reply, ReturnPath};
use protocol::types::SystemFlags;

use super::recipient::Accepted;
use super::trace::{Head, Trace};
use crate::services::Services;

/// How a failure of the store is answered.
///
/// 5xx only where the message or the mailbox's limit is at fault; whatever may be ours is 4xx.
pub(super) fn refusal(error: &engine::Error, over_quota: OverQuota) -> Reply<'static> {
    match error {
        engine::Error::OverQuota if over_quota == OverQuota::Temporary => {
            Reply::new(452, Enhanced::MAILBOX_FULL, "mailbox is full")
        }
        engine::Error::OverQuota => Reply::new(552, Enhanced::MAILBOX_FULL, "mailbox is full"),
        engine::Error::TooBig { .. } => Reply::new(552, Enhanced::TOO_BIG, "message is too large"),
        engine::Error::DiskFull => Reply::new(452, Enhanced::SYSTEM_FULL, "no space left"),
        engine::Error::DiskQuota => Reply::new(452, Enhanced::MAILBOX_FULL, "quota is used up"),
        engine::Error::InUse { .. } => {
            Reply::new(450, Enhanced::MAILBOX_BUSY, "mail of this user is open on another server")
        }
        engine::Error::Closing => Reply::new(451, Enhanced::SYSTEM_CLOSING, "server stops"),
        _ => Reply::new(451, Enhanced::SYSTEM, "can't be stored now, try again later"),
    }
}

/// A message that is coming in.
pub(super) struct Receiving {
    /// The message so far, or why it can't be stored. The rest is then read and dropped, because
    /// the client can't be told before its end.
    delivery: Result<Delivery, engine::Error>,
    /// For each recipient, its place among the targets: two addresses may mean one mailbox, which
    /// gets one copy.
    places: Vec<usize>,
    head: Head,
    bytes: u64,
    /// The header lines that we add, until the first byte comes.
    trace: Option<String>,
}

impl Receiving {
    pub(super) fn new(
        services: &Services,
        sender: &ReturnPath,
        recipients: &[Accepted],
        trace: &Trace<'_>,
    ) -> Receiving {
        let mut targets: Vec<Target> = Vec::new();
        let mut places = Vec::with_capacity(recipients.len());
        let mut unlimited = Vec::new();
        for accepted in recipients {
            let id = accepted.mailbox.id();
            let known = targets.iter().position(|t| t.mailbox.id() == id);
            places.push(known.unwrap_or(targets.len()));
            if accepted.ignores_quota {
                unlimited.extend(places.last());
            }
            if known.is_none() {
                targets.push(Target {
                    user: accepted.user.clone(),
                    mailbox: accepted.mailbox.clone(),
                    flags: SystemFlags::empty(),
                    keywords: Vec::new(),
                    internal_date: None,
                    annotations: vec![],
                });
            }
        }
        // One body for all: a line that names one recipient would show it to the others.
        let only = match recipients {
            [accepted] => Some(&accepted.recipient),
            _ => None,
        };
        let mut delivery = Delivery::new(&services.store, &services.lane, targets);
        if let Ok(delivery) = &mut delivery {
            unlimited.into_iter().for_each(|place| delivery.ignore_quota(place));
        }
        Receiving {
            delivery,
            places,
            head: Head::default(),
            bytes: 0,
            trace: Some(trace.lines(sender, only)),
        }
    }

    /// Takes the next part of the message.
    pub(super) async fn write(&mut self, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        self.bytes += part.len() as u64;
        self.head.write(part);
        self.write_trace().await;
        self.store(part).await;
    }

    async fn write_trace(&mut self) {
        if let Some(trace) = self.trace.take() {
            self.store(trace.as_bytes()).await;
        }
    }

    async fn store(&mut self, part: &[u8]) {
        if let Ok(delivery) = &mut self.delivery
            && let Err(error) = delivery.write(part).await
        {
            self.delivery = Err(error);
        }
    }

    /// Size as received.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// For the log; empty if there is none near the message's start.
    pub(super) fn message_id(&self) -> String {
        self.head.message_id()
    }

    /// The commit point; one result for each recipient, in order.
    pub(super) async fn commit(mut self) -> Vec<engine::Result<Appended>> {
        self.write_trace().await;
        let places = self.places;
        match self.delivery {
            Ok(delivery) => {
                let results = delivery.commit().await;
                places
                    .iter()
                    .map(|&place| match results.get(place) {
                        Some(result) => result.clone(),
                        None => Err(engine::Error::Closing),
                    })
                    .collect()
            }
            Err(error) => places.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certain_faults_are_permanent() {
        let code = |error| refusal(&error, OverQuota::Permanent).to_string()[..9].to_owned();
        assert_eq!(code(engine::Error::OverQuota), "552 5.2.2");
        let later = refusal(&engine::Error::OverQuota, OverQuota::Temporary);
        assert!(later.to_string().starts_with("452 4.2.2"), "{later}");
        assert_eq!(code(engine::Error::TooBig { max: 1 }), "552 5.3.4");
        assert_eq!(code(engine::Error::DiskFull), "452 4.3.1");
        assert_eq!(code(engine::Error::DiskQuota), "452 4.2.2");
        assert_eq!(code(engine::Error::ReadOnly("log".into())), "451 4.3.0");
        let elsewhere = engine::Error::InUse { user: "a".into(), holder: "host b".into() };
        assert_eq!(code(elsewhere), "450 4.2.0");
        assert_eq!(code(engine::Error::MailboxGone), "451 4.3.0");
        assert_eq!(code(engine::Error::NotAllowed("x")), "451 4.3.0");
    }
}
