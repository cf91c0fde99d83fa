//! SEARCH and UID SEARCH: RFC 3501 section 6.4.4, ESEARCH of RFC 4731 and 9051, `$` of RFC 5182,
//! MODSEQ of RFC 7162, FUZZY and RELEVANCY of RFC 6203, UPDATE of RFC 5267, PARTIAL of RFC 9394.

use engine::{Matched, User};
use protocol::imap::SearchKey;
use protocol::imap::command::{Search, SearchReturn, Tag};
use protocol::imap::encode::{self, Code, ESearch, Status};
use protocol::types::{ModSeq, SeqNum, SequenceSet, SetRange, SetValue, UidValidity};

use super::super::annotations;
use super::super::contexts::{Context, Results};
use super::super::reply::{Outcome, Reply};
use super::super::selected::Selected;
use super::super::session::Session;

/// One match.
type Found = (SeqNum, Matched);

pub(in super::super) async fn run(session: &mut Session, tag: &Tag, search: Search) -> Outcome {
    if search.key.is_fuzzy() && !session.services.config().search.fuzzy {
        return Ok(Reply::bad("FUZZY is not offered here"));
    }
    let wants_modseq = names_modseq(&search.key);
    if wants_modseq {
        session.enable_condstore();
    }
    let (rev2, collation) = (session.features.rev2, session.features.collation);
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let update = search.options.is_some_and(|options| options.update);
    if update && selected.contexts.has(tag.as_str()) {
        return Ok(Reply::bad("Tag is in use by a search with UPDATE"));
    }
    let context_key = update.then(|| fixed(search.key.clone(), selected));
    let key = settle(search.key, selected);
    let (key, cut) = session.cut_search(key);
    let viewer = session.user.as_ref().map_or("", User::name).to_owned();
    let save = search.options.is_some_and(|options| options.save);
    let wants_scores = search.options.is_some_and(|options| options.relevancy);
    let (mailbox, view) = (selected.mailbox.clone(), selected.view.clone());
    let work = async move {
        let key = annotations::found(key, &mailbox, &viewer, collation).await?;
        match wants_scores {
            true => mailbox.search_by_relevancy(&view, &key, collation).await,
            false => {
                let found = mailbox.search(&view, &key, collation).await;
                found.map(|found| (found, Vec::new()))
            }
        }
    };
    let (found, scores) = match session.working(None, work).await? {
        Ok(found) => found,
        Err(error) => {
            if save && let Some(selected) = session.selected.as_mut() {
                selected.saved.clear();
            }
            return Ok(session.failure("search a mailbox", &error, "NONEXISTENT"));
        }
    };
    if wants_modseq
        && let Some(selected) = session.selected.as_ref()
        && let Some(highest) = found.iter().map(|(_, one)| one.modseq).max()
    {
        selected.note_modseq(highest);
    }
    let question = Question {
        uid: search.uid,
        options: search.options,
        wants_modseq,
        wants_scores,
        rev2,
        mailbox: None,
    };
    let results = context_key.as_ref().map(|_| uid_ranges(&found));
    let uid = search.uid;
    let many = found.len() > INLINE_FOUND_MAX;
    let told_tag = tag.clone();
    let make = move || question.answer(&told_tag, found, scores);
    let made = match many {
        true => session.services.store.helpers().run(make).await,
        false => Ok(make()),
    };
    let Ok(answer) = made else {
        return Ok(session.failure("search a mailbox", &engine::Error::Closing, "NONEXISTENT"));
    };
    if let (Some(saved), Some(selected)) = (answer.saved, session.selected.as_mut()) {
        selected.saved = saved;
    }
    session.conn.out.push_vec(answer.lines);
    if let (Some(key), Some(ranges)) = (context_key, results) {
        let results = Results::Found(ranges);
        add_context(session, Context { tag: tag.clone(), uid, key, collation, results });
    }
    Ok(session.limited(Reply::ok(answer.text), cut))
}

/// Keeps a search up to date, or says that it will not be.
pub(super) fn add_context(session: &mut Session, context: Context) {
    let Some(selected) = session.selected.as_mut() else { return };
    let criteria = match &context.results {
        Results::Found(_) => &[][..],
        Results::Sorted(criteria, _) => criteria,
    };
    if selected.contexts.can_add(&context.key, criteria) {
        selected.contexts.add(context);
    } else {
        let code = Code::NoUpdate(context.tag);
        session.untagged(Status::No, Some(&code), "No updates for this search");
    }
}

/// Puts UIDs in place of sequence numbers and `$`, which mean what they mean now.
pub(super) fn fixed(key: SearchKey, selected: &Selected) -> SearchKey {
    let boxed = |key: Box<SearchKey>| Box::new(fixed(*key, selected));
    match key {
        SearchKey::SeqSet(set) => {
            let uid = |seq| selected.view.uid(SeqNum(seq)).map(|uid| uid.0);
            let exists = selected.view.exists();
            let ranges = set.resolve(exists).into_iter();
            let ends = ranges.filter_map(|(a, b)| Some((uid(a)?, uid(b.min(exists))?)));
            SearchKey::UidSet(set_of(&ends.collect::<Vec<_>>()))
        }
        SearchKey::SavedResult => SearchKey::UidSet(set_of(&selected.saved)),
        SearchKey::Not(key) => SearchKey::Not(boxed(key)),
        SearchKey::Fuzzy(key) => SearchKey::Fuzzy(boxed(key)),
        SearchKey::Or(a, b) => SearchKey::Or(boxed(a), boxed(b)),
        SearchKey::And(keys) => {
            SearchKey::And(keys.into_iter().map(|key| fixed(key, selected)).collect())
        }
        other => other,
    }
}

pub(super) fn uid_ranges(found: &[Found]) -> Vec<(u32, u32)> {
    SequenceSet::from_ascending(found.iter().map(|(_, record)| record.uid.0)).resolve(u32::MAX)
}

/// Matches that are put into an answer without a helper thread.
pub(super) const INLINE_FOUND_MAX: usize = 8192;

/// What most numbers of an answer take, with the space in front.
const NUMBER_BYTES: usize = 7;

/// What the answer depends on besides what was found.
pub(super) struct Question {
    pub(super) uid: bool,
    pub(super) options: Option<SearchReturn>,
    pub(super) wants_modseq: bool,
    pub(super) wants_scores: bool,
    pub(super) rev2: bool,
    /// Where several mailboxes are searched.
    pub(super) mailbox: Option<(Vec<u8>, UidValidity)>,
}

/// What is told, and what `$` is from now on.
pub(super) struct Answer {
    pub(super) lines: Vec<u8>,
    pub(super) saved: Option<Vec<(u32, u32)>>,
    pub(super) text: &'static str,
}

impl Question {
    pub(super) fn answer(self, tag: &Tag, found: Vec<Found>, scores: Vec<u8>) -> Answer {
        let saving = self.options.filter(|options| options.save);
        let saved = saving.map(|options| saved(&found, options));
        let mut lines = Vec::new();
        let uid = self.uid;
        let number = |(seq, record): &Found| if uid { record.uid.0 } else { seq.0 };
        let options = match self.options {
            None if !self.rev2 => {
                let modseqs = found.iter().map(|(_, record)| record.modseq);
                let modseq = self.wants_modseq.then(|| modseqs.max()).flatten();
                lines.reserve(found.len() * NUMBER_BYTES);
                encode::search(&mut lines, found.iter().map(number), modseq);
                return Answer { lines, saved, text: "Completed" };
            }
            None => SearchReturn { all: true, ..SearchReturn::default() },
            Some(options) => options,
        };
        // SAVE alone: the client wants no answer (RFC 5182 section 2.1).
        if options == (SearchReturn { save: true, ..SearchReturn::default() }) {
            return Answer { lines, saved, text: "Saved" };
        }
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let partial = options.partial.map(|range| {
            let window = found[range.of(found.len())].iter();
            (range, SequenceSet::from_ascending(window.map(number)))
        });
        let result = ESearch {
            mailbox: self.mailbox,
            uid: self.uid,
            min: found.first().filter(|_| options.min).map(number),
            max: found.last().filter(|_| options.max).map(number),
            count: options.count.then_some(count),
            all: options.all.then(|| SequenceSet::from_ascending(found.iter().map(number))),
            partial,
            modseq: modseq(&found, options).filter(|_| self.wants_modseq),
            relevancy: self.wants_scores.then_some(scores),
        };
        encode::esearch(&mut lines, tag, &result);
        Answer { lines, saved, text: "Completed" }
    }
}

/// Puts UIDs where only the session knows which: `$` and RECENT.
pub(in super::super) fn settle(key: SearchKey, selected: &Selected) -> SearchKey {
    let uids = |ranges: &[(u32, u32)]| SearchKey::UidSet(set_of(ranges));
    let boxed = |key: Box<SearchKey>| Box::new(settle(*key, selected));
    match key {
        SearchKey::SavedResult => uids(&selected.saved),
        SearchKey::Recent => uids(selected.recent_uids()),
        SearchKey::Not(key) => SearchKey::Not(boxed(key)),
        SearchKey::Fuzzy(key) => SearchKey::Fuzzy(boxed(key)),
        SearchKey::Or(a, b) => SearchKey::Or(boxed(a), boxed(b)),
        SearchKey::And(keys) => {
            SearchKey::And(keys.into_iter().map(|key| settle(key, selected)).collect())
        }
        other => other,
    }
}

pub(in super::super) fn set_of(ranges: &[(u32, u32)]) -> SequenceSet {
    let range = |&(first, last): &(u32, u32)| SetRange {
        first: SetValue::Number(first),
        last: SetValue::Number(last),
    };
    SequenceSet { ranges: ranges.iter().map(range).collect() }
}

pub(super) fn names_modseq(key: &SearchKey) -> bool {
    match key {
        SearchKey::ModSeq(_) => true,
        SearchKey::Not(key) | SearchKey::Fuzzy(key) => names_modseq(key),
        SearchKey::Or(a, b) => names_modseq(a) || names_modseq(b),
        SearchKey::And(keys) => keys.iter().any(names_modseq),
        _ => false,
    }
}

/// Whether only MIN, MAX or a window count among what is told (or saved): RFC 4731 section 3.1, RFC
/// 7162 section 3.1.10, RFC 5182 section 2.1, RFC 9394 section 3.2.
pub(super) fn ends_only(options: SearchReturn) -> bool {
    let ends = options.min || options.max || options.partial.is_some();
    ends && !options.all && !options.count
}

/// The matches at MIN, in the window and at MAX, in order.
fn ends(found: &[Found], options: SearchReturn) -> impl Iterator<Item = &Found> {
    let window = options.partial.map_or(0..0, |range| range.of(found.len()));
    let last = found.len().saturating_sub(1);
    let min = (options.min && !window.contains(&0)).then_some(0);
    let max = options.max && !window.contains(&last) && min != Some(last);
    let places = min.into_iter().chain(window).chain(max.then_some(last));
    places.filter_map(|place| found.get(place))
}

fn modseq(found: &[Found], options: SearchReturn) -> Option<ModSeq> {
    if ends_only(options) {
        ends(found, options).map(|(_, record)| record.modseq).max()
    } else {
        found.iter().map(|(_, record)| record.modseq).max()
    }
}

/// What `$` stands for from now on, as UID ranges.
fn saved(found: &[Found], options: SearchReturn) -> Vec<(u32, u32)> {
    let set = if ends_only(options) {
        SequenceSet::from_ascending(ends(found, options).map(|(_, record)| record.uid.0))
    } else {
        return uid_ranges(found);
    };
    set.resolve(u32::MAX)
}
