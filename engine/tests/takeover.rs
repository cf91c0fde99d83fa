//! Maildirs that Courier and Dovecot wrote (`engine/foreign/tests/fixtures`) are served as these
//! servers served them, and given back so that they find what they left and what we did.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::maildir::Names;
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    AclEntry, Drive, INBOX, MountOptions, NotifyMode, OldServer, Partition, Rights, RightsChange,
    Store, StoreConfig, StoreMode, StoreRequest, User, UserOptions,
};
use foreign::courier::keywords::List;
use foreign::courier::uiddb::UidDb;
use foreign::dovecot::uidlist::UidList;
use protocol::imap::mutf7;
use protocol::types::{Keyword, SystemFlags, Uid};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/tests/fixtures").join(name)
}

fn unpacked(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let packed = fs::File::open(fixture(&format!("{name}.tar.gz"))).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    archive.set_preserve_mtime(true);
    archive.unpack(dir.path()).unwrap();
    fs::rename(dir.path().join(name), dir.path().join("mail")).unwrap();
    dir
}

/// What a message is: UID, flags and keywords, date, size, digest of its bytes.
type Told = (u32, BTreeSet<String>, i64, u64, String);

struct Bench {
    store: Store,
    user: User,
    lane: Lane,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn open(root: &Path, names: Names, hand_back: &[OldServer]) -> Bench {
        let options =
            LayoutOptions { user_path: "{user}/Maildir".into(), names, ..LayoutOptions::default() };
        let partition = Partition {
            name: "default".into(),
            path: root.join("mail"),
            layout: layout_for(LayoutKind::Maildir, &options),
            mount: MountOptions { notify: NotifyMode::Inotify, ..MountOptions::default() },
        };
        let mut config = StoreConfig::new(root.join("state"), vec![partition]);
        config.hand_back = hand_back.to_vec();
        let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
        let store = Store::open(config, storage, Drive::Threads).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let user = runtime.block_on(store.user("alice", &UserOptions::default())).unwrap();
        Bench { lane: Lane::pool(store.helpers().clone()), store, user, runtime }
    }

    fn close(self) {
        self.store.close().unwrap();
    }

    fn messages(&self, name: &str) -> (u32, u32, Vec<Told>) {
        self.runtime.block_on(async {
            let mailbox = self.user.mailbox(name).await.unwrap();
            let view = mailbox.refresh().await.unwrap();
            let mut all = Vec::new();
            for (_, uid) in view.uids() {
                let (_, record) = view.record_of(uid).unwrap();
                let file = mailbox.message(&self.lane, &record).await.unwrap();
                let (mut served, mut digest) =
                    (file.served(0, u64::MAX, 0, u64::MAX), Sha256::new());
                while let Some(part) = served.next().await.unwrap() {
                    digest.update(&part);
                }
                let digest: String = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
                let words = view.keywords().of_bits(record.keywords).map(|w| w.as_str().to_owned());
                let mut flags: BTreeSet<String> = words.collect();
                flags.extend(
                    SYSTEM
                        .iter()
                        .filter(|(f, _)| record.flags.contains(*f))
                        .map(|f| f.1.to_owned()),
                );
                all.push((uid.0, flags, record.internal_date, u64::from(record.size), digest));
            }
            (view.uid_validity().0, view.uid_next().0, all)
        })
    }

    fn set(&self, name: &str, uid: u32, mode: StoreMode, flags: SystemFlags, words: &[&str]) {
        let request = StoreRequest {
            uids: vec![Uid(uid)],
            mode,
            flags,
            keywords: words.iter().filter_map(|word| Keyword::new(word)).collect(),
            unchanged_since: None,
        };
        self.runtime.block_on(async {
            let mailbox = self.user.mailbox(name).await.unwrap();
            mailbox.refresh().await.unwrap();
            assert_eq!(mailbox.store(request).await.unwrap().changed.len(), 1);
        });
    }

    fn expunge(&self, name: &str, uid: u32) {
        self.runtime.block_on(async {
            let mailbox = self.user.mailbox(name).await.unwrap();
            let view = mailbox.refresh().await.unwrap();
            mailbox.expunge(&view, vec![Uid(uid)]).await.unwrap();
        });
    }
}

const SYSTEM: [(SystemFlags, &str); 5] = [
    (SystemFlags::SEEN, "\\Seen"),
    (SystemFlags::ANSWERED, "\\Answered"),
    (SystemFlags::FLAGGED, "\\Flagged"),
    (SystemFlags::DELETED, "\\Deleted"),
    (SystemFlags::DRAFT, "\\Draft"),
];

fn seconds(date: &str) -> i64 {
    let form = time::macros::format_description!(
        "[day padding:space]-[month repr:short]-[year] [hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute]"
    );
    time::OffsetDateTime::parse(date.trim_start_matches('0'), form)
        .or_else(|_| {
            time::OffsetDateTime::parse(&format!(" {}", date.trim_start_matches('0')), form)
        })
        .or_else(|_| time::OffsetDateTime::parse(date, form))
        .unwrap()
        .unix_timestamp()
}

/// UIDVALIDITY, UIDNEXT, messages of each mailbox.
type Boxes = BTreeMap<String, (u32, u32, Vec<Told>)>;

/// The manifest, with the names that are subscribed.
fn manifest(store: &str) -> (Boxes, Vec<String>) {
    let json: Value =
        serde_json::from_slice(&fs::read(fixture(&format!("{store}.json"))).unwrap()).unwrap();
    let alice = &json["imap"][0];
    let ours = |wire: &str| {
        let own = wire.strip_prefix("INBOX.").unwrap_or(wire);
        mutf7::decode(own.as_bytes()).unwrap().replace('.', "/")
    };
    let mut all = BTreeMap::new();
    for (wire, mailbox) in alice["mailboxes"].as_object().unwrap() {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let number = |v: &Value| v.as_str().unwrap().parse::<u32>().unwrap();
        let messages = mailbox["messages"].as_array().unwrap().iter().map(|m| {
            let flags = m["flags"].as_array().unwrap().iter().map(text);
            (
                m["uid"].as_u64().unwrap() as u32,
                flags.filter(|f| f != "\\Recent").collect(),
                seconds(m["internaldate"].as_str().unwrap()),
                m["rfc822.size"].as_u64().unwrap(),
                text(&m["sha256"]),
            )
        });
        let status = &mailbox["status"];
        let numbers = (number(&status["UIDVALIDITY"]), number(&status["UIDNEXT"]));
        all.insert(ours(wire), (numbers.0, numbers.1, messages.collect()));
    }
    let lsub = alice["lsub"].as_array().unwrap().iter().map(|v| ours(v.as_str().unwrap()));
    (all, lsub.collect())
}

fn assert_is_manifest(bench: &Bench, store: &str) {
    let (mailboxes, subscribed) = manifest(store);
    let namespace = bench.user.namespace();
    assert_eq!(
        namespace.mailboxes.keys().collect::<Vec<_>>(),
        mailboxes.keys().collect::<Vec<_>>()
    );
    for (name, told) in &mailboxes {
        assert_eq!(&bench.messages(name), told, "{store} {name}");
    }
    let ours: BTreeSet<&String> = namespace.subscriptions.iter().collect();
    assert_eq!(ours, subscribed.iter().collect::<BTreeSet<_>>());
}

const BOTH: [(&str, Names, OldServer); 2] = [
    ("courier-1.0", Names::Utf8, OldServer::Courier),
    ("dovecot-2.3", Names::ModifiedUtf7, OldServer::Dovecot),
];

#[test]
fn what_an_old_server_served_is_served() {
    for (store, names, server) in BOTH {
        let dir = unpacked(store);
        let bench = Bench::open(dir.path(), names, &[]);
        assert_is_manifest(&bench, store);
        let acl = bench.user.acl("Work").unwrap();
        let acl: Vec<String> = acl.entries().map(|(e, r)| format!("{e} {r}")).collect();
        let limits = bench.user.quota_root(INBOX).limits;
        match server {
            OldServer::Courier => {
                assert_eq!((limits.bytes, limits.messages), (Some(1_000_000), Some(500)));
                assert!(
                    acl.contains(&"bob lrs".into()) && acl.contains(&"-carol r".into()),
                    "{acl:?}"
                );
            }
            OldServer::Dovecot => {
                assert_eq!(limits.bytes, Some(10_485_760));
                assert!(
                    acl.contains(&"bob lrs".into()) && acl.contains(&"-bob t".into()),
                    "{acl:?}"
                );
            }
        }
        bench.close();
        // And again from our own index, given back meanwhile.
        let bench = Bench::open(dir.path(), names, &[server]);
        assert_is_manifest(&bench, store);
        bench.close();
    }
}

fn maildir(dir: &TempDir) -> PathBuf {
    dir.path().join("mail/alice/Maildir")
}

/// A message file as another server delivers it.
fn deliver(maildir: &Path, name: &str) {
    fs::write(maildir.join("cur").join(name), "Subject: x\n\ny\n").unwrap();
}

#[test]
fn courier_finds_what_we_did_and_we_what_courier_did() {
    let dir = unpacked("courier-1.0");
    let inbox = maildir(&dir);
    let bench = Bench::open(dir.path(), Names::Utf8, &[OldServer::Courier]);
    bench.set(INBOX, 4, StoreMode::Add, SystemFlags::FLAGGED, &["NonJunk", "ours"]);
    bench.set(INBOX, 6, StoreMode::Remove, SystemFlags::empty(), &["$Label1"]);
    bench.expunge(INBOX, 2);
    bench.runtime.block_on(bench.user.subscribe("Sent", true)).unwrap();
    bench.runtime.block_on(bench.user.create("Neu/Ünter", &[])).unwrap();
    bench.messages("Neu/Ünter");
    bench.close();

    let mut db = UidDb::read(&fs::read(inbox.join("courierimapuiddb")).unwrap()).unwrap();
    assert_eq!((db.uid_validity, db.uid_next), (795_467_425, 9));
    assert_eq!(db.messages.iter().map(|m| m.0).collect::<Vec<_>>(), [1, 4, 5, 6, 7, 8]);
    let keywords = inbox.join("courierimapkeywords");
    let list = List::read(&fs::read(keywords.join(":list")).unwrap()).unwrap();
    let of = |uid: u32| {
        let base = &db.messages.iter().find(|m| m.0 == uid).unwrap().1;
        list.messages.get(base).cloned().unwrap_or_default()
    };
    assert_eq!(BTreeSet::from_iter(of(4)), BTreeSet::from(["NonJunk".into(), "ours".into()]));
    assert_eq!(of(6), ["NonJunk"]);
    let subscribed = fs::read_to_string(inbox.join("courierimapsubscribed")).unwrap();
    assert!(subscribed.contains("INBOX.Sent\n") && subscribed.contains("INBOX.Entwürfe\n"));
    assert!(inbox.join(".Neu.Ünter/courierimapuiddb").exists());

    // Courier's turn: a message, one gone, keywords by an update, a folder, a subscription less.
    deliver(&inbox, "1795500000.M1.host,S=14:2,S");
    db.messages.push((11, b"1795500000.M1.host,S=14".to_vec()));
    let base_of_7 = db.messages.iter().find(|m| m.0 == 7).unwrap().1.clone();
    let base_of_7 = String::from_utf8(base_of_7).unwrap();
    db.uid_next = 14;
    fs::remove_file(inbox.join("cur").join(format!("{base_of_7}:2,DFRS"))).unwrap();
    db.messages.retain(|m| m.0 != 7);
    fs::write(inbox.join("courierimapuiddb"), db.write()).unwrap();
    let base_of_4 = String::from_utf8(db.messages[1].1.clone()).unwrap();
    fs::write(keywords.join(&base_of_4), "NonJunk\ntheirs\n").unwrap();
    fs::write(inbox.join("courierimapsubscribed"), "INBOX\nINBOX.Sent\nINBOX.Entwürfe\n").unwrap();
    for sub in ["tmp", "new", "cur"] {
        fs::create_dir_all(inbox.join(".Fresh").join(sub)).unwrap();
    }
    fs::write(inbox.join(".Fresh/courierimapuiddb"), "1 800000000 5\n").unwrap();
    fs::remove_dir_all(inbox.join(".Neu.Ünter")).unwrap();

    let bench = Bench::open(dir.path(), Names::Utf8, &[OldServer::Courier]);
    let (validity, next, messages) = bench.messages(INBOX);
    assert_eq!((validity, next), (795_467_425, 14));
    assert_eq!(messages.iter().map(|m| m.0).collect::<Vec<_>>(), [1, 4, 5, 6, 8, 11]);
    let flags = |uid: u32| messages.iter().find(|m| m.0 == uid).unwrap().1.clone();
    assert_eq!(flags(4), BTreeSet::from(["NonJunk", "theirs", "\\Flagged"].map(String::from)));
    assert_eq!(flags(11), BTreeSet::from(["\\Seen".to_owned()]));
    assert_eq!(bench.messages("Fresh").0, 800_000_000);
    let namespace = bench.user.namespace();
    assert!(!namespace.subscriptions.contains("Work") && namespace.subscriptions.contains("Sent"));
    assert!(!namespace.mailboxes.contains_key("Neu/Ünter"));
    bench.close();
    assert!(!keywords.join(&base_of_4).exists(), "the update is in the list");
}

#[test]
fn dovecot_finds_what_we_did_and_we_what_dovecot_did() {
    let dir = unpacked("dovecot-2.3");
    let inbox = maildir(&dir);
    let bench = Bench::open(dir.path(), Names::ModifiedUtf7, &[OldServer::Dovecot]);
    bench.set(INBOX, 5, StoreMode::Add, SystemFlags::FLAGGED, &["$Label1", "ours"]);
    bench.set(INBOX, 3, StoreMode::Remove, SystemFlags::empty(), &["$Forwarded"]);
    bench.expunge(INBOX, 2);
    bench.close();
    let list = UidList::read(&fs::read(inbox.join("dovecot-uidlist")).unwrap()).unwrap();
    assert_eq!((list.uid_validity, list.uid_next), (1_795_467_431, 9));
    assert_eq!(list.messages.iter().map(|m| m.uid).collect::<Vec<_>>(), [1, 3, 5, 6, 7, 8]);
    assert!(list.extra[0].starts_with("Ge162500d"), "{:?}", list.extra);
    assert!(fs::read_to_string(inbox.join("dovecot-keywords")).unwrap().contains("6 ours\n"));
    assert!(inbox.join("cur/1795467429.M231418P5984.vm,S=156,W=162:2,FSTbg").exists());
    assert!(inbox.join("cur/1795467429.M229623P5984.vm,S=563,W=592:2,F").exists());
    let last = fs::read_to_string(inbox.join("dovecot-uidvalidity")).unwrap();
    assert!(u32::from_str_radix(&last, 16).unwrap() >= list.uid_validity);
    assert!(inbox.join(format!("dovecot-uidvalidity.{last}")).exists());

    // Dovecot's turn: letters, a message with a keyword of its own.
    let cur = inbox.join("cur");
    fs::rename(
        cur.join("1795467429.M231418P5984.vm,S=156,W=162:2,FSTbg"),
        cur.join("1795467429.M231418P5984.vm,S=156,W=162:2,STcg"),
    )
    .unwrap();
    deliver(&inbox, "1795500000.M1.vm,S=14,W=17:2,Sh");
    let mut uids = fs::read(inbox.join("dovecot-uidlist")).unwrap();
    uids.extend(b"9 :1795500000.M1.vm,S=14,W=17\n");
    fs::write(inbox.join("dovecot-uidlist"), uids).unwrap();
    let words = fs::read_to_string(inbox.join("dovecot-keywords")).unwrap() + "7 theirs\n";
    fs::write(inbox.join("dovecot-keywords"), words).unwrap();

    let bench = Bench::open(dir.path(), Names::ModifiedUtf7, &[OldServer::Dovecot]);
    let (validity, next, messages) = bench.messages(INBOX);
    assert_eq!((validity, next), (1_795_467_431, 10));
    let flags = |uid: u32| messages.iter().find(|m| m.0 == uid).unwrap().1.clone();
    let set = |flags: &[&str]| flags.iter().map(|f| (*f).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(flags(5), set(&["NonJunk", "ours", "\\Seen", "\\Deleted"]));
    assert_eq!(flags(9), set(&["theirs", "\\Seen"]));
    bench.close();
}

#[test]
fn one_uid_is_never_two_messages() {
    // We stopped without giving back what we had numbered; Courier numbered it, and more, again.
    let dir = unpacked("courier-1.0");
    let inbox = maildir(&dir);
    let before = fs::read(inbox.join("courierimapuiddb")).unwrap();
    let bench = Bench::open(dir.path(), Names::Utf8, &[]);
    bench.messages(INBOX);
    deliver(&inbox, "1795500000.M1.host,S=14:2,");
    assert_eq!(bench.messages(INBOX).2.last().unwrap().0, 9);
    bench.close();
    deliver(&inbox, "1795500000.M0.host,S=14:2,");
    let mut db = UidDb::read(&before).unwrap();
    db.messages.push((9, b"1795500000.M0.host,S=14".to_vec()));
    db.messages.push((10, b"1795500000.M1.host,S=14".to_vec()));
    db.uid_next = 11;
    fs::write(inbox.join("courierimapuiddb"), db.write()).unwrap();
    let bench = Bench::open(dir.path(), Names::Utf8, &[]);
    let (validity, _, messages) = bench.messages(INBOX);
    assert!(validity > 795_467_425);
    assert_eq!(messages.len(), 9);
    bench.close();
    let bench = Bench::open(dir.path(), Names::Utf8, &[]);
    assert_eq!(bench.messages(INBOX).0, validity, "it rises once");
    bench.close();
}

#[test]
fn a_file_that_cannot_be_read_costs_no_message() {
    for (store, names, server) in BOTH {
        let dir = unpacked(store);
        let name = match server {
            OldServer::Courier => "courierimapuiddb",
            OldServer::Dovecot => "dovecot-uidlist",
        };
        let path = maildir(&dir).join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(
            &path,
            [&whole[..whole.len() / 2], &b"\0\xff"[..], &whole[whole.len() / 3..]].concat(),
        )
        .unwrap();
        let bench = Bench::open(dir.path(), names, &[server]);
        let (validity, _, messages) = bench.messages(INBOX);
        let (told, ..) = &manifest(store).0[INBOX];
        assert!(messages.len() == 7 && validity != *told, "{store}");
        bench.close();
        let given = fs::read(&path).unwrap();
        assert!(given.starts_with(b"1 ") || given.starts_with(b"3 V"));
        let bench = Bench::open(dir.path(), names, &[server]);
        assert_eq!(bench.messages(INBOX).0, validity);
        bench.close();
    }
}

/// Entries of a mailbox's list, as in SETACL.
fn rights(bench: &Bench, name: &str) -> Vec<String> {
    let acl = bench.user.acl(name).unwrap();
    acl.entries().map(|(entry, rights)| format!("{entry} {rights}")).collect()
}

fn set_rights(bench: &Bench, name: &str, who: &str, letters: &str) {
    let entry = AclEntry::parse(who, |name| Some(name.to_owned())).unwrap();
    let change = RightsChange::Replace(Rights::parse(letters).unwrap());
    bench.runtime.block_on(bench.user.set_acl(name, entry, change)).unwrap();
}

#[test]
fn lists_of_rights_go_both_ways() {
    for (store, names, server) in BOTH {
        let dir = unpacked(store);
        let list = match server {
            OldServer::Courier => "courierimapacl",
            OldServer::Dovecot => "dovecot-acl",
        };
        let work = maildir(&dir).join(".Work").join(list);
        let bench = Bench::open(dir.path(), names, &[server]);
        set_rights(&bench, "Work", "bob", "lrswk");
        set_rights(&bench, "Work", "group:staff", "lrpn");
        set_rights(&bench, "Work", "authenticated", "l");
        bench.close();
        let mut lines: BTreeSet<String> =
            fs::read_to_string(&work).unwrap().lines().map(str::to_owned).collect();
        let has = |line: &str| assert!(lines.contains(line), "{store}: {line:?} in {lines:?}");
        match server {
            OldServer::Courier => {
                has("user=bob clrsw");
                has("group=staff lr");
                has("owner aceilrstwx");
                has("-user=carol r");
                assert!(!lines.iter().any(|line| line.starts_with("authenticated")));
            }
            OldServer::Dovecot => {
                has("user=bob lrswk");
                has("group=staff lrp");
                has("authenticated l");
                has("-user=bob t");
            }
        }
        // Nothing of this comes back as a change.
        let before = fs::metadata(&work).unwrap().modified().unwrap();
        let bench = Bench::open(dir.path(), names, &[server]);
        let known = rights(&bench, "Work");
        assert!(known.contains(&"group:staff lrpn".into()), "{known:?}");
        assert!(known.contains(&"authenticated l".into()), "{known:?}");
        bench.close();
        assert_eq!(fs::metadata(&work).unwrap().modified().unwrap(), before);

        // The old server's turn: one entry more, one less, one other; meanwhile one of ours.
        let bob = lines.iter().find(|line| line.starts_with("user=bob")).unwrap().clone();
        lines.remove(&bob);
        lines.retain(|line| !line.starts_with("group=staff"));
        lines.insert("user=bob lr".into());
        lines.insert("user=dora lrs".into());
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&work, text).unwrap();
        let bench = Bench::open(dir.path(), names, &[server]);
        let now = rights(&bench, "Work");
        assert!(now.contains(&"bob lr".into()) && now.contains(&"dora lrs".into()), "{now:?}");
        assert!(!now.iter().any(|entry| entry.starts_with("group:staff")), "{now:?}");
        assert!(now.contains(&"authenticated l".into()), "what its file cannot say stays: {now:?}");
        // One that cannot be read changes nothing, and is not written over.
        bench.close();
        fs::write(&work, "user=bob\0 ?!\n").unwrap();
        let bench = Bench::open(dir.path(), names, &[server]);
        assert_eq!(rights(&bench, "Work"), now);
        set_rights(&bench, "Work", "dora", "l");
        bench.close();
        assert_eq!(fs::read_to_string(&work).unwrap(), "user=bob\0 ?!\n");
    }
}

#[test]
fn folders_inherit_lists_as_couriers_do() {
    let dir = unpacked("courier-1.0");
    let inbox = maildir(&dir);
    let hierarchy = inbox.join("courierimaphieracl");
    fs::create_dir_all(&hierarchy).unwrap();
    fs::write(hierarchy.join("Lists"), "owner aceilrstwx\nuser=bob lri\n").unwrap();
    for sub in ["tmp", "new", "cur"] {
        fs::create_dir_all(inbox.join(".Lists.one").join(sub)).unwrap();
        fs::create_dir_all(inbox.join(".Work.below").join(sub)).unwrap();
    }
    let bench = Bench::open(dir.path(), Names::Utf8, &[OldServer::Courier]);
    assert!(rights(&bench, "Lists/one").contains(&"bob lri".into()));
    assert_eq!(rights(&bench, "Work/below"), rights(&bench, "Work"));
    bench.runtime.block_on(bench.user.create("Lists", &[])).unwrap();
    bench.runtime.block_on(bench.user.create("Lists/two", &[])).unwrap();
    for name in ["Lists", "Lists/two"] {
        assert!(rights(&bench, name).contains(&"bob lri".into()), "{name}");
    }
    bench.close();
    let text = fs::read_to_string(inbox.join(".Lists/courierimapacl")).unwrap();
    assert!(text.contains("user=bob ilr\n"), "{text}");
    assert!(!hierarchy.join("Lists").exists(), "the folder has it now");
}

#[test]
fn uidls_in_dovecots_list_are_told_and_kept() {
    let dir = unpacked("dovecot-2.3");
    let path = maildir(&dir).join("dovecot-uidlist");
    let text = fs::read_to_string(&path).unwrap().replace("5 ", "5 Pfrom-before ");
    assert!(text.contains("\n5 Pfrom-before "));
    fs::write(&path, text).unwrap();
    let bench = Bench::open(dir.path(), Names::ModifiedUtf7, &[OldServer::Dovecot]);
    bench.expunge(INBOX, 2);
    let told = bench.runtime.block_on(async {
        let mailbox = bench.user.mailbox(INBOX).await.unwrap();
        mailbox.dovecot_uidls(&mailbox.view()).await.unwrap()
    });
    assert_eq!(told.into_iter().collect::<Vec<_>>(), [(Uid(5), "from-before".to_owned())]);
    bench.close();
    let list = UidList::read(&fs::read(&path).unwrap()).unwrap();
    let kept = list.messages.iter().find(|m| m.uid == 5).unwrap();
    assert_eq!(kept.uidl(), Some("from-before"));
}

#[test]
fn a_copy_under_the_name_of_a_removed_message_stays() {
    let dir = unpacked("dovecot-2.3");
    let (inbox, path) = (maildir(&dir), maildir(&dir).join("dovecot-uidlist"));
    let bench = Bench::open(dir.path(), Names::ModifiedUtf7, &[OldServer::Dovecot]);
    let list = UidList::read(&fs::read(&path).unwrap()).unwrap();
    let base = &list.messages.iter().find(|m| m.uid == 5).unwrap().base;
    let base = String::from_utf8(base.clone()).unwrap();
    bench.expunge(INBOX, 5);
    bench.close();
    // Dovecot names what it copies from another folder as the message that it once was.
    deliver(&inbox, &format!("{base}:2,S"));
    let text = fs::read_to_string(&path).unwrap() + &format!("9 :{base}\n");
    fs::write(&path, text).unwrap();
    for _ in 0..2 {
        let bench = Bench::open(dir.path(), Names::ModifiedUtf7, &[OldServer::Dovecot]);
        let (validity, _, messages) = bench.messages(INBOX);
        assert_eq!((validity, messages.last().unwrap().0), (1_795_467_431, 9));
        bench.close();
        assert!(inbox.join("cur").join(format!("{base}:2,S")).exists());
    }
}

/// Another program's lock holds up nothing else, and what waits for it is written once it is gone,
/// without another change.
#[test]
fn what_another_program_has_locked_is_written_later() {
    let dir = unpacked("courier-1.0");
    let inbox = maildir(&dir);
    let bench = Bench::open(dir.path(), Names::Utf8, &[OldServer::Courier]);
    let lock = inbox.join("tmp/courier.lock");
    fs::write(&lock, "1 another.host").unwrap();
    bench.expunge(INBOX, 2);
    bench.runtime.block_on(bench.user.subscribe("Sent", true)).unwrap();
    bench.runtime.block_on(bench.store.checkpoint()).unwrap();
    let within_seconds = |seconds: u64, holds: &dyn Fn() -> bool| {
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until && !holds() {
            std::thread::sleep(Duration::from_millis(50));
        }
        holds()
    };
    let subscribed = || {
        let text = fs::read_to_string(inbox.join("courierimapsubscribed"));
        text.is_ok_and(|text| text.contains("INBOX.Sent\n"))
    };
    assert!(within_seconds(8, &subscribed), "the account's files have no such lock");
    let uids = || {
        let db = UidDb::read(&fs::read(inbox.join("courierimapuiddb")).unwrap()).unwrap();
        db.messages.iter().map(|m| m.0).collect::<Vec<_>>()
    };
    assert!(uids().contains(&2), "the folder's have, and somebody else holds it");
    fs::remove_file(&lock).unwrap();
    assert!(within_seconds(8, &|| !uids().contains(&2)), "{:?}", uids());
    bench.close();
}
