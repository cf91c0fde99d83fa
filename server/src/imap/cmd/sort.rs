//! SORT and UID SORT: RFC 5256, SORT=DISPLAY of RFC 5957, RETURN options of RFC 5267 section 3,
//! MODSEQ of RFC 7162, RELEVANCY of RFC 6203, UPDATE of RFC 5267 section 4.

use engine::{Sorted, User, annotation_part};
use protocol::imap::command::{SearchReturn, Sort, Tag};
use protocol::imap::encode::{self, ESearch};
use protocol::types::{ModSeq, SeqNum, SequenceSet, Uid};

use super::super::annotations;
use super::super::contexts::{Context, Results};
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::search::{INLINE_FOUND_MAX, add_context, ends_only, fixed, names_modseq, settle};

pub(in super::super) async fn run(session: &mut Session, tag: &Tag, sort: Sort) -> Outcome {
    if sort.key.is_fuzzy() && !session.services.config().search.fuzzy {
        return Ok(Reply::bad("FUZZY is not offered here"));
    }
    let wants_modseq = names_modseq(&sort.key);
    if wants_modseq {
        session.enable_condstore();
    }
    let collation = session.features.collation;
    let Some(selected) = session.selected.as_mut() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let Sort { uid, options, criteria, annotations: by, key } = sort;
    if by.iter().any(|key| annotation_part(&key.entry).is_none()) {
        return Ok(Reply::bad("Expected the name of an entry such as /comment"));
    }
    let update = options.is_some_and(|options| options.update);
    if update && selected.contexts.has(tag.as_str()) {
        return Ok(Reply::bad("Tag is in use by a search with UPDATE"));
    }
    let context_key = update.then(|| fixed(key.clone(), selected));
    let key = settle(key, selected);
    let wants_scores = options.is_some_and(|options| options.relevancy);
    let (mailbox, view) = (selected.mailbox.clone(), selected.view.clone());
    let viewer = session.user.as_ref().map_or("", User::name).to_owned();
    let work = async {
        let key = annotations::found(key, &mailbox, &viewer, collation).await?;
        let values = annotations::sort_values(by, &mailbox, &viewer, collation).await?;
        mailbox.sort(&view, &key, (&criteria, values), collation, wants_scores).await
    };
    let sorted = match session.working(None, work).await? {
        Ok(sorted) => sorted,
        Err(error) => {
            if options.is_some_and(|options| options.save)
                && let Some(selected) = session.selected.as_mut()
            {
                selected.saved.clear();
            }
            return Ok(session.failure("sort a mailbox", &error, "NONEXISTENT"));
        }
    };
    if let Some(options) = options.filter(|options| options.save)
        && let Some(selected) = session.selected.as_mut()
    {
        selected.saved = saved(&sorted, options);
    }
    // Where only MIN or MAX are told, it is theirs (RFC 7162 section 3.1.10).
    let modseq = match options.is_some_and(ends_only) {
        true => ends(&sorted, options.unwrap_or_default())
            .filter_map(|(seq, _)| Some(view.record(*seq)?.modseq))
            .max(),
        false => sorted.modseq,
    };
    let modseq = modseq.filter(|_| wants_modseq);
    if let (Some(modseq), Some(selected)) = (modseq, session.selected.as_ref()) {
        selected.note_modseq(modseq);
    }
    let many = sorted.messages.len() > INLINE_FOUND_MAX;
    let told_tag = tag.clone();
    let order = context_key.as_ref().map(|_| sorted.messages.iter().map(|(_, uid)| *uid).collect());
    let make = move || answer(&told_tag, uid, options, sorted, modseq);
    let made = match many {
        true => session.services.store.helpers().run(make).await,
        false => Ok(make()),
    };
    let Ok(lines) = made else {
        return Ok(session.failure("sort a mailbox", &engine::Error::Closing, "NONEXISTENT"));
    };
    session.conn.out.push_vec(lines);
    if let (Some(key), Some(order)) = (context_key, order) {
        let results = Results::Sorted(criteria, order);
        add_context(session, Context { tag: tag.clone(), uid, key, collation, results });
    }
    Ok(Reply::ok("Completed"))
}

fn answer(
    tag: &Tag,
    uid: bool,
    options: Option<SearchReturn>,
    sorted: Sorted,
    modseq: Option<ModSeq>,
) -> Vec<u8> {
    let mut lines = Vec::new();
    let number = |(seq, message): &(SeqNum, Uid)| if uid { message.0 } else { seq.0 };
    let numbers = || sorted.messages.iter().map(number);
    let Some(options) = options else {
        encode::sort(&mut lines, numbers(), modseq);
        return lines;
    };
    // SAVE alone: the client wants no answer (RFC 5182 section 2.1).
    if options == (SearchReturn { save: true, ..SearchReturn::default() }) {
        return lines;
    }
    let result = ESearch {
        mailbox: None,
        uid,
        min: numbers().next().filter(|_| options.min),
        max: numbers().next_back().filter(|_| options.max),
        count: options.count.then_some(u32::try_from(sorted.messages.len()).unwrap_or(u32::MAX)),
        all: options.all.then(|| SequenceSet::from_ascending(numbers())),
        modseq,
        partial: options.partial.map(|range| {
            let window = sorted.messages[range.of(sorted.messages.len())].iter();
            (range, SequenceSet::from_ascending(window.map(number)))
        }),
        relevancy: options.relevancy.then_some(sorted.scores.clone()),
    };
    encode::esearch(&mut lines, tag, &result);
    lines
}

/// The first and the last message and those of the window, as far as they are asked for.
fn ends(sorted: &Sorted, options: SearchReturn) -> impl Iterator<Item = &(SeqNum, Uid)> {
    let messages = &sorted.messages;
    let window = options.partial.map_or(0..0, |range| range.of(messages.len()));
    let min = messages.first().filter(|_| options.min);
    min.into_iter().chain(&messages[window]).chain(messages.last().filter(|_| options.max))
}

/// What `$` stands for from now on, as UID ranges.
fn saved(sorted: &Sorted, options: SearchReturn) -> Vec<(u32, u32)> {
    let mut uids: Vec<u32> = match ends_only(options) {
        true => ends(sorted, options).map(|(_, uid)| uid.0).collect(),
        false => sorted.messages.iter().map(|(_, uid)| uid.0).collect(),
    };
    uids.sort_unstable();
    uids.dedup();
    SequenceSet::from_ascending(uids).resolve(u32::MAX)
}
