//! ADD: a message into a folder. Where to and how comes in one line or several; the message streams
//! into the store's staging.

use std::time::Duration;

use engine::{Delivery, Target};
use protocol::mime::date;
use protocol::smap::{Add, TextDecoder, TextEnd};
use protocol::types::{Keyword, SystemFlags};
use tokio::time::{Instant, timeout_at};

use super::folder::mailbox_name;
use super::{Answer, Session, Stop};

/// What the lines of ADD said so far.
#[derive(Default)]
pub(super) struct Adding {
    folder: Option<String>,
    flags: SystemFlags,
    keywords: Vec<Keyword>,
    internal_date: Option<i64>,
}

impl Session {
    pub(super) async fn add(&mut self, words: Vec<Add>) -> Answer {
        let mut adding = self.adding.take().unwrap_or_default();
        let mut said = "Go on";
        for word in words {
            match word {
                Add::Folder(folder) => match mailbox_name(&folder) {
                    Ok(name) => {
                        adding.folder = Some(name);
                        said = "Will add to this folder";
                    }
                    Err(text) => return Ok(Err(text)),
                },
                Add::Flags(flags) => {
                    adding.flags = flags;
                    said = "FLAGS set";
                }
                Add::Keywords(keywords) => {
                    adding.keywords = keywords;
                    said = "KEYWORDS set";
                }
                Add::InternalDate(text) => match date::parse(text.as_bytes()) {
                    Some(date) => {
                        adding.internal_date = Some(date.unix);
                        said = "INTERNALDATE set";
                    }
                    None => return Ok(Err("expected a date as mail headers have it".to_owned())),
                },
                Add::Send => return Ok(Err("mail is sent elsewhere".to_owned())),
                Add::Text(end) => return self.add_message(*adding, end).await,
            }
        }
        self.adding = Some(adding);
        Ok(Ok(said))
    }

    async fn add_message(&mut self, adding: Adding, end: TextEnd) -> Answer {
        let Some(name) = adding.folder.clone() else {
            return Ok(Err("say ADD FOLDER first".to_owned()));
        };
        let begun = async {
            let mailbox = self.user.mailbox(&name).await?;
            let counted = match end {
                TextEnd::Count(bytes) => bytes,
                TextEnd::Dot => 0,
            };
            mailbox.check_quota(counted, 1)?;
            let target = Target {
                user: self.user.clone(),
                mailbox,
                flags: adding.flags,
                keywords: adding.keywords,
                internal_date: adding.internal_date,
                annotations: vec![],
            };
            Delivery::new(&self.services.store, &self.services.lane, vec![target])
        };
        let mut delivery = match begun.await {
            Ok(delivery) => delivery,
            Err(error) => return Ok(Err(self.failure("begin to add a message", &error))),
        };
        self.say("> Go ahead");
        if let Err(text) = self.receive(&mut delivery, end).await? {
            return Ok(Err(text));
        }
        match delivery.commit().await.pop() {
            Some(Ok(appended)) => {
                let (validity, uid) = (appended.uid_validity.0, appended.uid.0);
                self.say(&format!("* ADD \"UID={validity}/{uid}\""));
                Ok(Ok("Message saved"))
            }
            Some(Err(error)) => Ok(Err(self.failure("add a message", &error))),
            None => Ok(Err("the message went nowhere".to_owned())),
        }
    }

    /// Takes the whole message, also where it can't be kept.
    async fn receive(
        &mut self,
        delivery: &mut Delivery,
        end: TextEnd,
    ) -> Result<Result<(), String>, Stop> {
        let bytes_max = self.services.config().limits.message_bytes_max;
        let mut decoder = TextDecoder::new(end);
        let mut refused = None;
        let (mut part, mut left) = match end {
            TextEnd::Dot => (TextEnd::Dot, u64::MAX),
            TextEnd::Count(count) => (end, count),
        };
        loop {
            let mut out = Vec::new();
            let done = match part {
                TextEnd::Dot => self.take(&mut decoder, u64::MAX, &mut out).await?.1,
                TextEnd::Count(_) if left == 0 => {
                    // What follows: one more count, or nothing.
                    let line = self.next_line().await?;
                    let text = String::from_utf8_lossy(&line);
                    match text.trim().parse::<u64>() {
                        Ok(count) if count > 0 => {
                            (part, left) = (TextEnd::Count(count), count);
                            false
                        }
                        _ => true,
                    }
                }
                TextEnd::Count(_) => {
                    left -= self.take(&mut decoder, left, &mut out).await?.0;
                    false
                }
            };
            if done {
                decoder.finish(&mut out);
            }
            if delivery.size() + out.len() as u64 > bytes_max {
                refused.get_or_insert_with(|| format!("message larger than {bytes_max} bytes"));
            }
            if refused.is_none()
                && let Err(error) = delivery.write(&out).await
            {
                refused = Some(self.failure("add a message", &error));
            }
            if done {
                return Ok(refused.map_or(Ok(()), Err));
            }
        }
    }

    /// Decodes at most `most` bytes of what is there, or comes.
    async fn take(
        &mut self,
        decoder: &mut TextDecoder,
        most: u64,
        out: &mut Vec<u8>,
    ) -> Result<(u64, bool), Stop> {
        if self.conn.input().is_empty() {
            self.conn.flush().await?;
            let idle = Duration::from_secs(self.services.config().limits.imap_idle_seconds_max);
            match timeout_at(Instant::now() + idle, self.conn.fill()).await {
                Ok(Ok(0)) => return Err(Stop::Cut("client left".to_owned())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Stop::Cut("client was silent for too long".to_owned())),
            }
        }
        let input = self.conn.input();
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
        let (taken, done) = decoder.feed(&input[..most], out);
        self.conn.consume(taken);
        Ok((taken as u64, done))
    }
}
