//! Every variable of the files of Debian's Courier, and what becomes of it.

use crate::row::Fate::{Honoured, NotNeeded, NotServed, Refused};
use crate::row::Kind::{Number, Switch, Text};
use crate::row::{Fate, Kind, Row};

const fn row(name: &'static str, kind: Kind, default: &'static str, fate: Fate) -> Row {
    Row { name, kind, default, fate }
}

const PID: Fate = NotNeeded("systemd keeps the process, `cursus status` knows it");
const LOGGER: Fate = NotNeeded("log lines go to standard error, which systemd's journal takes");
const WEBADMIN: Fate = NotNeeded("only Courier's webadmin reads it");
const PROXY: Fate =
    Refused("the proxy to other servers is not there: set it to 0 and serve all users here");
const PROXY_PART: Fate = NotNeeded("it is a part of the proxy, which is refused by itself");
const SKELETON: Fate = NotServed(
    "a user's mailboxes are made at the first login or delivery, but nothing is copied from a \
     skeleton: `store.new_mailbox` names what new users have",
);
const DELETIONS: Fate = NotServed("removed messages are not logged one by one");
const CERTIFICATE_LATER: Fate = NotNeeded("sessions are resumed by tickets, without a file");
const DH: Fate =
    NotNeeded("key exchanges are elliptic (ECDHE, ML-KEM): there are no parameters to be made");
const ACCESS: Fate = Refused(
    "rules on who may connect are not read: move them into a firewall, and the file or directory and \
     its .dat away (without rules it is not needed)",
);

/// `authdaemonrc`.
pub const AUTHDAEMONRC: &[Row] = &[
    row(
        "authmodulelist",
        Text,
        "",
        Honoured(
            "`auth.backends`, in the order of the list: `authuserdb` is `userdb`, `authpwd` and `authshadow` are `passwd` with `/etc/shadow`; if there is any other module, the whole list is asked of Courier's own authdaemond (`authdaemon`), which has to run. `users`, our own file, comes before them",
        ),
    ),
    row("authmodulelistorig", Text, "", WEBADMIN),
    row(
        "daemons",
        Number,
        "5",
        NotNeeded(
            "`auth.hash_threads` threads check passwords; sessions do not wait for each other",
        ),
    ),
    row(
        "authdaemonvar",
        Text,
        "/run/courier/authdaemon",
        Honoured("`auth.authdaemon.socket`: the file `socket` there"),
    ),
    row(
        "DEBUG_LOGIN",
        Number,
        "0",
        NotServed("`CURSUS_LOG=cursus::login=debug` shows more of logins, and never a password"),
    ),
    row(
        "DEFAULTOPTIONS",
        Text,
        "",
        Refused(
            "options of accounts have no common default here: put `disableimap`, `disablepop3` and the like into the accounts themselves",
        ),
    ),
    row("LOGGEROPTS", Text, "", LOGGER),
    row(
        "LDAPTLS_*",
        Text,
        "",
        NotNeeded("it is a setting of authldap, which Courier's own authdaemond reads"),
    ),
];

/// `imapd`.
pub const IMAPD: &[Row] = &[
    row("ADDRESS", Text, "0", Honoured("`listener.address`; 0 is `*`, all addresses")),
    row(
        "PORT",
        Text,
        "143",
        Honoured("`listener.address`, one listener for each of the list, `ip.port` too"),
    ),
    row("AUTHSERVICE*", Text, "", NotNeeded("authdaemond is told the protocol, `imap` or `pop3`")),
    row("MAXDAEMONS", Number, "40", Honoured("`listener.connections_max` of each listener")),
    row(
        "MAXPERIP",
        Number,
        "4",
        Honoured("`listener.connections_per_address_max` of each listener"),
    ),
    row("PIDFILE", Text, "", PID),
    row(
        "TCPDOPTS",
        Text,
        "",
        Honoured(
            "`-nodnslookup` and `-noidentlookup` are as it is here anyway; other options are refused",
        ),
    ),
    row("IMAPACCESSFILE", Text, "/etc/courier/imapaccess", ACCESS),
    row("LOGGEROPTS", Text, "", LOGGER),
    row("DEFDOMAIN", Text, "", Honoured("`auth.default_domain`, if it begins with `@`")),
    row(
        "DOMAINSEP",
        Text,
        "",
        NotNeeded("the separator of a domain is `@`; another one is refused with DEFDOMAIN"),
    ),
    row(
        "IMAP_CAPABILITY",
        Text,
        "",
        Honoured(
            "`auth.mechanisms` are its AUTH words, with those of the other lists; what Courier has and the list leaves out goes into `imap.suppress_capabilities`. What Courier does not have is told all the same",
        ),
    ),
    row("IMAP_KEYWORDS", Number, "1", Refused("keywords are always there: set it to 1")),
    row(
        "IMAP_ACL",
        Switch,
        "1",
        Honoured("0: the words of ACL go into `imap.suppress_capabilities`"),
    ),
    row("SMAP_CAPABILITY", Text, "", Honoured("`imap.smap`")),
    row("IMAP_CAPABILITY_ORIG", Text, "", WEBADMIN),
    row("IMAP_PROXY", Switch, "0", PROXY),
    row("PROXY_HOSTNAME", Text, "", PROXY_PART),
    row("IMAP_PROXY_FOREIGN", Switch, "0", PROXY_PART),
    row(
        "IMAP_IDLE_TIMEOUT",
        Number,
        "60",
        NotNeeded("IDLE tells changes when they happen, it does not look every so many seconds"),
    ),
    row(
        "IMAP_MAILBOX_SANITY_CHECK",
        Switch,
        "1",
        NotNeeded(
            "one user owns all Maildirs, and a start of root in a directory of somebody else is refused",
        ),
    ),
    row(
        "IMAP_CAPABILITY_TLS",
        Text,
        "",
        Honoured(
            "as IMAP_CAPABILITY; its AUTH words are told without TLS as well, where IMAP_TLS_REQUIRED is 0",
        ),
    ),
    row("IMAP_CAPABILITY_TLS_ORIG", Text, "", WEBADMIN),
    row(
        "IMAP_DISABLETHREADSORT",
        Switch,
        "0",
        Honoured("1: the words of SORT and THREAD go into `imap.suppress_capabilities`"),
    ),
    row(
        "IMAP_CHECK_ALL_FOLDERS",
        Switch,
        "0",
        NotNeeded("STATUS, LIST and NOTIFY always know every folder's state"),
    ),
    row(
        "IMAP_OBSOLETE_CLIENT",
        Switch,
        "0",
        Refused("\\NoInferiors always means what RFC 3501 says: set it to 0"),
    ),
    row(
        "IMAP_UMASK",
        Text,
        "022",
        NotServed(
            "files are made for the server's own user alone; other readers need an access control list of the filesystem",
        ),
    ),
    row("IMAP_ULIMITD", Number, "65536", NotNeeded("memory of a session is bounded by `[limits]`")),
    row(
        "IMAP_USELOCKS",
        Switch,
        "1",
        NotNeeded("sessions of one server share their view of a folder"),
    ),
    row(
        "IMAP_SHAREDINDEXFILE",
        Text,
        "",
        Honoured(
            "`sharing.courier_index`; the home directories that most of it has say what `partition.path` and `partition.user_path` are",
        ),
    ),
    row("IMAP_ENHANCEDIDLE", Switch, "0", NotNeeded("it is always so")),
    row("IMAP_TRASHFOLDERNAME", Text, "Trash", Honoured("`trash.mailbox`")),
    row(
        "IMAP_EMPTYTRASH",
        Text,
        "",
        Honoured("`trash.empty`; by the date of saving, in place of CTIME"),
    ),
    row("IMAP_MOVE_EXPUNGE_TO_TRASH", Switch, "0", Honoured("`trash.move_expunged`")),
    row("IMAP_LOG_DELETIONS", Switch, "0", DELETIONS),
    row("AUTH_MKHOMEDIR_SKEL", Text, "", SKELETON),
    row(
        "IMAPDEBUGFILE",
        Text,
        "",
        NotServed(
            "commands of a session are not written into the Maildir: `CURSUS_LOG=debug` logs them",
        ),
    ),
    row("OUTBOX", Text, "", Honoured("`outbox.mailbox`, without the dot")),
    row("SENDMAIL", Text, "/usr/sbin/sendmail", Honoured("`outbox.sendmail`")),
    row("HEADERFROM", Text, "", Honoured("`outbox.header_from`")),
    row("OUTBOX_MULTIPLE_SEND", Switch, "0", Honoured("`outbox.multiple_send`")),
    row(
        "IMAP_ID_FIELDS",
        Number,
        "",
        Honoured(
            "`imap.id`: without 1 no version, with 2 the operating system; ID is there where it is not set, too",
        ),
    ),
    row("IMAPDSTART", Switch, "NO", Honoured("NO: no IMAP listeners but those of imapd-ssl")),
    row(
        "MAILDIRPATH",
        Text,
        "Maildir",
        Honoured("`partition.user_path`: below the directory of the user"),
    ),
];

/// `pop3d`.
pub const POP3D: &[Row] = &[
    row("PIDFILE", Text, "", PID),
    row("MAXDAEMONS", Number, "40", Honoured("`listener.connections_max` of each listener")),
    row(
        "MAXPERIP",
        Number,
        "4",
        Honoured("`listener.connections_per_address_max` of each listener"),
    ),
    row(
        "POP3AUTH",
        Text,
        "",
        Honoured("its mechanisms are among `auth.mechanisms`, which IMAP and POP3 share"),
    ),
    row("POP3AUTH_ORIG", Text, "", WEBADMIN),
    row("POP3AUTH_TLS", Text, "", Honoured("likewise")),
    row("POP3AUTH_TLS_ORIG", Text, "", WEBADMIN),
    row("POP3_PROXY", Switch, "0", PROXY),
    row("PROXY_HOSTNAME", Text, "", PROXY_PART),
    row("PORT", Text, "110", Honoured("`listener.address`, as in imapd")),
    row("ADDRESS", Text, "0", Honoured("`listener.address`, as in imapd")),
    row("AUTHSERVICE*", Text, "", NotNeeded("authdaemond is told the protocol, `imap` or `pop3`")),
    row("TCPDOPTS", Text, "", Honoured("as in imapd")),
    row("LOGGEROPTS", Text, "", LOGGER),
    row(
        "DEFDOMAIN",
        Text,
        "",
        Honoured(
            "`auth.default_domain`; one for IMAP and POP3, so it has to be the same in both files",
        ),
    ),
    row("DOMAINSEP", Text, "", NotNeeded("as in imapd")),
    row("POP3DSTART", Switch, "NO", Honoured("NO: no POP3 listeners but those of pop3d-ssl")),
    row("POP3_LOG_DELETIONS", Switch, "0", DELETIONS),
    row("AUTH_MKHOMEDIR_SKEL", Text, "", SKELETON),
    row(
        "MAILDIRPATH",
        Text,
        "Maildir",
        Honoured(
            "`partition.user_path`; one for IMAP and POP3, so it has to be the same in both files",
        ),
    ),
    row(
        "MIME_UNICODE_MESSAGE_TYPE",
        Text,
        "message/global",
        NotNeeded(
            "clients without UTF8 get headers as encoded-words (RFC 6856), not a message within a message",
        ),
    ),
];

/// `imapd-ssl` and `pop3d-ssl`, which have the same names but for the first rows.
pub const SSL: &[Row] = &[
    row(
        "IMAPDSSLSTART",
        Switch,
        "NO",
        Honoured("whether there is a listener with `tls = \"implicit\"`"),
    ),
    row(
        "IMAPDSTARTTLS",
        Switch,
        "YES",
        Honoured("`listener.tls` of imapd's: `\"starttls\"` or `\"none\"`"),
    ),
    row(
        "IMAP_TLS_REQUIRED",
        Switch,
        "0",
        Honoured("`listener.plain_login` of imapd's: 1 is `\"never\"`, 0 `\"always\"`"),
    ),
    row("POP3DSSLSTART", Switch, "NO", Honoured("as IMAPDSSLSTART")),
    row("POP3_STARTTLS", Switch, "YES", Honoured("as IMAPDSTARTTLS")),
    row("POP3_TLS_REQUIRED", Switch, "0", Honoured("as IMAP_TLS_REQUIRED")),
    row("SSLPORT", Text, "993", Honoured("`listener.address`, as PORT; 995 in pop3d-ssl")),
    row("SSLADDRESS", Text, "0", Honoured("`listener.address`, as ADDRESS")),
    row("SSLPIDFILE", Text, "", PID),
    row("SSLLOGGEROPTS", Text, "", LOGGER),
    row("COURIERTLS", Text, "", NotNeeded("TLS is spoken by the server itself")),
    row(
        "TLS_PRIORITY",
        Text,
        "NORMAL",
        Honoured(
            "`tls.versions` by its `VERS-TLS` words; of its other words, it is said that they have no effect",
        ),
    ),
    row(
        "TLS_PROTOCOL",
        Text,
        "",
        Honoured(
            "`tls.versions`: TLS 1.2 and 1.3, or 1.3 alone; older ones are not spoken, which is said where they are named",
        ),
    ),
    row(
        "TLS_STARTTLS_PROTOCOL",
        Text,
        "",
        NotNeeded("TLS_PROTOCOL holds for STARTTLS, too; another value is refused"),
    ),
    row(
        "TLS_CIPHER_LIST",
        Text,
        "",
        Honoured("`tls.cipher_suites`: what of the list the TLS library has"),
    ),
    row("TLS_MIN_DH_BITS", Number, "", DH),
    row(
        "TLS_TIMEOUT",
        Number,
        "",
        NotNeeded("Courier does not read it either; `limits.tls_handshake_seconds_max` is there"),
    ),
    row(
        "TLS_CERTFILE",
        Text,
        "",
        Honoured(
            "`tls.certificate`, or `tls.pop3.certificate` of pop3d-ssl where that has another one. Files for each host name or address (`TLS_CERTFILE.name`) are not served",
        ),
    ),
    row(
        "TLS_PRIVATE_KEYFILE",
        Text,
        "",
        Honoured("`tls.key`; without it the key is in TLS_CERTFILE"),
    ),
    row("TLS_DHPARAMS", Text, "", DH),
    row(
        "TLS_TRUSTCERTS",
        Text,
        "",
        Honoured("`tls.client_ca`, where TLS_VERIFYPEER asks for certificates; a file"),
    ),
    row(
        "TLS_VERIFYPEER",
        Text,
        "NONE",
        Honoured(
            "`tls.client_certificates`: NONE, PEER (`\"optional\"`), REQUIREPEER (`\"required\"`)",
        ),
    ),
    row(
        "TLS_EXTERNAL",
        Text,
        "",
        Honoured(
            "EXTERNAL in `auth.mechanisms`, and `auth.certificate_field`: `emailaddress`, `commonname` (`CN` to Debian's Courier), `uid`",
        ),
    ),
    row("TLS_CACHEFILE", Text, "", CERTIFICATE_LATER),
    row("TLS_CACHESIZE", Number, "", CERTIFICATE_LATER),
    row("TLS_ALPN", Text, "", NotNeeded("`tls.alpn` is on: `imap` and `pop3` are told")),
    row(
        "MAXDAEMONS",
        Number,
        "40",
        Honoured("for the listener with TLS, in place of imapd's or pop3d's"),
    ),
    row("MAXPERIP", Number, "4", Honoured("likewise")),
    row("TCPDOPTS", Text, "", Honoured("as in imapd")),
    row("MAILDIRPATH", Text, "Maildir", Honoured("has to be the same as in imapd or pop3d")),
];

/// The files with their tables.
pub const FILES: [(&str, &[Row]); 5] = [
    ("authdaemonrc", AUTHDAEMONRC),
    ("imapd", IMAPD),
    ("imapd-ssl", SSL),
    ("pop3d", POP3D),
    ("pop3d-ssl", SSL),
];

/// All of it, as `docs/configuration-courier.md` has it.
pub fn document() -> String {
    let section = |(heading, table): (&str, &[Row])| {
        format!("### {heading}\n\n{}\n", crate::row::document(table))
    };
    let sections = [
        ("`authdaemonrc`", AUTHDAEMONRC),
        ("`imapd`", IMAPD),
        ("`pop3d`", POP3D),
        ("`imapd-ssl` and `pop3d-ssl`", SSL),
    ];
    sections.map(section).concat()
}
