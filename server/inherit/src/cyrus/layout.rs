//! Where messages are, how mailboxes are called, and what sessions and deliveries do with them.

use toml::Value;

use super::Reading;
use super::accounts::{list, whole};
use super::conf::words;
use crate::draft::Set;

pub(super) fn map(reading: &mut Reading<'_>) {
    partitions(reading);
    new_mailboxes(reading);
    quotas(reading);
    times(reading);
    let Reading { conf, draft, .. } = reading;
    for (option, key) in [
        ("userprefix", "sharing.user_prefix"),
        ("sharedprefix", "sharing.shared_prefix"),
        ("lmtp_catchall_mailbox", "lmtp.catch_all"),
        ("postuser", "lmtp.post_user"),
        ("postuser", "sharing.shared_user"),
    ] {
        if let Some(set) = conf.get(option) {
            draft.set(key, set.value.as_str(), set);
        }
    }
    if let Some(set) = conf.get("configdirectory") {
        let below = |name: &str| format!("{}/{name}", set.value.trim_end_matches('/'));
        draft.set("announce.dir", below("msg"), set);
        draft.set("telemetry.dir", below("log"), set);
    }
    let list_of_new = conf.get("defaultacl");
    let text = list_of_new.map_or("anyone lrs", |set| set.value.as_str());
    let pairs: Vec<&str> = text.split_whitespace().collect();
    let entries: Vec<String> = pairs.chunks_exact(2).map(|pair| pair.join(" ")).collect();
    draft.set_or_imply("sharing.default_acl", list(&entries), list_of_new, "Cyrus: defaultacl");
    let protect = conf.get("specialuse_protect");
    let usual = ["\\Archive", "\\Drafts", "\\Important", "\\Junk", "\\Sent", "\\Trash"];
    let uses = protect.map_or_else(|| usual.map(str::to_owned).to_vec(), |set| words(Some(set)));
    draft.set_or_imply(
        "imap.protected_special_uses",
        list(&uses),
        protect,
        "Cyrus: specialuse_protect",
    );
    if let Some(set) = conf.get("crossdomains") {
        let on = conf.switch(Some(set), false, draft);
        draft.set("sharing.cross_domains", on, set);
    }
    if let Some(set) = conf.get("suppress_capabilities") {
        draft.set("imap.suppress_capabilities", list(&words(Some(set))), set);
    }
    let apop = conf.get("allowapop");
    let on = conf.switch(apop, true, draft);
    draft.set_or_imply("pop3.apop", on, apop, "Cyrus: allowapop");
    let form = conf.get("uidl_format");
    let name = match form.map(|set| (set.value.as_str(), set)) {
        None | Some(("cyrus", _)) => "cyrus",
        Some(("uidonly", _)) => "cyrus-uidonly",
        Some(("courier", _)) => "cyrus-courier",
        Some(("dovecot", _)) => "dovecot",
        Some((_, set)) => {
            draft.refuse(set, "expected uidonly, cyrus, dovecot or courier");
            "cyrus"
        }
    };
    draft.set_or_imply("pop3.uidl", name, form, "Cyrus: uidl_format");
    let engine = conf.get("search_engine");
    if let Some(set) = engine {
        match set.value.as_str() {
            "none" => draft.set("search.index", "off", set),
            "squat" | "xapian" => draft.set("search.index", "all", set),
            _ => draft.refuse(set, "expected none, squat or xapian"),
        }
    }
    if let Some(set) = conf.get("debug")
        && conf.switch(Some(set), false, draft)
    {
        draft.set("log.level", "debug", set);
    }
    let permanent = conf.get("lmtp_over_quota_perm_failure");
    let word = if conf.switch(permanent, false, draft) { "permanent" } else { "temporary" };
    let what = "Cyrus: lmtp_over_quota_perm_failure";
    draft.set_or_imply("lmtp.over_quota", word, permanent, what);
    draft.imply("lmtp.detail", "post", "Cyrus: a detail needs the right p of anyone");
}

fn partitions(reading: &mut Reading<'_>) {
    let Reading { conf, draft, .. } = reading;
    let hashed = conf.get("hashimapspool");
    let full = conf.get("fulldirhash");
    let is_hashed = conf.switch(hashed, false, draft);
    let (spread, by) = match (is_hashed, conf.switch(full, false, draft)) {
        (true, true) => ("full", full),
        (true, false) => ("first", hashed),
        (false, _) => ("none", hashed),
    };
    let mut seen: Vec<&str> = Vec::new();
    let named = |set: &'_ Set| set.name.starts_with("partition-");
    for set in conf.all.iter().filter(|set| named(set)) {
        let name = set.name.strip_prefix("partition-").unwrap_or_default();
        // Of two, the last one counts.
        let last = conf.get(&set.name);
        if seen.contains(&name) || last.is_none() {
            continue;
        }
        let at = format!("partition[{}]", seen.len());
        seen.push(name);
        let set = last.unwrap_or(set);
        draft.set(&format!("{at}.name"), name, set);
        draft.set(&format!("{at}.path"), set.value.as_str(), set);
        draft.set(&format!("{at}.layout"), "cyrus", set);
        draft.set_or_imply(&format!("{at}.spread"), spread, by, "Cyrus: hashimapspool");
    }
    match (conf.get("defaultpartition"), seen.as_slice()) {
        (Some(set), _) => draft.set("default_partition", set.value.as_str(), set),
        (None, [one]) => draft.imply("default_partition", *one, "Cyrus: the only partition"),
        (None, _) => {}
    }
}

/// Cyrus's names of special uses: as they are in IMAP, but for the backslash.
const USES: [(&str, &str); 8] = [
    ("all", "\\All"),
    ("archive", "\\Archive"),
    ("drafts", "\\Drafts"),
    ("flagged", "\\Flagged"),
    ("important", "\\Important"),
    ("junk", "\\Junk"),
    ("sent", "\\Sent"),
    ("trash", "\\Trash"),
];

fn new_mailboxes(reading: &mut Reading<'_>) {
    let Reading { conf, draft, .. } = reading;
    let Some(folders) = conf.either("autocreate_inbox_folders", "autocreateinboxfolders") else {
        return;
    };
    let slashes = conf.get("unixhierarchysep");
    let slashes = conf.switch(slashes, true, draft);
    let names = |set: Option<&Set>| -> Vec<String> {
        let text = set.map_or("", |set| &set.value);
        let one = |name: &str| match slashes {
            true => name.trim().to_owned(),
            false => name.trim().replace('.', "/").replace('^', "."),
        };
        text.split('|').map(one).filter(|name| !name.is_empty()).collect()
    };
    let subscribed = conf.either("autocreate_subscribe_folders", "autosubscribeinboxfolders");
    let subscribed_names = names(subscribed);
    let special = |name: &str| {
        let is_for = |set: &&Set| set.name.starts_with("xlist-") && names(Some(set)) == [name];
        conf.all.iter().find(is_for)
    };
    for (i, name) in names(Some(folders)).iter().enumerate() {
        let key = |field: &str| format!("store.new_mailbox[{i}].{field}");
        draft.set(&key("name"), name.as_str(), folders);
        if let Some(set) = subscribed.filter(|_| subscribed_names.contains(name)) {
            draft.set(&key("subscribe"), true, set);
        }
        if let Some(set) = special(name) {
            let word = set.name.strip_prefix("xlist-").unwrap_or_default();
            match USES.iter().find(|(one, _)| *one == word) {
                Some((_, name)) => draft.set(&key("special_use"), *name, set),
                None => draft.not_served(set, "there is no such special use"),
            }
        }
    }
}

fn quotas(reading: &mut Reading<'_>) {
    let Reading { conf, draft, .. } = reading;
    if let Some(set) = conf.either("autocreate_quota", "autocreatequota")
        && let Some(kilobytes) = conf.number(Some(set), draft).filter(|n| *n > 0)
    {
        draft.set("store.quota_bytes", kilobytes.saturating_mul(1024), set);
    }
    if let Some(set) = conf.either("autocreate_quota_messages", "autocreatequotamsg")
        && let Some(messages) = conf.number(Some(set), draft).filter(|n| *n > 0)
    {
        draft.set("store.quota_messages", messages, set);
    }
    let warn = conf.get("quotawarn");
    let percent = conf.number(warn, draft).unwrap_or(90);
    // Above all: never.
    let percent = if (1..=100).contains(&percent) { percent } else { 0 };
    draft.set_or_imply("imap.quota_warn_percent", percent, warn, "Cyrus: quotawarn");
}

fn times(reading: &mut Reading<'_>) {
    let Reading { conf, draft, .. } = reading;
    let (timeout, idle) = (conf.get("timeout"), conf.get("imapidletimeout"));
    let seconds = conf.seconds(timeout, 60, draft).unwrap_or(32 * 60).max(30 * 60);
    let waiting = conf.seconds(idle, 60, draft).unwrap_or(0);
    let by = if waiting > seconds { idle } else { timeout };
    let key = "limits.imap_idle_seconds_max";
    draft.set_or_imply(key, whole(seconds.max(waiting)), by, "Cyrus: timeout");
    let timeout = conf.get("poptimeout");
    let seconds = conf.seconds(timeout, 60, draft).unwrap_or(600).max(600);
    let key = "limits.pop3_idle_seconds_max";
    draft.set_or_imply(key, whole(seconds), timeout, "Cyrus: poptimeout");
    if let Some(set) = conf.get("popminpoll") {
        let seconds = conf.seconds(Some(set), 60, draft).unwrap_or(0);
        draft.set("pop3.login_delay_seconds", whole(seconds), set);
    }
    if let Some(set) = conf.get("popexpiretime")
        && let Some(seconds) = conf.seconds(Some(set), 86400, draft)
    {
        draft.set("pop3.expire_days", whole(seconds / 86400).min(i64::from(u32::MAX)), set);
    }
    if let Some(set) = conf.get("maxmessagesize")
        && let Some(bytes) = conf.number(Some(set), draft)
    {
        let all = i64::from(u32::MAX);
        let bytes = if bytes <= 0 { all } else { bytes.min(all) };
        draft.set("limits.message_bytes_max", Value::from(bytes), set);
    }
}
