//! What is told of mailboxes by name (LIST, LSUB, STATUS), and of the server by its own (ID).

use super::{mailbox, number, print, string};
use crate::imap::command::StatusItem;

/// One LIST or LSUB line.
#[derive(Clone, Debug, Default)]
pub struct ListLine<'a> {
    /// `LSUB` instead of `LIST`.
    pub lsub: bool,
    /// `XLIST` instead of `LIST`.
    pub xlist: bool,
    /// Attributes with their backslash, in order.
    pub attributes: Vec<&'a str>,
    /// The mailbox.
    pub name: &'a str,
    /// CHILDINFO ("SUBSCRIBED"): a child matched though the name itself does not.
    pub child_info: bool,
    /// OLDNAME, what the mailbox was called before (rev2).
    pub old_name: Option<&'a str>,
    /// Between levels; `/` when absent.
    pub separator: Option<char>,
}

/// Writes a LIST line.
pub fn list(out: &mut Vec<u8>, line: &ListLine<'_>, utf8: bool) {
    let word: &[u8] = match (line.lsub, line.xlist) {
        (true, _) => b"* LSUB (",
        (_, true) => b"* XLIST (",
        _ => b"* LIST (",
    };
    out.extend_from_slice(word);
    out.extend_from_slice(line.attributes.join(" ").as_bytes());
    print(out, format_args!(") \"{}\" ", line.separator.unwrap_or('/')));
    mailbox(out, line.name, utf8);
    if line.child_info {
        out.extend_from_slice(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    }
    if let Some(old) = line.old_name {
        out.extend_from_slice(b" (\"OLDNAME\" (");
        mailbox(out, old, utf8);
        out.extend_from_slice(b"))");
    }
    out.extend_from_slice(b"\r\n");
}

/// What STATUS tells of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusValue {
    /// A number.
    Number(u64),
    /// An id, in parentheses.
    Id(String),
}

/// `* STATUS name (ITEM value …)`
pub fn mailbox_status(
    out: &mut Vec<u8>,
    name: &str,
    items: impl IntoIterator<Item = (StatusItem, StatusValue)>,
    utf8: bool,
) {
    out.extend_from_slice(b"* STATUS ");
    mailbox(out, name, utf8);
    out.extend_from_slice(b" (");
    for (i, (item, value)) in items.into_iter().enumerate() {
        let space = if i > 0 { " " } else { "" };
        print(out, format_args!("{space}{} ", status_item(item)));
        match value {
            StatusValue::Number(value) => number(out, value),
            StatusValue::Id(id) => print(out, format_args!("({id})")),
        }
    }
    out.extend_from_slice(b")\r\n");
}

fn status_item(item: StatusItem) -> &'static str {
    match item {
        StatusItem::Messages => "MESSAGES",
        StatusItem::Recent => "RECENT",
        StatusItem::UidNext => "UIDNEXT",
        StatusItem::UidValidity => "UIDVALIDITY",
        StatusItem::Unseen => "UNSEEN",
        StatusItem::Deleted => "DELETED",
        StatusItem::DeletedStorage => "DELETED-STORAGE",
        StatusItem::Size => "SIZE",
        StatusItem::HighestModSeq => "HIGHESTMODSEQ",
        StatusItem::AppendLimit => "APPENDLIMIT",
        StatusItem::MailboxId => "MAILBOXID",
    }
}

/// `* ID ("name" "value" …)`, RFC 2971 section 3.2; NIL for no pairs.
pub fn id<'a>(out: &mut Vec<u8>, pairs: impl IntoIterator<Item = (&'a str, &'a str)>, utf8: bool) {
    out.extend_from_slice(b"* ID ");
    let mut opening = b'(';
    for (name, value) in pairs {
        out.push(std::mem::replace(&mut opening, b' '));
        string(out, name.as_bytes(), utf8);
        out.push(b' ');
        string(out, value.as_bytes(), utf8);
    }
    out.extend_from_slice(if opening == b'(' { b"NIL\r\n" } else { b")\r\n" });
}

#[cfg(test)]
mod tests {
    use super::super::tests::written;
    use super::*;

    #[test]
    fn list_and_status_lines() {
        let line = ListLine {
            attributes: vec!["\\NonExistent", "\\HasChildren"],
            name: "Entwürfe/x y",
            child_info: true,
            ..ListLine::default()
        };
        assert_eq!(
            written(|out| list(out, &line, false)),
            "* LIST (\\NonExistent \\HasChildren) \"/\" \"Entw&APw-rfe/x y\" \
             (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"
        );
        let renamed = ListLine { name: "new", old_name: Some("öld"), ..ListLine::default() };
        assert_eq!(
            written(|out| list(out, &renamed, true)),
            "* LIST () \"/\" new (\"OLDNAME\" (\"öld\"))\r\n"
        );
        let number = StatusValue::Number;
        let items = [(StatusItem::Messages, number(231)), (StatusItem::UidNext, number(44292))];
        assert_eq!(
            written(|out| mailbox_status(out, "blurdybloop", items, false)),
            "* STATUS blurdybloop (MESSAGES 231 UIDNEXT 44292)\r\n"
        );
        let id = [(StatusItem::MailboxId, StatusValue::Id("F2212ea87".into()))];
        assert_eq!(
            written(|out| mailbox_status(out, "foo", id, false)),
            "* STATUS foo (MAILBOXID (F2212ea87))\r\n"
        );
    }

    #[test]
    fn id_lines() {
        let pairs = [("name", "Cursus"), ("os", "Bäume")];
        assert_eq!(
            written(|out| id(out, pairs, true)),
            "* ID (\"name\" \"Cursus\" \"os\" \"Bäume\")\r\n"
        );
        assert_eq!(
            written(|out| id(out, pairs, false)),
            "* ID (\"name\" \"Cursus\" \"os\" {6}\r\nBäume)\r\n"
        );
        assert_eq!(written(|out| id(out, [], false)), "* ID NIL\r\n");
    }
}
