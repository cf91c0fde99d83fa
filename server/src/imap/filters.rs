//! Named searches (RFC 5466): what FILTER stands for, and what may be stored as a filter.
//!
//! A filter is metadata of the server: `/private/filters/values/NAME` is the user's own and goes
//! before `/shared/filters/values/NAME`, which is everybody's. Names are in lower case, as those of
//! all metadata. A command has its filters put in before it is looked at in any other way, so only
//! this file and the decoder know of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use protocol::imap::SearchKey;
use protocol::imap::command::Body;
use protocol::imap::decode::{is_filter_name, search_criteria};
use protocol::imap::encode::Code;
use protocol::imap::filter::{FILTER_PASSES_MAX, names, substitute};

use engine::Depth;

use super::reply::Reply;
use super::session::Session;

/// Where values are, each with the filter's name behind it.
const VALUES: [&str; 2] = ["/private/filters/values/", "/shared/filters/values/"];

/// The key of a command that searches.
fn key_of(body: &mut Body) -> Option<&mut SearchKey> {
    match body {
        Body::Search(search) => Some(&mut search.key),
        Body::Sort(sort) => Some(&mut sort.key),
        Body::Thread(thread) => Some(&mut thread.key),
        Body::MultiSearch(search) => Some(&mut search.key),
        _ => None,
    }
}

/// The key of a command, if filters are to be put into it.
pub(super) fn filtered(body: &mut Body) -> Option<&mut SearchKey> {
    key_of(body).filter(|key| !names(key).is_empty())
}

/// Puts values in the places of filters, also in those of values.
///
/// # Errors
/// The refusal: a filter that is not there, is no search, or goes round in a circle.
pub(super) async fn expand(session: &Session, mut key: SearchKey) -> Result<SearchKey, Reply> {
    let mut values = BTreeMap::new();
    for _ in 0..FILTER_PASSES_MAX {
        let names = names(&key);
        if names.is_empty() {
            return Ok(key);
        }
        for name in names {
            if let Entry::Vacant(place) = values.entry(name) {
                let value = value(session, place.key()).await?;
                place.insert(value);
            }
        }
        let put = substitute(key, &values);
        key =
            put.ok_or_else(|| Reply::no("Too many search keys with the filters").word("LIMIT"))?;
    }
    match names(&key).first() {
        Some(name) => Err(undefined(name)),
        None => Ok(key),
    }
}

/// What is stored under a filter's name.
async fn value(session: &Session, name: &str) -> Result<Vec<SearchKey>, Reply> {
    let user = session.user()?;
    let entries = VALUES.map(|place| format!("{place}{name}")).to_vec();
    let found = user.metadata(None, user.name(), entries, Depth::Zero).await;
    let found = found.map_err(|error| session.failure("read a filter", &error, "NONEXISTENT"))?;
    let value = found.into_iter().find_map(|(_, value)| value).ok_or_else(|| undefined(name))?;
    search_criteria(&value).ok_or_else(|| undefined(name))
}

fn undefined(name: &str) -> Reply {
    let code = Code::Text(format!("UNDEFINED-FILTER {name}"));
    Reply::no("There is no such filter, or it is no search").code(code)
}

/// Why an entry of the server's metadata may not get this value, as a filter.
pub(super) fn refusal(entry: &str, value: Option<&[u8]>) -> Option<Reply> {
    let name = VALUES.iter().find_map(|place| entry.strip_prefix(place))?;
    let value = value?;
    if !is_filter_name(name) {
        return Some(Reply::no("No name for a filter").word("CANNOT"));
    }
    search_criteria(value).is_none().then(|| Reply::no("Not a search").word("CANNOT"))
}
