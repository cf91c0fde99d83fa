//! ESEARCH over several mailboxes: RFC 7377.

use std::borrow::Cow;
use std::collections::BTreeSet;

use engine::{INBOX, Mailbox, Namespace, Rights, User, View};
use protocol::imap::SearchKey;
use protocol::imap::command::{MultiSearch, SearchSource, Tag};
use protocol::imap::encode;

use super::super::annotations;
use super::super::contexts::{Context, Results};
use super::super::names::Name;
use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;
use super::search::{Question, add_context, fixed, names_modseq, settle, uid_ranges};

pub(in super::super) async fn run(
    session: &mut Session,
    tag: &Tag,
    search: MultiSearch,
) -> Outcome {
    if search.key.is_fuzzy() && !session.services.config().search.fuzzy {
        return Ok(Reply::bad("FUZZY is not offered here"));
    }
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    let selected_only = match search.sources.as_deref() {
        None => true,
        Some(sources) => sources.iter().all(|source| *source == SearchSource::Selected),
    };
    if let Some(refusal) = refusal(session, tag, &search, selected_only) {
        return Ok(refusal);
    }
    if names_modseq(&search.key) {
        session.enable_condstore();
    }
    let sources = search.sources.as_deref().unwrap_or(&[SearchSource::Selected]);
    if sources.contains(&SearchSource::Selected)
        && let Some(selected) = session.selected.as_ref()
    {
        let (mailbox, view) = (selected.mailbox.clone(), selected.view.clone());
        // It may have been renamed since it was selected.
        let (owner, id) = (selected.owner.clone(), mailbox.id());
        let named = owner.namespace();
        let name = named.mailboxes.iter().find(|(_, entry)| entry.id == id).map(|(name, _)| name);
        let shown = name.and_then(|name| session.viewer().ok()?.names.others(owner.name(), name));
        let name = shown.unwrap_or_default();
        if let Some(trouble) = one(session, tag, &search, mailbox, view, &name, true).await? {
            return Ok(trouble);
        }
    }
    if selected_only {
        return Ok(Reply::ok("Completed"));
    }
    let selected = session.selected.as_ref().map(|selected| selected.mailbox.id());
    let selected = selected.filter(|_| sources.contains(&SearchSource::Selected));
    let names = match names(session, &user.namespace(), sources).await {
        Ok(names) => names,
        Err(reply) => return Ok(reply),
    };
    let mut trouble = None;
    for name in names {
        // What can't be opened (deleted just now, or not the user's) is as if it were not there.
        let opened = session.mailbox(&name, Rights::READ, "NONEXISTENT").await;
        let Ok((place, mailbox)) = opened else { continue };
        if selected == Some(mailbox.id()) {
            continue;
        }
        match mailbox.refresh().await {
            Ok(view) => {
                let seen = session.own_seen(&place, &mailbox).await.unwrap_or_default();
                let view = view.seen_by(seen.as_ref());
                let told = one(session, tag, &search, mailbox, view, &name, false).await?;
                trouble = trouble.or(told);
            }
            Err(error) => {
                trouble.get_or_insert(session.failure("search a mailbox", &error, "NONEXISTENT"));
            }
        }
        session.breathe().await?;
        tokio::task::yield_now().await;
    }
    Ok(trouble.unwrap_or_else(|| Reply::ok("Completed")))
}

/// Why the options do not go with the mailboxes: RFC 7377 section 2.2.
fn refusal(
    session: &Session,
    tag: &Tag,
    search: &MultiSearch,
    selected_only: bool,
) -> Option<Reply> {
    let sources = search.sources.as_deref().unwrap_or(&[SearchSource::Selected]);
    let selected = session.selected.as_ref();
    if selected.is_none() && sources.contains(&SearchSource::Selected) {
        return Some(Reply::bad("Select a mailbox first"));
    }
    if search.options.save && !selected_only {
        return Some(Reply::bad("SAVE is for the selected mailbox alone"));
    }
    if names_saved(&search.key) && !selected_only {
        return Some(Reply::bad("$ is in the selected mailbox alone"));
    }
    if search.options.update {
        let Some(selected) = selected else {
            return Some(Reply::bad("UPDATE is for the selected mailbox"));
        };
        if selected.contexts.has(tag.as_str()) {
            return Some(Reply::bad("Tag is in use by a search with UPDATE"));
        }
    }
    None
}

/// Searches a mailbox and tells what it has.
async fn one(
    session: &mut Session,
    tag: &Tag,
    search: &MultiSearch,
    mailbox: Mailbox,
    view: View,
    name: &str,
    is_selected: bool,
) -> Result<Option<Reply>, End> {
    let collation = session.features.collation;
    let key = match session.selected.as_ref().filter(|_| is_selected) {
        Some(selected) => settle(search.key.clone(), selected),
        None => without_recent(search.key.clone()),
    };
    let wants_scores = search.options.relevancy;
    let viewer = session.user.as_ref().map_or("", User::name).to_owned();
    let work = async {
        let key = annotations::found(key, &mailbox, &viewer, collation).await?;
        match wants_scores {
            true => mailbox.search_by_relevancy(&view, &key, collation).await,
            false => mailbox.search(&view, &key, collation).await.map(|found| (found, vec![])),
        }
    };
    let (found, scores) = match session.working(None, work).await? {
        Ok(found) => found,
        Err(error) => {
            return Ok(Some(session.failure("search a mailbox", &error, "NONEXISTENT")));
        }
    };
    let mut options = search.options;
    options.save &= is_selected;
    let update = options.update && is_selected;
    let results = update.then(|| uid_ranges(&found));
    let none = found.is_empty();
    let mut written = Vec::new();
    encode::mailbox(&mut written, name, session.features.rev2);
    let question = Question {
        uid: true,
        options: Some(options),
        wants_modseq: names_modseq(&search.key),
        wants_scores,
        rev2: session.features.rev2,
        mailbox: Some((written, view.uid_validity())),
    };
    let told_tag = tag.clone();
    let made =
        session.services.store.helpers().run(move || question.answer(&told_tag, found, scores));
    let Ok(answer) = made.await else {
        let error = engine::Error::Closing;
        return Ok(Some(session.failure("search a mailbox", &error, "NONEXISTENT")));
    };
    if let (Some(saved), Some(selected)) = (answer.saved, session.selected.as_mut()) {
        selected.saved = saved;
    }
    // RFC 7377 section 2.1: nothing is told of a mailbox without matches.
    if !none {
        session.conn.out.push_vec(answer.lines);
    }
    if let (Some(ranges), Some(selected)) = (results, session.selected.as_ref()) {
        let key = fixed(search.key.clone(), selected);
        let results = Results::Found(ranges);
        add_context(session, Context { tag: tag.clone(), uid: true, key, collation, results });
    }
    Ok(None)
}

/// The mailboxes that filters name, each once, as the client calls them. Some may not be there, or
/// not for this user.
async fn names(
    session: &Session,
    namespace: &Namespace,
    sources: &[SearchSource],
) -> Result<BTreeSet<String>, Reply> {
    let forms = session.viewer()?.names.clone();
    let own = || namespace.mailboxes.keys().map(|name| forms.own(name).into_owned());
    let is_elsewhere = |root: &String| !matches!(forms.parse(root), Some(Name::Own(_)));
    let elsewhere = sources.iter().any(|source| match source {
        SearchSource::Subtree(roots) | SearchSource::SubtreeOne(roots) => {
            roots.iter().any(is_elsewhere)
        }
        _ => false,
    });
    let mut all: Vec<String> = own().collect();
    if elsewhere {
        for owner in session.others().await?.iter() {
            let Ok(other) = session.open_user(owner).await else { continue };
            let theirs = other.namespace();
            all.extend(theirs.mailboxes.keys().filter_map(|name| forms.others(owner, name)));
        }
    }
    let separator = forms.separator();
    let mut names = BTreeSet::new();
    for source in sources {
        match source {
            SearchSource::Selected => {}
            SearchSource::Inboxes => names.extend([INBOX.to_owned()]),
            SearchSource::Personal => names.extend(own()),
            SearchSource::Subscribed => {
                let subscribed = namespace.subscriptions.iter();
                names.extend(
                    subscribed.filter_map(|name| forms.subscribed(name).map(Cow::into_owned)),
                );
            }
            SearchSource::Mailboxes(some) => names.extend(some.iter().cloned()),
            SearchSource::Subtree(roots) => {
                names
                    .extend(roots.iter().flat_map(|root| below(&all, root, separator, usize::MAX)));
            }
            SearchSource::SubtreeOne(roots) => {
                names.extend(roots.iter().flat_map(|root| below(&all, root, separator, 1)));
            }
        }
    }
    Ok(names)
}

/// The mailbox `root` and those so many levels below it.
fn below<'n>(
    all: &'n [String],
    root: &'n str,
    separator: char,
    levels_max: usize,
) -> impl Iterator<Item = String> + use<'n> {
    let levels = move |name: &str| {
        let rest = name.strip_prefix(root)?;
        match rest.strip_prefix(separator) {
            Some(rest) => Some(1 + rest.matches(separator).count()),
            None => rest.is_empty().then_some(0),
        }
    };
    all.iter().filter(move |name| levels(name).is_some_and(|levels| levels <= levels_max)).cloned()
}

/// Which messages are recent in a mailbox that is not selected, nobody knows: none.
fn without_recent(key: SearchKey) -> SearchKey {
    let boxed = |key: Box<SearchKey>| Box::new(without_recent(*key));
    match key {
        SearchKey::Recent => SearchKey::All.negated(),
        SearchKey::Not(key) => SearchKey::Not(boxed(key)),
        SearchKey::Fuzzy(key) => SearchKey::Fuzzy(boxed(key)),
        SearchKey::Or(a, b) => SearchKey::Or(boxed(a), boxed(b)),
        SearchKey::And(keys) => SearchKey::And(keys.into_iter().map(without_recent).collect()),
        other => other,
    }
}

fn names_saved(key: &SearchKey) -> bool {
    match key {
        SearchKey::SavedResult => true,
        SearchKey::Not(key) | SearchKey::Fuzzy(key) => names_saved(key),
        SearchKey::Or(a, b) => names_saved(a) || names_saved(b),
        SearchKey::And(keys) => keys.iter().any(names_saved),
        _ => false,
    }
}
