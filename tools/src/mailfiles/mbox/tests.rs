//! What is written is read back; what others wrote is read as it is met.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

const KINDS: [Kind; 4] = [Kind::O, Kind::Rd, Kind::Cl, Kind::Cl2];

fn read(text: &[u8], kind: Kind, headers: Headers) -> (Vec<Found>, Vec<Damage>) {
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    for one in Reader::new(Cursor::new(text), "box", kind, headers) {
        match one {
            Ok(message) => found.push(message),
            Err(bad) => damage.push(bad),
        }
    }
    (found, damage)
}

fn write(messages: &[&[u8]], kind: Kind, status: bool) -> (Vec<u8>, usize) {
    let mut writer = Writer::new(Vec::new(), kind, status);
    let mut lossy = 0;
    let flags = ["\\Seen".to_owned(), "$Label1".to_owned(), "\\Flagged".to_owned()];
    for (n, message) in messages.iter().enumerate() {
        let flags = if n % 2 == 0 { &flags[..] } else { &[] };
        lossy +=
            usize::from(writer.add(message, flags, 1_000_000_000 + n as i64).unwrap().is_some());
    }
    (writer.finish().unwrap(), lossy)
}

#[test]
fn what_is_written_comes_back() {
    let messages: [&[u8]; 9] = [
        b"Subject: 1\r\n\r\nFrom here\r\n>From there\r\n>>From x\r\n",
        b"Subject: 2\r\n\r\nno end",
        b"Subject: no body\r\n",
        b"Subject: empty body\r\n\r\n",
        b"\r\nno header\r\n",
        b"Subject: mixed\r\n\r\na\nb\rc\r\n\r\n\r\n",
        b"Content-Length: 7\r\nStatus: R\r\nSubject: own\r\n\r\nx\r\n\r\nFrom y Thu Jan  1 00:00:01 2026\r\n",
        b"Subject: 8\r\nContent-Length: 3\r\n\r\nlonger than three\r\n",
        b"Subject: 9\r\n\r\nlast without an end",
    ];
    for kind in KINDS {
        for status in [false, true] {
            let headers = Headers { flags: status, strip: status };
            let (text, lossy) = write(&messages, kind, status);
            assert_eq!(lossy, usize::from(matches!(kind, Kind::O | Kind::Cl)), "{kind:?}");
            let (found, damage) = read(&text, kind, headers);
            assert!(damage.is_empty(), "{kind:?}: {damage:?}");
            assert_eq!(found.len(), messages.len(), "{kind:?} {}", String::from_utf8_lossy(&text));
            for (n, (one, wanted)) in found.iter().zip(messages).enumerate() {
                if n > 0 || lossy == 0 {
                    let shown = String::from_utf8_lossy(&one.octets);
                    assert_eq!(one.octets, wanted, "{kind:?} {status} {n} {shown:?}");
                }
                assert_eq!(one.internal_date, Some(1_000_000_000 + n as i64));
                if status && n == 0 {
                    assert_eq!(one.flags, ["\\Seen", "\\Flagged", "$Label1"]);
                }
            }
        }
    }
}

#[test]
fn files_of_others_are_read_as_they_are_met() {
    let text = b"From a@b Thu Jan  1 00:00:01 2026\nSubject: 1\nStatus: RO\nX-Status: AF\n\n\
                 >From here\n>>From there\nFrom not behind an empty line\n\n\
                 From c Fri Feb 13 10:11:12 2026\nSubject: 2\n\nbody\n";
    let headers = Headers { flags: true, strip: false };
    let (found, damage) = read(text, Kind::Rd, headers);
    assert!(damage.is_empty());
    assert_eq!(found.len(), 2);
    let first = "Subject: 1\r\nStatus: RO\r\nX-Status: AF\r\n\r\nFrom here\r\n>From there\r\n\
                 From not behind an empty line\r\n";
    assert_eq!(String::from_utf8_lossy(&found[0].octets), first);
    assert_eq!(found[0].flags, ["\\Seen", "\\Answered", "\\Flagged"]);
    assert_eq!(found[0].internal_date, Some(1_767_225_601));
    assert_eq!(found[1].octets, b"Subject: 2\r\n\r\nbody\r\n");
    let crlf = text.to_vec();
    let crlf = String::from_utf8(crlf).unwrap().replace('\n', "\r\n");
    let (again, _) = read(crlf.as_bytes(), Kind::Rd, headers);
    assert_eq!(again[0].octets, found[0].octets);
    assert_eq!(again[1].octets, found[1].octets);
}

#[test]
fn damage_is_named_with_its_place_and_the_rest_is_read() {
    let text = b"junk\n\nFrom a Thu Jan  1 00:00:01 2026\nContent-Length: 900\n\nx\n\n\
                 From b Thu Jan  1 00:00:02 2026\nContent-Length: 2\n\ny\n\n";
    let (found, damage) = read(text, Kind::Cl2, Headers::default());
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].octets, b"Content-Length: 900\r\n\r\nx\r\n");
    assert_eq!(found[1].octets, b"\r\ny\r\n");
    let places: Vec<_> = damage.iter().map(|one| one.offset).collect();
    assert_eq!(places, [Some(0), Some(6)], "{damage:?}");
}

proptest! {
    #[test]
    fn any_messages_come_back(
        messages in proptest::collection::vec("(A: b\r\n){0,2}(\r\n((>{0,2}From |[a-z]{0,3}|\r|)(\r\n|\n)?){0,6})?", 1..4),
        kind in 0usize..4,
    ) {
        let kind = KINDS[kind];
        let all: Vec<&[u8]> = messages.iter().map(|m| m.as_bytes()).filter(|m| !m.is_empty()).collect();
        let mut writer = Writer::new(Vec::new(), kind, false);
        let mut lossy = Vec::new();
        for one in &all {
            lossy.push(writer.add(one, &[], 5).unwrap().is_some());
        }
        let text = writer.finish().unwrap();
        let (found, damage) = read(&text, kind, Headers::default());
        prop_assert!(damage.is_empty());
        prop_assert_eq!(found.len(), all.len());
        for ((one, wanted), lossy) in found.iter().zip(&all).zip(lossy) {
            if !lossy {
                prop_assert_eq!(&one.octets[..], *wanted, "{:?}", String::from_utf8_lossy(&text));
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in "(From |Content-Length: [0-9]{1,20}|\n|\r\n|>|[a-z ]){0,30}", kind in 0usize..4) {
        let headers = Headers { flags: true, strip: true };
        let (found, _) = read(bytes.as_bytes(), KINDS[kind], headers);
        prop_assert!(found.len() <= bytes.len());
    }
}
