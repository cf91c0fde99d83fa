//! Options of imapd.conf from p to r.

use super::{THERE_ARE_NO_DATABASES, row};
use crate::row::Fate::{Honoured, NotNeeded, NotServed, Refused};
use crate::row::Kind::{Duration, Number, Switch, Text};
use crate::row::{Fate, Row};

const CLUSTERS_MURDER_ARE_NOT: Fate =
    Refused("clusters (murder) are not served: take the line out, and serve these users here");
const NEW_USERS_GO_TO: Fate = NotServed(
    "new users go to `default_partition`; which other one is said by `partition=` in the users file",
);
const SIEVE_IS_NOT_SERVED: Fate =
    Refused("Sieve is not served: take the line out, and filter before delivery");
const THERE_ARE_NO_METRICS: Fate =
    Refused("there are no metrics by HTTP: `cursus --json status` has figures");
const GROUPS_AND_USERS_BY: Fate =
    Refused("groups and users by LDAP or PTS are not served: take the line out");
const QUOTAWARN_ALONE_DECIDES_ABOUT: Fate = NotServed("`quotawarn` alone decides about warnings");
const CYRUSS_OWN_BACKUPS_ARE: Fate = Refused(
    "Cyrus's own backups are not served: take the line out; docs/backup.md says what is there",
);
const CALDAV_CARDDAV_JMAP_AND: Fate =
    Refused("CalDAV, CardDAV, JMAP and what else speaks HTTP is not served: take the line out");

pub(super) const ROWS: &[Row] = &[
    row("*_password", Text, "", CLUSTERS_MURDER_ARE_NOT),
    row("partition-*", Text, "", Honoured("a `[[partition]]` with `layout = \"cyrus\"` for each")),
    row("partition_select_exclude", Text, "", NEW_USERS_GO_TO),
    row("partition_select_mode", Text, "freespace-most", NEW_USERS_GO_TO),
    row("partition_select_soft_usage_limit", Number, "0", NEW_USERS_GO_TO),
    row("partition_select_usage_reinit", Number, "0", NEW_USERS_GO_TO),
    row(
        "plaintextloginalert",
        Text,
        "",
        NotServed("nothing is said about plain logins: `plain_login = \"never\"` forbids them"),
    ),
    row("plaintextloginpause", Duration, "", NotServed("a login takes what it takes")),
    row("popexpiretime", Duration, "-1", Honoured("`pop3.expire_days`")),
    row("popminpoll", Duration, "", Honoured("`pop3.login_delay_seconds`")),
    row("poppollpadding", Number, "1", NotServed("each login counts for `popminpoll`")),
    row("popsubfolders", Switch, "0", Refused("POP3 has INBOX alone")),
    row(
        "poptimeout",
        Duration,
        "10m",
        Honoured("`limits.pop3_idle_seconds_max`, at least 10 minutes"),
    ),
    row("popuseacl", Switch, "0", NotServed("the owner may read and remove by POP3")),
    row(
        "popuseimapflags",
        Switch,
        "0",
        NotServed("POP3 does not change \\Seen, and shows what is marked \\Deleted"),
    ),
    row(
        "postmaster",
        Text,
        "postmaster",
        NotServed("only Sieve scripts would send mail, and they are not run"),
    ),
    row("postspec", Text, "", NotNeeded("nothing of Cyrus's looks at it")),
    row("postuser", Text, "", Honoured("`lmtp.post_user` and `sharing.shared_user`")),
    row("proc_path", Text, "", NotNeeded("the server is one process, with its locks in memory")),
    row("prometheus_enabled", Switch, "0", THERE_ARE_NO_METRICS),
    row("prometheus_need_auth", Text, "admin", THERE_ARE_NO_METRICS),
    row("prometheus_stats_dir", Text, "", THERE_ARE_NO_METRICS),
    row("prometheus_update_freq", Duration, "10s", THERE_ARE_NO_METRICS),
    row("proxy_authname", Text, "proxy", CLUSTERS_MURDER_ARE_NOT),
    row("proxy_compress", Switch, "0", CLUSTERS_MURDER_ARE_NOT),
    row("proxy_password", Text, "", CLUSTERS_MURDER_ARE_NOT),
    row("proxy_realm", Text, "", CLUSTERS_MURDER_ARE_NOT),
    row("proxyd_allow_status_referral", Switch, "0", CLUSTERS_MURDER_ARE_NOT),
    row("proxyd_disable_mailbox_referrals", Switch, "0", CLUSTERS_MURDER_ARE_NOT),
    row(
        "proxyservers",
        Text,
        "",
        Refused(
            "who may log in for others is said by `proxy=all` in the users file: give that to these users and take the line out",
        ),
    ),
    row("ptloader_sock", Text, "", GROUPS_AND_USERS_BY),
    row("pts_module", Text, "afskrb", GROUPS_AND_USERS_BY),
    row("ptscache_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("ptscache_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row("ptscache_timeout", Duration, "3h", GROUPS_AND_USERS_BY),
    row("ptskrb5_convert524", Switch, "1", GROUPS_AND_USERS_BY),
    row("ptskrb5_strip_default_realm", Switch, "1", GROUPS_AND_USERS_BY),
    row("qosmarking", Text, "cs0", NotServed("packets are not marked: a firewall can do that")),
    row("quota_db", Text, "quotalegacy", THERE_ARE_NO_DATABASES),
    row("quota_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row("quota_use_conversations", Switch, "0", NotNeeded("copies of a message count each")),
    row("quotawarn", Number, "90", Honoured("`imap.quota_warn_percent`")),
    row("quotawarnkb", Number, "0", QUOTAWARN_ALONE_DECIDES_ABOUT),
    row("quotawarnmsg", Number, "0", QUOTAWARN_ALONE_DECIDES_ABOUT),
    row(
        "readonly",
        Switch,
        "0",
        Refused(
            "nothing makes the whole server read-only; `read_only` in the users file does one user",
        ),
    ),
    row("reject8bit", Switch, "0", Refused("8-bit headers are taken by LMTP: set it to no")),
    row("restore_authname", Text, "", CYRUSS_OWN_BACKUPS_ARE),
    row("restore_password", Text, "", CYRUSS_OWN_BACKUPS_ARE),
    row("restore_realm", Text, "", CYRUSS_OWN_BACKUPS_ARE),
    row("reverseacls", Switch, "0", NotNeeded("who may see which mailbox is in memory")),
    row("reverseuniqueids", Switch, "1", NotNeeded("Cyrus does not read it any more")),
    row("rfc2046_strict", Switch, "0", NotServed("boundaries are compared as RFC 2046 has it")),
    row(
        "rfc2047_utf8",
        Switch,
        "0",
        NotNeeded("8-bit bytes in headers are taken as UTF-8 where they are"),
    ),
    row("rfc3028_strict", Switch, "1", SIEVE_IS_NOT_SERVED),
    row("rss_feedlist_template", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row("rss_feeds", Text, "*", CALDAV_CARDDAV_JMAP_AND),
    row("rss_maxage", Duration, "", CALDAV_CARDDAV_JMAP_AND),
    row("rss_maxitems", Number, "0", CALDAV_CARDDAV_JMAP_AND),
    row("rss_maxsynopsis", Number, "0", CALDAV_CARDDAV_JMAP_AND),
    row("rss_realm", Text, "", CALDAV_CARDDAV_JMAP_AND),
];
