//! APPEND: RFC 3501 section 6.3.11, several messages at once by RFC 3502, literal8 by RFC 3516,
//! CATENATE by RFC 4469, UTF8 by RFC 6855, ANNOTATION by RFC 5257; and REPLACE, RFC 8508.
//!
//! Messages stream from the connection, or from those that URLs name, into the store's staging; at
//! most one piece is in memory. All of one command become visible together or not at all.

use engine::{Appended, Arrivals, Delivery, FlagScope, Mailbox, PrivateSeen, Rights, Target, User};
use protocol::imap::command::{AppendHead, AppendItem, AppendOptions, Replaced};
use protocol::imap::decode::AppendText;
use protocol::imap::encode::{Code, Status};
use protocol::imap::framing::{Event, Literal};
use protocol::imap::url::URL_BYTES_MAX;
use protocol::mime::reencode::Reencoder;
use protocol::types::{SeqNum, SequenceSet, SystemFlags, Uid, UidValidity};

use super::super::annotations;
use super::super::limit::refusal;
use super::super::reply::{End, Reply};
use super::super::session::Session;
use super::super::sync::SyncPoint;
use super::super::url::{NotFollowed, follow};
use super::copy::own_scope;

/// Most messages in one APPEND.
const APPEND_MESSAGES_MAX: usize = 1000;

/// Where the messages of one command go.
struct Destination {
    user: User,
    mailbox: Mailbox,
    /// What the user may do there.
    rights: Rights,
    /// Flags that may be set there.
    scope: FlagScope,
    /// The session's user's own `\Seen` there, where it is not the owner's and may be set.
    seen: Option<PrivateSeen>,
    /// REPLACE: the message that goes.
    replaced: Option<(Mailbox, Uid)>,
    /// What comes there is sent.
    is_outbox: bool,
    /// It is a copy of what another shares on the filesystem, who has to get the messages, too.
    arrivals: Option<Arrivals>,
}

impl Destination {
    /// Whether what REPLACE removes goes by itself, after the new message has got where it is to be.
    fn replaces_apart(&self) -> bool {
        let from_copy = self.replaced.as_ref().is_some_and(|(source, _)| source.is_copy());
        self.is_outbox || self.arrivals.is_some() || from_copy
    }
}

/// The messages of one command.
#[derive(Default)]
struct Messages {
    whole: Vec<Delivery>,
    /// The one that is coming in.
    current: Option<Delivery>,
    /// Of one that begins with a literal8.
    reencoder: Option<Reencoder>,
    /// Of each begun, whether the client wants it `\Seen`.
    seen: Vec<bool>,
    header: HeaderScan,
}

/// Looks for octets in a header that only UTF-8 can mean.
#[derive(Default)]
struct HeaderScan {
    over: bool,
    /// The line so far is empty.
    at_line: bool,
    has_8bit: bool,
}

impl HeaderScan {
    fn begin() -> HeaderScan {
        HeaderScan { at_line: true, ..HeaderScan::default() }
    }

    fn feed(&mut self, bytes: &[u8]) {
        for &b in bytes {
            if self.over {
                return;
            }
            match b {
                b'\n' => self.over = std::mem::replace(&mut self.at_line, true),
                b'\r' => {}
                _ => {
                    self.at_line = false;
                    self.has_8bit |= b >= 0x80;
                }
            }
        }
    }
}

/// Serves an APPEND or REPLACE from its first message's announcement on, and answers it. Without a
/// literal `text` is the whole command.
pub(in super::super) async fn run(
    session: &mut Session,
    text: Vec<u8>,
    literal: Option<Literal>,
) -> Result<(), End> {
    let begun = AppendText::begin(&text, literal.is_some(), session.dialect());
    let (head, reader, items) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            drain(session, literal).await?;
            return session.not_understood(error);
        }
    };
    let reply = match open(session, &head).await {
        Ok(destination) => match stream(session, &destination, reader, items, literal).await? {
            Ok(messages) => commit(session, destination, messages).await?,
            Err(reply) => reply,
        },
        Err(reply) => {
            drain(session, literal).await?;
            reply
        }
    };
    answer(session, &head, &reply).await
}

async fn answer(session: &mut Session, head: &AppendHead, reply: &Reply) -> Result<(), End> {
    session.expect_own_messages();
    let removes = head.replaced.is_some();
    session.sync_point(if removes { SyncPoint::Own } else { SyncPoint::Newest }).await?;
    if session.notices.is_some() {
        Box::pin(session.tell_notices()).await?;
    }
    session.finish(&head.tag, reply)
}

async fn open(session: &mut Session, head: &AppendHead) -> Result<Destination, Reply> {
    session.user()?;
    if session.read_only {
        return Err(Reply::read_only_login());
    }
    if let Some(refusal) = session.utf8_refusal() {
        return Err(refusal);
    }
    let replaced = match head.replaced {
        Some(replaced) => Some(source(session, replaced)?),
        None => None,
    };
    let (place, mailbox) = session.mailbox(&head.mailbox, Rights::INSERT, "TRYCREATE").await?;
    let is_outbox = session.is_outbox(&place);
    let seen = session.own_seen(&place, &mailbox).await;
    let seen = seen.map_err(|error| session.failure("read what was seen", &error, "TRYCREATE"))?;
    let (scope, seen) = own_scope(place.scope(), seen);
    let rights = place.rights.unwrap_or_default();
    let arrivals = mailbox.arrivals().await;
    let arrivals =
        arrivals.map_err(|error| session.failure("begin a delivery", &error, "TRYCREATE"))?;
    let user = place.user;
    Ok(Destination { user, mailbox, rights, scope, seen, replaced, is_outbox, arrivals })
}

/// The message that REPLACE removes.
fn source(session: &Session, replaced: Replaced) -> Result<(Mailbox, Uid), Reply> {
    let Some(selected) = &session.selected else {
        return Err(Reply::bad("Select a mailbox first"));
    };
    if selected.read_only {
        return Err(Reply::no("Mailbox is selected read-only").word("READ-ONLY"));
    }
    if !selected.rights.contains(Rights::DELETE_MESSAGES.union(Rights::EXPUNGE)) {
        return Err(Reply::no_permission());
    }
    if session.features.uid_only && matches!(replaced, Replaced::Seq(_)) {
        return Err(Reply::bad("Only UIDs are in use").word("UIDREQUIRED"));
    }
    let uid = match replaced {
        Replaced::Seq(seq) => {
            let uid = selected.view.uid(SeqNum(seq));
            uid.ok_or_else(|| Reply::bad("Sequence number beyond the last message"))?
        }
        Replaced::Uid(uid) => {
            let found = selected.view.record_of(Uid(uid)).map(|(_, record)| record.uid);
            found.ok_or_else(|| Reply::no("No such message to replace").word("NONEXISTENT"))?
        }
    };
    Ok((selected.mailbox.clone(), uid))
}

/// Takes every message of the command. If one is refused, the rest is read and dropped first.
async fn stream(
    session: &mut Session,
    destination: &Destination,
    mut reader: AppendText,
    mut items: Vec<AppendItem>,
    mut literal: Option<Literal>,
) -> Result<Result<Messages, Reply>, End> {
    let mut messages = Messages::default();
    loop {
        let taken = take(session, destination, &mut messages, items, literal).await?;
        if let Err(reply) = taken {
            return Ok(Err(reply));
        }
        if literal.is_none() {
            return Ok(messages.finish(session).await.map(|()| messages));
        }
        match following(session, &mut reader).await? {
            Ok(next) => (items, literal) = next,
            Err(reply) => return Ok(Err(reply)),
        }
    }
}

/// Takes what one text asks for, with the literal behind it. What is refused has been drained.
async fn take(
    session: &mut Session,
    destination: &Destination,
    messages: &mut Messages,
    items: Vec<AppendItem>,
    literal: Option<Literal>,
) -> Result<Result<(), Reply>, End> {
    for item in items {
        let done = match (item, literal) {
            (AppendItem::Message(options), _) => {
                messages.begin(session, destination, options).await
            }
            (AppendItem::Url(url), _) => messages.copy(session, destination, &url).await,
            (AppendItem::Text { .. }, Some(literal)) => {
                match messages.admit(session, destination, literal.bytes) {
                    Ok(()) => match receive(session, messages, literal).await? {
                        Ok(()) => continue,
                        // Drained already.
                        Err(reply) => return Ok(Err(reply)),
                    },
                    Err(reply) => Err(reply),
                }
            }
            (AppendItem::UrlLiteral, Some(literal)) => match url_literal(session, literal).await? {
                // The literal is read: there is nothing to drain but what follows it.
                Ok(url) => match messages.copy(session, destination, &url).await {
                    Ok(()) => continue,
                    Err(reply) => Err(reply),
                },
                Err(reply) => Err(reply),
            },
            (AppendItem::Text { .. } | AppendItem::UrlLiteral, None) => {
                Err(Reply::bad("Expected a literal"))
            }
        };
        if let Err(reply) = done {
            drain(session, literal).await?;
            return Ok(Err(reply));
        }
    }
    Ok(Ok(()))
}

impl Messages {
    /// Begins a message behind the one before.
    async fn begin(
        &mut self,
        session: &Session,
        destination: &Destination,
        options: AppendOptions,
    ) -> Result<(), Reply> {
        self.finish(session).await?;
        if let Some(limit) = session.save_limit().filter(|n| self.whole.len() >= *n as usize) {
            return Err(refusal(limit));
        }
        if destination.is_outbox
            && let Some(refusal) = session.outbox_refusal(self.whole.len() + 1)
        {
            return Err(refusal);
        }
        if self.whole.len() >= APPEND_MESSAGES_MAX {
            return Err(Reply::no("Too many messages at once").word("LIMIT"));
        }
        if destination.replaced.is_some() && !self.whole.is_empty() {
            return Err(Reply::bad("One message replaces one"));
        }
        let viewer = session.user.as_ref().map_or("", User::name);
        let annotations = annotations::values(options.annotations, viewer, destination.rights)?;
        destination
            .mailbox
            .check_annotations(&annotations)
            .map_err(|error| session.failure("begin a delivery", &error, "TRYCREATE"))?;
        // Others may have filled it since.
        destination.user.look_at_maildirsize(false).await;
        self.seen.push(options.flags.system.contains(SystemFlags::SEEN));
        let target = Target {
            user: destination.user.clone(),
            mailbox: destination.mailbox.clone(),
            flags: destination.scope.system_of(options.flags.system),
            keywords: match destination.scope.keywords {
                true => options.flags.keywords,
                false => vec![],
            },
            internal_date: options.internal_date,
            annotations,
        };
        let (store, lane) = (&session.services.store, &session.services.lane);
        let delivery = Delivery::new(store, lane, vec![target])
            .map_err(|error| session.failure("begin a delivery", &error, "TRYCREATE"))?;
        self.current = Some(delivery);
        self.header = HeaderScan::begin();
        Ok(())
    }

    /// Whether so many octets more may come. What can be refused is refused before the client sends
    /// it.
    fn admit(&self, session: &Session, destination: &Destination, bytes: u64) -> Result<(), Reply> {
        let bytes_max = session.services.config().limits.message_bytes_max;
        let size = self.current.as_ref().map_or(0, Delivery::size);
        if size.saturating_add(bytes) > bytes_max {
            let text = format!("Message larger than {bytes_max} bytes");
            return Err(Reply::no(text).word("TOOBIG"));
        }
        // What REPLACE frees is known at its end.
        if destination.replaced.is_some() {
            return Ok(());
        }
        let before = self.whole.iter().map(Delivery::size).sum::<u64>();
        let (bytes, count) = (before + size + bytes, self.whole.len() as u64 + 1);
        let checked = destination.mailbox.check_quota(bytes, count);
        checked.map_err(|error| session.failure("check a quota", &error, "TRYCREATE"))
    }

    async fn write(&mut self, bytes: &[u8]) -> engine::Result<()> {
        self.header.feed(bytes);
        let Some(delivery) = &mut self.current else { return Ok(()) };
        match &mut self.reencoder {
            Some(reencoder) => {
                let mut out = Vec::new();
                reencoder.feed(bytes, &mut out);
                delivery.write(&out).await
            }
            None => delivery.write(bytes).await,
        }
    }

    /// Adds what a URL names.
    async fn copy(
        &mut self,
        session: &Session,
        destination: &Destination,
        url: &str,
    ) -> Result<(), Reply> {
        let failed = |error: &engine::Error| session.failure("copy a message", error, "TRYCREATE");
        let mut part = match follow(session, url).await {
            Ok(part) => part,
            Err(NotFollowed::BadUrl) => {
                let reply = Reply::no("The URL names nothing here");
                return Err(reply.code(Code::BadUrl(url.to_owned())));
            }
            Err(NotFollowed::Store(error)) => return Err(failed(&error)),
        };
        self.admit(session, destination, part.left())?;
        while let Some(piece) = part.next().await.map_err(|error| failed(&error))? {
            self.write(&piece).await.map_err(|error| failed(&error))?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Ends the message that is coming in.
    async fn finish(&mut self, session: &Session) -> Result<(), Reply> {
        let Some(mut delivery) = self.current.take() else { return Ok(()) };
        if let Some(reencoder) = self.reencoder.take() {
            let mut out = Vec::new();
            reencoder.finish(&mut out);
            let written = delivery.write(&out).await;
            written.map_err(|error| session.failure("write a message", &error, "TRYCREATE"))?;
        }
        if delivery.size() == 0 {
            return Err(Reply::no("Empty message").word("CANNOT"));
        }
        let refuse = session.services.config().imap.refuse_8bit_headers;
        if self.header.has_8bit && refuse && !session.features.utf8() {
            let text = "Header fields in UTF-8: enable UTF8=ACCEPT first";
            return Err(Reply::no(text).word("CANNOT"));
        }
        self.whole.push(delivery);
        Ok(())
    }
}

/// Takes one literal of a message. If it is refused, the rest of the command is dropped.
async fn receive(
    session: &mut Session,
    messages: &mut Messages,
    literal: Literal,
) -> Result<Result<(), Reply>, End> {
    if literal.synchronizing {
        session.continuation("Send the message");
    }
    session.framer.accept();
    // RFC 3516 section 6: no part stays binary.
    if literal.binary && messages.current.as_ref().is_some_and(|delivery| delivery.size() == 0) {
        messages.reencoder = Some(Reencoder::new());
    }
    let mut left = literal.bytes;
    while left > 0 {
        let (used, event) = session.framer.next(session.conn.input());
        let mut refused = None;
        match event {
            None => {}
            Some(Event::MessageData(bytes)) => {
                left -= bytes.len() as u64;
                refused = messages.write(bytes).await.err();
            }
            Some(_) => return Err(End::Bye("Lost track of the input")),
        }
        session.conn.consume(used);
        if let Some(error) = refused {
            let reply = session.failure("write a message", &error, "TRYCREATE");
            drain(session, Some(literal)).await?;
            return Ok(Err(reply));
        }
        if used == 0 {
            session.fill().await?;
        }
    }
    Ok(Ok(()))
}

/// Takes a literal that is a URL.
async fn url_literal(
    session: &mut Session,
    literal: Literal,
) -> Result<Result<String, Reply>, End> {
    if literal.bytes > URL_BYTES_MAX as u64 {
        return Ok(Err(Reply::no("URL too long").word("TOOBIG")));
    }
    if literal.synchronizing {
        session.continuation("Send the URL");
    }
    session.framer.accept();
    let mut url = Vec::new();
    while (url.len() as u64) < literal.bytes {
        let (used, event) = session.framer.next(session.conn.input());
        match event {
            None => {}
            Some(Event::MessageData(bytes)) => url.extend_from_slice(bytes),
            Some(_) => return Err(End::Bye("Lost track of the input")),
        }
        session.conn.consume(used);
        if used == 0 {
            session.fill().await?;
        }
    }
    Ok(String::from_utf8(url).map_err(|_| Reply::bad("Expected a URL")))
}

type Next = (Vec<AppendItem>, Option<Literal>);

/// What stands behind a literal. What can't be read is drained.
async fn following(
    session: &mut Session,
    reader: &mut AppendText,
) -> Result<Result<Next, Reply>, End> {
    loop {
        let (used, event) = session.framer.next(session.conn.input());
        let (read, literal) = match event {
            None => {
                session.conn.consume(used);
                session.fill().await?;
                continue;
            }
            Some(Event::AppendMessage { text, literal, .. }) => {
                (reader.next(text, true), Some(literal))
            }
            Some(Event::AppendEnd(text)) => (reader.next(text, false), None),
            Some(Event::TooLong { .. }) => {
                session.conn.consume(used);
                return Ok(Err(Reply::bad("Line too long").word("LIMIT")));
            }
            Some(_) => return Err(End::Bye("Too much input without a command")),
        };
        session.conn.consume(used);
        return Ok(match read {
            Ok(items) => Ok((items, literal)),
            Err(kind) => {
                drain(session, literal).await?;
                Err(Reply::bad(kind.to_string()))
            }
        });
    }
}

/// Gives the command up: reads on to where it ends, unless it has ended (no `literal` follows).
async fn drain(session: &mut Session, literal: Option<Literal>) -> Result<(), End> {
    if literal.is_none() {
        return Ok(());
    }
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
    destination: Destination,
    messages: Messages,
) -> Result<Reply, End> {
    let Messages { whole: mut deliveries, seen: wanted, .. } = messages;
    let replaces = destination.replaced.is_some();
    let committed: engine::Result<Vec<Appended>> = match (deliveries.len(), deliveries.pop()) {
        (1, Some(delivery)) => match &destination.replaced {
            // What is sent has to be there before, and the old message until it is sent.
            Some((source, old)) if !destination.replaces_apart() => {
                delivery.replace(source, *old).await.map(|new| vec![new])
            }
            _ => delivery.commit().await.into_iter().collect(),
        },
        (_, Some(last)) => {
            deliveries.push(last);
            Delivery::commit_all(deliveries).await
        }
        (_, None) => Ok(vec![]),
    };
    // Deleted in the meantime: what was appended went with it, or found no place any more.
    if destination.mailbox.is_gone() {
        return Ok(Reply::no("Mailbox was deleted").word("TRYCREATE"));
    }
    let appended = match committed {
        Ok(appended) => appended,
        Err(error) => return Ok(session.failure("append messages", &error, "TRYCREATE")),
    };
    if destination.arrivals.is_some() {
        let uids = appended.iter().map(|appended| appended.uid).collect();
        if let Err(error) = destination.mailbox.publish(uids).await {
            return Ok(session.failure("append to a shared folder", &error, "TRYCREATE"));
        }
    }
    if destination.is_outbox
        && let Some(refusal) = send(session, &destination.mailbox, &appended).await?
    {
        return Ok(refusal);
    }
    if let Some((source, old)) =
        destination.replaced.as_ref().filter(|_| destination.replaces_apart())
        && let Err(error) = source.expunge(&source.view(), vec![*old]).await
    {
        // It is there, or sent: a client that heard of a failure would send it again.
        session.failure("remove a replaced message", &error, "NONEXISTENT");
    }
    if let Some(seen) = &destination.seen {
        let uids = appended.iter().zip(wanted).filter(|(_, wanted)| *wanted);
        let uids: Vec<Uid> = uids.map(|(appended, _)| appended.uid).collect();
        let marked = destination.user.change_private_seen(seen, uids, true).await;
        if let Err(error) = marked {
            // The messages are there; that one of them counts as unseen is no reason to send them
            // again.
            session.failure("mark messages as seen", &error, "TRYCREATE");
        }
    }
    let uid_validity = appended.first().map_or(UidValidity(0), |first| first.uid_validity);
    let uids = SequenceSet::from_ascending(appended.iter().map(|appended| appended.uid.0));
    let code = Code::AppendUid(uid_validity, uids);
    if replaces {
        // RFC 8508 section 4.3: before the EXPUNGE that follows.
        session.untagged(Status::Ok, Some(&code), "Replacement message ready");
        return Ok(Reply::ok("Replaced"));
    }
    Ok(Reply::ok("Appended").code(code))
}

/// Sends what has come into the outbox; if that fails, takes it back and says why.
async fn send(
    session: &mut Session,
    mailbox: &Mailbox,
    appended: &[Appended],
) -> Result<Option<Reply>, End> {
    let uids: Vec<Uid> = appended.iter().map(|appended| appended.uid).collect();
    let view = mailbox.view();
    let Err(refusal) = session.send(mailbox, &view, &uids).await? else { return Ok(None) };
    if let Err(error) = mailbox.expunge(&view, uids).await {
        session.failure("take back a message", &error, "NONEXISTENT");
    }
    Ok(Some(refusal))
}

#[cfg(test)]
mod tests {
    use super::HeaderScan;

    #[test]
    fn only_the_header_is_scanned() {
        let has_8bit = |pieces: &[&str]| {
            let mut scan = HeaderScan::begin();
            pieces.iter().for_each(|piece| scan.feed(piece.as_bytes()));
            scan.has_8bit
        };
        assert!(!has_8bit(&["a: b\r\n\r\nü"]));
        assert!(!has_8bit(&["a: b\r", "\n\r", "\n", "ü"]));
        assert!(!has_8bit(&["\nü"]));
        assert!(has_8bit(&["a: b\r\n", "c: ü\r\n\r\n"]));
        assert!(has_8bit(&["a: b\n", "\u{fc}"]));
    }
}
