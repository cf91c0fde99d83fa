//! Into the user's Maildir, where no server runs: by `tmp/`, as any other program delivers. The
//! server finds the message when it is there again.
//!
//! Only where the Maildir is there already and one layout says where: whom the accounts don't know,
//! and whose mail isn't in a Maildir, waits for the server. Limits are not looked at: nobody keeps
//! count meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use admin::accounts;
use auth::{Account, UserName};
use config::{Config, Detail};
use engine::layout::LayoutKind;

use super::message::Message;
use super::{Reason, Recipient, Refused};

/// Delivers to everybody, or says who didn't get it.
pub(super) fn deliver(
    config: &Config,
    recipients: &[Recipient],
    message: &Message,
) -> Result<(), Vec<Refused>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let chain = accounts::open(config);
    let (runtime, chain) = match (runtime, chain) {
        (Ok(runtime), Ok(chain)) => (runtime, chain),
        (Err(error), _) => return Err(vec![Refused::temporary(error)]),
        (_, Err(error)) => return Err(vec![Refused::temporary(error)]),
    };
    let mut refused = Vec::new();
    for recipient in recipients {
        let account = match runtime.block_on(account(config, &chain, recipient)) {
            Ok(account) => account,
            Err(reason) => {
                refused.push(reason);
                continue;
            }
        };
        match place(config, &account, recipient) {
            None => refused.push(Refused::temporary(format!(
                "no server runs, and {} has no Maildir yet",
                account.name
            ))),
            Some(dir) => {
                if let Err(error) = store(&dir, &account.name, message) {
                    refused.push(Refused::temporary(format!("{}: {error}", dir.display())));
                }
            }
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(refused) }
}

/// The account: by the whole address, then by its local part where the domain is ours.
async fn account(
    config: &Config,
    chain: &auth::backends::Chain,
    recipient: &Recipient,
) -> Result<Account, Refused> {
    use auth::directory::UserDb as _;
    let named = recipient.user.as_str();
    let alone = named.rsplit_once('@').filter(|(_, domain)| {
        let domains = &config.lmtp.domains;
        domains.is_empty() || domains.iter().any(|d| d.eq_ignore_ascii_case(domain))
    });
    for name in std::iter::once(named).chain(alone.map(|(local, _)| local)) {
        let Ok(name) = UserName::new(name) else { continue };
        match chain.lookup(&name).await {
            Ok(Some(account)) => return Ok(account),
            Ok(None) => {}
            Err(error) => return Err(Refused::temporary(error)),
        }
    }
    // Details, catch-alls and shared mailboxes are the server's affair.
    let separator = config.lmtp.detail_separator;
    let odd = named.contains(separator)
        || !config.lmtp.catch_all.is_empty()
        || !config.lmtp.post_user.is_empty();
    Err(match odd {
        true => Refused::temporary(format!("no server runs to say who {named} is")),
        false => Refused { reason: Reason::Unknown, text: format!("5.1.1 no such user: {named}") },
    })
}

/// The directory of the mailbox, else of INBOX; `None` if it is not certain.
fn place(config: &Config, account: &Account, recipient: &Recipient) -> Option<PathBuf> {
    let user = account.name.as_str();
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let partitions = admin::store::store_config(config, &hostname).partitions;
    let is_maildir = |dir: &PathBuf| ["tmp", "new", "cur"].iter().all(|d| dir.join(d).is_dir());
    let maildir = |p: &&engine::Partition| p.layout.kind() == LayoutKind::Maildir;
    let of = |p: &engine::Partition, mailbox: &str| {
        p.layout.mailbox_dir(&p.path, user, mailbox).ok().filter(is_maildir)
    };
    let found: Vec<_> =
        partitions.iter().filter(maildir).filter_map(|p| Some((p, of(p, "INBOX")?))).collect();
    let [(partition, inbox)] = found.as_slice() else { return None };
    let detail = recipient.mailbox.as_deref().filter(|_| config.lmtp.detail == Detail::Mailbox);
    let folder = detail.and_then(|mailbox| of(partition, mailbox));
    Some(folder.unwrap_or_else(|| inbox.clone()))
}

/// Durably, as maildir(5) has it.
fn store(dir: &Path, user: &UserName, message: &Message) -> io::Result<()> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = host.replace('/', "\\057").replace(':', "\\072");
    let random = {
        let mut bytes = [0u8; 8];
        File::open("/dev/urandom")
            .and_then(|mut file| io::Read::read_exact(&mut file, &mut bytes))?;
        u64::from_ne_bytes(bytes)
    };
    let (seconds, micros, pid) = (now.as_secs(), now.subsec_micros(), std::process::id());
    let name = format!("{seconds}.M{micros}P{pid}R{random:016x}.{host}");
    let (tmp, new) = (dir.join("tmp").join(&name), dir.join("new").join(&name));
    let mut text =
        format!("Return-Path: <{}>\nDelivered-To: {user}\n", message.sender).into_bytes();
    for line in message.lines() {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp)?;
    let written = file.write_all(&text).and_then(|()| {
        // Root delivers for whoever has the Maildir.
        if rustix::process::geteuid().is_root() {
            let owner = fs::metadata(dir)?;
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(&tmp, &new));
    if let Err(error) = placed {
        // What stays in tmp is nobody's message.
        let _ = fs::remove_file(&tmp);
        return Err(error);
    }
    File::open(dir.join("new"))?.sync_all()
}
