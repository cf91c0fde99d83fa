//! Options of imapd.conf from a to b.

use super::{THERE_ARE_NO_DATABASES, row};
use crate::row::Fate::{Honoured, NotNeeded, NotServed, Refused};
use crate::row::Kind::{Duration, Number, Switch, Text};
use crate::row::{Fate, Row};

const GROUPS_AND_USERS_BY: Fate =
    Refused("groups and users by LDAP or PTS are not served: take the line out");
const SIEVE_IS_NOT_SERVED: Fate =
    Refused("Sieve is not served: take the line out, and filter before delivery");
const PUSH_BY_APPLES_SERVICE: Fate =
    Refused("push by Apple's service is not served: take the line out");
const A_PART_OF_ARCHIVEENABLED: Fate =
    NotServed("a part of archive_enabled, which is refused by itself");
const STORENEWMAILBOX_AT_THE_FIRST: Fate =
    Honoured("`store.new_mailbox`: at the first login or delivery, as INBOX is made");
const MORE_THAN_STOREQUOTABYTES_FOR: Fate = Honoured(
    "more than 0: `store.quota_bytes`, for all users without a quota of their own. INBOX is made at the first login or delivery whatever it says",
);
const MORE_THAN_STOREQUOTAMESSAGES_LIKEWISE: Fate =
    Honoured("more than 0: `store.quota_messages`, likewise");
const STORENEWMAILBOXSUBSCRIBE: Fate = Honoured("`store.new_mailbox.subscribe`");
const USERS_SUBSCRIBE_TO_SHARED: Fate = NotServed("users subscribe to shared mailboxes themselves");
const CYRUSS_OWN_BACKUPS_ARE: Fate = Refused(
    "Cyrus's own backups are not served: take the line out; docs/backup.md says what is there",
);

pub(super) const ROWS: &[Row] = &[
    row(
        "acl_admin_implies_write",
        Switch,
        "0",
        NotServed("the right `a` is the right to change the list, and nothing else"),
    ),
    row(
        "addressbookprefix",
        Text,
        "#addressbooks",
        Refused("CalDAV, CardDAV, JMAP and what else speaks HTTP is not served: take the line out"),
    ),
    row(
        "admins",
        Text,
        "",
        Honoured("`auth.admins`, with what the service `imap` has in `imap_admins`"),
    ),
    row("afspts_localrealms", Text, "", GROUPS_AND_USERS_BY),
    row("afspts_mycell", Text, "", GROUPS_AND_USERS_BY),
    row(
        "allowallsubscribe",
        Switch,
        "0",
        NotNeeded("names may be subscribed that do not exist, as RFC 3501 has it"),
    ),
    row(
        "allowanonymouslogin",
        Switch,
        "0",
        Honoured(
            "ANONYMOUS in `auth.mechanisms`, if sasl_mech_list is not set or has it, and `auth.anonymous_user = \"anonymous\"`",
        ),
    ),
    row("allowapop", Switch, "1", Honoured("`pop3.apop`")),
    row(
        "allowdeleted",
        Switch,
        "0",
        NotServed("what was expunged or deleted is brought back by `cursus restore`"),
    ),
    row("allownewnews", Switch, "0", Refused("news (NNTP) is not served: take the line out")),
    row(
        "allowplaintext",
        Switch,
        "0",
        Honoured("`listener.plain_login`: yes is `\"always\"`, no `\"never\"`; of a service, too"),
    ),
    row(
        "allowsetacl",
        Switch,
        "1",
        Refused("SETACL is there for whom has the right `a`: set it to yes"),
    ),
    row("allowusermoves", Switch, "0", NotServed("users are moved by `cursus`, not by RENAME")),
    row(
        "altnamespace",
        Switch,
        "1",
        Honoured("`listener.names`: yes is `\"alternate\"`, no `\"internal\"`; of a service, too"),
    ),
    row(
        "altprefix",
        Text,
        "Alt Folders",
        NotServed("names of mailboxes that look like INBOX are not told apart by a prefix"),
    ),
    row(
        "annotation_allow_undefined",
        Switch,
        "0",
        NotNeeded("entries of annotations need no definitions"),
    ),
    row(
        "annotation_callout",
        Text,
        "",
        Refused("no program is asked about messages: deliver through one that is"),
    ),
    row("annotation_callout_disable_append", Switch, "0", NotNeeded("no program is asked")),
    row("annotation_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("annotation_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row(
        "annotation_definitions",
        Text,
        "",
        NotServed("entries of annotations need no definitions: any may be set"),
    ),
    row(
        "annotation_enable_legacy_commands",
        Switch,
        "0",
        NotServed("GETANNOTATION and SETANNOTATION are not there: METADATA (RFC 5464) is"),
    ),
    row(
        "anyoneuseracl",
        Switch,
        "1",
        Refused("everybody may give rights to `anyone`: set it to yes"),
    ),
    row("anysievefolder", Switch, "0", SIEVE_IS_NOT_SERVED),
    row("aps_topic", Text, "", PUSH_BY_APPLES_SERVICE),
    row("aps_topic_caldav", Text, "", PUSH_BY_APPLES_SERVICE),
    row("aps_topic_carddav", Text, "", PUSH_BY_APPLES_SERVICE),
    row("archive_after", Duration, "7d", A_PART_OF_ARCHIVEENABLED),
    row("archive_days", Duration, "", A_PART_OF_ARCHIVEENABLED),
    row(
        "archive_enabled",
        Switch,
        "0",
        Refused(
            "messages are not moved to slower disks by age: `cursus takeover cyrus --from-archive` copies them back; then take the line out",
        ),
    ),
    row("archive_keepflagged", Switch, "0", A_PART_OF_ARCHIVEENABLED),
    row("archive_maxsize", Number, "1024", A_PART_OF_ARCHIVEENABLED),
    row(
        "archivepartition-*",
        Text,
        "",
        Refused(
            "messages in archive partitions are not served: `cursus takeover cyrus --from-archive` with the whole file copies them back; then take the line out",
        ),
    ),
    row("auditlog", Switch, "0", NotServed("`log.level` and CURSUS_LOG choose what is logged")),
    row("auth_mech", Text, "unix", Refused("groups are those of the users file: set it to unix")),
    row(
        "autocreate_acl",
        Text,
        "",
        Refused("new mailboxes have no lists of their own: set them by SETACL"),
    ),
    row("autocreate_inbox_folders", Text, "", STORENEWMAILBOX_AT_THE_FIRST),
    row(
        "autocreate_post",
        Switch,
        "0",
        NotNeeded("the INBOX of somebody who has an account is always made by a delivery"),
    ),
    row("autocreate_quota", Number, "-1", MORE_THAN_STOREQUOTABYTES_FOR),
    row("autocreate_quota_messages", Number, "-1", MORE_THAN_STOREQUOTAMESSAGES_LIKEWISE),
    row("autocreate_sieve_compiled_script", Text, "", SIEVE_IS_NOT_SERVED),
    row("autocreate_sieve_folders", Text, "", SIEVE_IS_NOT_SERVED),
    row("autocreate_sieve_script", Text, "", SIEVE_IS_NOT_SERVED),
    row("autocreate_sieve_script_compile", Switch, "0", SIEVE_IS_NOT_SERVED),
    row("autocreate_sieve_script_compiled", Text, "", SIEVE_IS_NOT_SERVED),
    row("autocreate_subscribe_folders", Text, "", STORENEWMAILBOXSUBSCRIBE),
    row("autocreate_subscribe_sharedfolders", Text, "", USERS_SUBSCRIBE_TO_SHARED),
    row("autocreate_subscribe_sharedfolders_all", Switch, "0", USERS_SUBSCRIBE_TO_SHARED),
    row(
        "autocreate_users",
        Text,
        "anyone",
        Refused("who has an account has an INBOX: set it to anyone"),
    ),
    row("autocreateinboxfolders", Text, "", STORENEWMAILBOX_AT_THE_FIRST),
    row("autocreatequota", Number, "0", MORE_THAN_STOREQUOTABYTES_FOR),
    row("autocreatequotamsg", Number, "-1", MORE_THAN_STOREQUOTAMESSAGES_LIKEWISE),
    row(
        "autoexpunge",
        Switch,
        "0",
        Refused("messages are expunged when a client says so: set it to no"),
    ),
    row("autosievefolders", Text, "", SIEVE_IS_NOT_SERVED),
    row("autosubscribe_all_sharedfolders", Switch, "0", USERS_SUBSCRIBE_TO_SHARED),
    row("autosubscribeinboxfolders", Text, "", STORENEWMAILBOXSUBSCRIBE),
    row("autosubscribesharedfolders", Text, "", USERS_SUBSCRIBE_TO_SHARED),
    row("backup_compact_maxsize", Number, "0", CYRUSS_OWN_BACKUPS_ARE),
    row("backup_compact_minsize", Number, "0", CYRUSS_OWN_BACKUPS_ARE),
    row("backup_compact_work_threshold", Number, "1", CYRUSS_OWN_BACKUPS_ARE),
    row("backup_db", Text, "twoskip", THERE_ARE_NO_DATABASES),
    row("backup_db_path", Text, "", THERE_ARE_NO_DATABASES),
    row("backup_keep_previous", Switch, "0", CYRUSS_OWN_BACKUPS_ARE),
    row("backup_retention", Duration, "7d", CYRUSS_OWN_BACKUPS_ARE),
    row("backup_retention_days", Duration, "", CYRUSS_OWN_BACKUPS_ARE),
    row("backup_staging_path", Text, "", CYRUSS_OWN_BACKUPS_ARE),
    row("backuppartition-*", Text, "", CYRUSS_OWN_BACKUPS_ARE),
    row(
        "boundary_limit",
        Number,
        "1000",
        NotNeeded("headers and MIME parts are bounded by themselves: docs/configuration.md"),
    ),
];
