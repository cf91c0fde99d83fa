//! One client's connection: commands out, every response checked against its view and the ledger.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::ledger::Ledger;
use crate::value::{Condition, Response, Value, numbers};
use crate::view::{Allowed, Enabled, Fetched, View, Wrong};
use crate::wire::{Transport, Wire};

/// Lines of a session that a failure shows.
const LINES_KEPT: usize = 400;
/// Bytes of a line that a failure shows.
const LINE_BYTES_SHOWN: usize = 400;
/// How long a server may take to start again.
const RECONNECT_MAX: Duration = Duration::from_secs(60);

/// What all clients share.
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) transport: Transport,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) mailboxes: Vec<String>,
    pub(crate) ledger: Ledger,
    /// Tagged answers so far.
    pub(crate) commands: AtomicU64,
    /// Goes up before the server is killed, and once more when it serves again.
    pub(crate) generation: AtomicU64,
    /// Somebody has found a fault: all stop.
    pub(crate) failed: AtomicBool,
}

/// Why a session does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The server broke a rule.
    Wrong(Wrong),
    /// The connection ended.
    Lost(io::Error),
}

impl From<Wrong> for Stop {
    fn from(wrong: Wrong) -> Stop {
        Stop::Wrong(wrong)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::InvalidData => Stop::Wrong(error.to_string()),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Stop::Wrong("the server says nothing".to_owned())
            }
            _ => Stop::Lost(error),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Wrong(wrong) => f.write_str(wrong),
            Stop::Lost(error) => write!(f, "connection lost: {error}"),
        }
    }
}

/// A command before it has a tag.
pub(crate) struct Command {
    /// Without tag and CRLF; literals are non-synchronising.
    pub(crate) bytes: Vec<u8>,
    /// FETCH, STORE and SEARCH by sequence number: no EXPUNGE while it runs.
    pub(crate) holds: bool,
}

impl Command {
    pub(crate) fn new(text: impl Into<String>) -> Command {
        Command { bytes: text.into().into_bytes(), holds: false }
    }

    pub(crate) fn holding(text: impl Into<String>) -> Command {
        Command { holds: true, ..Command::new(text) }
    }

    fn allows(&self) -> Allowed {
        let fetches =
            [&b"FETCH "[..], b"UID FETCH "].iter().any(|verb| self.bytes.starts_with(verb));
        Allowed { expunge: !self.holds, bare_flags: fetches }
    }
}

/// What came between a command and its tagged answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) condition: Condition,
    /// SEARCH, ESEARCH, STATUS, VANISHED (EARLIER) and the like.
    pub(crate) data: Vec<Vec<Value>>,
    /// Codes of untagged OKs.
    pub(crate) codes: Vec<Condition>,
}

impl Answer {
    /// The arguments of a code, tagged or not.
    pub(crate) fn code(&self, name: &str) -> Option<&[Value]> {
        let untagged = || self.codes.iter().find_map(|condition| condition.code(name));
        self.condition.code(name).or_else(untagged)
    }

    pub(crate) fn code_number(&self, name: &str) -> Option<u64> {
        self.code(name)?.first()?.number()
    }

    /// The tagged answer must be OK.
    pub(crate) fn ok(self, command: &str) -> Result<Answer, Wrong> {
        if self.condition.is_ok() {
            return Ok(self);
        }
        Err(format!("{command} was answered {:?}", self.condition))
    }

    /// The tagged answer is OK, or NO because others expunged what was asked for.
    pub(crate) fn ok_or_expunged(self, command: &str) -> Result<Option<Answer>, Wrong> {
        if self.condition.word == "NO" && self.condition.code("EXPUNGEISSUED").is_some() {
            return Ok(None);
        }
        self.ok(command).map(Some)
    }

    /// The numbers behind `* SEARCH`.
    pub(crate) fn search(&self) -> Result<BTreeSet<u32>, Wrong> {
        let mut out = BTreeSet::new();
        let mut found = false;
        for values in self.data.iter().filter(|values| values[0].is("SEARCH")) {
            found = true;
            for value in &values[1..] {
                // A MODSEQ at the end is a list.
                if value.list().is_some() {
                    continue;
                }
                let number = value.number().and_then(|n| u32::try_from(n).ok());
                out.insert(number.ok_or_else(|| format!("SEARCH gave {value:?}"))?);
            }
        }
        if found { Ok(out) } else { Err("SEARCH gave no answer".to_owned()) }
    }
}

/// The selected mailbox.
pub(crate) struct Selected {
    pub(crate) mailbox: usize,
    pub(crate) read_only: bool,
    pub(crate) view: View,
    /// HIGHESTMODSEQ up to which the view is complete.
    pub(crate) synced: u64,
}

/// What a client keeps of a mailbox that it has left.
#[derive(Clone)]
pub(crate) struct Cached {
    pub(crate) view: View,
    pub(crate) synced: u64,
}

/// One client.
pub(crate) struct Session {
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) random: fastrand::Rng,
    wire: Option<Wire>,
    /// [`Shared::generation`] when it connected.
    generation: u64,
    pub(crate) capabilities: BTreeSet<String>,
    pub(crate) enabled: Enabled,
    tag: u64,
    pub(crate) selected: Option<Selected>,
    pub(crate) cached: BTreeMap<usize, Cached>,
    /// Whether messages have this client's keyword, as far as it was answered.
    pub(crate) keywords: BTreeMap<(usize, u32), bool>,
    /// Of which messages the keyword is just being changed.
    pub(crate) changing: BTreeSet<u32>,
    /// Its messages that are alive.
    pub(crate) own: BTreeSet<(usize, u32)>,
    /// Its messages that have `\Deleted`, answered.
    pub(crate) marked: BTreeSet<(usize, u32)>,
    pub(crate) made: u64,
    lines: VecDeque<String>,
}

impl Session {
    pub(crate) fn new(id: usize, shared: Arc<Shared>, seed: u64) -> Session {
        let random = fastrand::Rng::with_seed(seed ^ (id as u64 + 1).wrapping_mul(0x9E37_79B9));
        Session {
            id,
            shared,
            random,
            wire: None,
            generation: 0,
            capabilities: BTreeSet::new(),
            enabled: Enabled::default(),
            tag: 0,
            selected: None,
            cached: BTreeMap::new(),
            keywords: BTreeMap::new(),
            changing: BTreeSet::new(),
            own: BTreeSet::new(),
            marked: BTreeSet::new(),
            made: 0,
            lines: VecDeque::new(),
        }
    }

    /// This client's keyword; nobody else touches it.
    pub(crate) fn keyword(&self) -> String {
        format!("k{}", self.id)
    }

    pub(crate) fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(capability)
    }

    /// The last lines of the session.
    pub(crate) fn lines(&self) -> String {
        self.lines.iter().map(|line| format!("    {line}\n")).collect()
    }

    fn note(&mut self, direction: char, bytes: &[u8]) {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LINE_BYTES_SHOWN)]);
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{direction} {}", text.trim_end()));
    }

    /// Leaves without a word, as a client that loses its network does.
    pub(crate) fn drop_connection(&mut self) {
        self.keep_cache();
        self.wire = None;
        self.selected = None;
    }

    /// Whether the server was killed since this session connected.
    pub(crate) fn was_killed(&self) -> bool {
        self.shared.generation.load(Ordering::SeqCst) != self.generation
    }

    /// Connects, logs in, enables what chance says.
    pub(crate) fn connect(&mut self) -> Result<(), Stop> {
        let until = Instant::now() + RECONNECT_MAX;
        loop {
            self.generation = self.shared.generation.load(Ordering::SeqCst);
            match self.try_connect() {
                Err(Stop::Lost(error)) => {
                    let patient =
                        Instant::now() < until && !self.shared.failed.load(Ordering::Relaxed);
                    if !patient {
                        return Err(Stop::Lost(error));
                    }
                    thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    fn try_connect(&mut self) -> Result<(), Stop> {
        self.selected = None;
        self.enabled = Enabled::default();
        self.changing.clear();
        self.wire = Some(Wire::connect(self.shared.address, self.shared.tls.clone())?);
        match self.read()? {
            Response::Status(greeting) if greeting.is_ok() => {}
            other => return Err(format!("the greeting was {other:?}").into()),
        }
        let login = format!("LOGIN {} {}", self.shared.user, self.shared.password);
        self.command(Command::new(login))?.ok("LOGIN")?;
        let answer = self.command(Command::new("CAPABILITY"))?.ok("CAPABILITY")?;
        let words = answer.data.iter().filter(|values| values[0].is("CAPABILITY")).flatten();
        self.capabilities = words.filter_map(Value::atom).map(str::to_uppercase).collect();
        if self.shared.transport.is_compressed() {
            if !self.has("COMPRESS=DEFLATE") {
                return Err(Stop::Wrong("the server offers no COMPRESS=DEFLATE".to_owned()));
            }
            self.command(Command::new("COMPRESS DEFLATE"))?.ok("COMPRESS")?;
            if let Some(wire) = &mut self.wire {
                wire.compress();
            }
        }
        match self.random.u8(0..4) {
            0 if self.has("CONDSTORE") => {
                self.command(Command::new("ENABLE CONDSTORE"))?.ok("ENABLE")?;
                self.enabled.condstore = true;
            }
            1 | 2 if self.has("QRESYNC") => {
                let answer = self.command(Command::new("ENABLE QRESYNC"))?.ok("ENABLE")?;
                if !answer
                    .data
                    .iter()
                    .any(|v| v[0].is("ENABLED") && v.iter().any(|w| w.is("QRESYNC")))
                {
                    return Err(Stop::Wrong("ENABLE QRESYNC did not enable it".to_owned()));
                }
                self.enabled = Enabled { condstore: true, qresync: true };
            }
            _ => {}
        }
        Ok(())
    }

    fn wire(&mut self) -> Result<&mut Wire, Stop> {
        self.wire.as_mut().ok_or_else(|| Stop::Lost(io::ErrorKind::NotConnected.into()))
    }

    fn read(&mut self) -> Result<Response, Stop> {
        let Some((response, raw)) = self.wire()?.response()? else {
            return Err(Stop::Lost(io::ErrorKind::UnexpectedEof.into()));
        };
        self.note('S', &raw);
        if let Response::Status(bye) = &response
            && bye.word == "BYE"
        {
            return Err(Stop::Lost(io::Error::other(format!("BYE {}", bye.text))));
        }
        Ok(response)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.note('C', bytes);
        Ok(self.wire()?.send(bytes)?)
    }

    /// One command to its answer.
    pub(crate) fn command(&mut self, command: Command) -> Result<Answer, Stop> {
        self.pipeline(vec![command])?.pop().ok_or_else(|| Stop::Wrong("no answer".to_owned()))
    }

    /// Sends commands together and reads all answers. The server works on them in order, so an
    /// untagged response belongs to the first that is not answered.
    pub(crate) fn pipeline(&mut self, commands: Vec<Command>) -> Result<Vec<Answer>, Stop> {
        let mut out = Vec::new();
        let first = self.tag + 1;
        for command in &commands {
            self.tag += 1;
            out.extend_from_slice(format!("t{} ", self.tag).as_bytes());
            out.extend_from_slice(&command.bytes);
            out.extend_from_slice(b"\r\n");
        }
        self.send(&out)?;
        let mut answers = Vec::new();
        for (number, command) in (first..).zip(&commands) {
            answers.push(self.answer(number, command.allows())?);
        }
        Ok(answers)
    }

    fn answer(&mut self, number: u64, allowed: Allowed) -> Result<Answer, Stop> {
        let (mut data, mut codes) = (Vec::new(), Vec::new());
        loop {
            match self.read()? {
                Response::Tagged(tag, condition) => {
                    if tag != format!("t{number}") {
                        return Err(format!("t{number} was expected, {tag} was answered").into());
                    }
                    self.shared.commands.fetch_add(1, Ordering::Relaxed);
                    return Ok(Answer { condition, data, codes });
                }
                Response::Continue => return Err(Stop::Wrong("a + that nobody asked for".into())),
                Response::Status(condition) => codes.push(condition),
                Response::Data(values) => {
                    if let Some(values) = self.untagged(values, allowed)? {
                        data.push(values);
                    }
                }
            }
        }
    }

    /// IDLE until something comes or `wait` is over.
    pub(crate) fn idle(&mut self, wait: Duration) -> Result<(), Stop> {
        self.tag += 1;
        let number = self.tag;
        self.send(format!("t{number} IDLE\r\n").as_bytes())?;
        let allowed = Allowed { expunge: true, bare_flags: false };
        loop {
            match self.read()? {
                Response::Continue => break,
                Response::Data(values) => drop(self.untagged(values, allowed)?),
                Response::Status(_) => {}
                Response::Tagged(_, condition) => {
                    return Err(format!("IDLE was answered {condition:?}").into());
                }
            }
        }
        if self.wire()?.readable(wait)? {
            match self.read()? {
                Response::Data(values) => drop(self.untagged(values, allowed)?),
                Response::Status(_) => {}
                other => return Err(format!("IDLE was told {other:?}").into()),
            }
        }
        self.send(b"DONE\r\n")?;
        self.answer(number, allowed)?.ok("IDLE")?;
        Ok(())
    }

    /// Takes in what concerns the view; hands back the rest.
    fn untagged(
        &mut self,
        values: Vec<Value>,
        allowed: Allowed,
    ) -> Result<Option<Vec<Value>>, Stop> {
        if values.is_empty() {
            return Err(Stop::Wrong("an empty response".to_owned()));
        }
        let number = values[0].number();
        let word = values.get(usize::from(number.is_some())).and_then(Value::atom).unwrap_or("");
        let word = word.to_ascii_uppercase();
        let (enabled, keyword) = (self.enabled, self.keyword());
        let Some(selected) = &mut self.selected else {
            // During SELECT: kept for whoever asked.
            return Ok(Some(values));
        };
        let mailbox = selected.mailbox;
        match (number, word.as_str()) {
            (Some(count), "EXISTS") => selected.view.exists(count)?,
            (Some(_), "RECENT") => {}
            (Some(seq), "EXPUNGE") => {
                if let Some(uid) = selected.view.expunge(seq, enabled, allowed)? {
                    self.shared.ledger.told_gone(mailbox, uid)?;
                }
            }
            (None, "VANISHED") if values.get(1).is_some_and(|v| v.list().is_none()) => {
                let uids = values[1].atom().and_then(numbers);
                let uids = uids.ok_or_else(|| format!("VANISHED has no set: {values:?}"))?;
                for &uid in &uids {
                    self.shared.ledger.told_gone(mailbox, uid)?;
                }
                selected.view.vanished(&uids, enabled, allowed)?;
            }
            (Some(seq), "FETCH") => {
                let items = values.get(2).and_then(Value::list);
                let items = items.ok_or_else(|| format!("FETCH without items: {values:?}"))?;
                let fetched = Fetched::read(items)?;
                let message = selected.view.fetch(seq, &fetched, enabled, allowed)?;
                let Some(uid) = message.uid else { return Ok(None) };
                if let Some(marker) = &fetched.marker
                    && let Some(expected) = self.shared.ledger.marker(mailbox, uid)
                    && *marker != expected
                {
                    return Err(format!("UID {uid} was {expected} and is {marker}").into());
                }
                if let Some(flags) = &fetched.flags
                    && !self.changing.contains(&uid)
                    && let Some(&on) = self.keywords.get(&(mailbox, uid))
                    && flags.contains(&keyword) != on
                    // Of one that is just being removed nothing is promised.
                    && self.shared.ledger.is_alive(mailbox, uid)
                {
                    let what = if on { "is lost" } else { "is back" };
                    return Err(format!("{keyword} of UID {uid} {what}: {flags:?}").into());
                }
            }
            _ => return Ok(Some(values)),
        }
        Ok(None)
    }

    /// Remembers the selected mailbox for a later SELECT with QRESYNC.
    pub(crate) fn keep_cache(&mut self) {
        if let Some(selected) = self.selected.take()
            && self.enabled.qresync
            && selected.view.uids().is_some()
        {
            let Selected { mailbox, view, synced, .. } = selected;
            self.cached.insert(mailbox, Cached { view, synced });
        }
    }
}
