//! Options of imapd.conf from c to h.

use super::{THERE_ARE_NO_DATABASES, row};
use crate::row::Fate::{Honoured, NotNeeded, NotServed, Refused};
use crate::row::Kind::{Duration, Number, Switch, Text};
use crate::row::{Fate, Row};

const CALDAV_CARDDAV_JMAP_AND: Fate =
    Refused("CalDAV, CardDAV, JMAP and what else speaks HTTP is not served: take the line out");
const OBJECT_STORAGE_IS_NOT: Fate =
    Refused("object storage is not served: move the messages back, and take the line out");
const CLUSTERS_MURDER_ARE_NOT: Fate =
    Refused("clusters (murder) are not served: take the line out, and serve these users here");
const A_PART_OF_CONVERSATIONS: Fate =
    NotServed("a part of conversations, which are refused by themselves");
const THE_USER_IS_THAT: Fate =
    NotNeeded("the user is that of the unit (`User=`), who has to own the partitions");
const NO_DEBUGGER_IS_STARTED: Fate = NotServed("no debugger is started by the server");
const A_PART_OF_NOTIFICATIONS: Fate =
    NotServed("a part of notifications (event_notifier), which are refused by themselves");

pub(super) const ROWS: &[Row] = &[
    row("caldav_accept_invalid_rrules", Switch, "0", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_allowattach", Switch, "1", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_allowcalendaradmin", Switch, "0", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_allowscheduling", Text, "on", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_create_attach", Switch, "1", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_create_default", Switch, "1", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_create_sched", Switch, "1", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_historical_age", Duration, "7d", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_maxdatetime", Text, "20380119T031407Z", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_mindatetime", Text, "19011213T204552Z", CALDAV_CARDDAV_JMAP_AND),
    row("caldav_realm", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row(
        "calendar_component_set",
        Text,
        "VEVENT VTODO VJOURNAL VFREEBUSY VAVAILABILITY VPOLL",
        CALDAV_CARDDAV_JMAP_AND,
    ),
    row("calendar_default_displayname", Text, "personal", CALDAV_CARDDAV_JMAP_AND),
    row("calendar_user_address_set", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row("calendarprefix", Text, "#calendars", CALDAV_CARDDAV_JMAP_AND),
    row("carddav_allowaddmember", Switch, "0", CALDAV_CARDDAV_JMAP_AND),
    row("carddav_allowaddressbookadmin", Switch, "0", CALDAV_CARDDAV_JMAP_AND),
    row("carddav_realm", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row("carddav_repair_vcard", Switch, "0", CALDAV_CARDDAV_JMAP_AND),
    row("caringo_hostname", Text, "", OBJECT_STORAGE_IS_NOT),
    row("caringo_port", Number, "80", OBJECT_STORAGE_IS_NOT),
    row("chatty", Switch, "0", NotServed("`log.level` and CURSUS_LOG choose what is logged")),
    row("client_bind", Switch, "0", CLUSTERS_MURDER_ARE_NOT),
    row("client_bind_name", Text, "", CLUSTERS_MURDER_ARE_NOT),
    row("client_timeout", Duration, "10s", CLUSTERS_MURDER_ARE_NOT),
    row(
        "commandmintimer",
        Text,
        "",
        NotServed("`CURSUS_LOG=cursus::stalls=debug` names slow commands"),
    ),
    row(
        "configdirectory",
        Text,
        "",
        Honoured(
            "where `lmtpsocket` and what takeover reads is by default; `announce.dir` is its `msg` \
             (`motd`, `shutdown`, `shutdown.imap` …), `telemetry.dir` its `log`; our own state is in \
             `state_dir`",
        ),
    ),
    row("conversations", Switch, "0", Refused("conversations are not there: THREAD is")),
    row("conversations_counted_flags", Text, "", A_PART_OF_CONVERSATIONS),
    row("conversations_db", Text, "skiplist", THERE_ARE_NO_DATABASES),
    row("conversations_expire_after", Duration, "90d", A_PART_OF_CONVERSATIONS),
    row("conversations_expire_days", Duration, "", A_PART_OF_CONVERSATIONS),
    row("conversations_keep_existing", Switch, "1", A_PART_OF_CONVERSATIONS),
    row("conversations_max_guidexists", Number, "100", A_PART_OF_CONVERSATIONS),
    row("conversations_max_guidinfolder", Number, "10", A_PART_OF_CONVERSATIONS),
    row("conversations_max_guidrecords", Number, "5000", A_PART_OF_CONVERSATIONS),
    row("conversations_max_thread", Number, "100", A_PART_OF_CONVERSATIONS),
    row(
        "createonpost",
        Switch,
        "0",
        NotNeeded("the INBOX of somebody who has an account is always made by a delivery"),
    ),
    row("crossdomains", Switch, "0", Honoured("`sharing.cross_domains`")),
    row(
        "crossdomains_onlyother",
        Switch,
        "0",
        NotServed("users of other domains are told with their domains, those of the own one too"),
    ),
    row("cyrus_group", Text, "", THE_USER_IS_THAT),
    row("cyrus_user", Text, "", THE_USER_IS_THAT),
    row("dav_lock_timeout", Duration, "20s", CALDAV_CARDDAV_JMAP_AND),
    row("dav_realm", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row("davdriveprefix", Text, "#drive", CALDAV_CARDDAV_JMAP_AND),
    row("davnotificationsprefix", Text, "#notifications", CALDAV_CARDDAV_JMAP_AND),
    row("debug", Switch, "0", Honoured("`log.level = \"debug\"`")),
    row("debug_command", Text, "", NO_DEBUGGER_IS_STARTED),
    row("debug_writefail_guid", Text, "", NO_DEBUGGER_IS_STARTED),
    row("defaultacl", Text, "anyone lrs", Honoured("`sharing.default_acl`")),
    row(
        "defaultdomain",
        Text,
        "internal",
        Honoured("with `virtdomains`: `auth.bare_domain` and `lmtp.domains`"),
    ),
    row("defaultpartition", Text, "", Honoured("`default_partition`")),
    row("defaultsearchtier", Text, "", NotNeeded("full-text indexes are in `search.index_dir`")),
    row("defaultserver", Text, "", CLUSTERS_MURDER_ARE_NOT),
    row(
        "delete_mode",
        Text,
        "delayed",
        NotServed("a deleted mailbox is gone; an archive brings it back: docs/backup.md"),
    ),
    row(
        "delete_unsubscribe",
        Switch,
        "0",
        NotServed("subscriptions stay when a mailbox is deleted, as RFC 3501 has it"),
    ),
    row("deletedprefix", Text, "DELETED", NotServed("there is no hierarchy of deleted mailboxes")),
    row(
        "deleteright",
        Text,
        "c",
        NotNeeded("rights of RFC 2086 are taken as those of RFC 4314 that stand for them"),
    ),
    row(
        "disable_shared_namespace",
        Switch,
        "0",
        Refused("shared mailboxes are listed to whom they let look (`l`)"),
    ),
    row(
        "disable_user_namespace",
        Switch,
        "0",
        Refused(
            "what others share is listed: `disableshared` in the users file hides it from one user",
        ),
    ),
    row(
        "disconnect_on_vanished_mailbox",
        Switch,
        "0",
        NotNeeded("a session whose mailbox is gone is told so (RFC 7162 sees it emptied)"),
    ),
    row("duplicate_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("duplicate_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row(
        "duplicatesuppression",
        Switch,
        "1",
        NotServed("a message that comes twice is stored twice"),
    ),
    row("event_content_inclusion_mode", Text, "standard", A_PART_OF_NOTIFICATIONS),
    row("event_content_size", Number, "0", A_PART_OF_NOTIFICATIONS),
    row("event_exclude_flags", Text, "", A_PART_OF_NOTIFICATIONS),
    row("event_exclude_specialuse", Text, "\\Junk", A_PART_OF_NOTIFICATIONS),
    row("event_extra_params", Text, "timestamp", A_PART_OF_NOTIFICATIONS),
    row("event_groups", Text, "message mailbox", A_PART_OF_NOTIFICATIONS),
    row(
        "event_notifier",
        Text,
        "",
        Refused("notifications by notifyd are not served: take the line out"),
    ),
    row(
        "expunge_mode",
        Text,
        "delayed",
        NotServed("an expunged message is gone; an archive brings it back: docs/backup.md"),
    ),
    row("failedloginpause", Duration, "3s", Honoured("`auth.failure_delay_first_seconds`")),
    row(
        "fastmailsharing",
        Switch,
        "0",
        Refused("names of others are those of Cyrus: `listener.names`"),
    ),
    row("flushseenstate", Switch, "1", NotNeeded("Cyrus does not read it any more")),
    row("foolstupidclients", Switch, "0", NotServed("LIST * lists what is asked for")),
    row("force_sasl_client_mech", Text, "", CLUSTERS_MURDER_ARE_NOT),
    row("fulldirhash", Switch, "0", Honoured("with hashimapspool: `partition.spread = \"full\"`")),
    row(
        "generate_compiled_sieve_script",
        Switch,
        "0",
        Refused("Sieve is not served: take the line out, and filter before delivery"),
    ),
    row(
        "hashimapspool",
        Switch,
        "0",
        Honoured("`partition.spread`: yes `\"first\"`, no `\"none\"`"),
    ),
    row("http_h2_altsvc", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row("http_jwt_key_dir", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row("http_jwt_max_age", Duration, "0s", CALDAV_CARDDAV_JMAP_AND),
    row("httpallowcompress", Switch, "1", CALDAV_CARDDAV_JMAP_AND),
    row("httpallowcors", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row("httpallowedurls", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row("httpallowtrace", Switch, "0", CALDAV_CARDDAV_JMAP_AND),
    row("httpcontentmd5", Switch, "0", CALDAV_CARDDAV_JMAP_AND),
    row("httpdocroot", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row("httpkeepalive", Duration, "20s", CALDAV_CARDDAV_JMAP_AND),
    row("httplogheaders", Text, "", CALDAV_CARDDAV_JMAP_AND),
    row(
        "httpmodules",
        Text,
        "",
        NotServed("CalDAV, CardDAV and what else speaks HTTP is not served"),
    ),
    row("httpprettytelemetry", Switch, "0", CALDAV_CARDDAV_JMAP_AND),
    row("httptimeout", Duration, "5m", CALDAV_CARDDAV_JMAP_AND),
];
