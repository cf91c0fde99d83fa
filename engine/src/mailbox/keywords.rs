//! The keywords of a mailbox: which bit of a record stands for which name.
//!
//! Invariant: a bit keeps its name for ever; a table only grows, and once.

use std::sync::{Arc, OnceLock};

use protocol::types::Keyword;

/// Names of a mailbox's keyword bits.
///
/// Bits never change their meaning, and a table that got more names is linked from the one before
/// it, so that a view of old finds the names of bits that its records, which are live, have got since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeywordTable {
    names: Vec<Keyword>,
    /// The bit of [`FORWARDED`], 0 where it is not named: asked for with every change of flags.
    passed: u64,
    newer: OnceLock<Arc<KeywordTable>>,
}

/// The keyword that Maildir's `P` stands for.
const FORWARDED: &str = "$Forwarded";

impl KeywordTable {
    /// Keywords that one mailbox can have.
    pub const KEYWORDS_MAX: usize = 64;

    pub(crate) fn from_names(names: impl IntoIterator<Item = String>) -> KeywordTable {
        let names = names.into_iter().take(Self::KEYWORDS_MAX);
        // A name that is no atom can only come from a damaged file; its bit keeps its place.
        let unreadable = |i: usize| Keyword::new(&format!("unreadable-{i}"));
        let keyword = |(i, name): (usize, String)| Keyword::new(&name).or_else(|| unreadable(i));
        KeywordTable::of(names.enumerate().filter_map(keyword).collect())
    }

    fn of(names: Vec<Keyword>) -> KeywordTable {
        let mut table = KeywordTable { names, passed: 0, newer: OnceLock::new() };
        table.passed = Keyword::new(FORWARDED).map_or(0, |forwarded| table.bit(&forwarded));
        table
    }

    /// The bit of `$Forwarded`, 0 when unknown.
    pub(crate) fn passed_bit(&self) -> u64 {
        self.passed
    }

    /// The table that this one has grown to.
    pub(super) fn newest(&self) -> &KeywordTable {
        let mut table = self;
        while let Some(newer) = table.newer.get() {
            table = newer;
        }
        table
    }

    /// The table with these names, which views of this one find, too. Called before any record uses
    /// the new names, by whoever holds the files' lock.
    pub(crate) fn grown(self: &Arc<Self>, names: &[String]) -> Arc<KeywordTable> {
        let next = KeywordTable::from_names(names.iter().cloned());
        if next.names == self.names {
            return self.clone();
        }
        let next = Arc::new(next);
        if next.names.starts_with(&self.names) {
            // Nobody else sets it: a table grows once.
            let _ = self.newer.set(next.clone());
        }
        next
    }

    /// In bit order.
    pub fn names(&self) -> &[Keyword] {
        &self.names
    }

    /// The bit of a keyword, 0 when the mailbox does not know it.
    pub fn bit(&self, keyword: &Keyword) -> u64 {
        self.names.iter().position(|k| k == keyword).map_or(0, |i| 1 << i)
    }

    /// The keywords of these bits.
    pub fn of_bits(&self, bits: u64) -> impl Iterator<Item = &Keyword> {
        self.names.iter().enumerate().filter(move |(i, _)| bits & (1 << i) != 0).map(|(_, k)| k)
    }

    /// The table with these keywords added; `None` when they do not fit.
    pub(crate) fn with(&self, more: &[Keyword]) -> Option<KeywordTable> {
        let mut names = self.names.clone();
        for keyword in more {
            if !names.contains(keyword) {
                names.push(keyword.clone());
            }
        }
        let fits = names.len() <= Self::KEYWORDS_MAX;
        fits.then(|| KeywordTable::of(names))
    }
}
