//! One client: its state, from the greeting to the end, and how it is answered.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;

use auth::Account;
use engine::User;
use protocol::imap::command::Tag;
use protocol::imap::decode::{DecodeError, DecodeErrorKind};
use protocol::imap::encode::{self, Code, Status};
use protocol::imap::framing::{Excess, Framer, Limits};

use super::fetch::ahead::Ahead;
use super::input::Input;
use super::notify::Notices;
use super::reply::{End, Reply};
use super::selected::{Features, Selected};
use super::sharing::Viewer;
use super::{capability, cmd};
use crate::language::Language;
use crate::net::Conn;
use crate::services::Services;

/// The charsets that SEARCH's BADCHARSET names; others are known too.
const CHARSETS: &[&str] = &["US-ASCII", "UTF-8", "ISO-8859-1", "WINDOWS-1252", "KOI8-R"];

/// What people have to be shown (RFC 9051, section 7.1).
const ALERT: Code = Code::Word("ALERT");

/// How much of an answer a session makes in one piece.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// How much of an unsent answer a session makes before it sends it and lets others run. Every send
/// may have to wake the client up.
const SEND_BYTES: usize = 128 << 10;

/// Everything that a session knows.
pub(super) struct Session {
    pub(super) conn: Conn,
    pub(super) services: Rc<Services>,
    pub(super) framer: Framer,
    pub(super) features: Features,
    pub(super) user: Option<User>,
    /// What is known of that user beside the mailboxes.
    pub(super) viewer: Option<Box<Viewer>>,
    pub(super) selected: Option<Box<Selected>>,
    /// What the session hears of beside that.
    pub(super) notices: Option<Box<Notices>>,
    pub(super) login_failures: u32,
    /// Of the command that is carried out, if that may take long.
    pub(super) tag: Option<Tag>,
    /// The login may read and nothing else.
    pub(super) read_only: bool,
    /// The present command's tag asks for SMAP.
    pub(super) smap: bool,
    pub(super) bad_commands: u32,
    /// Since when, counted from the connection's begin, the client has had no login, or had none
    /// before its first.
    pub(super) since_seconds: u32,
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
        viewer: None,
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
pub(super) fn seconds_of(conn: &Conn) -> u32 {
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
            End::Told(text) => text.to_string(),
            End::Io(error) => error.to_string(),
        };
        self.services.log_end(&self.conn, self.user.as_ref().map(User::name), &reason);
        match &end {
            End::Bye(text) => self.untagged(Status::Bye, None, text),
            End::Told(text) => self.untagged(Status::Bye, Some(&ALERT), text),
            End::Logout | End::Smap | End::Closed | End::Io(_) => {}
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
        let code = Code::Capability(capability::words(&self.conn, None, &self.services));
        self.untagged(Status::Ok, Some(&code), &greeting);
        if let Some(text) = self.services.shared().motd() {
            self.untagged(Status::Ok, Some(&ALERT), &text);
        }
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        self.greet();
        loop {
            match self.next_input().await? {
                // Apart from the task's own memory, which idle sessions keep: commands are large.
                Input::Command(Ok(command)) => Box::pin(self.command(command)).await?,
                Input::Command(Err(error)) => self.not_understood(error)?,
                Input::Append { text, literal } => {
                    if self.keep_promise(true).await?.is_some() {
                        return Err(End::Bye("Messages were removed by another program"));
                    }
                    Box::pin(cmd::append::run(self, text, literal)).await?;
                }
                Input::TooLong { tag, excess } => self.too_long(tag.as_ref(), excess)?,
            }
            if self.conn.out.is_high() {
                self.conn.flush().await?;
            }
        }
    }

    pub(super) fn not_understood(&mut self, error: DecodeError) -> Result<(), End> {
        let reply = match error.kind {
            DecodeErrorKind::Charset => {
                Reply::no("Unknown charset").code(Code::BadCharset(CHARSETS))
            }
            kind @ DecodeErrorKind::CharsetForbidden => {
                Reply::bad(kind.to_string()).code(Code::BadCharset(&["UTF-8"]))
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

    pub(super) fn count_bad(&mut self) -> Result<(), End> {
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
        if self.conn.out.len() >= SEND_BYTES {
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

    /// Whether a STORE of this session may be answered before it is durable: not where a MODSEQ
    /// would leave with the answer, nor where a search's results have to be told with it.
    pub(super) fn answers_early(&self) -> bool {
        !self.features.condstore
            && self.selected.as_ref().is_none_or(|selected| selected.contexts.is_empty())
            && self.services.config().imap.store_sync == config::StoreSync::AfterAnswer
    }

    /// The user of a session that has logged in; [`Session::refusal`] has seen to that.
    pub(super) fn user(&self) -> Result<User, Reply> {
        self.user.clone().ok_or_else(|| Reply::bad("Log in first"))
    }

    /// After a login: wider limits, the user's mailboxes.
    pub(super) fn log_in(&mut self, user: User, account: &Account) {
        let config = self.services.config();
        let group = account.attributes.shared_group.as_deref().unwrap_or_default();
        let index = self.services.store.config().shared_index.of_group(group);
        self.viewer = Some(Box::new(Viewer::new(&self.conn, &config, account, index)));
        self.user = Some(user);
        self.read_only = account.attributes.read_only;
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
            viewer,
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
        conn.set_transcript(None);
        *framer = Framer::new(framing_limits(services, false));
        *features = Features::default();
        *user = None;
        *viewer = None;
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
