//! Messages by their numbers: what SEARCH, SORT and THREAD found, how UIDs lie, which have vanished.

use super::{number, print, string};
use crate::imap::command::Tag;
use crate::imap::sort::ThreadNode;
use crate::types::{ModSeq, PartialRange, SequenceSet, UidValidity};

/// Ranges of one VANISHED line.
const VANISHED_RANGES_MAX: usize = 1000;

/// What one ESEARCH response tells; absent parts are not written.
#[derive(Clone, Debug, Default)]
pub struct ESearch {
    /// The mailbox's name as [`mailbox`] writes it, where several are searched (RFC 7377).
    pub mailbox: Option<(Vec<u8>, UidValidity)>,
    /// The numbers are UIDs.
    pub uid: bool,
    /// The least match.
    pub min: Option<u32>,
    /// The greatest match.
    pub max: Option<u32>,
    /// How many match.
    pub count: Option<u32>,
    /// All matches; an empty set is not written.
    pub all: Option<SequenceSet>,
    /// A window and the matches in it (RFC 9394).
    pub partial: Option<(PartialRange, SequenceSet)>,
    /// The highest MODSEQ among what is told.
    pub modseq: Option<ModSeq>,
    /// Scores of 1 to 100 for all matches, in their order (RFC 6203).
    pub relevancy: Option<Vec<u8>>,
}

/// `* ESEARCH (TAG "t") UID MIN 1 … ALL 1:3`, RFC 4731 section 3.1.
pub fn esearch(out: &mut Vec<u8>, tag: &Tag, result: &ESearch) {
    out.extend_from_slice(b"* ESEARCH (TAG ");
    string(out, tag.as_str().as_bytes(), false);
    if let Some((name, uid_validity)) = &result.mailbox {
        out.extend_from_slice(b" MAILBOX ");
        out.extend_from_slice(name);
        print(out, format_args!(" UIDVALIDITY {uid_validity}"));
    }
    out.push(b')');
    if result.uid {
        out.extend_from_slice(b" UID");
    }
    let numbers = [("MIN", result.min), ("MAX", result.max), ("COUNT", result.count)];
    for (name, value) in numbers {
        if let Some(value) = value {
            print(out, format_args!(" {name} {value}"));
        }
    }
    if let Some(set) = result.all.as_ref().filter(|set| !set.ranges.is_empty()) {
        print(out, format_args!(" ALL {set}"));
    }
    if let Some((range, set)) = &result.partial {
        if set.ranges.is_empty() {
            print(out, format_args!(" PARTIAL ({range} NIL)"));
        } else {
            print(out, format_args!(" PARTIAL ({range} {set})"));
        }
    }
    if let Some(modseq) = result.modseq {
        print(out, format_args!(" MODSEQ {modseq}"));
    }
    if let Some(scores) = &result.relevancy {
        out.extend_from_slice(b" RELEVANCY (");
        for (i, score) in scores.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            number(out, u64::from(*score));
        }
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

/// `* ESEARCH (TAG "t") UID ADDTO (0 32768:32769)`, RFC 5267 section 4.3: positions, each with what
/// comes there; or REMOVEFROM.
pub fn context_update(
    out: &mut Vec<u8>,
    tag: &Tag,
    uid: bool,
    what: &str,
    pairs: &[(u32, SequenceSet)],
) {
    out.extend_from_slice(b"* ESEARCH (TAG ");
    string(out, tag.as_str().as_bytes(), false);
    print(out, format_args!(") {}{what} (", if uid { "UID " } else { "" }));
    for (i, (position, set)) in pairs.iter().enumerate() {
        let space = if i > 0 { " " } else { "" };
        print(out, format_args!("{space}{position} {set}"));
    }
    out.extend_from_slice(b")\r\n");
}

/// `* UIDBATCHES (TAG "A143") 215295:99696,99695:1`: ranges from the highest UID to the lowest.
pub fn uid_batches(out: &mut Vec<u8>, tag: &Tag, descending: &[(u32, u32)]) {
    out.extend_from_slice(b"* UIDBATCHES (TAG ");
    string(out, tag.as_str().as_bytes(), false);
    out.push(b')');
    for (i, (high, low)) in descending.iter().enumerate() {
        out.push(if i == 0 { b' ' } else { b',' });
        number(out, u64::from(*high));
        out.push(b':');
        number(out, u64::from(*low));
    }
    out.extend_from_slice(b"\r\n");
}

/// `* VANISHED 405,407`, or with `(EARLIER)`: RFC 7162 section 3.2.10. In lines of bounded length.
pub fn vanished(out: &mut Vec<u8>, earlier: bool, ranges: &[(u32, u32)]) {
    for some in ranges.chunks(VANISHED_RANGES_MAX) {
        out.extend_from_slice(if earlier { b"* VANISHED (EARLIER) " } else { b"* VANISHED " });
        for (i, &(first, last)) in some.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            number(out, u64::from(first));
            if last > first {
                out.push(b':');
                number(out, u64::from(last));
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// `* SEARCH 1 2 3 (MODSEQ n)`
pub fn search(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>, modseq: Option<ModSeq>) {
    found(out, b"* SEARCH", numbers, modseq);
}

/// What a number takes in most answers, with its blank.
const FOUND_BYTES: usize = 7;

fn found(
    out: &mut Vec<u8>,
    what: &[u8],
    numbers: impl IntoIterator<Item = u32>,
    modseq: Option<ModSeq>,
) {
    out.extend_from_slice(what);
    let numbers = numbers.into_iter();
    out.reserve(numbers.size_hint().0.saturating_mul(FOUND_BYTES));
    for n in numbers {
        out.push(b' ');
        number(out, u64::from(n));
    }
    if let Some(modseq) = modseq {
        print(out, format_args!(" (MODSEQ {modseq})"));
    }
    out.extend_from_slice(b"\r\n");
}

/// `* SORT 5 3 4 (MODSEQ n)`, RFC 5256 and RFC 7162 section 3.1.6.
pub fn sort(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>, modseq: Option<ModSeq>) {
    found(out, b"* SORT", numbers, modseq);
}

/// A parent whose children are being written.
struct OpenThread {
    left: u32,
    /// Each child has parentheses of its own.
    splits: bool,
    /// It stands in parentheses.
    enclosed: bool,
    /// A blank comes before its first child's parenthesis.
    blank: bool,
}

/// `* THREAD (2)(3 6 (4 23)(44 7 96))`. However deep threads are, the stack is not.
pub fn threads(out: &mut Vec<u8>, nodes: impl IntoIterator<Item = ThreadNode<u32>>) {
    out.extend_from_slice(b"* THREAD");
    let mut open: Vec<OpenThread> = Vec::new();
    let mut is_first = true;
    for node in nodes {
        let enclosed = open.last().is_none_or(|parent| parent.splits);
        let blank = match open.last_mut() {
            None => std::mem::take(&mut is_first),
            Some(parent) if parent.splits => std::mem::take(&mut parent.blank),
            Some(_) => true,
        };
        if blank {
            out.push(b' ');
        }
        if enclosed {
            out.push(b'(');
        }
        if let Some(n) = node.message {
            number(out, u64::from(n));
        }
        if node.children > 0 {
            let (left, splits) = (node.children, node.children > 1 || node.message.is_none());
            open.push(OpenThread { left, splits, enclosed, blank: node.message.is_some() });
            continue;
        }
        if enclosed {
            out.push(b')');
        }
        while let Some(parent) = open.last_mut() {
            parent.left -= 1;
            if parent.left > 0 {
                break;
            }
            if parent.enclosed {
                out.push(b')');
            }
            open.pop();
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::tests::{tag, written};
    use super::*;

    #[test]
    fn search_lines() {
        let result = ESearch {
            uid: true,
            min: Some(7),
            max: Some(3800),
            count: Some(15),
            modseq: Some(ModSeq(9)),
            ..ESearch::default()
        };
        assert_eq!(
            written(|out| esearch(out, &tag(), &result)),
            "* ESEARCH (TAG \"A282\") UID MIN 7 MAX 3800 COUNT 15 MODSEQ 9\r\n"
        );
        assert_eq!(
            written(|out| search(out, [2, 84, 882], Some(ModSeq(5)))),
            "* SEARCH 2 84 882 (MODSEQ 5)\r\n"
        );
        assert_eq!(written(|out| search(out, [], None)), "* SEARCH\r\n");
    }

    /// RFC 5256, BASE.7.2.THREAD.
    #[test]
    fn threads_nest_as_in_the_rfc() {
        let node = |n: u32, children| ThreadNode { message: (n > 0).then_some(n), children };
        let told = [(2, 0), (3, 1), (6, 2), (4, 1), (23, 0), (44, 1), (7, 1), (96, 0)];
        let told = told.map(|(n, children)| node(n, children));
        assert_eq!(written(|out| threads(out, told)), "* THREAD (2)(3 6 (4 23)(44 7 96))\r\n");
        let siblings = [node(0, 2), node(3, 0), node(5, 0)];
        assert_eq!(written(|out| threads(out, siblings)), "* THREAD ((3)(5))\r\n");
        assert_eq!(written(|out| threads(out, [])), "* THREAD\r\n");
        let deep = (1..=200_000).map(|n| node(n, u32::from(n < 200_000)));
        assert!(written(|out| threads(out, deep)).ends_with(" 200000)\r\n"));
        assert_eq!(written(|out| sort(out, [5, 3, 4], None)), "* SORT 5 3 4\r\n");
    }

    #[test]
    fn batches_and_windows() {
        let batches = [(215295, 99696), (99695, 20351), (20350, 7830), (7829, 1)];
        assert_eq!(
            written(|out| uid_batches(out, &tag(), &batches)),
            "* UIDBATCHES (TAG \"A282\") 215295:99696,99695:20351,20350:7830,7829:1\r\n"
        );
        assert_eq!(written(|out| uid_batches(out, &tag(), &[])), "* UIDBATCHES (TAG \"A282\")\r\n");
        let range = PartialRange { from_end: true, first: 1, last: 100 };
        let window = |numbers: &[u32]| {
            let set = SequenceSet::from_ascending(numbers.iter().copied());
            let partial = Some((range, set));
            let result = ESearch { uid: true, partial, ..ESearch::default() };
            written(|out| esearch(out, &tag(), &result))
        };
        let start = "* ESEARCH (TAG \"A282\") UID PARTIAL (-1:-100";
        assert_eq!(window(&[4, 5, 9]), format!("{start} 4:5,9)\r\n"));
        assert_eq!(window(&[]), format!("{start} NIL)\r\n"));
    }

    #[test]
    fn vanished_lines() {
        let line = |earlier, ranges: &[_]| written(|out| vanished(out, earlier, ranges));
        assert_eq!(line(false, &[(405, 405), (407, 410)]), "* VANISHED 405,407:410\r\n");
        assert_eq!(line(true, &[(300, 310)]), "* VANISHED (EARLIER) 300:310\r\n");
        assert_eq!(line(true, &[]), "");
        let many: Vec<_> = (1..=VANISHED_RANGES_MAX as u32 + 1).map(|n| (2 * n, 2 * n)).collect();
        let lines = line(true, &many);
        assert_eq!(lines.matches("* VANISHED (EARLIER) ").count(), 2);
        assert!(lines.ends_with("* VANISHED (EARLIER) 2002\r\n"), "{lines}");
    }
}
