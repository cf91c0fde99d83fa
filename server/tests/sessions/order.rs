//! SORT and THREAD over IMAP: RFC 5256, 5957, 5267 section 3, 6203 section 6.

use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};

const LOGIN: &str = "l LOGIN jo geheim\r\nl SELECT INBOX\r\n";

/// Messages whose fields are told as `Name: value` lines.
async fn with(layout: LayoutKind, messages: &[&str]) -> Site {
    let site = Site::new(Protocol::Imap, layout, |config| config.search.fuzzy = true);
    for message in messages {
        let lines: String = message.lines().map(|line| format!("{}\r\n", line.trim())).collect();
        site.store("jo", "INBOX", &format!("{lines}\r\nbody\r\n")).await;
    }
    site
}

/// What the server says to each command: the lines before its tagged answer, which is OK.
async fn ask(site: &Site, commands: &[&str]) -> Vec<String> {
    let tagged = commands.iter().enumerate().map(|(n, command)| format!("t{n} {command}\r\n"));
    let said = site.say(&format!("{LOGIN}{}", tagged.collect::<String>())).await;
    let (_, mut rest) = said.split_once("l OK [READ-WRITE]").expect(&said);
    rest = rest.split_once("\r\n").unwrap().1;
    let mut answers = Vec::new();
    for n in 0..commands.len() {
        let end = format!("t{n} OK");
        let (before, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end} in {said}"));
        answers.push(before.to_owned());
        rest = after.split_once("\r\n").unwrap().1;
    }
    answers
}

/// Asserts one line of answer to each command.
async fn asserted(site: &Site, expected: &[(&str, &str)]) {
    let commands: Vec<&str> = expected.iter().map(|(command, _)| *command).collect();
    for ((command, line), said) in expected.iter().zip(ask(site, &commands).await) {
        let wanted = if line.is_empty() { String::new() } else { format!("{line}\r\n") };
        assert_eq!(said, wanted, "{command}");
    }
}

const MAIL: &[&str] = &[
    "Subject: Re: apples\nFrom: Zoe <anna@example.org>\nTo: x@y\nDate: Mon, 3 Jan 2000 10:00:00 +0000",
    "Subject: apples\nFrom: bert@example.org\nTo: \"A, B\" <b@y>, c@d\nDate: Mon, 3 Jan 2000 10:00:00 +0100",
    "Subject: =?utf-8?q?=C3=84pfel?=\nFrom: =?utf-8?q?=C3=A9mile?= <z@example.org>\nCc: m@n",
    "Subject: [list] Bananas (fwd)\nFrom: <carl@example.org>\nDate: Sun, 2 Jan 2000 23:00:00 -0700",
    "From: Crew: d@example.org;\nDate: nonsense",
    "Subject: \nFrom: \nDate: Thu, 1 Jan 1925 00:00:00 +0000",
];

#[test]
fn messages_are_sorted_by_each_criterion() {
    on_a_core(|layout| async move {
        let site = with(layout, MAIL).await;
        asserted(
            &site,
            &[
                ("SORT (SUBJECT) UTF-8 ALL", "* SORT 5 6 1 2 3 4"),
                ("SORT (REVERSE SUBJECT) UTF-8 ALL", "* SORT 4 3 1 2 5 6"),
                ("SORT (SUBJECT DATE) UTF-8 ALL", "* SORT 6 5 2 1 3 4"),
                ("SORT (SUBJECT REVERSE DATE) US-ASCII 1,2,4", "* SORT 1 2 4"),
                // The third and the fifth have no date: that of their arrival counts.
                ("SORT (DATE) UTF-8 ALL", "* SORT 6 4 2 1 3 5"),
                ("UID SORT (REVERSE DATE) UTF-8 1:4", "* SORT 3 1 2 4"),
                ("SORT (FROM) UTF-8 ALL", "* SORT 6 1 2 4 5 3"),
                ("SORT (DISPLAYFROM) UTF-8 ALL", "* SORT 6 2 4 5 3 1"),
                ("SORT (DISPLAYTO TO) UTF-8 ALL", "* SORT 3 4 5 6 2 1"),
                ("SORT (TO) UTF-8 ALL", "* SORT 3 4 5 6 2 1"),
                ("SORT (CC REVERSE UID) UTF-8 ALL", "* SORT 6 5 4 2 1 3"),
                ("SORT (REVERSE SIZE) UTF-8 1:2", "* SORT 2 1"),
                ("SORT (ARRIVAL) UTF-8 ALL", "* SORT 1 2 3 4 5 6"),
                ("SORT (REVERSE MODSEQ) UTF-8 ALL", "* SORT 6 5 4 3 2 1"),
                ("SORT (SUBJECT) US-ASCII TEXT \"not in mailbox\"", "* SORT"),
            ],
        )
        .await;
    });
}

/// RFC 5267 section 3; `$` of RFC 5182; MODSEQ of RFC 7162 section 3.1.6.
#[test]
fn extended_sorts_are_answered_by_esearch() {
    on_a_core(|layout| async move {
        let site = with(layout, MAIL).await;
        asserted(
            &site,
            &[
                (
                    "UID SORT RETURN () (REVERSE DATE) UTF-8 1:4",
                    "* ESEARCH (TAG \"t0\") UID ALL 3,1:2,4",
                ),
                (
                    "SORT RETURN (MIN MAX COUNT) (SUBJECT) UTF-8 ALL",
                    "* ESEARCH (TAG \"t1\") MIN 5 MAX 4 COUNT 6",
                ),
                (
                    "SORT RETURN (ALL) (REVERSE UID) UTF-8 ALL",
                    "* ESEARCH (TAG \"t2\") ALL 6,5,4,3,2,1",
                ),
                ("SORT RETURN (COUNT) (UID) UTF-8 KEYWORD $none", "* ESEARCH (TAG \"t3\") COUNT 0"),
                ("SORT RETURN (ALL MIN) (UID) UTF-8 KEYWORD $none", "* ESEARCH (TAG \"t4\")"),
                ("SORT RETURN (SAVE MAX) (SUBJECT) UTF-8 ALL", "* ESEARCH (TAG \"t5\") MAX 4"),
                ("SEARCH $", "* SEARCH 4"),
                ("SORT RETURN (SAVE) (SUBJECT) UTF-8 1:2", ""),
                ("SORT (UID) UTF-8 $", "* SORT 1 2"),
            ],
        )
        .await;
        let said = ask(&site, &["SORT (UID) UTF-8 MODSEQ 1"]).await;
        assert!(said[0].contains("* SORT 1 2 3 4 5 6 (MODSEQ "), "{said:?}");
    });
}

#[test]
fn the_most_relevant_come_first() {
    on_a_core(|layout| async move {
        let site = with(
            layout,
            &["Subject: nothing", "Subject: helo", "Subject: hello", "Subject: help yourself helo"],
        )
        .await;
        let said = ask(
            &site,
            &[
                "SORT (RELEVANCY) UTF-8 FUZZY SUBJECT Helo",
                "SORT RETURN (RELEVANCY ALL) (RELEVANCY) UTF-8 FUZZY SUBJECT Helo",
                "SORT RETURN (RELEVANCY ALL) (REVERSE RELEVANCY) UTF-8 FUZZY SUBJECT Helo",
                "SORT RETURN (RELEVANCY COUNT) (UID) UTF-8 FUZZY SUBJECT Helo",
            ],
        )
        .await;
        assert_eq!(said[0].lines().next().unwrap().split(' ').count(), 5, "{said:?}");
        assert!(said[0].ends_with(" 3\r\n"), "the slip comes last: {said:?}");
        let scores = |said: &str| -> Vec<u8> {
            let (_, scores) = said.split_once("RELEVANCY (").unwrap();
            scores.split(')').next().unwrap().split(' ').map(|n| n.parse().unwrap()).collect()
        };
        let best = scores(&said[1]);
        assert!(best[0] == 100 && best.is_sorted_by(|a, b| a >= b), "{said:?}");
        assert_eq!(scores(&said[2]), best.iter().rev().copied().collect::<Vec<_>>());
        assert!(said[3].contains("COUNT 3 RELEVANCY ("), "{said:?}");
    });
}

const THREADS: &[&str] = &[
    "Subject: one\nMessage-ID: <1@x>\nDate: 1 Jan 2000 00:00:00 +0000",
    "Subject: Re: one\nMessage-ID: <2@x>\nIn-Reply-To: <1@x>\nDate: 2 Jan 2000 00:00:00 +0000",
    "Subject: Re: one\nMessage-ID: <3@x>\nReferences: <1@x> <\"2\"@x>\nDate: 3 Jan 2000 00:00:00 +0000",
    "Subject: Re: one\nMessage-ID: <4@x>\nReferences: <1@x>\nDate: 4 Jan 2000 00:00:00 +0000",
    "Subject: Re: gone\nMessage-ID: <6@x>\nReferences: <5@x>\nDate: 6 Jan 2000 00:00:00 +0000",
    "Subject: Re: gone\nMessage-ID: <7@x>\nReferences: <5@x>\nDate: 5 Jan 2000 00:00:00 +0000",
    "Subject: Fwd: one\nMessage-ID: <8@x>\nDate: 8 Jan 2000 00:00:00 +0000",
    "Subject: other\nDate: 1 Jan 1999 00:00:00 +0000",
];

#[test]
fn messages_are_threaded() {
    on_a_core(|layout| async move {
        let site = with(layout, THREADS).await;
        asserted(
            &site,
            &[
                ("THREAD ORDEREDSUBJECT UTF-8 ALL", "* THREAD (8)(1 (2)(3)(4)(7))(6 5)"),
                ("THREAD REFERENCES UTF-8 ALL", "* THREAD (8)(1 (2 3)(4)(7))((6)(5))"),
                ("THREAD REFS UTF-8 ALL", "* THREAD (8)(1 (2 3)(4))((6)(5))(7)"),
                ("UID THREAD REFERENCES US-ASCII 3:6", "* THREAD ((3)(4))((6)(5))"),
                ("THREAD REFERENCES UTF-8 TEXT gewp", "* THREAD"),
            ],
        )
        .await;
        let said = site
            .say(&format!(
                "{LOGIN}a SORT (SUBJECT) x-none ALL\r\nb SORT () UTF-8 ALL\r\nc SORT (COLOUR) UTF-8 ALL\r\n\
                 d THREAD JWZ UTF-8 ALL\r\ne SORT (SUBJECT) UTF-8\r\nf SORT (RELEVANCY) UTF-8 ALL\r\n"
            ))
            .await;
        assert!(said.contains("a NO [BADCHARSET ("), "{said}");
        for tag in ["b", "c", "d", "e", "f"] {
            assert!(said.contains(&format!("\r\n{tag} BAD ")), "{tag} in {said}");
        }
    });
}
