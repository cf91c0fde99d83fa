//! One client: state, the loop, waiting for input.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use engine::{Changes, Mailbox, User, View};
use protocol::imap::command::{Body, Command, FetchItem, Tag};
use protocol::imap::decode::{self, DecodeError, DecodeErrorKind, Dialect};
use protocol::imap::encode::{self, Code, Status};
use protocol::imap::framing::{Event, Excess, Framer, Limits, Literal};
use protocol::types::{ModSeq, Uid};

use super::fetch::ahead::Ahead;
use super::language::Language;
use super::notify::Notices;
use super::reply::{End, Outcome, Reply};
use super::selected::{Features, Selected};
use super::{capability, cmd, contexts};
use crate::net::Conn;
use crate::services::Services;

/// The charsets that SEARCH's BADCHARSET names; others are known too.
const CHARSETS: &[&str] = &["US-ASCII", "UTF-8", "ISO-8859-1", "WINDOWS-1252", "KOI8-R"];

/// How much of an unsent answer a session makes before it lets others run.
pub(super) const YIELD_BYTES: usize = 64 << 10;

/// EXPUNGE lines that are written before other sessions run.
const EXPUNGED_TURN: usize = 4096;

/// Everything that a session knows.
pub(super) struct Session {
    pub(super) conn: Conn,
    pub(super) services: Rc<Services>,
    pub(super) framer: Framer,
    pub(super) features: Features,
    pub(super) user: Option<User>,
    pub(super) selected: Option<Box<Selected>>,
    /// What the session hears of beside that.
    pub(super) notices: Option<Box<Notices>>,
    pub(super) login_failures: u32,
    /// Of the command that is carried out, if that may take long.
    pub(super) tag: Option<Tag>,
    /// The login may read and nothing else.
    pub(super) read_only: bool,
    /// The present command's tag asks for SMAP.
    smap: bool,
    bad_commands: u32,
    /// Since when, counted from the connection's begin, the client has had no login, or had none
    /// before its first.
    since_seconds: u32,
    /// Of texts for people.
    pub(super) language: Language,
    /// The client's ID is in the log.
    pub(super) has_said_id: bool,
    /// Whether message files are asked for before their turn.
    pub(super) ahead: Ahead,
    /// Say BYE with this text once the present command is answered.
    pub(super) last_words: Option<&'static str>,
}

/// What is left to do when IMAP has ended.
enum After {
    /// To say goodbye.
    Close,
    /// Nothing: the connection is of no more use.
    Drop,
    /// All the rest.
    Smap,
}

/// The tag that leads to SMAP, and its blank. No tag of IMAP's.
const SMAP_TAG: &[u8] = b"\\SMAP1 ";

/// The next thing that a client sent.
enum Input {
    Command(Result<Command, DecodeError>),
    /// APPEND or REPLACE; without a literal its parts are URLs.
    Append {
        text: Vec<u8>,
        literal: Option<Literal>,
    },
    TooLong {
        tag: Option<Tag>,
        excess: Excess,
    },
}

/// A line outside commands, as AUTHENTICATE and IDLE want it.
pub(super) enum Line {
    /// The line.
    Text(Vec<u8>),
    /// It was too long, and dropped.
    TooLong,
}

/// Serves one IMAP connection to its end.
///
/// Not an `async fn`: its task would keep room for the arguments beside the session that they
/// were moved into.
pub fn run(conn: Conn, services: Rc<Services>) -> impl Future<Output = ()> {
    let limits = framing_limits(&services, false);
    let mut session = Session {
        conn,
        services,
        framer: Framer::new(limits),
        features: Features::default(),
        user: None,
        selected: None,
        notices: None,
        login_failures: 0,
        tag: None,
        read_only: false,
        smap: false,
        bad_commands: 0,
        since_seconds: 0,
        language: Language::default(),
        has_said_id: false,
        ahead: Ahead::default(),
        last_words: None,
    };
    async move {
        match session.run().await {
            After::Close => session.conn.close().await,
            After::Drop => {}
            After::Smap => session.go_on_in_smap().await,
        }
    }
}

/// The age of a connection.
fn seconds_of(conn: &Conn) -> u32 {
    u32::try_from(conn.since().elapsed().as_secs()).unwrap_or(u32::MAX)
}

fn framing_limits(services: &Services, logged_in: bool) -> Limits {
    if !logged_in {
        return Limits::BEFORE_LOGIN;
    }
    let limits = &services.config().limits;
    Limits {
        line_bytes_max: limits.line_bytes_max,
        literal_bytes_max: limits.literal_bytes_max as u64,
        command_bytes_max: limits.command_bytes_max,
    }
}

impl Session {
    /// To the end; and what comes after it.
    async fn run(&mut self) -> After {
        let end = match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let reason = match &end {
            End::Smap => return After::Smap,
            End::Logout => "logout".to_owned(),
            End::Closed => "closed by the client".to_owned(),
            End::Bye(text) => (*text).to_owned(),
            End::Io(error) => error.to_string(),
        };
        self.services.log_end(&self.conn, self.user.as_ref().map(User::name), &reason);
        if let End::Bye(text) = end {
            self.untagged(Status::Bye, None, text);
        }
        self.selected = None;
        if matches!(end, End::Io(_)) { After::Drop } else { After::Close }
    }

    /// All that follows a login in SMAP's way. Boxed apart, as [`Conn::close`] is.
    fn go_on_in_smap(self) -> Pin<Box<dyn Future<Output = ()>>> {
        let Session { conn, services, user, read_only, .. } = self;
        match user {
            Some(user) => Box::pin(crate::smap::run(conn, services, user, read_only)),
            None => conn.close(),
        }
    }

    fn greet(&mut self) {
        let greeting = format!("{} Cursus ready", self.services.hostname());
        let code = Code::Capability(capability::words(&self.conn, false, &self.services));
        self.untagged(Status::Ok, Some(&code), &greeting);
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        self.greet();
        loop {
            match self.next_input().await? {
                Input::Command(Ok(command)) => self.command(command).await?,
                Input::Command(Err(error)) => self.not_understood(error)?,
                Input::Append { text, literal } => {
                    Box::pin(cmd::append::run(self, text, literal)).await?;
                }
                Input::TooLong { tag, excess } => self.too_long(tag.as_ref(), excess)?,
            }
            if self.conn.out.is_high() {
                self.conn.flush().await?;
            }
        }
    }

    /// The next command. Waits, with everything sent that is owed, until it has one.
    async fn next_input(&mut self) -> Result<Input, End> {
        loop {
            if self.services.is_draining() && self.framer.is_idle() {
                return Err(End::Bye("Server is shutting down"));
            }
            let dialect = self.dialect();
            let (used, event) = self.framer.next(self.conn.input());
            let input = match event {
                None => None,
                Some(Event::Command(text)) => {
                    self.smap = self.services.config().imap.smap && text.starts_with(SMAP_TAG);
                    // Behind the backslash it is a tag like others.
                    let text = if self.smap { &text[1..] } else { text };
                    if decode::is_append(text) {
                        Some(Input::Append { text: text.to_vec(), literal: None })
                    } else {
                        Some(Input::Command(decode::command(text, dialect)))
                    }
                }
                Some(Event::AppendMessage { text, literal, .. }) => {
                    Some(Input::Append { text: text.to_vec(), literal: Some(literal) })
                }
                Some(Event::TooLong { head, excess }) => {
                    Some(Input::TooLong { tag: decode::tag_of(head), excess })
                }
                Some(Event::Continue) => {
                    self.conn.consume(used);
                    self.continuation("OK");
                    continue;
                }
                Some(Event::Flood) => return Err(End::Bye("Too much input without a command")),
                // The session asked for none of these.
                Some(
                    Event::Line(_) | Event::MessageData(_) | Event::AppendEnd(_) | Event::Refused,
                ) => return Err(End::Bye("Lost track of the input")),
            };
            self.conn.consume(used);
            match input {
                Some(input) => return Ok(input),
                None => self.fill().await?,
            }
        }
    }

    /// The line that [`Framer::expect_line`] was called for.
    pub(super) async fn next_line(&mut self) -> Result<Line, End> {
        loop {
            let (used, event) = self.framer.next(self.conn.input());
            let line = match event {
                None => None,
                Some(Event::Line(text)) => Some(Line::Text(text.to_vec())),
                Some(Event::TooLong { .. }) => Some(Line::TooLong),
                Some(_) => return Err(End::Bye("Too much input without a line end")),
            };
            self.conn.consume(used);
            match line {
                Some(line) => return Ok(line),
                None => self.fill().await?,
            }
        }
    }

    /// Sends what is owed and waits for more bytes, within the time that the client has.
    pub(super) async fn fill(&mut self) -> Result<(), End> {
        self.conn.flush().await?;
        if self.framer.is_idle() && self.pushes() {
            // Apart from the task's own memory, as few sessions need it.
            return Box::pin(self.fill_and_push()).await;
        }
        if self.framer.is_idle() {
            self.framer.release();
        } else {
            self.conn.acknowledge();
        }
        let (wait, reason) = self.patience();
        let services = &self.services;
        let read = tokio::select! {
            biased;
            // In the middle of a command the client may finish it.
            () = services.draining(), if self.framer.is_idle() => {
                return Err(End::Bye("Server is shutting down"));
            }
            read = tokio::time::timeout(wait, self.conn.fill()) => read,
        };
        match read {
            Err(_) => Err(End::Bye(reason)),
            Ok(Ok(0)) => Err(End::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(End::Io(error)),
        }
    }

    /// How long to wait for the client's next byte, and what to say after that.
    pub(super) fn patience(&self) -> (Duration, &'static str) {
        let limits = &self.services.config().limits;
        if self.user.is_some() {
            let idle = Duration::from_secs(limits.imap_idle_seconds_max);
            return (idle, "Logged out for inactivity");
        }
        let until_login = Duration::from_secs(limits.login_seconds_max);
        let waited = seconds_of(&self.conn).saturating_sub(self.since_seconds);
        (until_login.saturating_sub(Duration::from_secs(waited.into())), "No login in time")
    }

    pub(super) fn dialect(&self) -> Dialect {
        Dialect { utf8_names: self.features.utf8() }
    }

    async fn command(&mut self, Command { tag, body }: Command) -> Result<(), End> {
        self.ahead.command();
        self.services.meter.doing(body.name());
        if std::mem::take(&mut self.smap) {
            return self.change_over(&tag, body).await;
        }
        let sync = SyncPoint::of(&body);
        if looks_at_flags(&body)
            && let Some(selected) = &self.selected
        {
            selected.mailbox.settled().await;
        }
        self.tag = may_take_long(&body).then(|| tag.clone());
        let holds_back = self.features.condstore && tells_modseqs(&body);
        let reply = self.carry_out(&tag, body).await?;
        self.sync_point(sync).await?;
        // MODSEQs were told that are above those of changes held back (RFC 7162 section 3.2).
        let is_ahead = |selected: &Selected| selected.told_ahead();
        if holds_back && sync == SyncPoint::None && self.selected.as_deref().is_some_and(is_ahead) {
            self.tell_modseq_highest();
        }
        if self.notices.is_some() {
            Box::pin(self.tell_notices()).await?;
        }
        if reply.status != Status::Bad {
            self.bad_commands = 0;
        }
        self.finish(&tag, &reply)
    }

    /// A login whose tag asks for SMAP: answered in SMAP's way.
    async fn change_over(&mut self, tag: &Tag, body: Body) -> Result<(), End> {
        let reply = match body {
            Body::Login { .. } | Body::Authenticate { .. } => self.carry_out(tag, body).await?,
            _ => Reply::bad("Log in"),
        };
        if reply.status == Status::Ok && self.user.is_some() {
            return Err(End::Smap);
        }
        self.conn.out.push(format!("-ERR {}\n", reply.text).as_bytes());
        match self.last_words {
            Some(text) => Err(End::Bye(text)),
            None => self.count_bad(),
        }
    }

    async fn carry_out(&mut self, tag: &Tag, body: Body) -> Outcome {
        if let Some(refusal) = self.refusal(&body) {
            return Ok(refusal);
        }
        match body {
            Body::Capability => cmd::capability::run(self),
            Body::Noop | Body::Check => Ok(Reply::ok("Completed")),
            Body::Logout => cmd::logout::run(self, tag),
            Body::StartTls => Box::pin(cmd::starttls::run(self, tag)).await,
            Body::Login { user, password } => {
                Box::pin(cmd::login::run(self, &user, &password)).await
            }
            Body::Authenticate { mechanism, initial } => {
                Box::pin(cmd::authenticate::run(self, &mechanism, initial)).await
            }
            Body::Enable(names) => cmd::enable::run(self, &names),
            Body::Compress { algorithm } => {
                Box::pin(cmd::compress::run(self, tag, &algorithm)).await
            }
            Body::GenUrlAuth(urls) => Box::pin(cmd::genurlauth::run(self, urls)).await,
            Body::ResetKey { mailbox, mechanisms } => {
                Box::pin(cmd::resetkey::run(self, mailbox, &mechanisms)).await
            }
            Body::UrlFetch(urls) => Box::pin(cmd::urlfetch::run(self, urls)).await,
            Body::Language(ranges) => cmd::language::run(self, &ranges),
            Body::Unauthenticate => Box::pin(cmd::unauthenticate::run(self, tag)).await,
            Body::Id(pairs) => cmd::id::run(self, &pairs),
            Body::Namespace => cmd::namespace::run(self),
            Body::Idle => Box::pin(cmd::idle::run(self)).await,
            Body::Select { mailbox, read_only, condstore, qresync } => {
                let read_only = read_only || self.read_only;
                Box::pin(cmd::select::run(self, &mailbox, read_only, condstore, qresync)).await
            }
            Body::Create { mailbox, special_use } => {
                Box::pin(cmd::create::run(self, &mailbox, &special_use)).await
            }
            Body::Delete { mailbox } => Box::pin(cmd::delete::run(self, &mailbox)).await,
            Body::Rename { from, to } => Box::pin(cmd::rename::run(self, &from, &to)).await,
            Body::Subscribe { mailbox } => {
                Box::pin(cmd::subscribe::run(self, &mailbox, true)).await
            }
            Body::Unsubscribe { mailbox } => {
                Box::pin(cmd::subscribe::run(self, &mailbox, false)).await
            }
            Body::List(list) => Box::pin(cmd::list::run(self, &list)).await,
            Body::Lsub { reference, pattern } => {
                Box::pin(cmd::lsub::run(self, &reference, &pattern)).await
            }
            Body::Status { mailbox, items } => {
                Box::pin(cmd::status::run(self, &mailbox, &items)).await
            }
            Body::Notify(notify) => Box::pin(cmd::notify::run(self, notify)).await,
            Body::GetMetadata(get) => Box::pin(cmd::metadata::get(self, get)).await,
            Body::SetMetadata { mailbox, changes } => {
                Box::pin(cmd::metadata::set(self, mailbox.as_deref(), changes)).await
            }
            Body::GetQuota { root } => cmd::quota::get(self, &root),
            Body::GetQuotaRoot { mailbox } => cmd::quota::get_root(self, &mailbox),
            Body::SetQuota { .. } => cmd::quota::set(),
            Body::Close => Box::pin(cmd::close::run(self)).await,
            Body::Unselect => cmd::close::unselect(self),
            Body::Expunge => Box::pin(cmd::expunge::run(self, None)).await,
            Body::UidExpunge(set) => Box::pin(cmd::expunge::run(self, Some(set))).await,
            Body::UidBatches(asked) => cmd::uid_batches::run(self, tag, asked),
            Body::Search(search) => Box::pin(cmd::search::run(self, tag, search)).await,
            Body::MultiSearch(search) => Box::pin(cmd::multi_search::run(self, tag, search)).await,
            Body::CancelUpdate(tags) => cmd::cancel_update::run(self, &tags),
            Body::Comparator(names) => cmd::comparator::run(self, &names),
            Body::Sort(sort) => Box::pin(cmd::sort::run(self, tag, sort)).await,
            Body::Thread(thread) => Box::pin(cmd::thread::run(self, thread)).await,
            Body::Fetch(fetch) => Box::pin(cmd::fetch::run(self, fetch)).await,
            Body::Store(store) => Box::pin(cmd::store::run(self, store)).await,
            Body::Copy(copy) => Box::pin(cmd::copy::run(self, copy)).await,
            Body::Move(copy) => Box::pin(cmd::copy::run_move(self, copy)).await,
        }
    }

    /// Refuses commands that have no place in the session's state.
    fn refusal(&self, body: &Body) -> Option<Reply> {
        let (logged_in, selected) = (self.user.is_some(), self.selected.is_some());
        if self.features.uid_only && needs_sequence_numbers(body) {
            return Some(Reply::bad("Only UIDs are in use").word("UIDREQUIRED"));
        }
        if self.read_only && !only_reads(body) {
            return Some(Reply::read_only_login());
        }
        let before_enable = matches!(
            body,
            Body::Capability
                | Body::Noop
                | Body::Logout
                | Body::Id(_)
                | Body::Language(_)
                | Body::Enable(_)
                | Body::Compress { .. }
                | Body::Unauthenticate
        );
        if logged_in
            && !before_enable
            && let Some(refusal) = self.utf8_refusal()
        {
            return Some(refusal);
        }
        match body {
            Body::Capability | Body::Noop | Body::Logout | Body::Id(_) | Body::Language(_) => None,
            Body::StartTls | Body::Login { .. } | Body::Authenticate { .. } => {
                logged_in.then(|| Reply::bad("Already logged in"))
            }
            Body::Check
            | Body::Close
            | Body::Unselect
            | Body::Expunge
            | Body::UidExpunge(_)
            | Body::UidBatches(_)
            | Body::Search(_)
            | Body::Sort(_)
            | Body::Thread(_)
            | Body::CancelUpdate(_)
            | Body::Fetch(_)
            | Body::Store(_)
            | Body::Copy(_)
            | Body::Move(_)
                if logged_in =>
            {
                (!selected).then(|| Reply::bad("Select a mailbox first"))
            }
            _ => (!logged_in).then(|| Reply::bad("Log in first")),
        }
    }

    /// Refuses what may need UTF-8 of clients that have not said that they take it, where that is
    /// set (RFC 6855 section 6).
    pub(super) fn utf8_refusal(&self) -> Option<Reply> {
        let only = self.services.config().imap.utf8 == config::Utf8::Only;
        (only && !self.features.utf8())
            .then(|| Reply::no("ENABLE UTF8=ACCEPT first").word("CANNOT"))
    }

    /// Tells what happened to the selected mailbox, if this is the time for it.
    pub(super) async fn sync_point(&mut self, point: SyncPoint) -> Result<(), End> {
        if self.holds_still() && point != SyncPoint::Own {
            return Ok(());
        }
        let Some(selected) = self.selected.as_mut() else { return Ok(()) };
        let newest = match point {
            SyncPoint::None => return Ok(()),
            SyncPoint::Newest | SyncPoint::Own => selected.newest().await,
            SyncPoint::Refreshed => match selected.mailbox.refresh().await {
                Ok(_) => selected.newest().await,
                Err(error) => {
                    let user = self.user.as_ref().map(User::name);
                    self.services.log_error(&self.conn, user, "refresh a mailbox", &error);
                    selected.newest().await
                }
            },
        };
        if selected.mailbox.is_gone() {
            return Err(End::Bye("The selected mailbox was deleted"));
        }
        if newest.is_same(&selected.view) {
            return Ok(());
        }
        // Apart from the task's own memory: an idle session shall not have room for it.
        Box::pin(self.tell(newest, (&[], ModSeq(0)), true)).await
    }

    /// A sync point after the session's own change, which was told or need not be: its
    /// messages and MODSEQ, `own` (ascending), are left out. Does nothing while expunges are in the
    /// way: they may not be told here.
    pub(super) async fn adopt(&mut self, newest: View, own: (&[Uid], ModSeq)) -> Result<(), End> {
        Box::pin(self.tell(newest, own, false)).await
    }

    /// Tells the client what differs in a newer view, with pauses for other sessions, and takes it.
    async fn tell(
        &mut self,
        newest: View,
        (own, modseq): (&[Uid], ModSeq),
        expunges: bool,
    ) -> Result<(), End> {
        let Some(selected) = self.selected.as_ref() else { return Ok(()) };
        self.services.meter.doing("sync point");
        // Contexts have to know of the session's own changes, too.
        let old = (!selected.contexts.is_empty()).then(|| selected.view.clone());
        let modseq = if old.is_some() { ModSeq(0) } else { modseq };
        let changes = selected.mailbox.changes(&newest, &selected.view, modseq).await;
        let changes = changes.map_err(|_| End::Bye("Server is shutting down"))?;
        if !expunges && !changes.expunged.is_empty() {
            return Ok(());
        }
        let features = self.features;
        let tells_flags = self.tells_flags();
        if let (Some(old), Some(selected)) = (&old, self.selected.as_mut()) {
            let remove = |out: &mut Vec<u8>| selected.contexts.remove(old, &changes.vanished, out);
            self.conn.out.with_vec(remove);
        }
        if features.qresync || features.uid_only {
            for some in changes.vanished.chunks(EXPUNGED_TURN) {
                self.conn.out.with_vec(|out| Selected::write_vanished(out, some));
                self.breathe().await?;
            }
        } else {
            for some in changes.expunged.rchunks(EXPUNGED_TURN) {
                self.conn.out.with_vec(|out| Selected::write_expunged(out, some));
                self.breathe().await?;
            }
        }
        let Some(selected) = self.selected.as_mut() else { return Ok(()) };
        let known = selected.view.uid_next();
        self.conn.out.with_vec(|out| selected.take_view(newest, changes.exists, out, features));
        if changes.exists.is_some()
            && let Some(items) = self.items_of_new()
        {
            Box::pin(cmd::fetch::tell_new(self, items, known)).await?;
        }
        let mut rest = if tells_flags { &changes.flags[..] } else { &[] };
        while !rest.is_empty() {
            let Some(selected) = self.selected.as_ref() else { return Ok(()) };
            let write = |out: &mut Vec<u8>| selected.write_changed(out, rest, own, features);
            rest = &rest[self.conn.out.with_vec(write)..];
            self.breathe().await?;
            if !rest.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        let Some(selected) = self.selected.as_mut() else { return Ok(()) };
        self.conn.out.with_vec(|out| selected.forget_answered(out, features));
        if let Some(old) = old {
            self.update_contexts(&changes, &old).await;
        }
        Ok(())
    }

    /// Tells what differs in the results of searches that asked for updates.
    async fn update_contexts(&mut self, changes: &Changes, old: &View) {
        let Some(selected) = self.selected.as_mut() else { return };
        let touched = contexts::touched(changes, old, &selected.view);
        if touched.is_empty() {
            return;
        }
        let mut contexts = std::mem::take(&mut selected.contexts);
        let (selected, mut lines) = (&*selected, Vec::new());
        let settle = |key| cmd::search::settle(key, selected);
        let view = &selected.view;
        let updated = contexts.update(&selected.mailbox, view, &touched, &settle, &mut lines).await;
        self.conn.out.push_vec(lines);
        if let Err(error) = updated {
            self.failure("update a search", &error, "NONEXISTENT");
            for tag in contexts.into_tags() {
                let code = Code::NoUpdate(tag);
                self.untagged(Status::No, Some(&code), "Updates cannot be had any more");
            }
        } else if let Some(selected) = self.selected.as_mut() {
            selected.contexts = contexts;
        }
    }

    pub(super) fn not_understood(&mut self, error: DecodeError) -> Result<(), End> {
        let reply = match error.kind {
            DecodeErrorKind::Charset => {
                Reply::no("Unknown charset").code(Code::BadCharset(CHARSETS))
            }
            kind => Reply::bad(kind.to_string()),
        };
        match error.tag {
            Some(tag) => self.finish(&tag, &reply),
            None => {
                self.untagged(Status::Bad, None, &reply.text);
                self.count_bad()
            }
        }
    }

    fn too_long(&mut self, tag: Option<&Tag>, excess: Excess) -> Result<(), End> {
        let (code, text) = match excess {
            Excess::Line => ("LIMIT", "Line too long"),
            Excess::Literal => ("TOOBIG", "Literal too large"),
            Excess::Command => ("LIMIT", "Command too long"),
        };
        let code = Code::Word(code);
        self.conn.out.with_vec(|out| encode::status(out, tag, Status::Bad, Some(&code), text));
        self.count_bad()
    }

    /// Writes the tagged answer.
    pub(super) fn finish(&mut self, tag: &Tag, reply: &Reply) -> Result<(), End> {
        let Reply { status, code, text, silent } = reply;
        if *silent {
            return Ok(());
        }
        self.write_status(Some(tag), *status, code.as_ref(), text);
        if let Some(text) = self.last_words {
            return Err(End::Bye(text));
        }
        if *status == Status::Bad { self.count_bad() } else { Ok(()) }
    }

    fn count_bad(&mut self) -> Result<(), End> {
        self.bad_commands += 1;
        if self.bad_commands >= self.services.config().limits.bad_commands_max {
            return Err(End::Bye("Too many commands that are not understood"));
        }
        Ok(())
    }

    /// Writes an untagged status response.
    pub(super) fn untagged(&mut self, status: Status, code: Option<&Code>, text: &str) {
        self.write_status(None, status, code, text);
    }

    fn write_status(&mut self, tag: Option<&Tag>, status: Status, code: Option<&Code>, text: &str) {
        let text = self.language.say(text);
        let write = match self.language {
            Language::Default => encode::status,
            Language::English | Language::German => encode::status_utf8,
        };
        self.conn.out.with_vec(|out| write(out, tag, status, code, &text));
    }

    /// Writes a continuation request.
    pub(super) fn continuation(&mut self, text: &str) {
        self.conn.out.with_vec(|out| encode::continuation(out, text));
    }

    /// Sends what is queued when it is much, and lets other sessions run. For long answers.
    pub(super) async fn breathe(&mut self) -> Result<(), End> {
        if self.conn.out.len() >= YIELD_BYTES {
            // The client reads while we make more.
            self.conn.flush_now().await?;
            if self.conn.out.is_high() {
                self.conn.flush().await?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The answer to a failure of the store; trouble that is not the client's goes to the log.
    pub(super) fn failure(
        &self,
        doing: &str,
        error: &engine::Error,
        missing: &'static str,
    ) -> Reply {
        if error.is_temporary() && !matches!(error, engine::Error::MailboxGone) {
            let user = self.user.as_ref().map(User::name);
            self.services.log_error(&self.conn, user, doing, error);
        }
        Reply::failure(error, missing)
    }

    /// A command that enables CONDSTORE: the first one of a session tells HIGHESTMODSEQ of the
    /// selected mailbox (RFC 7162 section 3.1).
    pub(super) fn enable_condstore(&mut self) {
        if !std::mem::replace(&mut self.features.condstore, true) {
            self.tell_modseq_highest();
        }
    }

    /// Tells up to where the client knows every change of the selected mailbox.
    fn tell_modseq_highest(&mut self) {
        if let Some(selected) = &self.selected {
            let code = Code::HighestModSeq(selected.view.modseq_highest());
            self.untagged(Status::Ok, Some(&code), "Highest");
        }
    }

    /// Whether a STORE of this session may be answered before it is durable: not where a MODSEQ
    /// would leave with the answer.
    pub(super) fn answers_early(&self) -> bool {
        !self.features.condstore
            && self.services.config().imap.store_sync == config::StoreSync::AfterAnswer
    }

    /// The user of a session that has logged in; [`Session::refusal`] has seen to that.
    pub(super) fn user(&self) -> Result<User, Reply> {
        self.user.clone().ok_or_else(|| Reply::bad("Log in first"))
    }

    /// Opens a mailbox of the user.
    pub(super) async fn mailbox(
        &self,
        name: &str,
        missing: &'static str,
    ) -> Result<Mailbox, Reply> {
        let user = self.user()?;
        user.mailbox(name).await.map_err(|error| self.failure("open a mailbox", &error, missing))
    }

    /// After a login: wider limits, the user's mailboxes.
    pub(super) fn log_in(&mut self, user: User, read_only: bool) {
        self.user = Some(user);
        self.read_only = read_only;
        self.bad_commands = 0;
        self.framer.set_limits(framing_limits(&self.services, true));
    }

    /// After STARTTLS and UNAUTHENTICATE: nothing that was said before counts.
    pub(super) fn start_over(&mut self) {
        // Every field is named, so that none is forgotten.
        let Session {
            conn,
            services,
            framer,
            features,
            user,
            selected,
            notices,
            tag,
            read_only,
            smap: _,
            // Of the connection, whoever logs in.
            login_failures: _,
            bad_commands: _,
            since_seconds,
            language,
            has_said_id,
            ahead,
            last_words,
        } = self;
        *framer = Framer::new(framing_limits(services, false));
        *features = Features::default();
        *user = None;
        *selected = None;
        *notices = None;
        *read_only = false;
        *since_seconds = seconds_of(conn);
        *language = Language::default();
        *has_said_id = false;
        *ahead = Ahead::default();
        *tag = None;
        *last_words = None;
    }
}

/// Commands for a login that may read and nothing else. Those that change flags by the way (FETCH)
/// find the mailbox selected for reading.
fn only_reads(body: &Body) -> bool {
    matches!(
        body,
        Body::Capability
            | Body::Noop
            | Body::Check
            | Body::Logout
            | Body::Id(_)
            | Body::Enable(_)
            | Body::Namespace
            | Body::Idle
            | Body::Select { .. }
            | Body::Unselect
            | Body::Close
            | Body::List(_)
            | Body::Lsub { .. }
            | Body::Status { .. }
            | Body::Notify(_)
            | Body::GetMetadata(_)
            | Body::GetQuota { .. }
            | Body::GetQuotaRoot { .. }
            | Body::Search(_)
            | Body::UidBatches(_)
            | Body::Fetch(_)
            | Body::StartTls
            | Body::Login { .. }
            | Body::Authenticate { .. }
    )
}

/// Whether a command's answer depends on flags: it then waits for changes that were answered before
/// they are visible. NOOP and the like do so by their refresh.
fn looks_at_flags(body: &Body) -> bool {
    match body {
        Body::Fetch(fetch) => {
            let flags = |item: &FetchItem| matches!(item, FetchItem::Flags | FetchItem::ModSeq);
            fetch.changed_since.is_some() || fetch.items.iter().any(flags)
        }
        Body::Search(_)
        | Body::Sort(_)
        | Body::Thread(_)
        | Body::MultiSearch(_)
        | Body::Copy(_)
        | Body::Move(_)
        | Body::Expunge
        | Body::UidExpunge(_)
        | Body::Close => true,
        _ => false,
    }
}

/// Whether a command may take so long that its client is told of its progress.
fn may_take_long(body: &Body) -> bool {
    matches!(
        body,
        Body::Copy(_)
            | Body::Move(_)
            | Body::Search(_)
            | Body::Store(_)
            | Body::Expunge
            | Body::UidExpunge(_)
            | Body::Close
    )
}

/// Whether a command's answer may have MODSEQs in it, of messages in the selected mailbox.
fn tells_modseqs(body: &Body) -> bool {
    matches!(body, Body::Fetch(_) | Body::Store(_))
}

/// Whether a command speaks of sequence numbers, which UIDONLY forbids (RFC 9586 section 3.2).
fn needs_sequence_numbers(body: &Body) -> bool {
    match body {
        Body::Fetch(fetch) => !fetch.uid,
        Body::Store(store) => !store.uid,
        Body::Copy(copy) | Body::Move(copy) => !copy.uid,
        Body::Search(search) => !search.uid || search.key.names_sequence_numbers(),
        Body::Sort(sort) => !sort.uid || sort.key.names_sequence_numbers(),
        Body::Thread(thread) => !thread.uid || thread.key.names_sequence_numbers(),
        Body::MultiSearch(search) => search.key.names_sequence_numbers(),
        Body::Select { qresync: Some(known), .. } => known.matched.is_some(),
        _ => false,
    }
}

/// What a session tells at the end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncPoint {
    /// Nothing: sequence numbers have to hold still (RFC 3501 section 7.4.1).
    None,
    /// What is known already.
    Newest,
    /// The same, after a removal of the session's own: also where NOTIFY lets the mailbox hold still.
    Own,
    /// What is found by looking, foreign changes too.
    Refreshed,
}

impl SyncPoint {
    fn of(body: &Body) -> SyncPoint {
        match body {
            Body::Noop | Body::Check => SyncPoint::Refreshed,
            Body::Notify(_) => SyncPoint::Refreshed,
            Body::Expunge | Body::UidExpunge(_) | Body::Move(_) => SyncPoint::Own,
            Body::Fetch(fetch) if !fetch.uid => SyncPoint::None,
            Body::Store(store) if !store.uid => SyncPoint::None,
            // RFC 7162 section 3.2.10.2 for the second.
            Body::Search(search) if !search.uid || search.key.names_sequence_numbers() => {
                SyncPoint::None
            }
            Body::Sort(sort) if !sort.uid || sort.key.names_sequence_numbers() => SyncPoint::None,
            Body::Thread(thread) if !thread.uid || thread.key.names_sequence_numbers() => {
                SyncPoint::None
            }
            // Their answers begin or end with the whole state of a mailbox.
            Body::Select { .. } | Body::Close | Body::Unselect | Body::Logout => SyncPoint::None,
            _ => SyncPoint::Newest,
        }
    }
}
