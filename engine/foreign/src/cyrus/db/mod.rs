//! Cyrus's databases of keys and values: which form a file has, and all its records.
//!
//! Readers need no recovery: they give the last committed state, whatever an unfinished transaction
//! left behind it. Writers make a whole new file; the caller renames it into place.

pub mod flat;
pub mod skiplist;
pub mod twom;
pub mod twoskip;

use std::cmp::Ordering;

use super::Damage;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Records in the order of their keys' bytes.
pub fn sorted(mut pairs: Vec<Pair>) -> Vec<Pair> {
    pairs.sort();
    pairs
}

/// The form of a database file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Sorted lines.
    Flat,
    /// Cyrus 2.1 to 2.5.
    Skiplist,
    /// Cyrus 2.5 and later.
    Twoskip,
    /// Cyrus after 3.12, where an option asks for it.
    Twom,
}

impl Form {
    /// Which form bytes have, by their magic: options do not tell, as Cyrus converts when it opens.
    /// `None`: a form that is not read here.
    pub fn of(bytes: &[u8]) -> Option<Form> {
        if bytes.starts_with(&skiplist::MAGIC) {
            return Some(Form::Skiplist);
        }
        if bytes.starts_with(&twoskip::MAGIC) {
            return Some(Form::Twoskip);
        }
        if bytes.starts_with(&twom::MAGIC) {
            return Some(Form::Twom);
        }
        // All other binary forms of Cyrus's own begin so; Berkeley's have zeros or their magic at 12.
        let binary = bytes.starts_with(&[0xa1, 0x02, 0x8b, 0x0d]) || bytes.contains(&0);
        (!binary).then_some(Form::Flat)
    }

    /// By the name that imapd.conf has for it.
    pub fn named(name: &str) -> Option<Form> {
        match name {
            "flat" => Some(Form::Flat),
            "skiplist" => Some(Form::Skiplist),
            "twoskip" => Some(Form::Twoskip),
            "twom" => Some(Form::Twom),
            _ => None,
        }
    }
}

/// How keys follow each other in a file of this form.
pub fn compare(form: Form, one: &[u8], other: &[u8]) -> Ordering {
    match form {
        Form::Flat => flat::compare(one, other),
        Form::Skiplist | Form::Twoskip | Form::Twom => one.cmp(other),
    }
}

/// Whether keys differ and rise as Cyrus compares them in a file of this form.
pub fn is_in_order(form: Form, pairs: &[Pair]) -> bool {
    pairs.windows(2).all(|two| compare(form, &two[0].0, &two[1].0).is_lt())
}

/// All records of a database, in the file's order.
///
/// # Errors
/// A form that is not read here, checksums that do not fit, places that the file does not have.
pub fn read(bytes: &[u8]) -> Result<Vec<Pair>, Damage> {
    match Form::of(bytes) {
        _ if bytes.is_empty() => Ok(Vec::new()),
        Some(Form::Flat) => flat::read(bytes),
        Some(Form::Skiplist) => skiplist::read(bytes),
        Some(Form::Twoskip) => twoskip::read(bytes),
        Some(Form::Twom) => twom::read(bytes),
        None => {
            let start = bytes.get(..16).unwrap_or(bytes).escape_ascii().to_string();
            Err(Damage::new("database", 0, "flat, skiplist, twoskip or twom", start))
        }
    }
}

/// A whole database file with these records, whose keys differ and rise by their bytes.
///
/// `replaced` is the file whose place it takes, if there is one: its generation goes on (twoskip, twom).
/// `now` is in seconds since 1970 (skiplist).
pub fn write(form: Form, pairs: &[Pair], replaced: &[u8], now: u32) -> Vec<u8> {
    match form {
        Form::Flat => flat::write(pairs),
        Form::Skiplist => skiplist::write(pairs, now),
        Form::Twoskip => twoskip::write(pairs, twoskip::generation(replaced).wrapping_add(1)),
        Form::Twom => twom::write(pairs, replaced),
    }
}

/// Level of the record at a position in a skip list, from 1, as chance with p = 1/2 would have it
/// in the best of cases: the number of trailing zeros of its place, and one.
fn level(position: usize, max: u32) -> u32 {
    ((position + 1).trailing_zeros() + 1).min(max)
}
