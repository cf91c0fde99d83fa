//! Compares what indexes say with what directories hold. Changes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layout::{LayoutKind, Location};
use crate::mailbox::Mailbox;
use crate::mailbox::apply::scan_file;
use crate::shared::Shared;

/// What a check saw.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct CheckReport {
    /// Mailboxes looked at.
    pub mailboxes: u64,
    /// Messages looked at.
    pub messages: u64,
    /// What is not as it should be, a line each.
    pub findings: Vec<String>,
}

/// Checks the mailboxes of one user or of all.
pub(super) fn check(shared: &Arc<Shared>, user: Option<&str>) -> Result<CheckReport> {
    let users = match user {
        Some(user) => vec![user.to_owned()],
        None => shared.all_users()?,
    };
    let mut report = CheckReport::default();
    for name in users {
        let user = shared.known_user(&name)?;
        let namespace = user.namespace.load_full();
        for mailbox_name in namespace.mailboxes.keys() {
            report.mailboxes += 1;
            let shown = format!("{name} {mailbox_name}");
            match user.open(mailbox_name) {
                Ok(mailbox) => {
                    let adopted = namespace.mailboxes[mailbox_name].adopted.as_ref();
                    let kept = adopted.map_or(0, |adopted| adopted.uid_next);
                    check_mailbox(shared, &shown, &mailbox, kept, &mut report)?;
                }
                Err(error) => report.findings.push(format!("{shown}: {error}")),
            }
        }
    }
    Ok(report)
}

/// Files of UIDs below `kept` may be of messages that another server expunged, and keeps.
fn check_mailbox(
    shared: &Shared,
    shown: &str,
    mailbox: &Mailbox,
    kept: u32,
    report: &mut CheckReport,
) -> Result<()> {
    let files = mailbox.0.files.lock();
    let place = mailbox.0.place.read().clone();
    let layout = &place.partition.layout;
    let mut on_disk: HashMap<Vec<u8>, Location> = HashMap::new();
    let key = |at: &Location| match layout.kind() {
        LayoutKind::Maildir => at.base.clone(),
        LayoutKind::Cyrus => at.uid.0.to_be_bytes().to_vec(),
    };
    let storage = &*shared.storage;
    layout
        .list(storage, &place.dir, false, &mut |found| {
            on_disk.insert(key(&found), found);
        })
        .map_err(Error::io("list", &place.dir))?;
    let mut finding = |text: String| report.findings.push(format!("{shown}: {text}"));
    let (mut unseen, mut bytes, mut last) = (0, 0, 0);
    for position in 0..files.head.count {
        let record = files.record(position);
        let uid = record.uid.0;
        if uid <= last {
            finding(format!("UID {uid} follows {last}"));
        }
        last = uid;
        if record.uid >= files.head.uid_next {
            finding(format!("UID {uid} is not below UIDNEXT {}", files.head.uid_next));
        }
        let Some(at) = files.location(position) else {
            finding(format!("UID {uid}: facts or name are damaged"));
            continue;
        };
        let found = on_disk.remove(&key(&at));
        if files.is_tombstone(position) {
            let doomed = mailbox.0.doomed.lock().contains(&record.uid);
            if found.is_some() && !doomed {
                finding(format!("UID {uid} is expunged and its file is still there"));
            }
            continue;
        }
        report.messages += 1;
        unseen += u32::from(!record.flags.contains(protocol::types::SystemFlags::SEEN));
        bytes += u64::from(record.size);
        let Some(found) = found else {
            finding(format!("UID {uid}: its file is missing"));
            continue;
        };
        let path = layout.path(&place.dir, &found);
        let facts = files.facts(position);
        match scan_file(storage, &path, layout.kind()) {
            Err(error) => finding(format!("UID {uid}: {error}")),
            Ok(scanned) => {
                if facts.is_none_or(|f| f.content_id != scanned.content_id) {
                    finding(format!("UID {uid}: content differs from its id"));
                }
                if scanned.size != record.size {
                    let (has, says) = (scanned.size, record.size);
                    finding(format!("UID {uid}: {has} octets, the index says {says}"));
                }
            }
        }
    }
    if (unseen, bytes) != (files.head.unseen, files.head.bytes) {
        finding("header counts differ from the records".into());
    }
    for found in on_disk.into_values() {
        let path = layout.path(&place.dir, &found);
        match layout.kind() {
            // Delivered by another program and not yet taken in.
            LayoutKind::Maildir => {}
            LayoutKind::Cyrus if found.uid.0 < kept => {}
            LayoutKind::Cyrus => finding(format!("{} is in no index", path.display())),
        }
    }
    Ok(())
}
