//! APPEND: RFC 3501 section 6.3.11, several messages at once by RFC 3502, literal8 by RFC 3516.
//!
//! Messages stream from the connection into the store's staging; at most one piece is in memory.
//! All of one command become visible together or not at all.

use engine::{Appended, Delivery, Mailbox, Target, User};
use protocol::imap::command::{AppendOptions, Tag};
use protocol::imap::decode::{self, Dialect};
use protocol::imap::encode::Code;
use protocol::imap::framing::{Event, Literal};
use protocol::types::{SequenceSet, UidValidity};

use super::super::limit::refusal;
use super::super::reply::{End, Reply};
use super::super::session::{Session, SyncPoint};

/// Most messages in one APPEND.
const APPEND_MESSAGES_MAX: usize = 1000;

/// Where the messages of one command go.
struct Destination {
    user: User,
    mailbox: Mailbox,
}

/// Serves an APPEND from its first message's announcement on, and answers it.
pub(in super::super) async fn run(
    session: &mut Session,
    text: Vec<u8>,
    literal: Literal,
) -> Result<(), End> {
    let dialect = Dialect { utf8_names: session.features.rev2 };
    let head = match decode::append_head(&text, dialect) {
        Ok(head) => head,
        Err(error) => {
            drain(session).await?;
            return session.not_understood(error);
        }
    };
    let reply = match open(session, &head.mailbox).await {
        Ok(destination) => match stream(session, &destination, head.options, literal).await? {
            Ok(deliveries) => commit(session, &destination, deliveries).await,
            Err(reply) => reply,
        },
        Err(reply) => {
            drain(session).await?;
            reply
        }
    };
    answer(session, &head.tag, &reply).await
}

async fn answer(session: &mut Session, tag: &Tag, reply: &Reply) -> Result<(), End> {
    session.expect_own_messages();
    session.sync_point(SyncPoint::Newest).await?;
    if session.notices.is_some() {
        Box::pin(session.tell_notices()).await?;
    }
    session.finish(tag, reply)
}

async fn open(session: &mut Session, name: &str) -> Result<Destination, Reply> {
    let user = session.user()?;
    if session.read_only {
        return Err(Reply::read_only_login());
    }
    let mailbox = session.mailbox(name, "TRYCREATE").await?;
    Ok(Destination { user, mailbox })
}

/// Takes every message of the command. If one is refused, the rest is read and dropped first.
async fn stream(
    session: &mut Session,
    destination: &Destination,
    first: AppendOptions,
    literal: Literal,
) -> Result<Result<Vec<Delivery>, Reply>, End> {
    let mut deliveries = Vec::new();
    let mut next = Some((first, literal));
    let save_limit = session.save_limit();
    while let Some((options, literal)) = next.take() {
        let begun = if let Some(limit) = save_limit.filter(|n| deliveries.len() >= *n as usize) {
            Err(refusal(limit))
        } else if deliveries.len() >= APPEND_MESSAGES_MAX {
            Err(Reply::no("Too many messages at once").word("LIMIT"))
        } else {
            begin(session, destination, &deliveries, options, literal)
        };
        let mut delivery = match begun {
            Ok(delivery) => delivery,
            Err(reply) => {
                drain(session).await?;
                return Ok(Err(reply));
            }
        };
        if literal.synchronizing {
            session.continuation("Send the message");
        }
        session.framer.accept();
        match receive(session, &mut delivery).await? {
            Ok(Following::Message(options, literal)) => next = Some((options, literal)),
            Ok(Following::End) => {}
            Err(reply) => return Ok(Err(reply)),
        }
        deliveries.push(delivery);
    }
    Ok(Ok(deliveries))
}

fn begin(
    session: &Session,
    destination: &Destination,
    before: &[Delivery],
    options: AppendOptions,
    literal: Literal,
) -> Result<Delivery, Reply> {
    let bytes_max = session.services.config().limits.message_bytes_max;
    if literal.bytes > bytes_max {
        let text = format!("Message larger than {bytes_max} bytes");
        return Err(Reply::no(text).word("TOOBIG"));
    }
    if literal.bytes == 0 {
        return Err(Reply::no("Empty message").word("CANNOT"));
    }
    // What can be refused is refused before the client sends it.
    let bytes = before.iter().map(Delivery::size).sum::<u64>() + literal.bytes;
    destination
        .mailbox
        .check_quota(bytes, before.len() as u64 + 1)
        .map_err(|error| session.failure("check a quota", &error, "TRYCREATE"))?;
    let target = Target {
        user: destination.user.clone(),
        mailbox: destination.mailbox.clone(),
        flags: options.flags.system,
        keywords: options.flags.keywords,
        internal_date: options.internal_date,
    };
    Delivery::new(&session.services.store, &session.services.lane, vec![target])
        .map_err(|error| session.failure("begin a delivery", &error, "TRYCREATE"))
}

/// What comes behind a message.
enum Following {
    Message(AppendOptions, Literal),
    End,
}

/// Takes one message, up to what follows it.
async fn receive(
    session: &mut Session,
    delivery: &mut Delivery,
) -> Result<Result<Following, Reply>, End> {
    loop {
        let (used, event) = session.framer.next(session.conn.input());
        let mut refused = None;
        let following = match event {
            None => None,
            Some(Event::MessageData(bytes)) => {
                if let Err(error) = delivery.write(bytes).await {
                    refused = Some(error);
                }
                session.conn.consume(used);
                match refused {
                    None => continue,
                    Some(error) => {
                        let reply = session.failure("write a message", &error, "TRYCREATE");
                        drain(session).await?;
                        return Ok(Err(reply));
                    }
                }
            }
            Some(Event::AppendMessage { text, literal, .. }) => Some(
                decode::append_options(text).map(|options| Following::Message(options, literal)),
            ),
            Some(Event::AppendEnd([])) => Some(Ok(Following::End)),
            Some(Event::AppendEnd(_)) => {
                session.conn.consume(used);
                return Ok(Err(Reply::bad("Expected the end of the command after the message")));
            }
            Some(Event::TooLong { .. }) => {
                session.conn.consume(used);
                return Ok(Err(Reply::bad("Line too long").word("LIMIT")));
            }
            Some(_) => return Err(End::Bye("Too much input without a command")),
        };
        session.conn.consume(used);
        match following {
            None => session.fill().await?,
            Some(Ok(following)) => return Ok(Ok(following)),
            Some(Err(kind)) => {
                drain(session).await?;
                return Ok(Err(Reply::bad(kind.to_string())));
            }
        }
    }
}

/// Gives the command up: reads on to where it ends.
async fn drain(session: &mut Session) -> Result<(), End> {
    session.framer.refuse();
    loop {
        let (used, event) = session.framer.next(session.conn.input());
        let refused = match event {
            None => false,
            Some(Event::Refused | Event::TooLong { .. }) => true,
            Some(_) => return Err(End::Bye("Too much input without a command")),
        };
        session.conn.consume(used);
        if refused {
            return Ok(());
        }
        session.fill().await?;
    }
}

async fn commit(
    session: &mut Session,
    destination: &Destination,
    mut deliveries: Vec<Delivery>,
) -> Reply {
    let committed: engine::Result<Vec<Appended>> = match (deliveries.len(), deliveries.pop()) {
        (1, Some(delivery)) => delivery.commit().await.into_iter().collect(),
        (_, Some(last)) => {
            deliveries.push(last);
            Delivery::commit_all(deliveries).await
        }
        (_, None) => Ok(vec![]),
    };
    // Deleted in the meantime: what was appended went with it, or found no place any more.
    if destination.mailbox.is_gone() {
        return Reply::no("Mailbox was deleted").word("TRYCREATE");
    }
    let appended = match committed {
        Ok(appended) => appended,
        Err(error) => return session.failure("append messages", &error, "TRYCREATE"),
    };
    let uid_validity = appended.first().map_or(UidValidity(0), |first| first.uid_validity);
    let uids = SequenceSet::from_ascending(appended.iter().map(|appended| appended.uid.0));
    Reply::ok("Appended").code(Code::AppendUid(uid_validity, uids))
}
