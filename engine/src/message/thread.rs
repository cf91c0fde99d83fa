//! The conversation of a message by its own header: RFC 8474 section 5.3.
//!
//! Every answer names the first message of its conversation as the first in References (RFC 5322
//! section 3.6.4), so that first id tells conversations apart without a look at other messages,
//! and copies of one message always agree. A client that writes In-Reply-To alone is followed one
//! step; a message that names nobody begins its own conversation.

use protocol::mime::Field;
use protocol::mime::header::Block;

/// BLAKE3-128 of the first message id of the conversation; `None` where the header has no id.
pub(super) fn id(header: &Block) -> Option<[u8; 16]> {
    let root = [Field::References, Field::InReplyTo, Field::MessageId]
        .into_iter()
        .find_map(|field| header.values(field).find_map(first_id))?;
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(&root).as_bytes()[..16]);
    Some(id)
}

/// What stands between the first angle brackets, without the blanks of folding.
fn first_id(value: &[u8]) -> Option<Vec<u8>> {
    let open = memchr::memchr(b'<', value)?;
    let inside = &value[open + 1..];
    let close = memchr::memchr(b'>', inside)?;
    let mut id = inside[..close].to_vec();
    id.retain(|byte| !byte.is_ascii_whitespace());
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use protocol::mime::{Limits, Parser};

    fn id(header: &[u8]) -> Option<[u8; 16]> {
        let mut parser = Parser::new(Limits::default());
        parser.feed(header);
        super::id(parser.finish().header())
    }

    #[test]
    fn answers_share_the_id_of_the_first_message() {
        let first = id(b"Message-ID: <a@x>\r\n");
        assert!(first.is_some());
        assert_eq!(id(b"In-Reply-To: your note <a@x>\r\nMessage-ID: <b@x>\r\n"), first);
        let third = b"Message-ID: <c@x>\r\nReferences: <a@\r\n\tx> <b@x>\r\nIn-Reply-To: <b@x>\r\n";
        assert_eq!(id(third), first);
        assert_ne!(id(b"Message-ID: <b@x>\r\n"), first);
        assert_eq!(id(b"References: none\r\nMessage-ID: <a@x>\r\n"), first);
        assert_eq!(id(b"Subject: x\r\nMessage-ID: <>\r\nReferences: <a\r\n"), None);
    }
}
