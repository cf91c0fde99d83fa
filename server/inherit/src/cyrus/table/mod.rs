//! Every option of imapd.conf (Cyrus 3.6, as Debian has it) and everything that cyrus.conf may
//! have, and what becomes of it.

mod a_to_b;
mod c_to_h;
mod i_to_o;
mod p_to_r;
mod s_to_z;

use crate::row::Fate::{Honoured, NotNeeded, NotServed, Refused};
use crate::row::Kind::{Number, Text};
use crate::row::{self, Fate, Kind, Row};

const fn row(name: &'static str, kind: Kind, default: &'static str, fate: Fate) -> Row {
    Row { name, kind, default, fate }
}

const THERE_ARE_NO_DATABASES: Fate = NotNeeded(
    "there are no databases of these kinds; takeover and handback read and write those that are no caches",
);

/// Options of imapd.conf, by name.
pub const ROWS: [&[Row]; 5] =
    [a_to_b::ROWS, c_to_h::ROWS, i_to_o::ROWS, p_to_r::ROWS, s_to_z::ROWS];

/// The row of an option: its own, else that of its family.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    let all = || ROWS.iter().flat_map(|rows| rows.iter());
    all().find(|row| row.name == name).or_else(|| {
        all().find(|row| {
            row.name
                .strip_suffix('*')
                .is_some_and(|prefix| !prefix.is_empty() && name.starts_with(prefix))
                || row.name.strip_prefix('*').is_some_and(|suffix| name.ends_with(suffix))
        })
    })
}

/// Arguments of entries of cyrus.conf.
pub const ARGUMENTS: &[Row] = &[
    row(
        "cmd",
        Text,
        "",
        Honoured(
            "the program: those of SERVICES that are `imapd`, `pop3d`, `lmtpd` make a listener; `-s` is `tls = \"implicit\"`, `-a` of lmtpd `trusted`, `-p` with more than 1 `plain_login = \"always\"`, `-C` may name the same imapd.conf; `-U`, `-T`, `-D` have no effect",
        ),
    ),
    row(
        "listen",
        Text,
        "",
        Honoured(
            "`listener.address`: a path, `port`, `host:port`, `[address]:port`; names of services by /etc/services",
        ),
    ),
    row("proto", Text, "tcp", Honoured("`tcp` is both families, `tcp4` and `tcp6` one")),
    row("maxchild", Number, "-1", Honoured("`listener.connections_max`")),
    row("prefork", Number, "0", NotNeeded("sessions are no processes")),
    row(
        "maxfds",
        Number,
        "256",
        NotNeeded("the limit of descriptors is raised as far as the system lets it"),
    ),
    row("maxforkrate", Number, "0", NotNeeded("sessions are no processes")),
    row("babysit", Number, "0", NotNeeded("sessions are no processes")),
    row("period", Number, "0", NotNeeded("what EVENTS do is not needed, or refused")),
    row("at", Text, "", NotNeeded("likewise")),
    row("cron", Text, "", NotNeeded("likewise")),
    row("wait", Text, "0", NotNeeded("likewise, of DAEMON")),
];

const NEWS: Fate = NotServed("news (NNTP) is not served");
const CLUSTER: Fate =
    Refused("clusters (murder) are not served: take the line out, and serve these users here");
const REPLICA: Fate =
    Refused("replication is not served: take the line out; `[archive]` keeps a copy elsewhere");
const BACKUP: Fate = Refused(
    "Cyrus's own backups are not served: take the line out; docs/backup.md says what is there",
);
const LEFT: Fate = NotNeeded("there is no database of this kind");

/// Programs that START, SERVICES, EVENTS and DAEMON run.
pub const PROGRAMS: &[Row] = &[
    row("imapd", Text, "", Honoured("a listener")),
    row("pop3d", Text, "", Honoured("a listener")),
    row(
        "lmtpd",
        Text,
        "",
        Honoured(
            "a listener; on a path everybody may deliver, by TCP whom `lmtp_admins` or `admins` names (`lmtp.users`), with `-a` everybody",
        ),
    ),
    row("nntpd", Text, "", NEWS),
    row("fetchnews", Text, "", NEWS),
    row("httpd", Text, "", NotServed("CalDAV, CardDAV and what else speaks HTTP is not served")),
    row("timsieved", Text, "", NotServed("Sieve scripts are not run")),
    row("notifyd", Text, "", NotServed("nothing is told to notifyd")),
    row("idled", Text, "", NotNeeded("sessions tell each other of changes in memory")),
    row(
        "ctl_cyrusdb",
        Text,
        "",
        NotNeeded("a start recovers by the commit log, and checkpoints come by themselves"),
    ),
    row(
        "cyr_expire",
        Text,
        "",
        NotNeeded(
            "expunged messages, deleted mailboxes and lists of duplicates are not kept; for what Cyrus kept before a takeover (`-X`, `-D`) there is `cursus expire cyrus`; `-A` is refused",
        ),
    ),
    row("expire", Text, "", NotNeeded("as cyr_expire, which Debian calls so")),
    row("delprune", Text, "", LEFT),
    row("ctl_deliver", Text, "", LEFT),
    row(
        "tls_prune",
        Text,
        "",
        NotNeeded("TLS sessions are resumed by tickets, without a database"),
    ),
    row(
        "squatter",
        Text,
        "",
        NotNeeded(
            "full-text indexes follow their mailboxes by themselves, where `search_engine` asks for them",
        ),
    ),
    row("ctl_conversationsdb", Text, "", LEFT),
    row(
        "ctl_mboxlist",
        Text,
        "",
        NotNeeded("the list of mailboxes is in the catalog; `-m` (murder) is refused"),
    ),
    row("cyr_synclog", Text, "", REPLICA),
    row("sync_client", Text, "", REPLICA),
    row("sync_server", Text, "", REPLICA),
    row("mupdate", Text, "", CLUSTER),
    row("proxyd", Text, "", CLUSTER),
    row("pop3proxyd", Text, "", CLUSTER),
    row("lmtpproxyd", Text, "", CLUSTER),
    row("backupd", Text, "", BACKUP),
    row("ctl_backups", Text, "", BACKUP),
    row(
        "promstatsd",
        Text,
        "",
        Refused(
            "there are no metrics by HTTP: `cursus --json status` has figures; take the line out",
        ),
    ),
    row("calalarmd", Text, "", Refused("CalDAV is not served: take the line out")),
    row("ptloader", Text, "", Refused("groups by LDAP or PTS are not served: take the line out")),
    row(
        "saslauthd",
        Text,
        "",
        Refused("it is not started by the server: a systemd unit does that; take the line out"),
    ),
    row("fud", Text, "", Refused("fud is not served: take the line out")),
    row(
        "smmapd",
        Text,
        "",
        Refused("smmapd is not served: take the line out; LMTP refuses at RCPT"),
    ),
    row(
        "ipurge",
        Text,
        "",
        Refused(
            "old messages are removed by `trash.empty`: set that in cursus.toml, and take the line out; or a \
             timer calls `cursus` by this name: docs/commands.md",
        ),
    ),
];

/// All of it, as `docs/configuration-cyrus.md` has it.
pub fn document() -> String {
    let section =
        |heading: &str, rows: &[Row]| format!("### {heading}\n\n{}\n", row::document(rows));
    section("Arguments in cyrus.conf", ARGUMENTS)
        + &section("Programs in cyrus.conf", PROGRAMS)
        + &section("Options of imapd.conf", &ROWS.concat())
}
