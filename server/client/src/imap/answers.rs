//! What responses tell, as values of our own.

use protocol::imap::mutf7;
use protocol::imap::response::{self, Response, Value, Word};

use super::{Command, Session};
use crate::error::Error;

/// Ranges of UIDs in one response, at most.
const RANGES_MAX: usize = 1 << 20;

/// A mailbox of LIST or LSUB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name as the server wrote it: what commands say.
    pub wire: Vec<u8>,
    /// The same in UTF-8. Names that are not modified UTF-7 are taken as UTF-8.
    pub name: String,
    /// What separates its levels; `None`: it has none.
    pub separator: Option<char>,
    /// `\Sent`, `\Noselect` and the like, as written.
    pub attributes: Vec<String>,
}

impl Listed {
    fn of(response: &Response, word: &str) -> Option<Listed> {
        let Response::Data(values) = response else { return None };
        let [first, attributes, separator, name, ..] = values.as_slice() else { return None };
        if !first.is(word) {
            return None;
        }
        let attributes = attributes.list()?.iter().filter_map(Value::atom).map(str::to_owned);
        let separator = separator.bytes().and_then(|b| std::str::from_utf8(b).ok());
        let wire = match name {
            Value::Atom(bytes) | Value::Text(bytes) => bytes.clone(),
            Value::List(_) => return None,
        };
        let name =
            mutf7::decode(&wire).unwrap_or_else(|_| String::from_utf8_lossy(&wire).into_owned());
        Some(Listed {
            name,
            separator: separator.and_then(|s| s.chars().next()),
            attributes: attributes.collect(),
            wire,
        })
    }

    /// Whether it has an attribute, in any case.
    pub fn has(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|one| one.eq_ignore_ascii_case(attribute))
    }

    /// Whether messages can be in it.
    pub fn is_selectable(&self) -> bool {
        !self.has("\\Noselect") && !self.has("\\NonExistent")
    }
}

/// Prefixes of the namespaces (RFC 2342), as the server wrote them, in UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Of the user's own mailboxes, with their separators.
    pub personal: Vec<(String, Option<char>)>,
    /// Of other users'.
    pub others: Vec<String>,
    /// Of what is shared.
    pub shared: Vec<String>,
}

/// Whose a mailbox is, as its namespace tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The user's own.
    Own,
    /// Another user's, below this prefix.
    Others(String),
    /// Shared, below this prefix.
    Shared(String),
}

impl Namespace {
    /// Whose a mailbox is: of the prefixes that it begins with, the longest tells. One that begins
    /// with none is the user's own.
    pub fn whose(&self, name: &str) -> Whose {
        if name.eq_ignore_ascii_case("INBOX") {
            return Whose::Own;
        }
        let mut longest: Option<(usize, Whose)> = None;
        let mut take = |prefix: &str, whose: Whose| {
            let fits = match prefix
                .get(..5)
                .is_some_and(|first| first.eq_ignore_ascii_case("INBOX"))
            {
                // Of any case, as everywhere.
                true => name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix)),
                false => name.starts_with(prefix),
            };
            if fits && longest.as_ref().is_none_or(|(length, _)| prefix.len() > *length) {
                longest = Some((prefix.len(), whose));
            }
        };
        // Of equal ones the first counts.
        self.personal.iter().for_each(|(prefix, _)| take(prefix, Whose::Own));
        self.others.iter().for_each(|prefix| take(prefix, Whose::Others(prefix.clone())));
        self.shared.iter().for_each(|prefix| take(prefix, Whose::Shared(prefix.clone())));
        longest.map_or(Whose::Own, |(_, whose)| whose)
    }
}

/// What EXAMINE told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Messages.
    pub exists: u32,
    /// 0: it was not told.
    pub uid_validity: u32,
    /// 0: it was not told.
    pub uid_next: u32,
    /// UIDs are not the same in other sessions (RFC 4315).
    pub uids_not_sticky: bool,
    /// RFC 7162; `None`: the mailbox has no MODSEQs.
    pub modseq_highest: Option<u64>,
}

/// What one FETCH response told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// UID
    pub uid: Option<u32>,
    /// FLAGS
    pub flags: Option<Vec<String>>,
    /// INTERNALDATE, Unix seconds
    pub internal_date: Option<i64>,
    /// RFC822.SIZE
    pub size: Option<u64>,
    /// MODSEQ
    pub modseq: Option<u64>,
    /// `BODY[]`
    pub body: Option<Vec<u8>>,
    /// `BODY[HEADER…]`
    pub header: Option<Vec<u8>>,
}

impl Fetched {
    /// `None` where the response is no FETCH.
    pub fn of(response: &Response) -> Option<Fetched> {
        let Response::Data(values) = response else { return None };
        let [_, word, items, ..] = values.as_slice() else { return None };
        if !word.is("FETCH") {
            return None;
        }
        let mut found = Fetched::default();
        for pair in items.list()?.chunks_exact(2) {
            let (name, value) = (pair[0].atom().unwrap_or_default().to_ascii_uppercase(), &pair[1]);
            match name.as_str() {
                "UID" => found.uid = value.number().and_then(|n| u32::try_from(n).ok()),
                "RFC822.SIZE" => found.size = value.number(),
                "INTERNALDATE" => {
                    found.internal_date = value.bytes().and_then(response::date_time);
                }
                "FLAGS" => {
                    let flags = value.list().unwrap_or_default().iter().filter_map(Value::atom);
                    found.flags = Some(flags.map(str::to_owned).collect());
                }
                "MODSEQ" => found.modseq = value.list().and_then(|l| l.first()?.number()),
                // An empty message is NIL for some.
                "BODY[]" => found.body = Some(value.bytes().unwrap_or_default().to_vec()),
                _ if name.starts_with("BODY[HEADER") => {
                    found.header = Some(value.bytes().unwrap_or_default().to_vec());
                }
                _ => {}
            }
        }
        Some(found)
    }
}

/// The UIDs of a VANISHED response, as ascending ranges.
pub fn vanished_of(response: &Response) -> Option<Vec<(u32, u32)>> {
    let Response::Data(values) = response else { return None };
    let (first, rest) = values.split_first()?;
    let set = rest.last().filter(|_| first.is("VANISHED"))?.atom()?;
    response::ranges(set, RANGES_MAX)
}

/// Identifiers and rights of an ACL response.
pub fn acl_of(response: &Response) -> Option<Vec<(String, String)>> {
    let Response::Data(values) = response else { return None };
    let [first, _, pairs @ ..] = values.as_slice() else { return None };
    if !first.is("ACL") {
        return None;
    }
    let text = |value: &Value| match value {
        Value::Atom(bytes) | Value::Text(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::List(_) => None,
    };
    pairs.chunks_exact(2).map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect()
}

impl Session {
    /// The namespaces; empty where the server does not know NAMESPACE.
    pub fn namespace(&mut self) -> Result<Namespace, Error> {
        let mut found = Namespace::default();
        if !self.has("NAMESPACE")? {
            return Ok(found);
        }
        self.run(Command::new("NAMESPACE"), &mut |response| {
            if let Response::Data(values) = &response
                && let [first, personal, others, shared, ..] = values.as_slice()
                && first.is("NAMESPACE")
            {
                found.personal = prefixes(personal);
                found.others = prefixes(others).into_iter().map(|(prefix, _)| prefix).collect();
                found.shared = prefixes(shared).into_iter().map(|(prefix, _)| prefix).collect();
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// All mailboxes, with special uses where the server tells them.
    pub fn list(&mut self) -> Result<Vec<Listed>, Error> {
        let mut command = Command::new("LIST").astring(b"").astring(b"*");
        if self.has("LIST-EXTENDED")? && self.has("SPECIAL-USE")? {
            command = command.word("RETURN (SPECIAL-USE)");
        }
        self.listed(command, "LIST")
    }

    /// The subscribed mailboxes.
    pub fn subscribed(&mut self) -> Result<Vec<Listed>, Error> {
        self.listed(Command::new("LSUB").astring(b"").astring(b"*"), "LSUB")
    }

    fn listed(&mut self, command: Command, word: &str) -> Result<Vec<Listed>, Error> {
        let mut found = Vec::new();
        self.run(command, &mut |response| {
            found.extend(Listed::of(&response, word));
            Ok(())
        })?;
        Ok(found)
    }

    /// Selects a mailbox read-only. With `condstore` MODSEQs are asked for.
    pub fn examine(&mut self, wire: &[u8], condstore: bool) -> Result<Examined, Error> {
        let mut command = Command::new("EXAMINE").mailbox(wire);
        if condstore {
            command = command.word("(CONDSTORE)");
        }
        let mut found = Examined::default();
        self.run(command, &mut |response| {
            match &response {
                Response::Data(values) => {
                    if let [number, word, ..] = values.as_slice()
                        && word.is("EXISTS")
                    {
                        found.exists = narrow(number.number());
                    }
                }
                Response::Status(condition) if condition.word == Word::No => {
                    found.uids_not_sticky |= condition.code("UIDNOTSTICKY").is_some();
                }
                Response::Status(condition) if condition.word == Word::Ok => {
                    let number = |name| condition.code(name)?.first()?.number();
                    if let Some(n) = number("UIDVALIDITY") {
                        found.uid_validity = narrow(Some(n));
                    }
                    if let Some(n) = number("UIDNEXT") {
                        found.uid_next = narrow(Some(n));
                    }
                    if let Some(n) = number("HIGHESTMODSEQ") {
                        found.modseq_highest = Some(n);
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// How many messages a mailbox has, without selecting it.
    pub fn messages(&mut self, wire: &[u8]) -> Result<u64, Error> {
        let mut found = 0;
        let command = Command::new("STATUS").mailbox(wire).word("(MESSAGES)");
        self.run(command, &mut |response| {
            if let Response::Data(values) = &response
                && values.first().is_some_and(|v| v.is("STATUS"))
                && let Some([word, number, ..]) = values.last().and_then(Value::list)
                && word.is("MESSAGES")
            {
                found = number.number().unwrap_or(0);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// UID FETCH of a set; `heard` gets what each FETCH response tells, and the UIDs of VANISHED.
    pub fn fetch(
        &mut self,
        set: &str,
        items: &str,
        heard: &mut dyn FnMut(Fetched) -> Result<(), Error>,
        vanished: &mut dyn FnMut(Vec<(u32, u32)>),
    ) -> Result<(), Error> {
        let command = Command::new("UID FETCH").word(set).word(items);
        self.run(command, &mut |response| {
            if let Some(gone) = vanished_of(&response) {
                vanished(gone);
            }
            match Fetched::of(&response) {
                Some(fetched) if fetched.uid.is_some() => heard(fetched),
                _ => Ok(()),
            }
        })?;
        Ok(())
    }
}

fn narrow(number: Option<u64>) -> u32 {
    number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

fn prefixes(value: &Value) -> Vec<(String, Option<char>)> {
    let one = |value: &Value| {
        let [prefix, rest @ ..] = value.list()? else { return None };
        let wire = match prefix {
            Value::Atom(bytes) | Value::Text(bytes) => bytes,
            Value::List(_) => return None,
        };
        let name = mutf7::decode(wire).ok()?;
        let separator = rest.first().and_then(Value::bytes).and_then(|b| b.first());
        Some((name, separator.map(|b| char::from(*b))))
    };
    value.list().unwrap_or_default().iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Response {
        response::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_longest_prefix_tells_whose_a_mailbox_is() {
        let namespace = |personal: &str, others: &[&str], shared: &[&str]| Namespace {
            personal: vec![(personal.to_owned(), Some('.'))],
            others: others.iter().map(|one| (*one).to_owned()).collect(),
            shared: shared.iter().map(|one| (*one).to_owned()).collect(),
        };
        let shared = |prefix: &str| Whose::Shared(prefix.to_owned());
        let others = |prefix: &str| Whose::Others(prefix.to_owned());
        // Cyrus without altnamespace: what is shared has no prefix at all.
        let cyrus = namespace("INBOX.", &["user."], &[""]);
        assert_eq!(cyrus.whose("inbox"), Whose::Own);
        assert_eq!(cyrus.whose("INBOX.Sent"), Whose::Own);
        assert_eq!(cyrus.whose("inbox.Sent"), Whose::Own);
        assert_eq!(cyrus.whose("user.bob.Work"), others("user."));
        assert_eq!(cyrus.whose("board"), shared(""));
        let alt = namespace("", &["Other Users/"], &["Shared Folders/"]);
        assert_eq!(alt.whose("Work"), Whose::Own);
        assert_eq!(alt.whose("Other Users/bob/Work"), others("Other Users/"));
        assert_eq!(alt.whose("Shared Folders/board"), shared("Shared Folders/"));
        let courier = namespace("INBOX.", &[], &["#shared.", "shared."]);
        assert_eq!(courier.whose("INBOX.Work"), Whose::Own);
        assert_eq!(courier.whose("#shared.bob.Work"), shared("#shared."));
        // What no namespace is told of.
        assert_eq!(courier.whose("elsewhere"), Whose::Own);
        assert_eq!(Namespace::default().whose("any/thing"), Whose::Own);
    }

    #[test]
    fn listings_keep_the_servers_spelling() {
        let listed =
            Listed::of(&parse("* LIST (\\HasNoChildren) \".\" \"INBOX.Entw&APw-rfe\"\r\n"), "LIST");
        let listed = listed.unwrap();
        assert_eq!(listed.name, "INBOX.Entwürfe");
        assert_eq!(listed.wire, b"INBOX.Entw&APw-rfe");
        assert_eq!(listed.separator, Some('.'));
        let nil = Listed::of(&parse("* LSUB () NIL NIL\r\n"), "LSUB").unwrap();
        assert_eq!((nil.name.as_str(), nil.separator), ("NIL", None));
    }

    #[test]
    fn fetches_tell_what_they_hold() {
        let text = "* 4 FETCH (FLAGS (\\Seen a) UID 9 INTERNALDATE \" 1-Jan-1970 00:00:09 +0000\" \
                    RFC822.SIZE 5 MODSEQ (77) BODY[] {2}\r\nhi)\r\n";
        let fetched = Fetched::of(&parse(text)).unwrap();
        assert_eq!(fetched.uid, Some(9));
        assert_eq!(fetched.flags, Some(vec!["\\Seen".to_owned(), "a".to_owned()]));
        assert_eq!(
            (fetched.internal_date, fetched.size, fetched.modseq),
            (Some(9), Some(5), Some(77))
        );
        assert_eq!(fetched.body.as_deref(), Some(&b"hi"[..]));
        assert_eq!(
            vanished_of(&parse("* VANISHED (EARLIER) 1:3,9\r\n")),
            Some(vec![(1, 3), (9, 9)])
        );
        let acl = acl_of(&parse("* ACL INBOX bob lrs \"anyone\" \"\"\r\n")).unwrap();
        assert_eq!(acl[1], ("anyone".to_owned(), String::new()));
    }
}
