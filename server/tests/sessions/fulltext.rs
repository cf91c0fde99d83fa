//! SEARCH over IMAP with a full-text index, the operator's requests on it, and SEARCH=FUZZY.

use admin::operator::Operator;
use admin::wire::{IndexAction, IndexLine};
use admin::{Reply, Request};
use config::{LayoutKind, Protocol, SearchIndex};
use engine::io::Lane;
use tokio::net::UnixStream;
use tokio::task::LocalSet;

use crate::site::imap;

async fn ask(client: &mut UnixStream, command: &str) -> String {
    let (tag, _) = command.split_once(' ').unwrap();
    imap::ask(client, &format!("{command}\r\n"), &format!("{tag} ")).await
}

async fn index(site: &crate::site::Site, action: IndexAction) -> IndexLine {
    let shared = site.services.shared();
    let operator = Operator {
        store: shared.store.clone(),
        lane: Lane::pool(shared.store.helpers().clone()),
        users: shared.users.clone(),
        config: shared.config(),
        backup: Default::default(),
        turns: Default::default(),
    };
    let (user, mailbox) = (Some("jo".to_owned()), Some("INBOX".to_owned()));
    let request = Request::Index { action, user, mailbox };
    match operator.perform(request, &mut tokio::io::empty()).await.unwrap() {
        Reply::Index(mut lines) => lines.remove(0),
        other => panic!("{other:?}"),
    }
}

fn run(fuzzy: bool, test: impl AsyncFnOnce(crate::site::Site)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let site = crate::site::Site::new(Protocol::Imap, LayoutKind::Maildir, |config| {
            config.search.index = SearchIndex::Searched;
            config.search.index_messages_min = 1000;
            config.search.fuzzy = fuzzy;
        });
        for (n, body) in
            ["an invoice", "invocies, invoices", "nothing", "INVOICE invoice"].iter().enumerate()
        {
            site.store("jo", "INBOX", &format!("Subject: s{n}\r\n\r\n{body}\r\n")).await;
        }
        test(site).await;
    });
}

#[test]
fn an_index_changes_no_answer_and_operators_make_and_drop_it() {
    run(false, async |site| {
        let mut client = site.connect();
        ask(&mut client, &format!("a LOGIN jo {}", crate::site::PASSWORD)).await;
        ask(&mut client, "b SELECT INBOX").await;
        let questions = [
            "c SEARCH BODY voice",
            "c SEARCH TEXT s2",
            "c SEARCH NOT BODY \"an inv\"",
            "c SEARCH SUBJECT s1",
        ];
        let mut answers = Vec::new();
        for question in questions {
            answers.push(ask(&mut client, question).await);
        }
        assert!(answers[0].contains("* SEARCH 1 2 4\r\n"), "{}", answers[0]);
        assert_eq!(index(&site, IndexAction::Status).await.segments, 0);
        let line = index(&site, IndexAction::Update).await;
        assert_eq!((line.segments, line.messages, line.uncovered), (1, 4, 0));
        for (question, answer) in questions.iter().zip(&answers) {
            assert_eq!(&ask(&mut client, question).await, answer);
        }
        assert_eq!(index(&site, IndexAction::Rebuild).await.messages, 4);
        let line = index(&site, IndexAction::Drop).await;
        assert_eq!((line.segments, line.uncovered), (0, 4));
        for (question, answer) in questions.iter().zip(&answers) {
            assert_eq!(&ask(&mut client, question).await, answer);
        }
    });
}

#[test]
fn fuzzy_is_offered_where_configured_and_tells_relevancy() {
    run(true, async |site| {
        let mut client = site.connect();
        ask(&mut client, &format!("a LOGIN jo {}", crate::site::PASSWORD)).await;
        assert!(ask(&mut client, "b CAPABILITY").await.contains(" SEARCH=FUZZY"));
        ask(&mut client, "c SELECT INBOX").await;
        let plain = ask(&mut client, "d SEARCH FUZZY BODY invocie").await;
        assert!(plain.contains("* SEARCH 1 2 4\r\n"), "{plain}");
        let question = "e SEARCH RETURN (ALL RELEVANCY) FUZZY BODY invoice";
        let found = ask(&mut client, question).await;
        assert!(found.contains("ALL 1:2,4 RELEVANCY ("), "{found}");
        let scores = found.split("RELEVANCY (").nth(1).unwrap().split(')').next().unwrap();
        let scores: Vec<u8> = scores.split(' ').map(|n| n.parse().unwrap()).collect();
        assert_eq!((scores.len(), scores[2]), (3, 100), "{found}");
        let wrong = ask(&mut client, "f SEARCH RETURN (RELEVANCY) BODY invoice").await;
        assert!(wrong.contains("f BAD"), "{wrong}");
    });
    run(false, async |site| {
        let mut client = site.connect();
        ask(&mut client, &format!("a LOGIN jo {}", crate::site::PASSWORD)).await;
        assert!(!ask(&mut client, "b CAPABILITY").await.contains("SEARCH=FUZZY"));
        ask(&mut client, "c SELECT INBOX").await;
        assert!(ask(&mut client, "d SEARCH FUZZY BODY invoice").await.contains("d BAD"));
    });
}
