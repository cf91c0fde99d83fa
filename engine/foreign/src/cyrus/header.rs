//! `cyrus.header`: quota root, unique id, keyword names, a copy of the access control list.
//!
//! Three lines of magic; then, to 3.4, lines `quotaroot TAB uniqueid`, keyword names with a space
//! behind each, and `identifier TAB rights TAB` repeated; since 3.6 one dlist with the keys T (type
//! letters), N (name), I (unique id), Q (quota root), A (access control list), U (keyword names).
//! Keyword n is bit n & 31 of word n / 32 of a record's user flags.

use super::dlist::{self, Value};
use super::mboxlist::{Acl, acl_of_lines, acl_of_map, acl_to_map};
use super::name::Name;
use super::{Damage, text};

const FORMAT: &str = "cyrus.header";
/// How the file begins.
pub const MAGIC: &[u8] = b"\xa1\x02\x8b\x0dCyrus mailbox header\n\
\"The best thing about this system was that it had lots of goals.\"\n\
\t--Jim Morris on Andrew\n";

/// Keyword numbers that a record has bits for.
pub const KEYWORDS_MAX: usize = 128;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Type letters; empty in files before 3.6.
    pub kind: String,
    /// Name of the mailbox; absent in files before 3.6.
    pub name: Option<Name>,
    /// Empty in the oldest files.
    pub unique_id: String,
    /// Name of the quota root that governs the mailbox.
    pub quota_root: Option<Name>,
    /// Names by number; an empty one is not used.
    pub keywords: Vec<String>,
    /// The list as it was when the file was written: mailboxes.db decides.
    pub acl: Acl,
}

impl Header {
    /// Reads the file, in both forms.
    ///
    /// # Errors
    /// Another start than the magic, lines that are missing, more keywords than bits.
    pub fn read(bytes: &[u8]) -> Result<Header, Damage> {
        let body = bytes.strip_prefix(MAGIC).ok_or_else(|| {
            let start = bytes.get(..24).unwrap_or(bytes).escape_ascii().to_string();
            Damage::new(FORMAT, 0, "the magic of cyrus.header", start)
        })?;
        let header =
            if body.first() == Some(&b'%') { Self::newer(body)? } else { Self::classic(body)? };
        if header.keywords.len() > KEYWORDS_MAX {
            let found = header.keywords.len().to_string();
            return Err(Damage::new(FORMAT, MAGIC.len(), "at most 128 keywords", found));
        }
        Ok(header)
    }

    fn newer(body: &[u8]) -> Result<Header, Damage> {
        let value = dlist::read(body)?;
        let field = |key: &str| value.get(key).and_then(Value::text);
        let missing = |what| Damage::new(FORMAT, MAGIC.len(), what, "none");
        let name = |key: &str| field(key).map(Name::from_internal).transpose();
        let keywords = value.get("U").and_then(Value::list).unwrap_or_default();
        let keyword = |value: &Value| value.text().unwrap_or_default().to_owned();
        Ok(Header {
            kind: field("T").unwrap_or("e").to_owned(),
            name: name("N")?,
            unique_id: field("I").ok_or_else(|| missing("a unique id"))?.to_owned(),
            quota_root: name("Q")?,
            keywords: keywords.iter().map(keyword).collect(),
            acl: value.get("A").map(acl_of_map).unwrap_or_default(),
        })
    }

    fn classic(body: &[u8]) -> Result<Header, Damage> {
        let mut lines = body.split(|b| *b == b'\n');
        let mut line = |expected| {
            let line =
                lines.next().ok_or_else(|| Damage::new(FORMAT, MAGIC.len(), expected, "none"));
            text(FORMAT, MAGIC.len(), line?)
        };
        let mut first = line("a line with quota root and unique id")?.split('\t');
        let quota_root = first.next().filter(|root| !root.is_empty());
        let unique_id = first.next().unwrap_or_default().to_owned();
        let keywords = line("a line of keyword names")?;
        let acl = line("a line with the access control list")?;
        let keywords = keywords.strip_suffix(' ').unwrap_or(keywords);
        let keywords = if keywords.is_empty() { Vec::new() } else { keywords.split(' ').collect() };
        Ok(Header {
            kind: String::new(),
            name: None,
            unique_id,
            quota_root: quota_root.map(Name::from_internal).transpose()?,
            keywords: keywords.into_iter().map(str::to_owned).collect(),
            acl: acl_of_lines(acl),
        })
    }

    /// The file in the form of 3.6.
    pub fn write(&self) -> Vec<u8> {
        let text = |text: &str| Value::from_text(text);
        let mut fields = Vec::new();
        let mut put = |key: &str, value| fields.push((key.as_bytes().to_vec(), value));
        put("T", text(if self.kind.is_empty() { "e" } else { &self.kind }));
        if let Some(name) = &self.name {
            put("N", text(&name.to_internal()));
        }
        put("I", text(&self.unique_id));
        if let Some(root) = &self.quota_root {
            put("Q", text(&root.to_internal()));
        }
        put("A", acl_to_map(&self.acl));
        let keyword = |name: &String| if name.is_empty() { Value::Nil } else { text(name) };
        if !self.keywords.is_empty() {
            put("U", Value::List(self.keywords.iter().map(keyword).collect()));
        }
        let mut out = MAGIC.to_vec();
        out.extend(dlist::write(&Value::Map(fields)));
        out.push(b'\n');
        out
    }
}
