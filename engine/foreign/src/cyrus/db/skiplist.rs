//! Skiplist databases.
//!
//! Header, 48 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 20 | magic |
//! | 20, 24 | 4 each | version (1), minor version |
//! | 28, 32 | 4 each | highest level (20), level in use |
//! | 36 | 4 | records |
//! | 40 | 4 | start of the log |
//! | 44 | 4 | time of the last recovery |
//!
//! Then nodes: type (1 in order, 2 added, 257 dummy), key length, key, value length, value, pointers
//! of four bytes from the lowest level on, FFFFFFFF; keys and values are padded to four bytes. In the
//! log also 4 (delete) with the offset of a node, and 255 (commit). Before the log are the dummy and
//! nodes in order of their keys. What follows the last commit never was.

use std::collections::{BTreeMap, HashMap};

use super::{Pair, level};
use crate::cyrus::{Damage, be32};

const FORMAT: &str = "skiplist database";
/// How a file begins.
pub const MAGIC: [u8; 20] = *b"\xa1\x02\x8b\x0dskiplist file\0\0\0";
const HEADER_BYTES: usize = 48;
const LEVEL_MAX: u32 = 20;
const IN_ORDER: u32 = 1;
const ADD: u32 = 2;
const DELETE: u32 = 4;
const COMMIT: u32 = 255;
const DUMMY: u32 = 257;
const END_OF_POINTERS: u32 = u32::MAX;
/// Type, two lengths, pointers of all levels, their end.
const DUMMY_BYTES: usize = 12 + 4 * LEVEL_MAX as usize + 4;

const _: () = assert!(MAGIC.len() == 20 && HEADER_BYTES == MAGIC.len() + 7 * 4);
const _: () = assert!(HEADER_BYTES + DUMMY_BYTES == 144);

struct Node<'a> {
    key: &'a [u8],
    value: &'a [u8],
    end: usize,
}

fn short(at: usize) -> Damage {
    Damage::new(FORMAT, at, "a whole node", "the end of the file")
}

fn padded(len: u32) -> usize {
    (len as usize).saturating_add(3) & !3
}

fn node(bytes: &[u8], at: usize) -> Option<Node<'_>> {
    let key_len = be32(bytes, at.checked_add(4)?)?;
    let key_at = at.checked_add(8)?;
    let key = bytes.get(key_at..key_at.checked_add(key_len as usize)?)?;
    let value_len_at = key_at.checked_add(padded(key_len))?;
    let value_len = be32(bytes, value_len_at)?;
    let value_at = value_len_at.checked_add(4)?;
    let value = bytes.get(value_at..value_at.checked_add(value_len as usize)?)?;
    let mut end = value_at.checked_add(padded(value_len))?;
    for _ in 0..=LEVEL_MAX + 1 {
        let pointer = be32(bytes, end)?;
        end += 4;
        if pointer == END_OF_POINTERS {
            return Some(Node { key, value, end });
        }
    }
    None
}

/// All records as of the last commit, by key.
///
/// # Errors
/// Nodes that are not whole before the log, and types that are none. In the log these end it, as
/// Cyrus's recovery has it.
pub fn read(bytes: &[u8]) -> Result<Vec<Pair>, Damage> {
    if !bytes.starts_with(&MAGIC) {
        return Err(Damage::new(FORMAT, 0, "its magic", "something else"));
    }
    let log_start = be32(bytes, 40).ok_or_else(|| short(40))? as usize;
    if log_start > bytes.len() || log_start < HEADER_BYTES {
        let found = format!("{log_start} of {} bytes", bytes.len());
        return Err(Damage::new(FORMAT, 40, "a start of the log within the file", found));
    }
    // By offset, for deletes; by key, since a key is there once.
    let mut keys: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut records: BTreeMap<Vec<u8>, (u32, Vec<u8>)> = BTreeMap::new();
    let mut at = HEADER_BYTES;
    while at < log_start {
        let kind = be32(bytes, at).ok_or_else(|| short(at))?;
        let node = node(bytes, at).ok_or_else(|| short(at))?;
        match kind {
            DUMMY => {}
            IN_ORDER => {
                keys.insert(at as u32, node.key.to_vec());
                records.insert(node.key.to_vec(), (at as u32, node.value.to_vec()));
            }
            other => {
                return Err(Damage::new(FORMAT, at, "a node in order", format!("type {other}")));
            }
        }
        at = node.end;
    }
    enum Change {
        Set(u32, Vec<u8>, Vec<u8>),
        Remove(u32),
    }
    let mut pending = Vec::new();
    while let Some(kind) = be32(bytes, at) {
        match kind {
            ADD => {
                let Some(node) = node(bytes, at) else { break };
                pending.push(Change::Set(at as u32, node.key.to_vec(), node.value.to_vec()));
                at = node.end;
            }
            DELETE => {
                let Some(target) = be32(bytes, at + 4) else { break };
                pending.push(Change::Remove(target));
                at += 8;
            }
            COMMIT => {
                for change in pending.drain(..) {
                    match change {
                        Change::Set(offset, key, value) => {
                            keys.insert(offset, key.clone());
                            records.insert(key, (offset, value));
                        }
                        Change::Remove(offset) => {
                            let key = keys.get(&offset).ok_or_else(|| {
                                let found = format!("offset {offset}");
                                Damage::new(FORMAT, at, "deletes of nodes that are there", found)
                            })?;
                            // A later node with this key is another record.
                            if records.get(key).is_some_and(|(there, _)| *there == offset) {
                                records.remove(key);
                            }
                        }
                    }
                }
                at += 4;
            }
            _ => break,
        }
    }
    Ok(records.into_iter().map(|(key, (_, value))| (key, value)).collect())
}

/// A whole file as Cyrus's checkpoint leaves it: all nodes in order, no log.
pub fn write(pairs: &[Pair], now: u32) -> Vec<u8> {
    let levels: Vec<u32> = (0..pairs.len()).map(|i| level(i, LEVEL_MAX)).collect();
    let mut offsets = Vec::with_capacity(pairs.len());
    let mut at = HEADER_BYTES + DUMMY_BYTES;
    for ((key, value), level) in pairs.iter().zip(&levels) {
        offsets.push(at as u32);
        at += 12 + padded(key.len() as u32) + padded(value.len() as u32);
        at += 4 * *level as usize + 4;
    }
    let in_use = levels.iter().copied().max().unwrap_or(1);
    let mut out = MAGIC.to_vec();
    for field in [1, 2, LEVEL_MAX, in_use, pairs.len() as u32, at as u32, now] {
        out.extend(field.to_be_bytes());
    }
    // From the end: which record is the next on each level.
    let mut next = vec![0_u32; LEVEL_MAX as usize];
    let mut pointers = vec![Vec::new(); pairs.len()];
    for (i, own) in pointers.iter_mut().enumerate().rev() {
        for next in next.iter_mut().take(levels[i] as usize) {
            own.push(*next);
            *next = offsets[i];
        }
    }
    put(&mut out, DUMMY, (b"", b""), &next);
    for ((key, value), pointers) in pairs.iter().zip(&pointers) {
        put(&mut out, IN_ORDER, (key, value), pointers);
    }
    out
}

fn put(out: &mut Vec<u8>, kind: u32, (key, value): (&[u8], &[u8]), pointers: &[u32]) {
    out.extend(kind.to_be_bytes());
    for bytes in [key, value] {
        out.extend((bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    pointers.iter().for_each(|pointer| out.extend(pointer.to_be_bytes()));
    out.extend(END_OF_POINTERS.to_be_bytes());
}
