//! Records of `mailboxes.db`.
//!
//! | release | key | value |
//! |---|---|---|
//! | 2.1-2.4 | internal name | `[(key value …) ][type ]partition acl`, acl as `identifier TAB rights TAB` repeated |
//! | 2.5-3.4 | internal name | dlist `%(A %(…) I id P partition V uidvalidity T letters …)` |
//! | 3.6 | `N` and database name | the same |
//! | 3.6 | `I` and unique id | the same with N instead of I, and H, former names |

use super::db::Pair;
use super::dlist::{self, Value};
use super::name::Name;
use super::{Damage, text};

const FORMAT: &str = "mailboxes.db";

/// Identifiers with their rights, in the file's order. A minus sign in front of an identifier takes
/// rights away.
pub type Acl = Vec<(String, String)>;

/// Rights of an owner whose mailbox is his alone, as Cyrus writes them.
pub const ALL_RIGHTS: &str = "lrswipkxtecdan";

/// What is in the old form's type number.
mod bit {
    pub const REMOTE: u32 = 1;
    pub const RESERVED: u32 = 2;
    pub const NEWS: u32 = 4;
    pub const MOVING: u32 = 8;
    pub const DELETED: u32 = 16;
}

/// What the list says of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Which mailbox.
    pub name: Name,
    /// Type letters: `e` mail, `l` directory by name, `d` deleted, `i` only a parent, and others.
    pub kind: String,
    /// Absent before 2.5.
    pub unique_id: Option<String>,
    /// Absent for those that are only a name.
    pub partition: Option<String>,
    /// Absent before 2.5.
    pub uid_validity: Option<u32>,
    /// Who may do what.
    pub acl: Acl,
    /// Time of the last change of this record, seconds since 1970.
    pub changed: u64,
    /// MODSEQ of its creation.
    pub created_modseq: u64,
    /// MODSEQ of the last change of the folder itself.
    pub folder_modseq: u64,
    /// Of another server in a murder.
    pub server: Option<String>,
    /// Special use, where 2.4 and 2.5 kept it here.
    pub special_use: Option<String>,
}

impl Entry {
    /// Whether this is a mailbox for mail with its messages on this host.
    pub fn is_served(&self) -> bool {
        let plain = matches!(self.kind.as_str(), "e" | "el" | "le" | "" | "l");
        plain && self.partition.is_some() && self.server.is_none()
    }
}

/// All mailboxes of the list, in any of the forms.
///
/// # Errors
/// Records that are none.
pub fn read(pairs: &[Pair]) -> Result<Vec<Entry>, Damage> {
    let newer = is_newer(pairs);
    let mut entries = Vec::new();
    for (key, value) in pairs {
        let key = text(FORMAT, 0, key)?;
        let name = match (newer, key.chars().next()) {
            (true, Some('N')) => Name::from_database(key.get(1..).unwrap_or_default())?,
            (true, _) | (false, Some('$') | None) => continue,
            (false, Some(_)) => Name::from_internal(key)?,
        };
        let entry =
            if value.starts_with(b"%(") { of_dlist(name, value) } else { of_line(name, value) };
        entries.push(entry.map_err(|mut damage| {
            damage.found = format!("{} (of {key:?})", damage.found);
            damage
        })?);
    }
    Ok(entries)
}

/// Whether the records have the form of 3.6: keys with a letter in front, and every mailbox by its
/// id, too.
pub fn is_newer(pairs: &[Pair]) -> bool {
    let is = |letter: u8| {
        pairs.iter().any(|(key, value)| key.first() == Some(&letter) && value.starts_with(b"%("))
    };
    is(b'I')
        && pairs
            .iter()
            .all(|(key, _)| matches!(key.first(), Some(b'N' | b'I' | b'J' | b'A' | b'$' | 0x1f)))
}

fn of_dlist(name: Name, value: &[u8]) -> Result<Entry, Damage> {
    let value = dlist::read(value)?;
    let field = |key: &str| value.get(key).and_then(Value::text).map(str::to_owned);
    let number = |key: &str| value.get(key).and_then(Value::number);
    Ok(Entry {
        name,
        kind: field("T").unwrap_or_else(|| "e".to_owned()),
        unique_id: field("I"),
        partition: field("P"),
        uid_validity: number("V").and_then(|v| u32::try_from(v).ok()),
        acl: value.get("A").map(acl_of_map).unwrap_or_default(),
        changed: number("M").unwrap_or(0),
        created_modseq: number("C").unwrap_or(0),
        folder_modseq: number("F").unwrap_or(0),
        server: field("S"),
        special_use: None,
    })
}

fn of_line(name: Name, value: &[u8]) -> Result<Entry, Damage> {
    let mut rest = text(FORMAT, 0, value)?;
    let mut entry = Entry { name, ..Entry::default() };
    if let Some(inner) = rest.strip_prefix('(') {
        let (extra, after) = inner
            .split_once(") ")
            .ok_or_else(|| Damage::new(FORMAT, 0, "a closing parenthesis", rest))?;
        let mut words = extra.split(' ');
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            match key {
                "uniqueid" => entry.unique_id = Some(value.to_owned()),
                "specialuse" => entry.special_use = Some(value.to_owned()),
                _ => {}
            }
        }
        rest = after;
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let mut bits = 0;
    if let Some(after) = rest.get(digits..).and_then(|rest| rest.strip_prefix(' '))
        && digits > 0
    {
        bits = rest.get(..digits).and_then(|d| d.parse().ok()).unwrap_or(0);
        rest = after;
    }
    for (bit, letter) in [
        (bit::NEWS, 'n'),
        (bit::DELETED, 'd'),
        (bit::MOVING, 'm'),
        (bit::REMOTE, 'r'),
        (bit::RESERVED, 'z'),
    ] {
        if bits & bit != 0 {
            entry.kind.push(letter);
        }
    }
    if bits & bit::NEWS == 0 {
        entry.kind.insert(0, 'e');
    }
    let (partition, acl) = rest.split_once(' ').unwrap_or((rest, ""));
    match partition.split_once('!') {
        Some((server, partition)) => {
            entry.server = Some(server.to_owned());
            entry.partition = Some(partition.to_owned());
        }
        None => entry.partition = Some(partition.to_owned()).filter(|p| !p.is_empty()),
    }
    entry.acl = acl_of_lines(acl);
    Ok(entry)
}

/// A list written `identifier TAB rights TAB` repeated.
pub fn acl_of_lines(text: &str) -> Acl {
    let mut words = text.split('\t');
    let mut acl = Acl::new();
    while let (Some(identifier), Some(rights)) = (words.next(), words.next()) {
        if !identifier.is_empty() {
            acl.push((identifier.to_owned(), rights.to_owned()));
        }
    }
    acl
}

/// A list written as a key-value list.
pub fn acl_of_map(value: &Value) -> Acl {
    let pair = |(identifier, rights): &(Vec<u8>, Value)| {
        Some((std::str::from_utf8(identifier).ok()?.to_owned(), rights.text()?.to_owned()))
    };
    value.map().unwrap_or_default().iter().filter_map(pair).collect()
}

/// The same, to be written.
pub fn acl_to_map(acl: &Acl) -> Value {
    let pair = |(who, rights): &(String, String)| {
        (who.clone().into_bytes(), Value::from_text(rights.as_str()))
    };
    Value::Map(acl.iter().map(pair).collect())
}

/// The two records of a mailbox as 3.6 has them: by name and by id. Absent without a unique id.
pub fn write(entry: &Entry, history: Option<&Value>) -> Option<[Pair; 2]> {
    let id = entry.unique_id.as_ref()?;
    let name = entry.name.to_database();
    let record = |key: &str, text: &str| {
        let mut fields = vec![(b"T".to_vec(), Value::from_text(entry.kind.as_str()))];
        let mut put = |key: &str, value| fields.push((key.as_bytes().to_vec(), value));
        put(key, Value::from_text(text));
        if let Some(partition) = &entry.partition {
            put("P", Value::from_text(partition.as_str()));
        }
        let number = |n: u64| Value::from_number(n);
        if let Some(uid_validity) = entry.uid_validity {
            put("V", number(u64::from(uid_validity)));
        }
        put("C", number(entry.created_modseq));
        put("F", number(entry.folder_modseq));
        put("M", number(entry.changed));
        put("A", acl_to_map(&entry.acl));
        if key == "N" {
            put("H", history.cloned().unwrap_or(Value::List(Vec::new())));
        }
        dlist::write(&Value::Map(fields))
    };
    Some([
        (format!("N{name}").into_bytes(), record("I", id)),
        (format!("I{id}").into_bytes(), record("N", &name)),
    ])
}
