//! What an SMAP client may say once it has logged in.

use thiserror::Error;

use super::search;
use super::set::MessageSet;
use super::text::TextEnd;
use super::word::Words;
use crate::imap::SearchKey;
use crate::types::{Keyword, SystemFlags};

/// A folder: its words, from the first level on.
type Folder = Vec<String>;

/// One command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `LOGOUT`
    Logout,
    /// `RSET`: forgets an ADD that was begun.
    Rset,
    /// `NOOP`
    Noop,
    /// `IDLE`, up to a RESUME.
    Idle,
    /// `RESUME`
    Resume,
    /// `LIST [folder]`: what is below it.
    List(Folder),
    /// `STATUS how folder`
    Status(Folder),
    /// `CREATE folder`
    Create(Folder),
    /// `MKDIR folder`
    MkDir(Folder),
    /// `RMDIR folder`
    RmDir(Folder),
    /// `DELETE folder`
    Delete(Folder),
    /// `RENAME folder "" folder`
    Rename(Folder, Folder),
    /// `OPEN folder`, or `SOPEN snapshot folder`.
    Open(Folder),
    /// `CLOSE`
    Close,
    /// `EXPUNGE [set]`: what is marked as deleted, or the set whatever its flags.
    Expunge(MessageSet),
    /// `STORE set changes`
    Store(MessageSet, Vec<Store>),
    /// `FETCH set attributes contents`
    Fetch {
        /// Which messages.
        set: MessageSet,
        /// What of them, on one line.
        attributes: Vec<Attribute>,
        /// What of them, on many.
        contents: Vec<Content>,
    },
    /// `COPY set "" folder`
    Copy(MessageSet, Folder),
    /// `MOVE set "" folder`
    Move(MessageSet, Folder),
    /// `SEARCH …`
    Search(Box<SearchKey>),
    /// `ADD …`: what is to be added, and where; in one line or several.
    Add(Vec<Add>),
    /// `ACL`, `GETACL`, `SETACL`, `DELETEACL`
    Acl,
}

/// One change of STORE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Replace, add or remove.
    pub sign: Option<bool>,
    /// What.
    pub what: StoreWhat,
}

/// What STORE changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreWhat {
    /// System flags.
    Flags(SystemFlags),
    /// Keywords.
    Keywords(Vec<Keyword>),
    /// The date of arrival, which stays what it is here.
    InternalDate,
}

/// An attribute that FETCH tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// The unique name.
    Uid,
    /// Octets.
    Size,
    /// System flags.
    Flags,
    /// Keywords.
    Keywords,
    /// The date of arrival.
    InternalDate,
}

/// A `CONTENTS=` of FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Leaves SEEN as it is.
    pub peek: bool,
    /// What.
    pub entity: Entity,
    /// Names of header fields in upper case, also `:ENVELOPE` and `:MIME`; none: all.
    pub headers: Vec<String>,
    /// Which part; empty: the message.
    pub part: Vec<u32>,
}

/// What `CONTENTS=` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// The headers of every part.
    Mime,
    /// The header, unfolded.
    Headers,
    /// The header as it stands.
    RawHeaders,
    /// The body.
    Body,
    /// Header and body.
    All,
    /// The body, its transfer encoding undone.
    Decoded,
}

/// One word of ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Add {
    /// Where to.
    Folder(Folder),
    /// With these flags.
    Flags(SystemFlags),
    /// With these keywords.
    Keywords(Vec<Keyword>),
    /// With this date of arrival, as a mail header has it.
    InternalDate(String),
    /// To be sent as well: not offered.
    Send,
    /// Now comes the message.
    Text(TextEnd),
}

/// Why a line is no command. Its text is what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The first word is no command of ours.
    #[error("unknown command")]
    Unknown,
    /// Not in UTF-8.
    #[error("expected UTF-8")]
    Utf8,
    /// A set is missing, or is none.
    #[error("expected ascending message numbers, such as 1-3 7")]
    Set,
    /// A folder is missing.
    #[error("expected a folder")]
    Folder,
    /// A keyword is none.
    #[error("expected keywords separated by commas")]
    Keywords,
    /// The rest isn't understood.
    #[error("expected other words behind this command")]
    Words,
}

impl Command {
    /// Reads a line without its line end.
    pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
        let line = std::str::from_utf8(line).map_err(|_| CommandError::Utf8)?;
        let mut words = Words::new(line);
        let name = words.word().to_ascii_uppercase();
        let folder = |words: &mut Words<'_>| {
            Some(words.folder()).filter(|f| !f.is_empty()).ok_or(CommandError::Folder)
        };
        Ok(match &*name {
            "LOGOUT" => Command::Logout,
            "RSET" => Command::Rset,
            "NOOP" => Command::Noop,
            "IDLE" => Command::Idle,
            "RESUME" => Command::Resume,
            "CLOSE" => Command::Close,
            "LIST" => Command::List(words.folder()),
            "STATUS" => {
                words.word();
                Command::Status(folder(&mut words)?)
            }
            "CREATE" => Command::Create(folder(&mut words)?),
            "MKDIR" => Command::MkDir(folder(&mut words)?),
            "RMDIR" => Command::RmDir(folder(&mut words)?),
            "DELETE" => Command::Delete(folder(&mut words)?),
            "RENAME" => Command::Rename(folder(&mut words)?, folder(&mut words)?),
            "OPEN" => Command::Open(folder(&mut words)?),
            "SOPEN" => {
                words.word();
                Command::Open(folder(&mut words)?)
            }
            "EXPUNGE" => match set(&mut words)? {
                (set, None) => Command::Expunge(set),
                _ => return Err(CommandError::Set),
            },
            "STORE" => store(&mut words)?,
            "FETCH" => fetch(&mut words)?,
            "COPY" | "MOVE" => {
                let (set, next) = set(&mut words)?;
                let folder = folder(&mut words)?;
                match (set.is_empty(), next, &*name) {
                    (false, None, "COPY") => Command::Copy(set, folder),
                    (false, None, _) => Command::Move(set, folder),
                    _ => return Err(CommandError::Set),
                }
            }
            "SEARCH" => {
                Command::Search(Box::new(search::parse(&mut words).ok_or(CommandError::Words)?))
            }
            "ADD" => Command::Add(add(&mut words)?),
            "ACL" | "GETACL" | "SETACL" | "DELETEACL" => Command::Acl,
            _ => return Err(CommandError::Unknown),
        })
    }
}

/// A set, and the word behind it (`None`: an empty one, or the end).
fn set(words: &mut Words<'_>) -> Result<(MessageSet, Option<String>), CommandError> {
    let mut set = MessageSet::default();
    loop {
        let Some(word) = words.some() else { return Ok((set, None)) };
        match set.push(&word) {
            None => return Ok((set, Some(word))),
            Some(Ok(())) => {}
            Some(Err(())) => return Err(CommandError::Set),
        }
    }
}

fn flags(text: &str) -> SystemFlags {
    let one = |name: &str| match &*name.to_ascii_uppercase() {
        "SEEN" => SystemFlags::SEEN,
        "REPLIED" => SystemFlags::ANSWERED,
        "DRAFT" => SystemFlags::DRAFT,
        "DELETED" => SystemFlags::DELETED,
        "MARKED" => SystemFlags::FLAGGED,
        // Those of a later version of the protocol.
        _ => SystemFlags::empty(),
    };
    text.split(',').fold(SystemFlags::empty(), |flags, name| SystemFlags(flags.0 | one(name).0))
}

fn keywords(text: &str) -> Result<Vec<Keyword>, CommandError> {
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(|name| Keyword::new(name).ok_or(CommandError::Keywords)).collect()
}

fn store(words: &mut Words<'_>) -> Result<Command, CommandError> {
    let (set, mut next) = set(words)?;
    if set.is_empty() {
        return Err(CommandError::Set);
    }
    let mut changes = Vec::new();
    while let Some(word) = next {
        let (name, value) = word.split_once('=').ok_or(CommandError::Words)?;
        let (sign, name) = match (name.strip_prefix('+'), name.strip_prefix('-')) {
            (Some(name), _) => (Some(true), name),
            (_, Some(name)) => (Some(false), name),
            _ => (None, name),
        };
        let what = match &*name.to_ascii_uppercase() {
            "FLAGS" => StoreWhat::Flags(flags(value)),
            "KEYWORDS" => StoreWhat::Keywords(keywords(value)?),
            "INTERNALDATE" if sign.is_none() => StoreWhat::InternalDate,
            _ => return Err(CommandError::Words),
        };
        changes.push(Store { sign, what });
        next = words.some();
    }
    Ok(Command::Store(set, changes))
}

fn fetch(words: &mut Words<'_>) -> Result<Command, CommandError> {
    let (set, mut next) = set(words)?;
    if set.is_empty() {
        return Err(CommandError::Set);
    }
    let (mut attributes, mut contents) = (Vec::new(), Vec::new());
    while let Some(word) = next {
        match word.split_once('=') {
            Some((name, value)) => contents.extend(content(name, value)?),
            None => attributes.extend(match &*word.to_ascii_uppercase() {
                "UID" => Some(Attribute::Uid),
                "SIZE" => Some(Attribute::Size),
                "FLAGS" => Some(Attribute::Flags),
                "KEYWORDS" => Some(Attribute::Keywords),
                "INTERNALDATE" => Some(Attribute::InternalDate),
                // To be disregarded, says the description.
                _ => None,
            }),
        }
        next = words.some();
    }
    Ok(Command::Fetch { set, attributes, contents })
}

/// `HEADERS[1.2](Subject,:MIME)`; `None` for what isn't known.
fn content(name: &str, value: &str) -> Result<Option<Content>, CommandError> {
    let peek = match &*name.to_ascii_uppercase() {
        "CONTENTS" => false,
        "CONTENTS.PEEK" => true,
        _ => return Ok(None),
    };
    let (value, headers) = match value.split_once('(') {
        Some((value, headers)) => (value, headers.strip_suffix(')').unwrap_or(headers)),
        None => (value, ""),
    };
    let (entity, part) = match value.split_once('[') {
        Some((entity, part)) => (entity, part.strip_suffix(']').unwrap_or(part)),
        None => (value, ""),
    };
    let entity = match &*entity.to_ascii_uppercase() {
        "MIME" => Entity::Mime,
        "HEADERS" => Entity::Headers,
        "RAWHEADERS" => Entity::RawHeaders,
        "BODY" => Entity::Body,
        "ALL" => Entity::All,
        "BODY.DECODED" => Entity::Decoded,
        _ => return Ok(None),
    };
    let headers = headers.split(',').filter(|h| !h.is_empty()).map(str::to_ascii_uppercase);
    let part: Result<Vec<u32>, _> =
        part.split('.').filter(|n| !n.is_empty()).map(str::parse).collect();
    let part = part.map_err(|_| CommandError::Words)?;
    Ok(Some(Content { peek, entity, headers: headers.collect(), part }))
}

fn add(words: &mut Words<'_>) -> Result<Vec<Add>, CommandError> {
    let mut all = Vec::new();
    while let Some(word) = words.some() {
        if let Some(count) = word.strip_prefix('{') {
            let end = match count.strip_prefix('.') {
                Some(_) => TextEnd::Dot,
                None => {
                    let digits = count.bytes().take_while(u8::is_ascii_digit).count();
                    let count = count.get(..digits).and_then(|d| d.parse().ok());
                    TextEnd::Count(count.ok_or(CommandError::Words)?)
                }
            };
            all.push(Add::Text(end));
            return Ok(all);
        }
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        all.push(match &*name.to_ascii_uppercase() {
            "FOLDER" => {
                let folder = words.folder();
                if folder.is_empty() {
                    return Err(CommandError::Folder);
                }
                Add::Folder(folder)
            }
            "FLAGS" => Add::Flags(flags(value)),
            "KEYWORDS" => Add::Keywords(keywords(value)?),
            "INTERNALDATE" => Add::InternalDate(value.to_owned()),
            "MAILFROM" | "RCPTTO" | "NOTIFY" => Add::Send,
            _ => return Err(CommandError::Words),
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    #[test]
    fn folders_are_words() {
        let inbox = vec!["INBOX".to_owned()];
        let a = vec!["INBOX".to_owned(), "a b".to_owned()];
        assert_eq!(read("open INBOX"), Ok(Command::Open(inbox.clone())));
        assert_eq!(read("SOPEN \"\" INBOX \"a b\""), Ok(Command::Open(a.clone())));
        assert_eq!(read("RENAME INBOX \"\" INBOX \"a b\""), Ok(Command::Rename(inbox.clone(), a)));
        assert_eq!(read("STATUS FULL INBOX"), Ok(Command::Status(inbox)));
        assert_eq!(read("CREATE"), Err(CommandError::Folder));
        assert_eq!(read("LIST"), Ok(Command::List(vec![])));
    }

    #[test]
    fn sets_come_first() {
        let set = MessageSet(vec![(1, 10), (20, 20)]);
        assert_eq!(read("EXPUNGE 1-10 20"), Ok(Command::Expunge(set.clone())));
        assert_eq!(
            read("STORE 1-10 20 +FLAGS=SEEN,MARKED KEYWORDS=a,b"),
            Ok(Command::Store(
                set.clone(),
                vec![
                    Store { sign: Some(true), what: StoreWhat::Flags(SystemFlags(5)) },
                    Store {
                        sign: None,
                        what: StoreWhat::Keywords(vec![
                            Keyword::new("a").unwrap(),
                            Keyword::new("b").unwrap()
                        ])
                    },
                ]
            ))
        );
        assert_eq!(
            read("COPY 1-10 20 \"\" INBOX x"),
            Ok(Command::Copy(set, vec!["INBOX".into(), "x".into()]))
        );
        for bad in
            ["COPY \"\" INBOX", "STORE FLAGS=", "FETCH 3-1 UID", "STORE 1 x", "COPY 1 x \"\" y"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn contents_name_parts_and_headers() {
        let Ok(Command::Fetch { attributes, contents, .. }) =
            read("FETCH 1 uid FLAGS CONTENTS.PEEK=HEADERS[1.2.0](Subject,:Mime) NEW=x")
        else {
            panic!()
        };
        assert_eq!(attributes, [Attribute::Uid, Attribute::Flags]);
        assert_eq!(
            contents,
            [Content {
                peek: true,
                entity: Entity::Headers,
                headers: vec!["SUBJECT".into(), ":MIME".into()],
                part: vec![1, 2, 0],
            }]
        );
        assert_eq!(read("FETCH 1 CONTENTS=BODY[A]"), Err(CommandError::Words));
    }

    #[test]
    fn add_takes_its_words_in_any_number_of_lines() {
        assert_eq!(
            read("ADD FOLDER INBOX \"\" FLAGS=SEEN \"INTERNALDATE=03 Aug 2003 03:00:00 -0500\""),
            Ok(Command::Add(vec![
                Add::Folder(vec!["INBOX".into()]),
                Add::Flags(SystemFlags::SEEN),
                Add::InternalDate("03 Aug 2003 03:00:00 -0500".into()),
            ]))
        );
        assert_eq!(read("ADD {.100}"), Ok(Command::Add(vec![Add::Text(TextEnd::Dot)])));
        assert_eq!(read("ADD {100/200}"), Ok(Command::Add(vec![Add::Text(TextEnd::Count(100))])));
        assert_eq!(read("ADD {x}"), Err(CommandError::Words));
    }

    proptest! {
        #[test]
        fn any_line_parses_or_errs(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn any_words_parse_or_err(line in "(FETCH|STORE|ADD|SEARCH|COPY)( [0-9-]{1,4})?( [A-Z\"=\\[\\](){.0-9]{0,12}){0,4}") {
            let _ = read(&line);
        }
    }
}
