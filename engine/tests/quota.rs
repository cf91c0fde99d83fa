//! Quota roots: what governs what, through renames, deletions, restarts and crashes.

mod site;

use std::path::Path;

use engine::layout::LayoutKind;
use engine::{Error, QuotaLimits, QuotaRoot, Store, Usage, User, UserOptions};

use site::{LAYOUTS, MESSAGE, append, block, copied, open};

const SIZE: u64 = MESSAGE.len() as u64;

struct Bench {
    store: Store,
    options: UserOptions,
}

impl Bench {
    fn open(dir: &Path, kind: LayoutKind) -> Bench {
        let store = open(dir, kind);
        let options = UserOptions { quota_messages: Some(3), ..UserOptions::default() };
        Bench { store, options }
    }

    fn user(&self) -> User {
        block(self.store.user("alice", &self.options)).unwrap()
    }

    fn append(&self, name: &str) -> Result<(), Error> {
        append(&self.store, &self.user(), name).map(drop)
    }

    fn root(&self, name: &str) -> QuotaRoot {
        self.user().quota_root(name)
    }

    fn counts(&self, name: &str) -> (u64, u64) {
        let usage = self.root(name).usage;
        assert_eq!(usage.bytes, usage.messages * SIZE, "{name}");
        (usage.messages, usage.mailboxes)
    }
}

fn messages(limit: u64) -> Option<QuotaLimits> {
    Some(QuotaLimits { messages: Some(limit), ..QuotaLimits::default() })
}

#[test]
fn the_nearest_root_counts_and_refuses() {
    for kind in LAYOUTS {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), kind);
        let user = bench.user();
        for name in ["Lists", "Lists/a", "Lists/a/b", "Listsx"] {
            block(user.create(name, &[])).unwrap();
        }
        bench.append("Lists/a").unwrap();
        block(user.set_quota(Some("Lists/a"), messages(2))).unwrap();
        assert_eq!(bench.root("Lists/a/b").mailbox.as_deref(), Some("Lists/a"));
        assert_eq!(bench.root("Lists/a/new").mailbox.as_deref(), Some("Lists/a"));
        assert_eq!(bench.root("Lists/ab").mailbox, None);
        assert_eq!(bench.counts("Lists/a"), (1, 2), "what is there counts");
        assert_eq!(bench.counts("INBOX"), (0, 3), "and no longer for the user's own root");
        bench.append("Lists/a/b").unwrap();
        assert!(matches!(bench.append("Lists/a"), Err(Error::OverQuota)));
        for _ in 0..3 {
            bench.append("Listsx").unwrap();
        }
        assert!(matches!(bench.append("INBOX"), Err(Error::OverQuota)));
        let all = Usage { messages: 5, bytes: 5 * SIZE, mailboxes: 5, ..Usage::default() };
        assert_eq!(user.usage(), all);
        // Of a root that is taken back the one above it counts again, above its limit or not.
        block(user.set_quota(Some("Lists/a"), None)).unwrap();
        assert_eq!(bench.counts("Lists/a"), (5, 5));
        let missing = block(user.set_quota(Some("nowhere"), messages(1)));
        assert!(matches!(missing, Err(Error::NoSuchMailbox)));
    }
}

#[test]
fn copies_moves_and_names_are_asked_where_they_go() {
    for kind in LAYOUTS {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), kind);
        let user = bench.user();
        for name in ["small", "big", "big/x"] {
            block(user.create(name, &[])).unwrap();
        }
        let limits = QuotaLimits { messages: Some(1), mailboxes: Some(2), ..Default::default() };
        block(user.set_quota(Some("small"), Some(limits))).unwrap();
        bench.append("big").unwrap();
        bench.append("big").unwrap();
        let (big, small) =
            (block(user.mailbox("big")).unwrap(), block(user.mailbox("small")).unwrap());
        let uids: Vec<_> = big.view().uids().map(|(_, uid)| uid).collect();
        let copy = block(big.copy(&big.view(), uids.clone(), &small));
        assert!(matches!(copy, Err(Error::OverQuota)), "{copy:?}");
        let moved = block(big.move_to(&big.view(), uids.clone(), &small));
        assert!(matches!(moved, Err(Error::OverQuota)), "{moved:?}");
        assert_eq!(big.view().exists(), 2);
        block(big.move_to(&big.view(), uids[..1].to_vec(), &small)).unwrap();
        assert_eq!((bench.counts("small"), bench.counts("big")), ((1, 1), (1, 3)));
        // A move within a root adds nothing to it, so a root that is full does not refuse it.
        block(user.set_quota(None, messages(1))).unwrap();
        let x = block(user.mailbox("big/x")).unwrap();
        block(big.move_to(&big.view(), uids[1..].to_vec(), &x)).unwrap();
        block(user.create("small/1", &[])).unwrap();
        assert!(matches!(block(user.create("small/2", &[])), Err(Error::OverQuota)));
        assert!(matches!(block(user.rename("big/x", "small/x")), Err(Error::OverQuota)));
        block(user.delete("small/1")).unwrap();
        assert!(
            matches!(block(user.rename("big/x", "small/x")), Err(Error::OverQuota)),
            "messages"
        );
        block(user.rename("big", "small/big")).unwrap_err();
        block(user.set_quota(Some("small"), messages(2))).unwrap();
        block(user.rename("big", "small/big")).unwrap();
        assert_eq!((bench.counts("small/big/x"), bench.counts("INBOX")), ((2, 3), (0, 1)));
        // A root that gets another name keeps what it governs.
        block(user.rename("small", "INBOX/s")).unwrap();
        assert_eq!(bench.root("INBOX/s/big").mailbox.as_deref(), Some("INBOX/s"));
        assert_eq!(bench.counts("INBOX/s"), (2, 3));
        block(user.delete("INBOX/s")).unwrap();
        assert_eq!(bench.root("INBOX/s/big").mailbox, None);
        assert_eq!(bench.counts("INBOX"), (1, 3));
    }
}

#[test]
fn limits_survive_stops_and_crashes_and_sums_are_those_of_the_mailboxes() {
    for kind in LAYOUTS {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), kind);
        let user = bench.user();
        block(user.create("a", &[])).unwrap();
        block(user.set_quota(Some("a"), messages(7))).unwrap();
        bench.append("a").unwrap();
        bench.append("INBOX").unwrap();
        block(bench.store.checkpoint()).unwrap();
        block(user.create("a/b", &[])).unwrap();
        block(user.create("c", &[])).unwrap();
        bench.append("a/b").unwrap();
        block(user.set_quota(Some("c"), messages(8))).unwrap();
        block(user.rename("c", "a/c")).unwrap();
        block(user.set_quota(None, messages(9))).unwrap();
        let roots = user.quota_roots();
        assert_eq!(roots.len(), 3);
        assert_eq!((bench.counts("a"), bench.counts("a/c")), ((2, 2), (0, 1)));
        let crash = copied(dir.path());
        let again = Bench::open(crash.path(), kind);
        assert!(again.store.status().recovered > 0);
        assert_eq!(again.user().quota_roots(), roots, "after a crash");
        again.store.close().unwrap();
        drop(again);
        let again = Bench::open(crash.path(), kind);
        assert_eq!(again.user().quota_roots(), roots, "and a clean stop");
        block(again.user().set_quota(None, None)).unwrap();
        assert_eq!(again.root("INBOX").limits.messages, Some(3), "the account's");
    }
}
