//! Options of imapd.conf from s to z.

use super::{THERE_ARE_NO_DATABASES, row};
use crate::row::Fate::{Honoured, NotNeeded, NotServed, Refused};
use crate::row::Kind::{Duration, Number, Switch, Text};
use crate::row::{Fate, Row};

const OUR_OWN_FULLTEXT_INDEX: Fate = NotServed("our own full-text index: docs/search.md");
const OUR_OWN_FULLTEXT_INDEX_DOCSSEARCHMD: Fate =
    NotNeeded("our own full-text index: docs/search.md");
const CYRUS_DOES_NOT_READ: Fate = NotNeeded("Cyrus does not read it any more");
const SIEVE_IS_NOT_SERVED: Fate =
    Refused("Sieve is not served: take the line out, and filter before delivery");
const CLUSTERS_MURDER_ARE_NOT: Fate =
    Refused("clusters (murder) are not served: take the line out, and serve these users here");
const SIEVE_SCRIPTS_ARE_NOT: Fate = NotServed("Sieve scripts are not run");
const THERE_ARE_NO_DATABASES_OF: Fate = NotNeeded("there are no databases of these kinds");
const DATABASES_BY_SQL_ARE: Fate = Refused("databases by SQL are not served: take the line out");
const REPLICATION_IS_NOT_SERVED: Fate =
    Refused("replication is not served: take the line out; `[archive]` keeps a copy elsewhere");
const LOG_LINES_GO_TO: Fate = NotNeeded(
    "log lines go to standard error, which systemd's journal takes under `SyslogIdentifier=`",
);
const THE_SYSTEMS_TIMES_HOLD: Fate =
    NotServed("the system's times hold (net.ipv4.tcp_keepalive_*)");
const TLSCLIENTCA: Fate = Honoured("`tls.client_ca`");
const AUTHORITIES_ARE_IN_ONE: Fate = NotServed("authorities are in one file: `tls_client_ca_file`");
const TLSCERTIFICATE_OF_A_SERVICE: Fate = Honoured(
    "`tls.certificate`, of a service `tls.imap.certificate` and the like. Without any there is no STARTTLS, as with Cyrus. Of two with a comma between them, the second (EC) is taken",
);
const TLSCIPHERSUITES_WHAT_OF_THE: Fate =
    Honoured("`tls.cipher_suites`: what of the list the TLS library has");
const THERE_ARE_NO_CONNECTIONS: Fate = NotNeeded("there are no connections to other servers");
const TLSKEY_LIKEWISE: Fate = Honoured("`tls.key`, likewise");
const CALDAV_CARDDAV_JMAP_AND: Fate =
    Refused("CalDAV, CardDAV, JMAP and what else speaks HTTP is not served: take the line out");
const IT_IS_FOR_CYRVIRUSSCAN: Fate = NotNeeded("it is for cyr_virusscan alone");

pub(super) const ROWS: &[Row] = &[
    row(
        "sasl_*",
        Number,
        "0",
        NotServed("other options of the SASL library, `sasl_` before them, have no counterpart"),
    ),
    row(
        "sasl_authdaemond_path",
        Text,
        "",
        NotNeeded("`auth.authdaemon.socket`, if the library is told to ask authdaemond"),
    ),
    row(
        "sasl_auto_transition",
        Switch,
        "0",
        Refused("secrets are not made out of passwords: set it to no"),
    ),
    row("sasl_auxprop_plugin", Text, "", Honoured("`sasldb`; `sql` and `ldapdb` are refused")),
    row("sasl_log_level", Text, "", NotNeeded("`log.level`")),
    row(
        "sasl_maximum_layer",
        Number,
        "256",
        NotNeeded("SASL mechanisms bring no layers of their own: TLS does"),
    ),
    row("sasl_mech_list", Text, "", Honoured("`auth.mechanisms`")),
    row(
        "sasl_minimum_layer",
        Number,
        "0",
        Honoured("more than 0: `listener.plain_login = \"never\"`, as TLS is the only layer"),
    ),
    row(
        "sasl_pwcheck_method",
        Text,
        "",
        Honoured(
            "`auth.backends`: `auxprop` is `sasldb`, `saslauthd` and `authdaemond` are asked; `users` comes before them. `alwaystrue` and `pwcheck` are refused",
        ),
    ),
    row(
        "sasl_saslauthd_path",
        Text,
        "/run/saslauthd",
        Honoured("`auth.saslauthd.socket`: the file `mux` there"),
    ),
    row("sasl_sasldb_path", Text, "/etc/sasldb2", Honoured("`auth.sasldb.path`")),
    row("search_attachment_extractor_url", Text, "", OUR_OWN_FULLTEXT_INDEX),
    row("search_batchsize", Number, "20", OUR_OWN_FULLTEXT_INDEX_DOCSSEARCHMD),
    row(
        "search_engine",
        Text,
        "none",
        Honoured("`search.index`: none is `\"off\"`, squat and xapian `\"all\"`"),
    ),
    row(
        "search_fuzzy_always",
        Switch,
        "0",
        Honoured("no; yes is refused: SEARCH=FUZZY is `search.fuzzy`, on request"),
    ),
    row("search_index_headers", Switch, "1", OUR_OWN_FULLTEXT_INDEX_DOCSSEARCHMD),
    row("search_index_language", Switch, "0", OUR_OWN_FULLTEXT_INDEX),
    row("search_index_parts", Switch, "0", CYRUS_DOES_NOT_READ),
    row("search_index_skip_domains", Text, "", OUR_OWN_FULLTEXT_INDEX),
    row("search_index_skip_users", Text, "", OUR_OWN_FULLTEXT_INDEX),
    row("search_indexed_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("search_maxsize", Number, "4096", OUR_OWN_FULLTEXT_INDEX),
    row("search_maxtime", Text, "", NotServed("a search ends with its session")),
    row("search_normalisation_max", Number, "1000", OUR_OWN_FULLTEXT_INDEX_DOCSSEARCHMD),
    row("search_query_language", Switch, "0", CYRUS_DOES_NOT_READ),
    row("search_queryscan", Number, "5000", OUR_OWN_FULLTEXT_INDEX_DOCSSEARCHMD),
    row("search_skipdiacrit", Switch, "1", OUR_OWN_FULLTEXT_INDEX),
    row("search_skiphtml", Switch, "0", OUR_OWN_FULLTEXT_INDEX),
    row("search_snippet_length", Number, "255", OUR_OWN_FULLTEXT_INDEX),
    row("search_stopword_path", Text, "", OUR_OWN_FULLTEXT_INDEX),
    row("search_whitespace", Text, "merge", OUR_OWN_FULLTEXT_INDEX),
    row("searchpartition-*", Text, "", NotNeeded("full-text indexes are in `search.index_dir`")),
    row("seenstate_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row(
        "sendmail",
        Text,
        "/usr/lib/sendmail",
        NotServed("only Sieve scripts would send mail, and they are not run"),
    ),
    row(
        "sendmail_auth_id",
        Text,
        "CYRUS_SENDMAIL_AUTH_ID",
        NotServed("only Sieve scripts would send mail, and they are not run"),
    ),
    row(
        "serverinfo",
        Text,
        "on",
        NotServed(
            "the greeting tells name and program, the version is told by ID alone: `imap.id.version`",
        ),
    ),
    row("serverlist", Text, "", CLUSTERS_MURDER_ARE_NOT),
    row("serverlist_select_mode", Text, "freespace-most", CLUSTERS_MURDER_ARE_NOT),
    row("serverlist_select_soft_usage_limit", Number, "0", CLUSTERS_MURDER_ARE_NOT),
    row("serverlist_select_usage_reinit", Number, "0", CLUSTERS_MURDER_ARE_NOT),
    row("servername", Text, "", Honoured("`server.hostname`")),
    row("sharedprefix", Text, "Shared Folders", Honoured("`sharing.shared_prefix`")),
    row("sieve_allowreferrals", Switch, "1", SIEVE_IS_NOT_SERVED),
    row("sieve_duplicate_max_expiration", Duration, "90d", SIEVE_IS_NOT_SERVED),
    row(
        "sieve_extensions",
        Text,
        "fileinto reject vacation vacation-seconds notify include envelope environment body relational regex subaddress copy date index imap4flags imapflags mailbox mboxmetadata servermetadata variables editheader extlists duplicate ihave fcc special-use redirect-dsn redirect-deliverby mailboxid vnd.cyrus.log x-cyrus-log vnd.cyrus.jmapquery x-cyrus-jmapquery vnd.cyrus.imip snooze vnd.cyrus.snooze x-cyrus-snooze",
        SIEVE_IS_NOT_SERVED,
    ),
    row("sieve_folder", Text, "#sieve", SIEVE_IS_NOT_SERVED),
    row("sieve_maxscripts", Number, "5", SIEVE_IS_NOT_SERVED),
    row("sieve_maxscriptsize", Number, "32", SIEVE_IS_NOT_SERVED),
    row("sieve_sasl_send_unsolicited_capability", Switch, "0", SIEVE_IS_NOT_SERVED),
    row("sieve_use_lmtp_reject", Switch, "1", SIEVE_IS_NOT_SERVED),
    row("sieve_utf8fileinto", Switch, "0", SIEVE_IS_NOT_SERVED),
    row("sieve_vacation_max_response", Duration, "90d", SIEVE_IS_NOT_SERVED),
    row("sieve_vacation_min_response", Duration, "3d", SIEVE_IS_NOT_SERVED),
    row("sievedir", Text, "/usr/sieve", SIEVE_SCRIPTS_ARE_NOT),
    row("sievenotifier", Text, "", SIEVE_IS_NOT_SERVED),
    row("sieveusehomedir", Switch, "0", SIEVE_SCRIPTS_ARE_NOT),
    row(
        "singleinstancestore",
        Switch,
        "1",
        NotNeeded("copies of one delivery are links to one file where the filesystem has them"),
    ),
    row("skiplist_always_checkpoint", Switch, "1", THERE_ARE_NO_DATABASES_OF),
    row("skiplist_unsafe", Switch, "0", THERE_ARE_NO_DATABASES_OF),
    row("smtp_auth_authname", Text, "", SIEVE_IS_NOT_SERVED),
    row("smtp_auth_password", Text, "", SIEVE_IS_NOT_SERVED),
    row("smtp_auth_realm", Text, "", SIEVE_IS_NOT_SERVED),
    row("smtp_backend", Text, "sendmail", SIEVE_IS_NOT_SERVED),
    row("smtp_host", Text, "localhost:587", SIEVE_IS_NOT_SERVED),
    row("soft_noauth", Switch, "1", NotNeeded("who has to log in first is told so: 530")),
    row("sortcache_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("specialuse_extra", Text, "", Refused("special uses are those of RFC 6154 and RFC 8457")),
    row(
        "specialuse_nochildren",
        Text,
        "",
        NotServed("mailboxes with special uses may have children"),
    ),
    row(
        "specialuse_protect",
        Text,
        "\\Archive \\Drafts \\Important \\Junk \\Sent \\Trash",
        Honoured("`imap.protected_special_uses`"),
    ),
    row("specialusealways", Switch, "1", NotNeeded("LIST always tells special uses")),
    row("sql_database", Text, "", DATABASES_BY_SQL_ARE),
    row("sql_engine", Text, "", DATABASES_BY_SQL_ARE),
    row("sql_hostnames", Text, "", DATABASES_BY_SQL_ARE),
    row("sql_passwd", Text, "", DATABASES_BY_SQL_ARE),
    row("sql_user", Text, "", DATABASES_BY_SQL_ARE),
    row("sql_usessl", Switch, "0", DATABASES_BY_SQL_ARE),
    row("srs_alwaysrewrite", Switch, "0", SIEVE_IS_NOT_SERVED),
    row("srs_domain", Text, "", SIEVE_IS_NOT_SERVED),
    row("srs_hashlength", Number, "0", SIEVE_IS_NOT_SERVED),
    row("srs_secrets", Text, "", SIEVE_IS_NOT_SERVED),
    row("srs_separator", Text, "", SIEVE_IS_NOT_SERVED),
    row("srvtab", Text, "", Refused("Kerberos is not served: take the line out")),
    row("statuscache", Switch, "0", NotNeeded("STATUS is always known")),
    row("statuscache_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("statuscache_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row("submitservers", Text, "", Honoured("`imap.submission_users`")),
    row("subscription_db", Text, "flat", THERE_ARE_NO_DATABASES),
    row("suppress_capabilities", Text, "", Honoured("`imap.suppress_capabilities`")),
    row("sync_authname", Text, "", REPLICATION_IS_NOT_SERVED),
    row("sync_batchsize", Number, "8192", REPLICATION_IS_NOT_SERVED),
    row("sync_cache_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("sync_cache_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row("sync_host", Text, "", REPLICATION_IS_NOT_SERVED),
    row("sync_log", Switch, "0", REPLICATION_IS_NOT_SERVED),
    row("sync_log_chain", Switch, "0", REPLICATION_IS_NOT_SERVED),
    row("sync_log_channels", Text, "", REPLICATION_IS_NOT_SERVED),
    row("sync_log_unsuppressable_channels", Text, "squatter", REPLICATION_IS_NOT_SERVED),
    row("sync_password", Text, "", REPLICATION_IS_NOT_SERVED),
    row("sync_port", Text, "", REPLICATION_IS_NOT_SERVED),
    row("sync_realm", Text, "", REPLICATION_IS_NOT_SERVED),
    row("sync_reconnect_maxwait", Duration, "20m", REPLICATION_IS_NOT_SERVED),
    row("sync_repeat_interval", Duration, "1s", REPLICATION_IS_NOT_SERVED),
    row("sync_rightnow_channel", Text, "", REPLICATION_IS_NOT_SERVED),
    row("sync_shutdown_file", Text, "", REPLICATION_IS_NOT_SERVED),
    row("sync_timeout", Duration, "30m", REPLICATION_IS_NOT_SERVED),
    row("sync_try_imap", Switch, "1", REPLICATION_IS_NOT_SERVED),
    row("syslog_facility", Text, "", LOG_LINES_GO_TO),
    row("syslog_prefix", Text, "", LOG_LINES_GO_TO),
    row("tcp_keepalive", Switch, "0", Honoured("always on")),
    row("tcp_keepalive_cnt", Number, "0", THE_SYSTEMS_TIMES_HOLD),
    row("tcp_keepalive_idle", Number, "0", THE_SYSTEMS_TIMES_HOLD),
    row("tcp_keepalive_intvl", Number, "0", THE_SYSTEMS_TIMES_HOLD),
    row(
        "telemetry_bysessionid",
        Switch,
        "0",
        NotNeeded("files of `log/USER` are always named by session, as with yes"),
    ),
    row(
        "temp_path",
        Text,
        "/tmp",
        NotNeeded("messages on their way in are files of their partition"),
    ),
    row(
        "timeout",
        Duration,
        "32m",
        Honoured("`limits.imap_idle_seconds_max`, at least 30 minutes"),
    ),
    row("tls_ca_file", Text, "", TLSCLIENTCA),
    row("tls_ca_path", Text, "", AUTHORITIES_ARE_IN_ONE),
    row("tls_cert_file", Text, "", TLSCERTIFICATE_OF_A_SERVICE),
    row("tls_cipher_list", Text, "DEFAULT", TLSCIPHERSUITES_WHAT_OF_THE),
    row("tls_ciphers", Text, "DEFAULT", TLSCIPHERSUITES_WHAT_OF_THE),
    row("tls_client_ca_dir", Text, "", AUTHORITIES_ARE_IN_ONE),
    row("tls_client_ca_file", Text, "", TLSCLIENTCA),
    row("tls_client_cert", Text, "", THERE_ARE_NO_CONNECTIONS),
    row(
        "tls_client_certs",
        Text,
        "optional",
        Honoured("`tls.client_certificates`, where there is a tls_client_ca_file"),
    ),
    row("tls_client_key", Text, "", THERE_ARE_NO_CONNECTIONS),
    row("tls_crl_file", Text, "", Honoured("`tls.client_crl`, likewise")),
    row("tls_eccurve", Text, "prime256v1", NotNeeded("X25519, P-256, P-384 and ML-KEM are there")),
    row("tls_key_file", Text, "", TLSKEY_LIKEWISE),
    row(
        "tls_prefer_server_ciphers",
        Switch,
        "0",
        NotServed("the client's preference counts among suites that are all good"),
    ),
    row(
        "tls_required",
        Switch,
        "0",
        Honoured("yes: `listener.plain_login = \"never\"`; of a service, too"),
    ),
    row("tls_server_ca_dir", Text, "", THERE_ARE_NO_CONNECTIONS),
    row("tls_server_ca_file", Text, "", THERE_ARE_NO_CONNECTIONS),
    row("tls_server_cert", Text, "", TLSCERTIFICATE_OF_A_SERVICE),
    row(
        "tls_server_dhparam",
        Text,
        "",
        NotNeeded("key exchanges are elliptic: there are no parameters"),
    ),
    row("tls_server_key", Text, "", TLSKEY_LIKEWISE),
    row("tls_session_timeout", Duration, "24h", NotNeeded("sessions are resumed by tickets")),
    row("tls_sessions_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("tls_sessions_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row(
        "tls_versions",
        Text,
        "tls1_0 tls1_1 tls1_2 tls1_3",
        Honoured("`tls.versions`; older ones than 1.2 are not spoken, which is no loss"),
    ),
    row("tlscache_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("tlscache_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row(
        "uidl_format",
        Text,
        "cyrus",
        Honoured("`pop3.uidl`: `cyrus`, `cyrus-uidonly`, `cyrus-courier`, `dovecot`"),
    ),
    row(
        "umask",
        Number,
        "077",
        NotNeeded("files are for the server's own user alone, as with 077"),
    ),
    row(
        "unix_group_enable",
        Switch,
        "1",
        NotNeeded("groups are in the users file, not those of the system"),
    ),
    row(
        "unixhierarchysep",
        Switch,
        "1",
        Honoured("`listener.separator`: yes is `\"/\"`, no `\".\"`; of a service, too"),
    ),
    row(
        "userdeny_db",
        Text,
        "flat",
        Honoured(
            "the file's contents tell its form: flat, skiplist, twoskip or twom; others are refused",
        ),
    ),
    row(
        "userdeny_db_path",
        Text,
        "",
        Honoured("`auth.deny_file`; without it `user_deny.db` in `configdirectory`"),
    ),
    row("username_tolower", Switch, "1", Honoured("names are always in lower case; no is refused")),
    row("userprefix", Text, "Other Users", Honoured("`sharing.user_prefix`")),
    row("vcard_max_size", Number, "0", CALDAV_CARDDAV_JMAP_AND),
    row(
        "virtdomains",
        Text,
        "off",
        Honoured(
            "`off`: local parts alone are users, `lmtp.domains` is empty; `userid`: domains count. `yes` (by address of the connection) is refused",
        ),
    ),
    row(
        "virusscan_notification_subject",
        Text,
        "Automatically deleted mail",
        IT_IS_FOR_CYRVIRUSSCAN,
    ),
    row("virusscan_notification_template", Text, "", IT_IS_FOR_CYRVIRUSSCAN),
    row("websocket_timeout", Duration, "30m", CALDAV_CARDDAV_JMAP_AND),
    row(
        "xbackup_enabled",
        Switch,
        "0",
        Refused(
            "Cyrus's own backups are not served: take the line out; docs/backup.md says what is there",
        ),
    ),
    row("xlist-*", Text, "", Honoured("`store.new_mailbox.special_use`")),
    row("zoneinfo_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("zoneinfo_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row("zoneinfo_dir", Text, "", CALDAV_CARDDAV_JMAP_AND),
];
