//! A key tree made ready to be asked for many messages.

use protocol::imap::search::{Date, SearchKey};
use protocol::mime::Field;
use protocol::mime::date::{DAY_SECONDS, days_from_civil};
use protocol::types::{Flag, Keyword, ModSeq, SequenceSet, Uid};

use super::body::{Message, Scratch};
use super::fuzzy::Word;
use super::needle::Needle;
use super::{Needs, Record, Source, folded};
use crate::collation::Collation;
use crate::fulltext::{Bits, Clues};

/// The first letter of an EMAILID.
pub const EMAIL_ID_KIND: u8 = b'M';
/// The first letter of a THREADID.
pub const THREAD_ID_KIND: u8 = b'T';

/// What a program needs to know of the mailbox and the session.
pub struct Context<'a> {
    /// The largest UID in the view; 0 when it is empty.
    pub uid_largest: Uid,
    /// The number of messages in the view.
    pub seq_largest: u32,
    /// The UIDs that `$` stands for, as ascending inclusive ranges.
    pub saved: &'a [(u32, u32)],
    /// How strings compare.
    pub collation: Collation,
    /// Seconds since 1970.
    pub now: i64,
    /// The bit of a keyword in [`Record::keywords`]; `None` when no message has it.
    pub keyword_bit: &'a dyn Fn(&Keyword) -> Option<u32>,
}

/// A compiled key tree.
#[derive(Debug)]
pub struct Program {
    root: Node,
    leaves: Vec<Leaf>,
    /// By leaf, what an index said of it; empty when none was asked.
    verdicts: Vec<Option<Verdict>>,
}

/// A string key, as far as an index can answer it.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// What messages that meet it have among their terms; `None`: an index can't tell.
    pub(crate) clues: Option<Clues>,
    /// Where these are.
    pub(crate) place: Place,
    /// Of a string that need not be there exactly: its words. There are no clues then.
    pub(crate) words: Vec<Word>,
    /// The number of the first of them among those of all leaves.
    words_from: usize,
}

impl Leaf {
    /// Whether an index has something to say of it.
    pub(crate) fn can_ask(&self) -> bool {
        self.clues.is_some() || !self.words.is_empty()
    }
}

/// Where a string key looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In one header field; what an index finds is in any of them.
    Field,
    /// In all header fields.
    Headers,
    /// In all bodies.
    Bodies,
    /// In header fields and bodies.
    Both,
}

/// What an index says of a string key, by sequence numbers less one.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Messages that may meet it.
    pub(crate) possible: Bits,
    /// Messages that do.
    pub(crate) sure: Bits,
}

#[derive(Debug)]
enum Node {
    Constant(bool),
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Flags(u8),
    Keywords(u64),
    Recent,
    Seq(Ranges),
    Uid(Ranges),
    Internal(Order, i32),
    /// The internal date is this or later, in seconds since 1970.
    Arrived(i64),
    Sent(Order, i32),
    Saved(Order, i32),
    EmailId([u8; 16]),
    ThreadId([u8; 16]),
    Larger(u64),
    Smaller(u64),
    ModSeq(ModSeq),
    Field {
        name: Box<[u8]>,
        known: Option<Field>,
        needle: Needle,
        leaf: usize,
    },
    Headers(Needle, usize),
    Bodies(Needle, usize),
    /// Words that need not be there exactly; `name`: of the header field, where it is one.
    Fuzzy {
        name: Option<Box<[u8]>>,
        leaf: usize,
    },
}

/// Ascending, inclusive, apart from one another.
type Ranges = Box<[(u32, u32)]>;

/// How a message's day stands to the day of the key.
#[derive(Clone, Copy, Debug)]
enum Order {
    Before,
    On,
    Since,
}

impl Order {
    fn holds(self, day: i32, of_key: i32) -> bool {
        match self {
            Order::Before => day < of_key,
            Order::On => day == of_key,
            Order::Since => day >= of_key,
        }
    }
}

impl Program {
    /// Compiles a key tree. The decoder bounds its depth.
    pub fn new(key: &SearchKey, context: &Context<'_>) -> Program {
        let mut leaves = Vec::new();
        Program { root: compile(key, context, &mut leaves), leaves, verdicts: Vec::new() }
    }

    /// Its string keys.
    pub(crate) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Whether an index said something.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.verdicts.iter().any(Option::is_some)
    }

    /// Tells what an index said of each of [`Program::leaves`].
    pub(crate) fn narrow(&mut self, verdicts: Vec<Option<Verdict>>) {
        self.verdicts = verdicts;
    }

    /// What it may have to look at.
    pub fn needs(&self) -> Needs {
        self.root.needs()
    }

    /// The answer if the index alone gives it.
    pub fn decide_by_index(&self, record: &Record) -> Option<bool> {
        self.root.by_index(record, &self.verdicts)
    }

    /// Whether the message matches.
    pub fn matches<S: Source>(
        &self,
        source: &mut S,
        scratch: &mut Scratch,
    ) -> Result<bool, S::Error> {
        let record = source.record();
        scratch.begin();
        match self.decide_by_index(&record) {
            Some(answer) => Ok(answer),
            None => self.root.matches(&record, self, &mut Message::new(source, scratch)),
        }
    }
}

fn compile(key: &SearchKey, context: &Context<'_>, leaves: &mut Vec<Leaf>) -> Node {
    let leaf = |text: &str, place, leaves: &mut Vec<Leaf>| {
        // Terms are without case.
        let is_default = context.collation == Collation::default();
        let clues = is_default.then(|| Clues::of(&folded(text))).flatten();
        let words = Vec::new();
        leaves.push(Leaf { clues, place, words, words_from: 0 });
        leaves.len() - 1
    };
    let field = |name: &str, text: &str, leaves: &mut Vec<Leaf>| Node::Field {
        name: name.as_bytes().into(),
        known: Field::of(name.as_bytes()),
        needle: Needle::new(text, context.collation),
        leaf: leaf(text, Place::Field, leaves),
    };
    match key {
        SearchKey::All => Node::Constant(true),
        SearchKey::And(keys) => all(keys.iter().map(|key| compile(key, context, leaves)).collect()),
        SearchKey::Or(a, b) => any(vec![compile(a, context, leaves), compile(b, context, leaves)]),
        SearchKey::Not(key) => match compile(key, context, leaves) {
            Node::Constant(value) => Node::Constant(!value),
            Node::Not(inner) => *inner,
            node => Node::Not(Box::new(node)),
        },
        SearchKey::Flag(Flag::System(flags)) => Node::Flags(flags.0),
        SearchKey::Flag(Flag::Keyword(keyword)) => {
            match (context.keyword_bit)(keyword).and_then(|bit| 1u64.checked_shl(bit)) {
                Some(mask) => Node::Keywords(mask),
                None => Node::Constant(false),
            }
        }
        SearchKey::Recent => Node::Recent,
        SearchKey::SeqSet(set) => Node::Seq(resolve(set, context.seq_largest)),
        SearchKey::UidSet(set) => Node::Uid(resolve(set, context.uid_largest.0)),
        SearchKey::SavedResult => Node::Uid(context.saved.into()),
        SearchKey::Before(date) => Node::Internal(Order::Before, day(date)),
        SearchKey::On(date) => Node::Internal(Order::On, day(date)),
        SearchKey::Since(date) => Node::Internal(Order::Since, day(date)),
        SearchKey::Younger(seconds) => {
            Node::Arrived(context.now.saturating_sub(i64::from(*seconds)))
        }
        SearchKey::Older(seconds) => {
            let since = context.now.saturating_sub(i64::from(*seconds));
            Node::Not(Box::new(Node::Arrived(since)))
        }
        SearchKey::SentBefore(date) => Node::Sent(Order::Before, day(date)),
        SearchKey::SentOn(date) => Node::Sent(Order::On, day(date)),
        SearchKey::SentSince(date) => Node::Sent(Order::Since, day(date)),
        SearchKey::SavedBefore(date) => Node::Saved(Order::Before, day(date)),
        SearchKey::SavedOn(date) => Node::Saved(Order::On, day(date)),
        SearchKey::SavedSince(date) => Node::Saved(Order::Since, day(date)),
        SearchKey::SaveDateSupported => Node::Constant(true),
        SearchKey::EmailId(id) => {
            object_id(id, EMAIL_ID_KIND).map_or(Node::Constant(false), Node::EmailId)
        }
        SearchKey::ThreadId(id) => {
            object_id(id, THREAD_ID_KIND).map_or(Node::Constant(false), Node::ThreadId)
        }
        SearchKey::Larger(size) => Node::Larger(*size),
        SearchKey::Smaller(size) => Node::Smaller(*size),
        SearchKey::ModSeq(modseq) => Node::ModSeq(*modseq),
        SearchKey::From(text) => field("from", text, leaves),
        SearchKey::To(text) => field("to", text, leaves),
        SearchKey::Cc(text) => field("cc", text, leaves),
        SearchKey::Bcc(text) => field("bcc", text, leaves),
        SearchKey::Subject(text) => field("subject", text, leaves),
        SearchKey::Header(name, text) => field(name, text, leaves),
        SearchKey::Fuzzy(key) => fuzzy(key, context, leaves),
        // The session has put in what it stands for.
        SearchKey::Filter(_) | SearchKey::Annotation { .. } => Node::Constant(false),
        SearchKey::Body(text) if text.is_empty() => Node::Constant(true),
        SearchKey::Text(text) if text.is_empty() => Node::Constant(true),
        SearchKey::Body(text) => {
            Node::Bodies(Needle::new(text, context.collation), leaf(text, Place::Bodies, leaves))
        }
        SearchKey::Text(text) => {
            let headers = Node::Headers(
                Needle::new(text, context.collation),
                leaf(text, Place::Headers, leaves),
            );
            any(vec![
                headers,
                Node::Bodies(
                    Needle::new(text, context.collation),
                    leaf(text, Place::Bodies, leaves),
                ),
            ])
        }
    }
}

/// As [`compile`], with strings that need not be there exactly. What is no string, or has no word in
/// it, means what it always does.
fn fuzzy(key: &SearchKey, context: &Context<'_>, leaves: &mut Vec<Leaf>) -> Node {
    let (name, text, place) = match key {
        SearchKey::And(keys) => {
            return all(keys.iter().map(|key| fuzzy(key, context, leaves)).collect());
        }
        SearchKey::Or(a, b) => {
            return any(vec![fuzzy(a, context, leaves), fuzzy(b, context, leaves)]);
        }
        SearchKey::Not(key) => return Node::Not(Box::new(fuzzy(key, context, leaves))),
        SearchKey::Fuzzy(key) => return fuzzy(key, context, leaves),
        SearchKey::From(text) => (Some("from"), text, Place::Field),
        SearchKey::To(text) => (Some("to"), text, Place::Field),
        SearchKey::Cc(text) => (Some("cc"), text, Place::Field),
        SearchKey::Bcc(text) => (Some("bcc"), text, Place::Field),
        SearchKey::Subject(text) => (Some("subject"), text, Place::Field),
        SearchKey::Header(name, text) => (Some(name.as_str()), text, Place::Field),
        SearchKey::Body(text) => (None, text, Place::Bodies),
        SearchKey::Text(text) => (None, text, Place::Both),
        other => return compile(other, context, leaves),
    };
    let words = Word::all(&folded(text));
    if words.is_empty() {
        return compile(key, context, leaves);
    }
    let words_from = leaves.last().map_or(0, |leaf| leaf.words_from + leaf.words.len());
    leaves.push(Leaf { clues: None, place, words, words_from });
    Node::Fuzzy { name: name.map(|name| name.as_bytes().into()), leaf: leaves.len() - 1 }
}

/// The bits of an object id of that kind, as [`protocol::imap::encode::object_id`] writes it; `None`
/// for one that we never gave.
fn object_id(id: &str, kind: u8) -> Option<[u8; 16]> {
    let digits = id.as_bytes().strip_prefix(&[kind])?;
    let is_ours = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    if digits.len() != 32 || !digits.iter().all(is_ours) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().map(u128::to_be_bytes)
}

fn resolve(set: &SequenceSet, largest: u32) -> Ranges {
    set.resolve(largest).into()
}

fn day(date: &Date) -> i32 {
    days_from_civil(i32::from(date.year), u32::from(date.month), u32::from(date.day))
}

/// Every node holds: nested ones flattened, the cheapest first.
fn all(nodes: Vec<Node>) -> Node {
    let mut flat = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            Node::Constant(true) => {}
            Node::Constant(false) => return node,
            Node::All(inner) => flat.extend(inner),
            node => flat.push(node),
        }
    }
    flat.sort_by_key(Node::cost);
    match flat.len() {
        0 => Node::Constant(true),
        1 => flat.remove(0),
        _ => Node::All(flat),
    }
}

/// One node at least holds.
fn any(nodes: Vec<Node>) -> Node {
    let mut flat = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            Node::Constant(false) => {}
            Node::Constant(true) => return node,
            Node::Any(inner) => flat.extend(inner),
            node => flat.push(node),
        }
    }
    flat.sort_by_key(Node::cost);
    match flat.len() {
        0 => Node::Constant(false),
        1 => flat.remove(0),
        _ => Node::Any(flat),
    }
}

fn within(ranges: &[(u32, u32)], n: u32) -> bool {
    let after = ranges.partition_point(|range| range.0 <= n);
    after > 0 && n <= ranges[after - 1].1
}

fn day_of(seconds: i64) -> i32 {
    i32::try_from(seconds.div_euclid(DAY_SECONDS)).unwrap_or(i32::MAX)
}

impl Node {
    fn needs(&self) -> Needs {
        match self {
            Node::All(nodes) | Node::Any(nodes) => {
                nodes.iter().map(Node::needs).max().unwrap_or(Needs::Index)
            }
            Node::Not(node) => node.needs(),
            Node::Field { known: Some(_), .. }
            | Node::Sent(..)
            | Node::Saved(..)
            | Node::EmailId(_)
            | Node::ThreadId(_) => Needs::Cache,
            Node::Field { known: None, .. }
            | Node::Headers(..)
            | Node::Bodies(..)
            | Node::Fuzzy { .. } => Needs::Bytes,
            _ => Needs::Index,
        }
    }

    /// Rank among siblings; those of equal rank keep their order.
    fn cost(&self) -> u32 {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().map(Node::cost).max().unwrap_or(0),
            Node::Not(node) => node.cost(),
            Node::Sent(..) | Node::Saved(..) | Node::EmailId(_) | Node::ThreadId(_) => 1,
            Node::Field { known: Some(_), .. } => 2,
            Node::Field { known: None, .. } => 3,
            Node::Headers(..) => 4,
            Node::Bodies(..) | Node::Fuzzy { .. } => 5,
            _ => 0,
        }
    }

    fn by_index(&self, record: &Record, verdicts: &[Option<Verdict>]) -> Option<bool> {
        Some(match self {
            Node::Constant(value) => *value,
            Node::All(nodes) => return decide(nodes, record, verdicts, false),
            Node::Any(nodes) => return decide(nodes, record, verdicts, true),
            Node::Not(node) => !node.by_index(record, verdicts)?,
            Node::Flags(mask) => record.flags.0 & mask == *mask,
            Node::Keywords(mask) => record.keywords & mask != 0,
            Node::Recent => record.recent,
            Node::Seq(ranges) => within(ranges, record.seq.0),
            Node::Uid(ranges) => within(ranges, record.uid.0),
            Node::Internal(order, day) => order.holds(day_of(record.internal_date), *day),
            Node::Arrived(since) => record.internal_date >= *since,
            Node::Sent(order, day) => return sent_by_index(*order, *day, record.sent_date),
            Node::Saved(..) | Node::EmailId(_) | Node::ThreadId(_) => return None,
            Node::Larger(size) => u64::from(record.size) > *size,
            Node::Smaller(size) => u64::from(record.size) < *size,
            Node::ModSeq(modseq) => record.modseq >= *modseq,
            Node::Field { leaf, .. }
            | Node::Headers(_, leaf)
            | Node::Bodies(_, leaf)
            | Node::Fuzzy { leaf, .. } => {
                let verdict = verdicts.get(*leaf)?.as_ref()?;
                let number = (record.seq.0 as usize).checked_sub(1)?;
                if verdict.possible.has(number) {
                    return verdict.sure.has(number).then_some(true);
                }
                false
            }
        })
    }

    fn matches<S: Source>(
        &self,
        record: &Record,
        program: &Program,
        message: &mut Message<'_, S>,
    ) -> Result<bool, S::Error> {
        if let Some(answer) = self.by_index(record, &program.verdicts) {
            return Ok(answer);
        }
        match self {
            Node::All(nodes) => {
                for node in nodes {
                    if !node.matches(record, program, message)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Node::Any(nodes) => {
                for node in nodes {
                    if node.matches(record, program, message)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Not(node) => Ok(!node.matches(record, program, message)?),
            Node::Sent(order, day) => {
                let sent = message.sent_day()?.unwrap_or(day_of(record.internal_date));
                Ok(order.holds(sent, *day))
            }
            Node::Saved(order, day) => {
                Ok(message.save_date()?.is_some_and(|date| order.holds(day_of(date), *day)))
            }
            Node::EmailId(id) => Ok(message.ids()?.content == *id),
            Node::ThreadId(id) => Ok(message.ids()?.thread == *id),
            Node::Field { name, known, needle, .. } => message.field_contains(name, *known, needle),
            Node::Headers(needle, _) => message.headers_contain(needle),
            Node::Bodies(needle, _) => message.bodies_contain(needle),
            Node::Fuzzy { name, leaf } => match program.leaves.get(*leaf) {
                Some(leaf) => {
                    message.is_like(&leaf.words, leaf.words_from, leaf.place, name.as_deref())
                }
                None => Ok(false),
            },
            // Everything else was decided by the index.
            _ => Ok(false),
        }
    }
}

/// A conjunction (`decisive` false) or disjunction (`decisive` true) as far as the index goes.
fn decide(
    nodes: &[Node],
    record: &Record,
    verdicts: &[Option<Verdict>],
    decisive: bool,
) -> Option<bool> {
    let mut is_open = false;
    for node in nodes {
        match node.by_index(record, verdicts) {
            Some(answer) if answer == decisive => return Some(decisive),
            Some(_) => {}
            // Siblings that follow cost as much or more, but may still be cheap inside.
            None => is_open = true,
        }
    }
    (!is_open).then_some(!decisive)
}

/// The index knows the moment, the key asks for the day as written, which is the same day or one
/// beside it. Clamped moments decide nothing.
fn sent_by_index(order: Order, day: i32, sent_date: u32) -> Option<bool> {
    if sent_date == 0 || sent_date == u32::MAX {
        return None;
    }
    let utc = day_of(i64::from(sent_date));
    let answers = [utc - 1, utc, utc + 1].map(|written| order.holds(written, day));
    (answers[0] == answers[1] && answers[1] == answers[2]).then_some(answers[0])
}

#[cfg(test)]
mod tests;
