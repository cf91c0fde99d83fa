//! UIDLs that messages had at another server (POP3, RFC 1939 section 7): clients that leave mail on
//! the server know messages by them, and download anew what has another one.
//!
//! They are metadata of the mailbox, in blocks of [`BLOCK_UIDS`] UIDs, under names that no client can
//! say: `uidl/` and the number of the block, eight hexadecimal digits. So they are durable, replayed,
//! archived and deleted as metadata is. A block's value, little-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | UIDVALIDITY of the mailbox for which the UIDs hold |
//! | 4 | 2 | UID in the block, and so on for each message, rising |
//! | 6 | 1 | bytes of its UIDL, 1 to 255 |
//! | 7 | 1 to 255 | the UIDL, of octets from 0x21 to 0x7E |
//!
//! Invariants: of one mailbox no two UIDs have the same UIDL. What was given to a message stays when
//! the message goes: a UIDL is never another message's later. Changes are made under the owner's
//! `changes` lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use protocol::types::{Uid, UidValidity};

use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::mailbox::{Mailbox, MailboxInner};
use crate::metadata;
use crate::namespace::Namespace;
use crate::shared::Shared;
use crate::user::{User, UserInner};

/// Names of blocks are below it.
pub(crate) const ENTRIES: &str = "uidl";

/// UIDs of one block: its value has at most 264 KiB.
const BLOCK_UIDS: u32 = 1024;

/// Of the UIDVALIDITY in front of a block.
const HEAD_BYTES: usize = 4;
/// In front of each UIDL.
const LINE_HEAD_BYTES: usize = 3;

const _: () = assert!(BLOCK_UIDS - 1 <= u16::MAX as u32);

/// The longest UIDL that is taken, in bytes. RFC 1939 has 70; other servers have told longer ones.
pub const UIDL_BYTES_MAX: usize = 255;

/// Whether a message can have this UIDL.
pub fn is_uidl(text: &str) -> bool {
    let visible = |b: u8| (0x21..=0x7e).contains(&b);
    !text.is_empty() && text.len() <= UIDL_BYTES_MAX && text.bytes().all(visible)
}

/// UIDLs of one block, by their UIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Block(BTreeMap<u32, String>);

impl Block {
    fn encode(&self, uid_validity: UidValidity) -> Vec<u8> {
        let mut out = uid_validity.0.to_le_bytes().to_vec();
        for (uid, uidl) in &self.0 {
            let (Ok(within), Ok(bytes)) =
                (u16::try_from(uid % BLOCK_UIDS), u8::try_from(uidl.len()))
            else {
                continue;
            };
            out.extend_from_slice(&within.to_le_bytes());
            out.push(bytes);
            out.extend_from_slice(uidl.as_bytes());
        }
        out
    }

    /// Of block `number`. Empty for another UIDVALIDITY; `None` for what is no block.
    fn decode(number: u32, bytes: &[u8], uid_validity: UidValidity) -> Option<Block> {
        let (head, mut rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        if u32::from_le_bytes(*head) != uid_validity.0 {
            return Some(Block::default());
        }
        let mut block = BTreeMap::new();
        let first = number.checked_mul(BLOCK_UIDS)?;
        while !rest.is_empty() {
            let ([low, high, length], behind) = rest.split_first_chunk::<LINE_HEAD_BYTES>()?;
            let (uidl, behind) = behind.split_at_checked(usize::from(*length))?;
            let within = u32::from(u16::from_le_bytes([*low, *high]));
            let uidl = std::str::from_utf8(uidl).ok().filter(|text| is_uidl(text))?;
            let uid = first.checked_add(within).filter(|_| within < BLOCK_UIDS)?;
            if block.insert(uid, uidl.to_owned()).is_some() {
                return None;
            }
            rest = behind;
        }
        Some(Block(block))
    }
}

fn name_of(block: u32) -> String {
    format!("{ENTRIES}/{block:08x}")
}

/// The blocks of a mailbox by their numbers. Blocks the thread.
fn read(
    shared: &Shared,
    mailbox: MailboxId,
    uid_validity: UidValidity,
) -> Result<BTreeMap<u32, Block>> {
    let mut blocks = BTreeMap::new();
    for (name, value) in metadata::below(shared, mailbox, "", ENTRIES)? {
        let number = name.strip_prefix(ENTRIES).and_then(|rest| rest.strip_prefix('/'));
        let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match number.and_then(|n| Some((n, Block::decode(n, &value, uid_validity)?))) {
            Some((number, block)) => drop(blocks.insert(number, block)),
            None => {
                return Err(Error::Corrupt {
                    path: "catalog.redb".into(),
                    expected: "UIDLs",
                    found: format!("{} other bytes in {name} of {mailbox}", value.len()),
                });
            }
        }
    }
    Ok(blocks)
}

impl MailboxInner {
    /// As [`Mailbox::given_uidls`], on this thread.
    pub(crate) fn uidls_given(&self) -> Result<HashMap<u32, String>> {
        let blocks = read(&self.shared, self.id, self.uid_validity())?;
        Ok(blocks.into_values().flat_map(|block| block.0).collect())
    }
}

impl Mailbox {
    /// UIDLs that messages of the mailbox were given by [`User::set_uidls`], also of messages that are
    /// gone.
    pub async fn given_uidls(&self) -> Result<HashMap<Uid, String>> {
        let inner = self.0.clone();
        let job = move || {
            let all = inner.uidls_given()?.into_iter();
            Ok(all.map(|(uid, uidl)| (Uid(uid), uidl)).collect())
        };
        self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }
}

impl User {
    /// Gives messages of a mailbox the UIDLs that they had at another server, in place of those that
    /// they have. Who had one of these before has it no longer. Durable block by block: after an error
    /// some may have theirs.
    ///
    /// # Errors
    /// [`Error::NotAllowed`]: [`is_uidl`] says no to one.
    pub async fn set_uidls(
        &self,
        mailbox: &str,
        uid_validity: UidValidity,
        uidls: Vec<(Uid, String)>,
    ) -> Result<()> {
        if !uidls.iter().all(|(_, uidl)| is_uidl(uidl)) {
            return Err(Error::NotAllowed("a UIDL has 1 to 255 visible characters of ASCII"));
        }
        let name = Namespace::canonical(mailbox);
        let changed = name.clone();
        self.change(move |user| user.set_uidls(&name, uid_validity, uidls)).await?;
        if !self.0.shared.config.hand_back.is_empty() {
            self.mailbox(&changed).await?.0.uidls_changed();
        }
        Ok(())
    }
}

impl UserInner {
    fn set_uidls(
        self: &Arc<Self>,
        name: &str,
        uid_validity: UidValidity,
        uidls: Vec<(Uid, String)>,
    ) -> Result<()> {
        let namespace = self.namespace.load_full();
        let id = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?.id;
        let mut blocks = read(&self.shared, id, uid_validity)?;
        let mut owners: HashMap<String, u32> = HashMap::new();
        for block in blocks.values() {
            owners.extend(block.0.iter().map(|(uid, uidl)| (uidl.clone(), *uid)));
        }
        let mut changed = BTreeSet::new();
        for (Uid(uid), uidl) in uidls {
            if let Some(before) = owners.insert(uidl.clone(), uid).filter(|before| *before != uid) {
                let number = before / BLOCK_UIDS;
                blocks.entry(number).or_default().0.remove(&before);
                changed.insert(number);
            }
            let number = uid / BLOCK_UIDS;
            let before = blocks.entry(number).or_default().0.insert(uid, uidl.clone());
            if before.as_ref() == Some(&uidl) {
                continue;
            }
            changed.insert(number);
            if let Some(before) = before
                && owners.get(&before) == Some(&uid)
            {
                owners.remove(&before);
            }
        }
        for number in changed {
            let Some(block) = blocks.get(&number) else { continue };
            let value = (!block.0.is_empty()).then(|| Arc::from(block.encode(uid_validity)));
            let changes = vec![(name_of(number), value)];
            let (user, whose) = (self.name.clone(), String::new());
            let frame = Frame::Metadata { user, whose, changes: changes.clone() };
            let lsn = self.commit(&[(id, frame)])?;
            self.shared.metadata.apply(id, "", &changes);
            self.applied(lsn);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALIDITY: UidValidity = UidValidity(7);

    proptest! {
        #[test]
        fn blocks_are_read_as_written(
            number in prop_oneof![Just(0u32), Just(5), Just(u32::MAX / BLOCK_UIDS)],
            uidls in proptest::collection::btree_map(0..BLOCK_UIDS, "[!-~]{1,255}", 0..20),
        ) {
            let first = number * BLOCK_UIDS;
            let block = Block(uidls.into_iter().map(|(n, uidl)| (first + n, uidl)).collect());
            let bytes = block.encode(VALIDITY);
            prop_assert_eq!(Block::decode(number, &bytes, VALIDITY), Some(block));
            // Of other UIDs.
            prop_assert_eq!(Block::decode(number, &bytes, UidValidity(8)), Some(Block::default()));
        }

        #[test]
        fn any_bytes_are_a_block_or_none(
            number in any::<u32>(), bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = Block::decode(number, &[&7u32.to_le_bytes()[..], &bytes].concat(), VALIDITY);
        }
    }

    #[test]
    fn what_is_damaged_is_no_block() {
        let good = Block([(3, "a".to_owned())].into()).encode(VALIDITY);
        assert_eq!(Block::decode(0, &good[..3], VALIDITY), None);
        assert_eq!(Block::decode(0, &good[..6], VALIDITY), None);
        assert_eq!(Block::decode(0, &good[..7], VALIDITY), None);
        let twice = [&good[..], &good[4..]].concat();
        assert_eq!(Block::decode(0, &twice, VALIDITY), None);
        let blank = [&good[..7], b" "].concat();
        assert_eq!(Block::decode(0, &blank, VALIDITY), None);
        assert!(is_uidl(&"x".repeat(UIDL_BYTES_MAX)) && !is_uidl(&"x".repeat(UIDL_BYTES_MAX + 1)));
        assert!(!is_uidl("") && !is_uidl("a b") && !is_uidl("ä"));
    }
}
