//! Every program of Debian's Cyrus 3.6 and Courier packages by its name, and what becomes of it.
//! `docs/commands.md` is made from this.

use Fate::{Honoured, NotNeeded, Original, Refused};

/// A program of another server.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// As it is called.
    pub name: &'static str,
    /// Debian's package that has it.
    pub package: &'static str,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a program.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// It is done: how, and with which options.
    Honoured(&'static str),
    /// Nothing is to be done, because of this: called by this name, `cursus` says nothing and succeeds.
    NotNeeded(&'static str),
    /// Called by this name, `cursus` says this and fails.
    Refused(&'static str),
    /// The other server's own program goes on working: why. There is no link of this name.
    Original(&'static str),
}

impl Known {
    /// Whether `cursus` may be called by this name.
    pub fn has_link(&self) -> bool {
        !matches!(self.fate, Original(_))
    }
}

const fn row(package: &'static str, name: &'static str, fate: Fate) -> Known {
    Known { name, package, fate }
}

const SERVES: Fate = Refused("`cursusd` serves: `systemctl start cursusd`");
const NO_SIEVE: Fate = Refused("Sieve is not served: filter before delivery");
const NO_DAV: Fate = Refused("CalDAV, CardDAV and what else speaks HTTP is not served");
const NO_NEWS: Fate = Refused("news (NNTP) is not served");
const NO_BACKUP: Fate = Refused("`cursus backup`, `cursus archive` and `cursus restore` are there");
const NO_REPLICA: Fate = Refused("replication is not served: `[archive]` keeps a copy elsewhere");
const NO_MURDER: Fate = Refused("clusters (murder) are not served");
const NO_GROUPS: Fate = Refused("groups by LDAP or PTS are not served");
const NO_SUCH_DATABASE: Fate = NotNeeded("there is no database of this kind");
const SPEAKS_IMAP: Fate = Original("speaks IMAP, and works");
const A_CLIENT: Fate = Original("a client, and works");
const WORKS_ON_MAILDIRS: Fate = Original("works on Maildirs as they are");
const OF_ACCOUNTS: Fate = Original("accounts are read where Courier has them: docs/accounts.md");
const OF_THE_MTA: Fate = Original("of the mail transport, which stays");

/// All of them.
pub const KNOWN: &[Known] = &[
    row(
        "cyrus-common",
        "arbitron",
        Refused(
            "readers are counted by when each of them last read, and no such times are kept: the log has logins",
        ),
    ),
    row("cyrus-common", "arbitronsort", Refused("sorts what `arbitron` counts")),
    row("cyrus-common", "backupd", NO_BACKUP),
    row("cyrus-common", "calalarmd", NO_DAV),
    row(
        "cyrus-common",
        "chk_cyrus",
        Honoured(
            "as `cursus check`; what is wrong goes to standard error, and the exit status is 1. `-P`, `-M` are refused",
        ),
    ),
    row("cyrus-common", "ctl_backups", NO_BACKUP),
    row("cyrus-common", "ctl_conversationsdb", NO_SUCH_DATABASE),
    row(
        "cyrus-common",
        "ctl_cyrusdb",
        Honoured(
            "`-r` has nothing to do, as a start recovers by itself; `-c` is `cursus checkpoint` where a server runs",
        ),
    ),
    row("cyrus-common", "ctl_deliver", NO_SUCH_DATABASE),
    row(
        "cyrus-common",
        "ctl_mboxlist",
        Honoured(
            "`-d` (`-p`, `-y`) prints the list as Cyrus 3.6 does, for its `ctl_mboxlist -u`; `-u` makes mailboxes of such a list that are missing, of users with an account, and sets UIDVALIDITYs and rights; ids and partitions are new, and nothing is removed; `-v` is `cursus check`. `-L`, `-m` (`-a`, `-w`, `-i`), `-x`, `-f` are refused",
        ),
    ),
    row("cyrus-common", "ctl_zoneinfo", NO_DAV),
    row(
        "cyrus-common",
        "cvt_cyrusdb",
        Honoured(
            "between flat, skiplist, twoskip and twom; a new file that is there already is not written over, and a failure has exit status 1. Berkeley, SQL and quotalegacy are for the original",
        ),
    ),
    row(
        "cyrus-common",
        "cvt_xlist_specialuse",
        NotNeeded("special uses are taken over with the store"),
    ),
    row("cyrus-common", "cyr_backup", NO_BACKUP),
    row("cyrus-common", "cyr_buildinfo", Honoured("in its form, which of its parts are served")),
    row(
        "cyrus-common",
        "cyr_cd.sh",
        Original("a part of one's shell; it asks `mbpath`, and works"),
    ),
    row(
        "cyrus-common",
        "cyr_dbtool",
        Honoured(
            "`show`, `get`, `set`, `delete`, `batch`, `repack`, `consistent` on files that are flat, skiplist, twoskip or twom, with `-n` and `-c`; which form a file has its bytes say. `dump`, `damage` and `-M` are refused",
        ),
    ),
    row(
        "cyrus-common",
        "cyr_deny",
        Honoured("`-s`, `-m`, `-a`, `-l`, on the deny list (docs/accounts.md)"),
    ),
    row(
        "cyrus-common",
        "cyr_df",
        Honoured("of the partitions; with `-m` of those that imapd.conf has for other files"),
    ),
    row(
        "cyrus-common",
        "cyr_expire",
        Honoured(
            "`-X` and `-D` are `cursus expire cyrus` for what Cyrus kept before a takeover, times in whole days, rather more; `-u` and `-p` choose mailboxes; `-E`, `-t`, `-a`, `-c` have nothing to do; `-A` neither, and is refused with `archive_enabled`",
        ),
    ),
    row(
        "cyrus-common",
        "cyr_info",
        Honoured(
            "`conf`, `conf-all`, `conf-default`, `conf-lint` of imapd.conf as it is read, by name, and `version`, which is that of Cursus; what becomes of each option docs/configuration-cyrus.md says. `proc` and `-s` are refused",
        ),
    ),
    row(
        "cyrus-common",
        "cyr_ls",
        Honoured("with all of its options, of the list that `ctl_mboxlist -d` has"),
    ),
    row(
        "cyrus-common",
        "cyr_pwd",
        Honoured("the mailbox of the directory where one is, also by name"),
    ),
    row(
        "cyrus-common",
        "cyr_userseen",
        NotNeeded("there are no records of this kind: what an owner has seen is with the messages"),
    ),
    row("cyrus-common", "cyr_virusscan", Refused("scan before delivery")),
    row("cyrus-common", "cyrdeliver", Honoured("as `deliver`")),
    row("cyrus-common", "cyrdump", Refused("`cursus export`")),
    row("cyrus-common", "cyrmaster", SERVES),
    row(
        "cyrus-common",
        "cyrus",
        Honoured("runs the program that its first argument names, as `cyrus quota`"),
    ),
    row(
        "cyrus-common",
        "deliver",
        Honoured(
            "as `cursus deliver`, with `-f`, `-r`, `-m`, `-a`, `-q`, `-l`; `-e` and `-E` have nothing to do; `-F` is refused, with 75 as all mistakes",
        ),
    ),
    row("cyrus-common", "fud", Refused("fud is not served")),
    row(
        "cyrus-common",
        "ipurge",
        Honoured(
            "removes for good, with all of its options; `-n` lists UID, size and dates. `trash.empty` does such a thing every day: docs/configuration.md",
        ),
    ),
    row("cyrus-common", "lmtpd", SERVES),
    row("cyrus-common", "makedirs", NotNeeded("directories are made as they are needed")),
    row("cyrus-common", "master", SERVES),
    row(
        "cyrus-common",
        "mbexamine",
        Honoured(
            "what the files would say after `cursus handback cyrus`, so in the version of 3.6; messages are numbered. `-q`, `-u`, `-s`; `-c` is refused",
        ),
    ),
    row(
        "cyrus-common",
        "mbpath",
        Honoured(
            "directories of messages (`-D`, `-M`, `-m`), of mailboxes or with `-u` of users; `-7`, `-l`, `-q`, `-s`. `-A`, `-S`, `-U`, `-a`, `-j`, `-p` are refused",
        ),
    ),
    row(
        "cyrus-common",
        "mbtool",
        Refused("dates of arrival (`-t`) and ids (`-r`) of mailboxes do not change here"),
    ),
    row("cyrus-common", "notifyd", Refused("nothing is told to notifyd")),
    row("cyrus-common", "ptdump", NO_GROUPS),
    row("cyrus-common", "ptexpire", NotNeeded("there is no database of this kind")),
    row("cyrus-common", "ptloader", NO_GROUPS),
    row(
        "cyrus-common",
        "quota",
        Honoured(
            "roots in Cyrus's form, with `-J` as JSON; `-d`, `-u`, `-q`, names; `-f` and `-n` find nothing to correct, as every change is counted",
        ),
    ),
    row(
        "cyrus-common",
        "reconstruct",
        Honoured(
            "as `cursus scrub --repair` of the mailboxes named, with `-r` of those below, with `-u` of users; `-n` changes nothing. `-f`, `-m`, `-p`, `-x`, `-d`, `-I`, `-P`, `-U` are refused",
        ),
    ),
    row(
        "cyrus-common",
        "relocate_by_id",
        Refused(
            "mailboxes keep their directories; `cursus handback cyrus` moves them where Cyrus wants them",
        ),
    ),
    row("cyrus-common", "restore", NO_BACKUP),
    row("cyrus-common", "sievec", NO_SIEVE),
    row("cyrus-common", "sieved", NO_SIEVE),
    row("cyrus-common", "smmapd", Refused("LMTP refuses at RCPT who is not there or over quota")),
    row("cyrus-common", "timsieved", NO_SIEVE),
    row(
        "cyrus-common",
        "tls_prune",
        NotNeeded("TLS sessions are resumed by tickets, without a database"),
    ),
    row(
        "cyrus-common",
        "unexpunge",
        Honoured(
            "what delayed expunge kept before a takeover, as `cursus unexpunge cyrus`; of what Cursus expunges nothing is kept: `cursus restore` brings back from backup and archive",
        ),
    ),
    row("cyrus-common", "upgrade-db", NotNeeded("there are no databases of these kinds")),
    row("cyrus-imapd", "idled", NotNeeded("sessions tell each other of changes in memory")),
    row("cyrus-imapd", "imapd", SERVES),
    row(
        "cyrus-imapd",
        "squatter",
        Honoured(
            "as `cursus index update`, of mailboxes named, with `-r` of a user's all, with `-u` of users; `-R` has nothing to do. What moves and merges Cyrus's own files is refused",
        ),
    ),
    row("cyrus-pop3d", "pop3d", SERVES),
    row("cyrus-nntpd", "nntpd", NO_NEWS),
    row("cyrus-nntpd", "fetchnews", NO_NEWS),
    row("cyrus-caldav", "httpd", NO_DAV),
    row("cyrus-caldav", "dav_reconstruct", NO_DAV),
    row("cyrus-murder", "mupdate", NO_MURDER),
    row("cyrus-murder", "mupdatetest", A_CLIENT),
    row("cyrus-replication", "cyr_synclog", NO_REPLICA),
    row("cyrus-replication", "sync_client", NO_REPLICA),
    row("cyrus-replication", "sync_reset", NO_REPLICA),
    row("cyrus-replication", "sync_server", NO_REPLICA),
    row("cyrus-admin", "cyradm", SPEAKS_IMAP),
    row("cyrus-admin", "installsieve", NO_SIEVE),
    row(
        "cyrus-admin",
        "promstatsd",
        Refused("there are no metrics by HTTP: `cursus --json status` has figures"),
    ),
    row("cyrus-admin", "sieveshell", NO_SIEVE),
    row("cyrus-clients", "imtest", A_CLIENT),
    row("cyrus-clients", "lmtptest", A_CLIENT),
    row("cyrus-clients", "pop3test", A_CLIENT),
    row("cyrus-clients", "smtptest", A_CLIENT),
    row("cyrus-clients", "httptest", A_CLIENT),
    row("cyrus-clients", "nntptest", A_CLIENT),
    row("cyrus-clients", "sivtest", A_CLIENT),
    row("cyrus-clients", "synctest", A_CLIENT),
    row("courier-base", "courier-config", Original("says how Courier was built")),
    row(
        "courier-base",
        "couriertcpd",
        Original("of Courier's own services; `cursusd` has no use for it"),
    ),
    row("courier-base", "couriertls", A_CLIENT),
    row(
        "courier-base",
        "deliverquota.courier",
        Original("delivers into Maildirs that are served, by `maildirsize`"),
    ),
    row(
        "courier-base",
        "maildiracl",
        Original("on folders that Cursus has not taken over yet; then SETACL"),
    ),
    row(
        "courier-base",
        "maildirkw",
        Original("on folders that Cursus has not taken over yet; then STORE"),
    ),
    row(
        "courier-base",
        "maildirmake.courier",
        Original("makes Maildirs, folders, quotas and links to shared ones, which are served"),
    ),
    row("courier-base", "makedat.courier", Original("makes databases that userdb reads")),
    row(
        "courier-base",
        "makeimapaccess",
        Original("`IMAPACCESSFILE` is not served: a firewall allows and bars addresses"),
    ),
    row(
        "courier-base",
        "mkdhparams",
        Original("key exchanges are elliptic: there are no parameters"),
    ),
    row(
        "courier-base",
        "sharedindexinstall",
        Original("makes the shared index, which is served (`sharing.courier_index`)"),
    ),
    row("courier-base", "sharedindexsplit", Original("as sharedindexinstall")),
    row("courier-base", "testmxlookup", OF_THE_MTA),
    row("courier-base", "verifysmtp", OF_THE_MTA),
    row("courier-imap", "imapd-ssl", Original("Courier's server: `cursusd` serves in its place")),
    row(
        "courier-imap",
        "mkimapdcert",
        Original("makes the certificate that /etc/courier names, which is read"),
    ),
    row("courier-pop", "pop3d-ssl", Original("Courier's server: `cursusd` serves in its place")),
    row(
        "courier-pop",
        "mkpop3dcert",
        Original("makes the certificate that /etc/courier names, which is read"),
    ),
    row("courier-authlib", "authenumerate", OF_ACCOUNTS),
    row("courier-authlib", "authpasswd", OF_ACCOUNTS),
    row("courier-authlib", "authtest", OF_ACCOUNTS),
    row(
        "courier-authlib",
        "courierlogger",
        Original("log lines go to standard error, and can be piped into it"),
    ),
    row("courier-authlib-userdb", "makeuserdb", OF_ACCOUNTS),
    row("courier-authlib-userdb", "pw2userdb", OF_ACCOUNTS),
    row("courier-authlib-userdb", "userdb", OF_ACCOUNTS),
    row("courier-authlib-userdb", "userdb-test-cram-md5", OF_ACCOUNTS),
    row("courier-authlib-userdb", "userdbpw", OF_ACCOUNTS),
    row("maildrop", "deliverquota.maildrop", WORKS_ON_MAILDIRS),
    row("maildrop", "maildirmake.maildrop", WORKS_ON_MAILDIRS),
    row("maildrop", "maildrop", WORKS_ON_MAILDIRS),
];

/// The program of a name that `cursus` may be called by.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name && known.has_link())
}

/// The program that Debian's `cyrus` runs for its first argument.
pub fn of_cyrus(word: &str) -> Option<&'static Known> {
    let cyrus = |name: &str| known(name).filter(|known| known.package.starts_with("cyrus"));
    let whole = match word {
        "check" => "chk_cyrus",
        other => other,
    };
    cyrus(whole).or_else(|| cyrus(&format!("cyr_{word}"))).or_else(|| cyrus(&format!("ctl_{word}")))
}

/// Names of those that are done.
pub(super) fn honoured() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().filter(|known| matches!(known.fate, Honoured(_))).map(|known| known.name)
}

/// The table of the document.
pub fn document() -> String {
    let mut text = "| program | Debian's package | here | |\n|---|---|---|---|\n".to_owned();
    for Known { name, package, fate } in KNOWN {
        let (word, why) = match fate {
            Honoured(text) => ("honoured", text),
            NotNeeded(text) => ("not needed", text),
            Refused(text) => ("refused", text),
            Original(text) => ("the original", text),
        };
        text += &format!("| `{name}` | {package} | {word} | {why} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `CURSUS_WRITE_DOCS=1 cargo test -p cursus-tools --lib` makes it anew.
    #[test]
    fn the_document_has_the_table() {
        const MARK: &str = "<!-- cursus commands list -->\n\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
        let there = std::fs::read_to_string(path).unwrap();
        let (head, table) = there.split_once(MARK).unwrap();
        if table != document() && std::env::var_os("CURSUS_WRITE_DOCS").is_some() {
            std::fs::write(path, format!("{head}{MARK}{}", document())).unwrap();
            return;
        }
        assert!(table == document(), "CURSUS_WRITE_DOCS=1 makes {path} anew");
    }

    #[test]
    fn names_are_there_once_and_debians_cyrus_finds_them() {
        let names: BTreeSet<&str> = KNOWN.iter().map(|known| known.name).collect();
        assert_eq!(names.len(), KNOWN.len());
        for (word, name) in [
            ("quota", "quota"),
            ("expire", "cyr_expire"),
            ("mboxlist", "ctl_mboxlist"),
            ("check", "chk_cyrus"),
            ("cyr_expire", "cyr_expire"),
        ] {
            assert_eq!(of_cyrus(word).unwrap().name, name);
        }
        assert!(of_cyrus("maildirmake.courier").is_none() && of_cyrus("nonsense").is_none());
    }
}
