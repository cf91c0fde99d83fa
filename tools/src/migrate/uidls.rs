//! UIDLs of the old server's POP3 (`--pop3`), so that clients which leave their mail on the server
//! download nothing anew.
//!
//! The lists of POP3 are taken before that of IMAP, so that what POP3 shows, IMAP shows, too, unless it
//! goes meanwhile. Which message is which is found in steps, each for what the ones before left:
//!
//! 1. those whose UIDL is here already, by an earlier run;
//! 2. where both lists have the same sizes in the same order: those of a size that no other has;
//! 3. by headers, without the fields that servers add or change;
//! 4. where several have one header: by all their octets. Those that are equal in all octets are as good
//!    as each other.
//!
//! Nothing else counts, so none gets another message's UIDL. Invariants: nothing is changed at the
//! source; a UIDL that is given here is known by the next run's first step, whatever was cut off.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use client::imap::{Login, Session};
use client::{Server, pop3};
use protocol::mime::header;

use super::account::facts;
use super::arrivals::set_of;
use super::report::UserReport;
use super::state::{Folder, State};
use super::stop::Stop;
use super::target::Target;

/// Messages that are asked for at once, by IMAP.
const CHUNK_MESSAGES: usize = 256;
/// Messages that are named in a note; the others are counted.
const NAMED_MAX: usize = 20;
/// All lines of a body.
const LINES_ALL: u32 = 999_999_999;
/// Fields that a server or client may have added to one copy of a message.
const FIELDS_OF_SERVERS: [&[u8]; 8] = [
    b"content-length",
    b"lines",
    b"status",
    b"x-imapbase",
    b"x-keywords",
    b"x-status",
    b"x-uid",
    b"x-uidl",
];

/// A digest of what is compared.
type Digest = [u8; 32];

/// A message that POP3 shows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offered {
    number: u32,
    size: u64,
    uidl: String,
}

/// A message of INBOX at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    uid: u32,
    size: u64,
}

/// How much of messages is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    Whole,
}

/// Looks at messages on either way.
trait Look {
    /// By numbers of POP3; what cannot be had is missing.
    fn offered(&mut self, numbers: &[u32], part: Part) -> Result<HashMap<u32, Digest>, Stop>;
    /// By UIDs.
    fn found(&mut self, uids: &[u32], part: Part) -> Result<HashMap<u32, Digest>, Stop>;
}

/// All that the work needs.
pub(super) struct Uidls<'u, 'p> {
    /// INBOX by IMAP.
    pub session: &'u mut Session,
    /// The same by POP3.
    pub server: &'u Server,
    /// On both ways.
    pub login: &'u Login,
    /// The store.
    pub target: &'u mut Target<'p>,
    /// Which message came where.
    pub state: &'u State,
    /// What came of it.
    pub report: &'u mut UserReport,
}

impl Uidls<'_, '_> {
    /// Gives the messages of the user's INBOX here the UIDLs that they have at the source.
    pub(super) fn bring(&mut self, wire: &[u8], folder: &Folder) -> Result<(), Stop> {
        let said = |error: client::Error| match Stop::from(error) {
            Stop::Moment(why) => Stop::Moment(format!("POP3: {why}")),
            Stop::Folder(why) | Stop::User(why) => Stop::Folder(format!("UIDLs: POP3: {why}")),
        };
        let mut maildrop = pop3::Session::open(self.server).map_err(said)?;
        maildrop.login(self.login).map_err(said)?;
        let uidls = maildrop.uidls().map_err(said)?;
        let sizes: HashMap<u32, u64> = maildrop.sizes().map_err(said)?.into_iter().collect();
        let offered: Vec<Offered> = uidls
            .into_iter()
            .map(|(number, uidl)| {
                let size = sizes.get(&number).copied().unwrap_or_default();
                Offered { number, size, uidl }
            })
            .collect();
        let examined = self.session.examine(wire, false)?;
        let all = match examined.exists {
            0 => Vec::new(),
            _ => facts(self.session, "1:*")?.ok_or_else(|| {
                Stop::Folder("UIDLs: the source tells no sizes of INBOX".to_owned())
            })?,
        };
        let found: Vec<Found> = all.into_iter().map(|(uid, size, _)| Found { uid, size }).collect();
        let (offered, refused) = good(offered);
        let known = self.state.messages(folder.id)?;
        let here: HashMap<String, u32> = self.target.uidls(&folder.target)?;
        let by_target: HashMap<u32, u32> =
            known.iter().map(|(uid, one)| (one.target, *uid)).collect();
        let there: BTreeSet<u32> = found.iter().map(|one| one.uid).collect();
        let settled: HashMap<&str, u32> = offered
            .iter()
            .filter_map(|one| {
                let uid = by_target.get(here.get(&one.uidl)?).filter(|uid| there.contains(uid))?;
                Some((one.uidl.as_str(), *uid))
            })
            .collect();
        let done: BTreeSet<u32> = settled.values().copied().collect();
        let left: Vec<Offered> =
            offered.iter().filter(|one| !settled.contains_key(&*one.uidl)).cloned().collect();
        let open: Vec<Found> = found.into_iter().filter(|one| !done.contains(&one.uid)).collect();
        let mut look = Ways { maildrop: &mut maildrop, session: &mut *self.session };
        let pairs = pairs(&left, &open, &mut look)?;
        maildrop.quit();

        // What came in since the folder was done comes with the next run.
        let given: Vec<(u32, String)> = left
            .iter()
            .filter_map(|one| Some((known.get(pairs.get(&one.number)?)?.target, one.uidl.clone())))
            .collect();
        self.target.set_uidls(&folder.target, folder.target_uid_validity, &given)?;
        self.report.uidls += given.len() as u64;
        let mut without = refused;
        without.extend(left.iter().filter(|one| !pairs.contains_key(&one.number)).map(|one| {
            format!("{} ({} octets): no message of INBOX is the same", one.uidl, one.size)
        }));
        self.note(&folder.source, &without);
        Ok(())
    }

    fn note(&mut self, folder: &str, without: &[String]) {
        let notes = &mut self.report.notes;
        let named = without.iter().take(NAMED_MAX);
        notes.extend(named.map(|one| format!("{folder}: UIDL {one}; it is left out")));
        if without.len() > NAMED_MAX {
            let more = without.len() - NAMED_MAX;
            notes.push(format!("{folder}: {more} more UIDLs are left out"));
        }
    }
}

/// Those that can be a message's, and of the others why not.
fn good(offered: Vec<Offered>) -> (Vec<Offered>, Vec<String>) {
    let mut times: HashMap<String, usize> = HashMap::new();
    offered.iter().for_each(|one| *times.entry(one.uidl.clone()).or_default() += 1);
    let mut refused = BTreeSet::new();
    let mut left = Vec::with_capacity(offered.len());
    for one in offered {
        if !engine::is_uidl(&one.uidl) {
            refused.insert(format!("{:?} of message {}: is none", one.uidl, one.number));
        } else if times.get(&one.uidl).is_some_and(|n| *n > 1) {
            refused.insert(format!("{}: several messages have it", one.uidl));
        } else {
            left.push(one);
        }
    }
    (left, refused.into_iter().collect())
}

/// UIDs by numbers of POP3, of messages that are surely the same.
fn pairs(
    offered: &[Offered],
    found: &[Found],
    look: &mut dyn Look,
) -> Result<BTreeMap<u32, u32>, Stop> {
    let mut pairs = BTreeMap::new();
    let in_step = offered.len() == found.len()
        && offered.iter().zip(found).all(|(one, other)| one.size == other.size);
    let mut of_size: HashMap<u64, usize> = HashMap::new();
    offered.iter().for_each(|one| *of_size.entry(one.size).or_default() += 1);
    let (mut numbers, mut uids) = (Vec::new(), Vec::new());
    if in_step {
        for (one, other) in offered.iter().zip(found) {
            if of_size.get(&one.size) == Some(&1) {
                pairs.insert(one.number, other.uid);
            } else {
                numbers.push(one.number);
                uids.push(other.uid);
            }
        }
    } else {
        numbers.extend(offered.iter().map(|one| one.number));
        uids.extend(found.iter().map(|one| one.uid));
    }
    let mut doubtful = (Vec::new(), Vec::new());
    for (numbers, uids) in alike(&numbers, &uids, Part::Header, look)? {
        match (numbers.as_slice(), uids.as_slice()) {
            ([number], [uid]) => drop(pairs.insert(*number, *uid)),
            _ => {
                doubtful.0.extend(numbers);
                doubtful.1.extend(uids);
            }
        }
    }
    for (numbers, uids) in alike(&doubtful.0, &doubtful.1, Part::Whole, look)? {
        pairs.extend(numbers.into_iter().zip(uids));
    }
    Ok(pairs)
}

/// Messages that are the same: their numbers by one way, and their UIDs by the other.
type Alike = (Vec<u32>, Vec<u32>);

/// Messages of the same digest, in their orders, where both ways have some.
fn alike(
    numbers: &[u32],
    uids: &[u32],
    part: Part,
    look: &mut dyn Look,
) -> Result<Vec<Alike>, Stop> {
    if numbers.is_empty() || uids.is_empty() {
        return Ok(Vec::new());
    }
    let mut groups: BTreeMap<Digest, Alike> = BTreeMap::new();
    let digests = look.offered(numbers, part)?;
    for number in numbers {
        if let Some(digest) = digests.get(number) {
            groups.entry(*digest).or_default().0.push(*number);
        }
    }
    let digests = look.found(uids, part)?;
    for uid in uids {
        if let Some(digest) = digests.get(uid) {
            groups.entry(*digest).or_default().1.push(*uid);
        }
    }
    groups.retain(|_, (numbers, uids)| !numbers.is_empty() && !uids.is_empty());
    Ok(groups.into_values().collect())
}

/// The two connections.
struct Ways<'w> {
    maildrop: &'w mut pop3::Session,
    session: &'w mut Session,
}

impl Look for Ways<'_> {
    fn offered(&mut self, numbers: &[u32], part: Part) -> Result<HashMap<u32, Digest>, Stop> {
        let lines = if part == Part::Header { 0 } else { LINES_ALL };
        let mut digests = HashMap::new();
        self.maildrop.tops(numbers, lines, &mut |number, octets| {
            if let Some(octets) = octets {
                digests.insert(number, digest(&octets, part));
            }
        })?;
        Ok(digests)
    }

    fn found(&mut self, uids: &[u32], part: Part) -> Result<HashMap<u32, Digest>, Stop> {
        let mut uids = uids.to_vec();
        uids.sort_unstable();
        let mut digests = HashMap::new();
        let items = match part {
            Part::Header => "(UID BODY.PEEK[HEADER])",
            Part::Whole => "(UID BODY.PEEK[])",
        };
        // A response is kept in memory whole, a message at a time.
        for some in uids.chunks(CHUNK_MESSAGES) {
            self.session.fetch(
                &set_of(some),
                items,
                &mut |fetched| {
                    let octets = if part == Part::Header { fetched.header } else { fetched.body };
                    if let (Some(uid), Some(octets)) = (fetched.uid, octets) {
                        digests.insert(uid, digest(&octets, part));
                    }
                    Ok(())
                },
                &mut |_| {},
            )?;
        }
        Ok(digests)
    }
}

/// Of a header: names and values, without blanks around and within them that servers change. Of a
/// message: all of it.
fn digest(octets: &[u8], part: Part) -> Digest {
    if part == Part::Whole {
        return *blake3::hash(octets).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    for field in header::fields(octets) {
        let name = field.name.to_ascii_lowercase();
        if FIELDS_OF_SERVERS.contains(&name.as_slice()) {
            continue;
        }
        hasher.update(&name);
        hasher.update(b":");
        let value = header::unfold(field.value);
        for word in value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            hasher.update(b" ");
            hasher.update(word);
        }
        hasher.update(b"\n");
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages by number and by UID: header, body.
    #[derive(Default)]
    struct Mail {
        offered: HashMap<u32, (&'static str, &'static str)>,
        found: HashMap<u32, (&'static str, &'static str)>,
        looks: Vec<(Part, usize)>,
    }

    fn digests(
        of: &HashMap<u32, (&'static str, &'static str)>,
        asked: &[u32],
        part: Part,
    ) -> HashMap<u32, Digest> {
        let one = |n: &u32| {
            let (header, body) = of.get(n)?;
            let text = if part == Part::Header { header } else { body };
            Some((*n, *blake3::hash(text.as_bytes()).as_bytes()))
        };
        asked.iter().filter_map(one).collect()
    }

    impl Look for Mail {
        fn offered(&mut self, numbers: &[u32], part: Part) -> Result<HashMap<u32, Digest>, Stop> {
            self.looks.push((part, numbers.len()));
            Ok(digests(&self.offered, numbers, part))
        }

        fn found(&mut self, uids: &[u32], part: Part) -> Result<HashMap<u32, Digest>, Stop> {
            Ok(digests(&self.found, uids, part))
        }
    }

    fn offered(sizes: &[u64]) -> Vec<Offered> {
        let one = |(number, size): (u32, &u64)| Offered {
            number,
            size: *size,
            uidl: format!("u{number}"),
        };
        (1..).zip(sizes).map(one).collect()
    }

    fn found(messages: &[(u32, u64)]) -> Vec<Found> {
        messages.iter().map(|&(uid, size)| Found { uid, size }).collect()
    }

    fn paired(sizes: &[u64], messages: &[(u32, u64)], mail: &mut Mail) -> Vec<(u32, u32)> {
        pairs(&offered(sizes), &found(messages), mail).unwrap().into_iter().collect()
    }

    #[test]
    fn equal_lists_need_no_look_but_at_equal_sizes() {
        let mut mail = Mail::default();
        let three = [(4, 10), (7, 20), (9, 30)];
        assert_eq!(paired(&[10, 20, 30], &three, &mut mail), [(1, 4), (2, 7), (3, 9)]);
        assert!(mail.looks.is_empty());
        // Two of one size stand in the other order.
        mail.offered = [(1, ("b", "")), (2, ("a", ""))].into();
        mail.found = [(4, ("a", "")), (7, ("b", ""))].into();
        let three = [(4, 10), (7, 10), (9, 30)];
        assert_eq!(paired(&[10, 10, 30], &three, &mut mail), [(1, 7), (2, 4), (3, 9)]);
        assert_eq!(mail.looks, [(Part::Header, 2)]);
    }

    #[test]
    fn what_is_not_in_both_lists_is_not_guessed() {
        // POP3 does not show UID 4, and shows another message of its size.
        let mut mail = Mail {
            offered: [(1, ("x", "")), (2, ("b", ""))].into(),
            found: [(4, ("a", "")), (7, ("b", "")), (9, ("c", ""))].into(),
            ..Mail::default()
        };
        assert_eq!(paired(&[10, 20], &[(4, 10), (7, 20), (9, 30)], &mut mail), [(2, 7)]);
        // Sizes that one way counts differently.
        assert_eq!(paired(&[11, 21], &[(7, 20), (9, 30)], &mut mail), [(2, 7)]);
        // No header can be had.
        mail.offered.clear();
        assert!(paired(&[10, 20], &[(4, 10), (7, 20), (9, 30)], &mut mail).is_empty());
    }

    #[test]
    fn messages_of_one_header_are_told_apart_by_their_octets() {
        let mut mail = Mail {
            offered: [(1, ("h", "two")), (2, ("h", "one")), (3, ("h", "same")), (4, ("h", "same"))]
                .into(),
            found: [(5, ("h", "one")), (6, ("h", "same")), (7, ("h", "two")), (8, ("h", "same"))]
                .into(),
            ..Mail::default()
        };
        let messages = [(5, 3), (6, 3), (7, 3), (8, 3)];
        let wanted = [(1, 7), (2, 5), (3, 6), (4, 8)];
        assert_eq!(paired(&[3, 3, 3, 3], &messages, &mut mail), wanted);
        // Of three, one is another one.
        mail.offered.insert(4, ("h", "none of them"));
        assert_eq!(paired(&[3, 3, 3, 3], &messages, &mut mail), [(1, 7), (2, 5), (3, 6)]);
    }

    #[test]
    fn headers_are_the_same_whatever_servers_add() {
        let one = b"Subject: a\r\n b\r\nStatus: RO\r\nDate: x \r\n\r\n";
        let other = b"SUBJECT:  a b\r\nDate: x\r\nX-UIDL: 7\r\n\r\n";
        assert_eq!(digest(one, Part::Header), digest(other, Part::Header));
        assert_ne!(digest(one, Part::Whole), digest(other, Part::Whole));
        let third = b"Subject: a c\r\nDate: x\r\n\r\n";
        assert_ne!(digest(one, Part::Header), digest(third, Part::Header));
    }

    #[test]
    fn uidls_that_are_none_or_several_messages_are_left_out() {
        let mut list = offered(&[1, 2, 3, 4]);
        list[1].uidl = "u1".to_owned();
        list[2].uidl = "a b".to_owned();
        let (left, refused) = good(list);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].number, 4);
        assert_eq!(refused.len(), 2, "{refused:?}");
    }
}
