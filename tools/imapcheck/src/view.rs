//! What one client knows of the mailbox that it has selected, and the rules by which it may be told
//! otherwise.
//!
//! Rules checked here, by what the server sends and nothing else (RFC 3501 and 9051 section 7,
//! RFC 7162):
//! - EXPUNGE and VANISHED come only while a command is in progress that allows them, and name
//!   messages that exist; with QRESYNC enabled it is VANISHED, without it EXPUNGE;
//! - EXISTS never shrinks;
//! - UIDs ascend with sequence numbers, and a message keeps its own;
//! - MODSEQs of a message only rise, and flags that differ have another MODSEQ;
//! - with CONDSTORE a flag change carries its MODSEQ, with QRESYNC its UID too.

use std::collections::BTreeSet;

use crate::value::Value;

/// A rule that was broken, in words.
pub(crate) type Wrong = String;

/// What the session has enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Enabled {
    pub(crate) condstore: bool,
    pub(crate) qresync: bool,
}

/// What the commands in progress allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// EXPUNGE and VANISHED: some command is in progress, and none that holds sequence numbers still.
    pub(crate) expunge: bool,
    /// FETCH is in progress: its answers carry what it asked for, and no MODSEQ or UID beside
    /// (RFC 7162 section 3.2.4).
    pub(crate) bare_flags: bool,
}

/// Flags without `\Recent`.
pub(crate) type Flags = BTreeSet<String>;

/// One message as the client knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) uid: Option<u32>,
    pub(crate) flags: Option<Flags>,
    /// 0: never told.
    pub(crate) modseq: u64,
}

/// What the client makes of a FETCH.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) uid: Option<u32>,
    pub(crate) flags: Option<Flags>,
    pub(crate) modseq: Option<u64>,
    /// Of the marker's header field.
    pub(crate) marker: Option<String>,
    pub(crate) size: Option<u64>,
}

impl Fetched {
    /// Reads the items of a FETCH response.
    pub(crate) fn read(items: &[Value]) -> Result<Fetched, Wrong> {
        let mut fetched = Fetched::default();
        if !items.len().is_multiple_of(2) {
            return Err(format!("FETCH has an item without a value: {items:?}"));
        }
        for pair in items.chunks_exact(2) {
            let (name, value) = (pair[0].atom().unwrap_or_default(), &pair[1]);
            let wrong = || format!("FETCH {name} has no such value: {value:?}");
            if name.eq_ignore_ascii_case("UID") {
                let uid = value.number().and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
                fetched.uid = Some(uid.ok_or_else(wrong)?);
            } else if name.eq_ignore_ascii_case("FLAGS") {
                fetched.flags = Some(flags(value.list().ok_or_else(wrong)?));
            } else if name.eq_ignore_ascii_case("MODSEQ") {
                let list = value.list().ok_or_else(wrong)?;
                let modseq = list.first().and_then(Value::number).filter(|&n| n > 0);
                fetched.modseq = Some(modseq.ok_or_else(wrong)?);
            } else if name.eq_ignore_ascii_case("RFC822.SIZE") {
                fetched.size = Some(value.number().ok_or_else(wrong)?);
            } else if name.to_ascii_uppercase().starts_with("BODY[HEADER.FIELDS") {
                let text = String::from_utf8_lossy(value.bytes().ok_or_else(wrong)?).into_owned();
                let field = text.lines().find_map(|line| line.strip_prefix("X-Marker: "));
                fetched.marker = Some(field.unwrap_or_default().trim().to_owned());
            }
        }
        Ok(fetched)
    }
}

/// Flags of a list, `\Recent` left out as it belongs to sessions.
pub(crate) fn flags(items: &[Value]) -> Flags {
    let names = items.iter().filter_map(Value::atom);
    let kept = names.filter(|name| !name.eq_ignore_ascii_case("\\Recent"));
    // System flags are the same in any case; keywords here are in one.
    kept.map(|name| if name.starts_with('\\') { name.to_lowercase() } else { name.to_owned() })
        .collect()
}

/// The selected mailbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) uid_validity: u32,
    /// Each by its sequence number less one.
    pub(crate) messages: Vec<Message>,
    /// Highest MODSEQ that any response named.
    pub(crate) modseq_seen: u64,
    /// UIDs that were told to be gone.
    pub(crate) gone: BTreeSet<u32>,
}

impl View {
    /// The UIDs, which must all be known.
    pub(crate) fn uids(&self) -> Option<Vec<u32>> {
        self.messages.iter().map(|message| message.uid).collect()
    }

    pub(crate) fn find(&self, uid: u32) -> Option<&Message> {
        self.messages.iter().find(|message| message.uid == Some(uid))
    }

    /// Sequence numbers of messages whose UIDs are not known, as a range to the end.
    pub(crate) fn unknown_from(&self) -> Option<usize> {
        self.messages.iter().position(|message| message.uid.is_none()).map(|index| index + 1)
    }

    pub(crate) fn exists(&mut self, count: u64) -> Result<(), Wrong> {
        let known = self.messages.len();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count < known {
            return Err(format!("EXISTS fell from {known} to {count}"));
        }
        if count > 10_000_000 {
            return Err(format!("EXISTS {count} is more than anybody made"));
        }
        self.messages.resize(count, Message::default());
        Ok(())
    }

    /// EXPUNGE; gives the UID where it was known.
    pub(crate) fn expunge(
        &mut self,
        seq: u64,
        enabled: Enabled,
        allowed: Allowed,
    ) -> Result<Option<u32>, Wrong> {
        if enabled.qresync {
            return Err(format!("EXPUNGE {seq} where QRESYNC is enabled"));
        }
        if !allowed.expunge {
            return Err(format!("EXPUNGE {seq} where sequence numbers have to hold still"));
        }
        let index = usize::try_from(seq).ok().and_then(|seq| seq.checked_sub(1));
        match index.filter(|&index| index < self.messages.len()) {
            None => Err(format!("EXPUNGE {seq} of {}", self.messages.len())),
            Some(index) => {
                let message = self.messages.remove(index);
                self.gone.extend(message.uid);
                Ok(message.uid)
            }
        }
    }

    /// The first message of unknown UID that may have this one, going by its neighbours' UIDs.
    fn place_of_unknown(&self, uid: u32) -> Option<usize> {
        (0..self.messages.len()).find(|&at| {
            let below = self.messages[..at].iter().rev().find_map(|m| m.uid);
            let above = self.messages[at..].iter().find_map(|m| m.uid);
            let fits = below.is_none_or(|b| b < uid) && above.is_none_or(|a| a > uid);
            self.messages[at].uid.is_none() && fits
        })
    }

    /// VANISHED without EARLIER. UIDs that the client has never heard of count as its newest
    /// messages whose UIDs it does not know: RFC 7162 section 3.2.10.
    pub(crate) fn vanished(
        &mut self,
        uids: &[u32],
        enabled: Enabled,
        allowed: Allowed,
    ) -> Result<(), Wrong> {
        if !enabled.qresync {
            return Err("VANISHED where QRESYNC is not enabled".to_owned());
        }
        if !allowed.expunge {
            return Err(format!("VANISHED {uids:?} where sequence numbers have to hold still"));
        }
        for &uid in uids {
            if let Some(at) = self.messages.iter().position(|m| m.uid == Some(uid)) {
                self.messages.remove(at);
            } else {
                let Some(at) = self.place_of_unknown(uid) else {
                    return Err(format!("VANISHED {uid} was not in the view"));
                };
                self.messages.remove(at);
            }
            self.gone.insert(uid);
        }
        Ok(())
    }

    /// FETCH, solicited or not. Gives the message as it is known now.
    pub(crate) fn fetch(
        &mut self,
        seq: u64,
        fetched: &Fetched,
        enabled: Enabled,
        allowed: Allowed,
    ) -> Result<&Message, Wrong> {
        let count = self.messages.len();
        let index = usize::try_from(seq).ok().and_then(|seq| seq.checked_sub(1));
        let Some(index) = index.filter(|&index| index < count) else {
            return Err(format!("FETCH of {seq}, there are {count}"));
        };
        if let Some(uid) = fetched.uid {
            if let Some(known) = self.messages[index].uid
                && known != uid
            {
                return Err(format!("message {seq} was UID {known} and is told to be {uid}"));
            }
            let below = self.messages[..index].iter().rev().find_map(|m| m.uid);
            let above = self.messages[index + 1..].iter().find_map(|m| m.uid);
            if below.is_some_and(|below| below >= uid) || above.is_some_and(|above| above <= uid) {
                return Err(format!("UID {uid} of {seq} is between {below:?} and {above:?}"));
            }
            if self.gone.contains(&uid) {
                return Err(format!("UID {uid} is back after it was told to be gone"));
            }
        }
        if fetched.flags.is_some() && !allowed.bare_flags {
            if enabled.condstore && fetched.modseq.is_none() {
                return Err(format!("flags of {seq} without MODSEQ where CONDSTORE is enabled"));
            }
            if enabled.qresync && fetched.uid.is_none() {
                return Err(format!("flags of {seq} without UID where QRESYNC is enabled"));
            }
        }
        let message = &mut self.messages[index];
        message.uid = message.uid.or(fetched.uid);
        if let Some(modseq) = fetched.modseq {
            if modseq < message.modseq {
                return Err(format!("MODSEQ of {seq} fell from {} to {modseq}", message.modseq));
            }
            if let (Some(flags), Some(known)) = (&fetched.flags, &message.flags)
                && modseq == message.modseq
                && flags != known
            {
                return Err(format!(
                    "flags of {seq} changed at MODSEQ {modseq}: {known:?} {flags:?}"
                ));
            }
            message.modseq = modseq;
            self.modseq_seen = self.modseq_seen.max(modseq);
        }
        if let Some(flags) = &fetched.flags {
            message.flags = Some(flags.clone());
        } else if fetched.modseq.is_some_and(|modseq| modseq != 0) && fetched.flags.is_none() {
            // A MODSEQ without flags: what is known of them may be older.
            message.flags = None;
        }
        Ok(&self.messages[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Allowed = Allowed { expunge: true, bare_flags: false };
    const HELD: Allowed = Allowed { expunge: false, bare_flags: false };

    fn view(uids: &[u32]) -> View {
        let messages = uids.iter().map(|&uid| Message { uid: Some(uid), ..Message::default() });
        View { messages: messages.collect(), ..View::default() }
    }

    fn seen(uid: Option<u32>, flag: &str, modseq: Option<u64>) -> Fetched {
        let flags = Some(Flags::from([flag.to_owned()]));
        Fetched { uid, flags, modseq, ..Fetched::default() }
    }

    #[test]
    fn expunges_where_they_are_forbidden_are_found() {
        let plain = Enabled::default();
        let qresync = Enabled { condstore: true, qresync: true };
        assert_eq!(view(&[3, 5]).expunge(2, plain, ALLOWED), Ok(Some(5)));
        assert!(view(&[3, 5]).expunge(2, plain, HELD).is_err());
        assert!(view(&[3, 5]).expunge(3, plain, ALLOWED).is_err());
        assert!(view(&[3, 5]).expunge(0, plain, ALLOWED).is_err());
        assert!(view(&[3, 5]).expunge(1, qresync, ALLOWED).is_err());
        assert!(view(&[3, 5]).vanished(&[3], plain, ALLOWED).is_err());
        assert!(view(&[3, 5]).vanished(&[3], qresync, HELD).is_err());
        assert!(view(&[3, 5]).vanished(&[4], qresync, ALLOWED).is_err());
        assert!(view(&[3, 5]).vanished(&[5], qresync, ALLOWED).is_ok());
    }

    #[test]
    fn a_message_of_unknown_uid_vanishes_where_its_uid_belongs() {
        let qresync = Enabled { condstore: true, qresync: true };
        let mut grown = view(&[3]);
        grown.exists(6).unwrap();
        grown.fetch(3, &seen(Some(12), "a", Some(9)), qresync, ALLOWED).unwrap();
        grown.fetch(6, &seen(Some(15), "a", Some(9)), qresync, ALLOWED).unwrap();
        grown.vanished(&[13, 14, 15], qresync, ALLOWED).unwrap();
        let uids: Vec<Option<u32>> = grown.messages.iter().map(|m| m.uid).collect();
        assert_eq!(uids, [Some(3), None, Some(12)]);
        assert!(grown.vanished(&[20], qresync, ALLOWED).is_err());
    }

    #[test]
    fn uids_that_move_fall_or_come_back_are_found() {
        let plain = Enabled::default();
        assert!(view(&[3, 5]).fetch(2, &seen(Some(6), "a", None), plain, ALLOWED).is_err());
        let mut grown = view(&[3, 5]);
        grown.exists(3).unwrap();
        assert!(grown.clone().fetch(3, &seen(Some(5), "a", None), plain, ALLOWED).is_err());
        assert!(grown.clone().fetch(3, &seen(Some(6), "a", None), plain, ALLOWED).is_ok());
        assert!(grown.exists(2).is_err());
        grown.expunge(2, plain, ALLOWED).unwrap();
        assert!(grown.fetch(2, &seen(Some(5), "a", None), plain, ALLOWED).is_err());
    }

    #[test]
    fn modseqs_that_fall_or_lie_are_found() {
        let on = Enabled { condstore: true, qresync: false };
        let mut one = view(&[3]);
        assert!(one.fetch(1, &seen(None, "a", None), on, ALLOWED).is_err());
        one.fetch(1, &seen(None, "a", Some(7)), on, ALLOWED).unwrap();
        assert!(one.clone().fetch(1, &seen(None, "a", Some(6)), on, ALLOWED).is_err());
        assert!(one.clone().fetch(1, &seen(None, "b", Some(7)), on, ALLOWED).is_err());
        assert!(one.fetch(1, &seen(None, "b", Some(8)), on, ALLOWED).is_ok());
        let both = Enabled { condstore: true, qresync: true };
        assert!(one.clone().fetch(1, &seen(None, "b", Some(9)), both, ALLOWED).is_err());
        let fetching = Allowed { bare_flags: true, ..HELD };
        assert!(one.fetch(1, &seen(None, "c", None), both, fetching).is_ok());
    }
}
