//! One part's own BODYSTRUCTURE, found within that of its message in wire form (RFC 5524 section 3).
//!
//! The wire form is our own (see [`super::wire`]), but comes from a cache on disk: what is not well
//! formed has no parts.

/// The structure of the part with these numbers, outermost first; of the message if there are none.
pub fn part_structure<'w>(whole: &'w [u8], part: &[u32]) -> Option<&'w [u8]> {
    let mut at = whole;
    let mut numbers = part.iter();
    while let Some(&number) = numbers.next() {
        let index = (number as usize).checked_sub(1)?;
        let children = children(at)?;
        let child = if children.is_empty() {
            // What is no multipart is its own first part.
            (index == 0).then_some(at)?
        } else {
            *children.get(index)?
        };
        at = match numbers.as_slice() {
            [] => child,
            // Below a message its body's parts count.
            _ => body_of_message(child).unwrap_or(child),
        };
    }
    Some(at)
}

/// The parts of a multipart; none for others.
fn children(structure: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = structure.strip_prefix(b"(")?;
    let mut out = Vec::new();
    while rest.first() == Some(&b'(') {
        let end = element(rest)?;
        out.push(&rest[..end]);
        rest = &rest[end..];
    }
    Some(out)
}

/// The body of `("MESSAGE" "RFC822" params id description encoding size envelope body …)`.
fn body_of_message(structure: &[u8]) -> Option<&[u8]> {
    let mut rest = structure.strip_prefix(b"(")?;
    for at in 0..9 {
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let end = element(rest)?;
        let text = &rest[..end];
        let is_message = match at {
            0 => text.eq_ignore_ascii_case(b"\"MESSAGE\""),
            1 => {
                text.eq_ignore_ascii_case(b"\"RFC822\"") || text.eq_ignore_ascii_case(b"\"GLOBAL\"")
            }
            8 => return text.starts_with(b"(").then_some(text),
            _ => true,
        };
        if !is_message {
            return None;
        }
        rest = &rest[end..];
    }
    None
}

/// The length of the list, string, number or NIL at the start.
pub(super) fn element(wire: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0usize);
    loop {
        match *wire.get(at)? {
            b'(' => (at, depth) = (at + 1, depth + 1),
            b')' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            b'"' => {
                at += 1;
                while *wire.get(at)? != b'"' {
                    at += if wire[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'{' => {
                let end = at + wire[at..].iter().position(|&b| b == b'}')?;
                let bytes: usize = std::str::from_utf8(&wire[at + 1..end]).ok()?.parse().ok()?;
                at = end.checked_add(3)?.checked_add(bytes)?;
                if at > wire.len() {
                    return None;
                }
            }
            b' ' => {
                at += 1;
                continue;
            }
            _ => {
                let more = wire[at..].iter().position(|b| b" ()\"{".contains(b));
                at = more.map_or(wire.len(), |more| at + more);
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::part_structure;
    use proptest::prelude::*;

    const TEXT: &str = r#"("TEXT" "PLAIN" ("CHARSET" "a\"b)") NIL NIL "7BIT" 3 1)"#;

    fn found<'w>(whole: &'w str, part: &[u32]) -> Option<&'w str> {
        let found = part_structure(whole.as_bytes(), part)?;
        Some(std::str::from_utf8(found).unwrap())
    }

    #[test]
    fn parts_are_found_by_their_numbers() {
        assert_eq!(found(TEXT, &[]), Some(TEXT));
        assert_eq!(found(TEXT, &[1]), Some(TEXT));
        assert_eq!(found(TEXT, &[2]), None);
        let image = "(\"IMAGE\" \"PNG\" NIL {3}\r\n(() NIL \"BASE64\" 9)";
        let mixed = format!("({TEXT}{image} \"MIXED\" NIL NIL NIL)");
        assert_eq!(found(&mixed, &[2]), Some(image));
        let message =
            format!("(\"MESSAGE\" \"RFC822\" NIL NIL NIL \"7BIT\" 99 (NIL \"x\") {mixed} 9)");
        let outer = format!("({TEXT}{message} \"MIXED\")");
        assert_eq!(found(&outer, &[2]), Some(&*message));
        assert_eq!(found(&outer, &[2, 2]), Some(image));
        assert_eq!(found(&outer, &[2, 3]), None);
        assert_eq!(found(&outer, &[1, 2]), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[()\"{}3 NILx\\\\]{0,40}", part in prop::collection::vec(0u32..4, 0..4)) {
            let _ = part_structure(text.as_bytes(), &part);
        }
    }
}
