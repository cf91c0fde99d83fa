//! What messages and mailboxes are known by, and what is told of them: RFC 7889, 8438.

mod site;

use config::Protocol;
use site::imap::{assert_lines, say};
use site::{Site, on_a_core};

/// RFC 8438 section 2, RFC 7889 sections 2 and 3.
#[test]
fn status_tells_size_and_append_limit() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.limits.message_bytes_max = 12_345;
        });
        let (first, second) = ("Subject: a\r\n\r\nb\r\n", "Subject: c\r\n\r\nd\r\n\r\n");
        site.store("jo", "INBOX", first).await;
        site.store("jo", "INBOX", second).await;
        let said = say(
            &site,
            "1 CAPABILITY\r\n2 STATUS INBOX (MESSAGES SIZE APPENDLIMIT)\r\n\
             3 LIST \"\" INBOX RETURN (STATUS (APPENDLIMIT SIZE))\r\n\
             4 APPEND INBOX {12346}\r\n5 STATUS INBOX (FROB)\r\n",
        )
        .await;
        let size = first.len() + second.len();
        assert!(said.contains(" APPENDLIMIT=12345") && said.contains(" STATUS=SIZE "), "{said}");
        assert_lines(
            &said,
            &[
                "1 OK",
                &format!("* STATUS INBOX (MESSAGES 2 SIZE {size} APPENDLIMIT 12345)"),
                "2 OK",
                &format!("* STATUS INBOX (APPENDLIMIT 12345 SIZE {size})"),
                "3 OK",
                "4 NO [TOOBIG]",
                "5 BAD",
            ],
        );
    });
}
