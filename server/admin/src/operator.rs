//! Doing a request on an open store. The server does so for its admin socket, the operator's
//! command for itself when no server runs.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use auth::UserName;
use auth::directory::UserDb;
use config::Config;
use engine::archive::{BackupOptions, BackupProgress};
use engine::io::Lane;
use engine::{
    AnnotationValue, Delivery, Error, Moment, ScrubOptions, ScrubReport, SpecialUse, Store, Target,
    User, UserToAdopt,
};
use protocol::types::{Keyword, SystemFlags, Uid, UidValidity};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::exchange::Turns;
use crate::store;
use crate::wire::{
    ANNOTATIONS_BYTES_MAX, Failure, FailureCode, ImportAnnotation, ImportMessage, IndexAction,
    IndexLine, MailboxLine, QuotaLine, Reply, Request, Status,
};

/// Read from a message's source at once.
const BODY_CHUNK_BYTES: usize = 64 * 1024;

/// An open store and who may have mail in it.
pub struct Operator {
    /// The store.
    pub store: Store,
    /// How message files are written.
    pub lane: Lane,
    /// Who exists.
    pub users: Arc<dyn UserDb>,
    /// What users have whose accounts do not say.
    pub config: Arc<Config>,
    /// The backup that runs, if one does.
    pub backup: RunningBackup,
    /// Imports that are made only if nothing has changed.
    pub turns: Turns,
}

/// The backup that runs, if one does.
pub type RunningBackup = Mutex<Option<Arc<BackupProgress>>>;

impl Operator {
    /// Does `request`, reading what follows it from `body`.
    ///
    /// # Errors
    /// [`FailureCode::NeedsServer`] for what only a server can do; it handles these before it asks
    /// here. The messages of an import are read from `body` to their end in any case.
    pub async fn perform(
        &self,
        request: Request,
        body: &mut (dyn AsyncRead + Unpin),
    ) -> Result<Reply, Failure> {
        match request {
            Request::Status => Ok(Reply::Status(Box::new(self.status()))),
            Request::Mailboxes { user } => {
                let names = self.names(user.as_deref()).await?;
                let lines = self.mailboxes(&names, user.as_deref()).await?;
                Ok(Reply::Mailboxes(lines))
            }
            Request::MailboxesChanged { since, also } => self.mailboxes_changed(since, also).await,
            Request::MailboxCreate { user, name, special_use } => {
                let uses = special_use.iter().map(|u| special(u)).collect::<Result<Vec<_>, _>>()?;
                self.user(&user).await?.create(&name, &uses).await.map_err(failure)?;
                Ok(Reply::Done)
            }
            Request::MailboxDelete { user, name } => {
                self.user(&user).await?.delete(&name).await.map_err(failure)?;
                Ok(Reply::Done)
            }
            Request::MailboxRename { user, from, to } => {
                self.user(&user).await?.rename(&from, &to).await.map_err(failure)?;
                Ok(Reply::Done)
            }
            Request::UidValiditySet { user, mailbox, uid_validity } => {
                let user = self.user(&user).await?;
                let given = user.set_uid_validity(&mailbox, UidValidity(uid_validity)).await;
                given.map_err(failure)?;
                Ok(Reply::Done)
            }
            Request::UidNextRaise { user, mailbox, uid_validity, uid_next } => {
                let mailbox = self.same(&user, &mailbox, uid_validity).await?;
                mailbox.raise_uid_next(Uid(uid_next)).await.map_err(failure)?;
                Ok(Reply::Done)
            }
            Request::Renumber { user, mailbox, uid_validity, uids } => {
                self.renumber(&user, &mailbox, uid_validity, &uids).await
            }
            Request::Uidls { user, mailbox, above } => self.uidls(&user, &mailbox, above).await,
            Request::UidlsSet { user, mailbox, uid_validity, uidls } => {
                self.set_uidls(&user, &mailbox, uid_validity, uidls).await
            }
            Request::MailboxSubscribe { user, name, on } => {
                self.user(&user).await?.subscribe(&name, on).await.map_err(failure)?;
                Ok(Reply::Done)
            }
            Request::Quotas { user } => self.quotas(user.as_deref()).await,
            Request::QuotaSet { user, mailbox, limits } => {
                let opened = self.user(&user).await?;
                opened.set_quota(mailbox.as_deref(), limits).await.map_err(failure)?;
                self.quotas(Some(&user)).await
            }
            Request::MailboxesRename { user, renames } => {
                self.user(&user).await?.rename_all(&renames).await.map_err(failure)?;
                Ok(Reply::Done)
            }
            Request::Messages { user, mailbox, above, limit, message_ids } => {
                self.messages(&user, &mailbox, (above, limit), message_ids).await
            }
            Request::ChangeFlags { user, mailbox, uid_validity, changes } => {
                self.change_flags(&user, &mailbox, uid_validity, changes).await
            }
            Request::Expunge { user, mailbox, uid_validity, uids } => {
                self.expunge(&user, &mailbox, uid_validity, uids).await
            }
            Request::AclSet { user, mailbox, identifier, rights } => {
                self.set_acl(&user, &mailbox, &identifier, &rights).await
            }
            Request::SpecialUseSet { user, mailbox, special_use } => {
                self.set_special_use(&user, &mailbox, &special_use).await
            }
            Request::Read { .. } => {
                let message = "read: asked for without a way for the octets";
                Err(Failure::new(FailureCode::BadRequest, message))
            }
            Request::Import { user, mailbox, messages, uid_next } => {
                let octets = |m: &ImportMessage| m.bytes.saturating_add(m.annotations_bytes);
                let total = messages.iter().map(octets).fold(0, u64::saturating_add);
                let mut body = body.take(total);
                let done = self.import(&user, &mailbox, &messages, uid_next, &mut body).await;
                // Whatever is left of refused messages must not be taken for a request.
                let rest = tokio::io::copy(&mut body, &mut tokio::io::sink()).await;
                rest.map_err(|e| short(&e.to_string(), body.limit()))?;
                done
            }
            Request::Check { user } => {
                let report = self.store.check(user.as_deref()).await.map_err(failure)?;
                Ok(Reply::Checked {
                    mailboxes: report.mailboxes as u64,
                    messages: report.messages as u64,
                    findings: report.findings,
                })
            }
            Request::Scrub { user, mailbox, rate_bytes, resume, repair, seconds } => {
                let options = ScrubOptions { user, mailbox, rate_bytes, resume, repair };
                self.scrub(options, seconds).await
            }
            Request::Index { action, user, mailbox } => {
                self.index(action, user.as_deref(), mailbox.as_deref()).await
            }
            Request::HandBack { server, user } => self.hand_back(server, user.as_deref()).await,
            Request::Describe { user, mailbox } => self.describe(user, mailbox).await,
            Request::Checkpoint => {
                self.store.checkpoint().await.map_err(failure)?;
                Ok(Reply::Done)
            }
            Request::ArchiveNow => {
                let all = self.store.archive_now().await.map_err(failure)?;
                Ok(Reply::Archived { all })
            }
            Request::Backup { to, bytes_per_second, users_file } => {
                self.backup(to, bytes_per_second, users_file).await
            }
            Request::BackupProgress => Ok(self.backup_progress()),
            Request::BackupCancel => {
                if let Some(progress) = &*self.running() {
                    progress.cancel.store(true, Ordering::Release);
                }
                Ok(Reply::Done)
            }
            Request::Contents { user, mailbox } => {
                let mailbox = self.user(&user).await?.mailbox(&mailbox).await.map_err(failure)?;
                let view = mailbox.refresh().await.map_err(failure)?;
                let ids = view.uids().filter_map(|(_, uid)| view.content_id(uid));
                Ok(Reply::Contents(ids.collect()))
            }
            Request::ReloadUsers | Request::Reload => {
                Err(Failure::new(FailureCode::NeedsServer, "no server is running"))
            }
        }
    }

    async fn scrub(&self, options: ScrubOptions, seconds: u64) -> Result<Reply, Failure> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let report = self.store.scrub(options, move |_| Instant::now() < end).await;
        let ScrubReport { progress, damaged, mended, stopped } = report.map_err(failure)?;
        Ok(Reply::Scrubbed {
            mailboxes: progress.mailboxes,
            mailboxes_total: progress.mailboxes_total,
            messages: progress.messages,
            bytes: progress.bytes,
            damaged,
            mended,
            done: !stopped,
        })
    }

    /// What can be said without a server.
    pub fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            io: self.lane.backend_name().to_owned(),
            store: serde_json::to_value(self.store.status()).unwrap_or_default(),
            ..Status::default()
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<BackupProgress>>> {
        // What is behind it is whole at any time.
        self.backup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a thread of its own: it may take hours.
    async fn backup(
        &self,
        to: String,
        bytes_per_second: Option<u64>,
        users_file: Option<String>,
    ) -> Result<Reply, Failure> {
        if !Path::new(&to).is_absolute() {
            let message = format!("directory {to:?}, expected an absolute path");
            return Err(Failure::new(FailureCode::BadRequest, message));
        }
        let extra = users_file.into_iter().map(|file| ("users".to_owned(), file.into()));
        let options = BackupOptions { to: to.into(), bytes_per_second, extra: extra.collect() };
        let progress = Arc::new(BackupProgress::default());
        {
            let mut running = self.running();
            if running.is_some() {
                let message = "another backup is running";
                return Err(Failure::new(FailureCode::Temporary, message));
            }
            *running = Some(progress.clone());
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let store = self.store.clone();
        let job = move || {
            // Nobody listens when the operator's command is gone; the backup stands all the same.
            let _ = tell.send(store.backup(&options, &progress));
        };
        let started = std::thread::Builder::new().name("cursus-backup".to_owned()).spawn(job);
        let done = match started {
            Ok(_) => told.await.unwrap_or(Err(Error::Closing)).map_err(failure),
            Err(error) => Err(Failure::new(FailureCode::Temporary, error.to_string())),
        };
        *self.running() = None;
        Ok(Reply::BackedUp(serde_json::to_value(done?).unwrap_or_default()))
    }

    fn backup_progress(&self) -> Reply {
        let running = self.running().clone().unwrap_or_default();
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Reply::BackupProgress {
            phase: running.phase().to_owned(),
            mailboxes: count(&running.mailboxes),
            mailboxes_total: count(&running.mailboxes_total),
            messages: count(&running.messages),
            bytes: count(&running.bytes),
        }
    }

    pub(crate) async fn user(&self, name: &str) -> Result<User, Failure> {
        let parsed = UserName::new(name)
            .map_err(|e| Failure::new(FailureCode::BadRequest, format!("{name:?}: {e}")))?;
        let account = self.users.lookup(&parsed).await;
        let account = account.map_err(|e| Failure::new(FailureCode::Temporary, e.to_string()))?;
        let account = account.ok_or_else(|| {
            Failure::new(FailureCode::NoSuchUser, format!("no user named {parsed}"))
        })?;
        store::open_user(&self.store, &account, &self.config).await.map_err(failure)
    }

    /// Names of one user, or of all.
    async fn names(&self, user: Option<&str>) -> Result<Vec<String>, Failure> {
        match user {
            Some(name) => Ok(vec![name.to_owned()]),
            None => self.store.users().await.map_err(failure),
        }
    }

    /// A user who was named (`asked`), or one of all: mail of a user who was removed stays in the
    /// store, and all the same it has a name.
    async fn one_of(&self, name: &str, asked: Option<&str>) -> Result<User, Failure> {
        match self.user(name).await {
            Err(Failure { code: FailureCode::NoSuchUser, .. }) if asked.is_none() => {
                self.store.user(name, &Default::default()).await.map_err(failure)
            }
            other => other,
        }
    }

    async fn hand_back(
        &self,
        server: config::OldServer,
        user: Option<&str>,
    ) -> Result<Reply, Failure> {
        let servers = [crate::store::old_server(server)];
        let mut mailboxes = 0;
        for name in self.names(user).await? {
            match self.one_of(&name, user).await {
                Ok(user) => mailboxes += user.hand_back(&servers).await.map_err(failure)?,
                Err(Failure { code: FailureCode::NoSuchUser, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Reply::HandedBack { mailboxes })
    }

    /// On a helper: it opens mailboxes and reads their records.
    async fn describe(&self, user: String, mailbox: Option<String>) -> Result<Reply, Failure> {
        let store = self.store.clone();
        let described = self.store.helpers().run(move || match mailbox {
            None => store.describe_heads(&user),
            Some(name) => Ok(UserToAdopt {
                mailboxes: store.describe_mailbox(&user, &name)?.into_iter().collect(),
                ..UserToAdopt::default()
            }),
        });
        let described = described.await;
        let described = described
            .map_err(|e| Failure::new(FailureCode::Temporary, e.to_string()))?
            .map_err(failure)?;
        Ok(Reply::Described(Box::new(described)))
    }

    async fn quotas(&self, user: Option<&str>) -> Result<Reply, Failure> {
        let mut lines = Vec::new();
        for name in self.names(user).await? {
            let roots = self.one_of(&name, user).await?.quota_roots();
            lines.extend(roots.into_iter().map(|root| QuotaLine {
                user: name.clone(),
                mailbox: root.mailbox,
                limits: root.limits,
                bytes: root.usage.bytes,
                messages: root.usage.messages,
                mailboxes: root.usage.mailboxes,
                annotation_bytes: root.usage.annotation_bytes,
            }));
        }
        Ok(Reply::Quotas(lines))
    }

    async fn mailboxes_changed(
        &self,
        since: Option<Moment>,
        also: Vec<String>,
    ) -> Result<Reply, Failure> {
        // Before they are listed: what changes meanwhile changed since, too.
        let (now, mut users) = self.store.changed_since(since);
        users.iter_mut().for_each(|users| users.extend(also.iter().cloned()));
        let names = match &users {
            None => self.names(None).await?,
            Some(users) => {
                let mut there = Vec::new();
                for name in users {
                    if self.store.has_user(name).await.map_err(failure)? {
                        there.push(name.clone());
                    }
                }
                there
            }
        };
        let mailboxes = self.mailboxes(&names, None).await?;
        Ok(Reply::MailboxesChanged { now, users, mailboxes })
    }

    /// `asked`: the user who was named.
    async fn mailboxes(
        &self,
        names: &[String],
        asked: Option<&str>,
    ) -> Result<Vec<MailboxLine>, Failure> {
        let mut lines = Vec::new();
        for name in names {
            let user = self.one_of(name, asked).await?;
            let namespace = user.namespace();
            for (mailbox, entry) in &namespace.mailboxes {
                let status = match user.status(mailbox).await {
                    Ok(status) => status,
                    // Deleted while we list.
                    Err(Error::NoSuchMailbox) => continue,
                    Err(error) => return Err(failure(error)),
                };
                lines.push(MailboxLine {
                    user: name.clone(),
                    name: mailbox.clone(),
                    messages: status.messages,
                    unseen: status.unseen,
                    bytes: status.bytes,
                    uid_validity: status.uid_validity.0,
                    uid_next: status.uid_next.0,
                    modseq_highest: status.modseq_highest.0,
                    subscribed: namespace.subscriptions.contains(mailbox),
                    special_use: entry.special_use.iter().map(|u| u.as_str().to_owned()).collect(),
                    partition: entry.partition.clone(),
                });
            }
        }
        Ok(lines)
    }

    async fn index(
        &self,
        action: IndexAction,
        user: Option<&str>,
        mailbox: Option<&str>,
    ) -> Result<Reply, Failure> {
        let mut lines = Vec::new();
        for name in self.names(user).await? {
            let user = self.one_of(&name, user).await?;
            let all: Vec<String> = match mailbox {
                Some(one) => vec![one.to_owned()],
                None => user.namespace().mailboxes.keys().cloned().collect(),
            };
            for shown in all {
                let opened = match user.mailbox(&shown).await {
                    Ok(opened) => opened,
                    // Deleted while we work.
                    Err(Error::NoSuchMailbox) if mailbox.is_none() => continue,
                    Err(error) => return Err(failure(error)),
                };
                let status = match action {
                    IndexAction::Status => opened.index_status().await,
                    IndexAction::Rebuild => opened.index_now(true).await,
                    IndexAction::Update => opened.index_now(false).await,
                    IndexAction::Drop => match opened.index_drop().await {
                        Ok(()) => opened.index_status().await,
                        Err(error) => Err(error),
                    },
                };
                let status = status.map_err(failure)?;
                lines.push(IndexLine {
                    user: name.clone(),
                    mailbox: shown,
                    segments: status.segments as u64,
                    bytes: status.bytes,
                    messages: status.messages as u64,
                    terms: status.terms,
                    uncovered: status.uncovered as u64,
                    mail_bytes: opened.status().bytes,
                });
            }
        }
        Ok(Reply::Index(lines))
    }

    async fn import(
        &self,
        user: &str,
        mailbox: &str,
        messages: &[ImportMessage],
        uid_next: Option<u32>,
        body: &mut (dyn AsyncRead + Unpin),
    ) -> Result<Reply, Failure> {
        if messages.is_empty() {
            return Err(Failure::new(FailureCode::BadRequest, "expected at least one message"));
        }
        let with_uids = messages.iter().filter(|message| message.uid.is_some()).count();
        if with_uids != 0 && with_uids != messages.len() {
            let message = "UIDs of some messages, expected those of all or of none";
            return Err(Failure::new(FailureCode::BadRequest, message));
        }
        let user = self.user(user).await?;
        let open = user.mailbox(mailbox).await.map_err(failure)?;
        let mut deliveries = Vec::with_capacity(messages.len());
        for message in messages {
            let (flags, keywords) = parse_flags(&message.flags)?;
            let (user, mailbox) = (user.clone(), open.clone());
            let internal_date = message.internal_date;
            let annotations = Vec::new();
            let target = Target { user, mailbox, flags, keywords, internal_date, annotations };
            let mut delivery = self.receive(target, message.bytes, body).await?;
            if let Some(uid) = message.uid {
                delivery.keep_uid(Uid(uid));
            }
            if message.annotations_bytes > 0 {
                let annotations = annotations_of(message.annotations_bytes, body).await?;
                open.check_annotations(&annotations).map_err(failure)?;
                delivery.annotate(annotations);
            }
            deliveries.push(delivery);
        }
        let mut _turn = None;
        if let Some(expected) = uid_next {
            _turn = Some(self.turns.of(open.id()).lock().await);
            let found = open.view().uid_next().0;
            if found != expected {
                let message = format!("UIDNEXT is {found}, expected {expected}");
                return Err(Failure::new(FailureCode::Changed, message));
            }
        }
        let appended = Delivery::commit_all(deliveries).await.map_err(failure)?;
        let uid_validity = appended.first().map_or(0, |a| a.uid_validity.0);
        Ok(Reply::Imported { uids: appended.iter().map(|a| a.uid.0).collect(), uid_validity })
    }

    /// Reads one message of `bytes` bytes.
    async fn receive(
        &self,
        target: Target,
        bytes: u64,
        body: &mut (dyn AsyncRead + Unpin),
    ) -> Result<Delivery, Failure> {
        let mut delivery = Delivery::new(&self.store, &self.lane, vec![target]).map_err(failure)?;
        let mut body = body.take(bytes);
        let mut chunk = vec![0; BODY_CHUNK_BYTES];
        while body.limit() > 0 {
            let left = body.limit();
            let n = body.read(&mut chunk).await.map_err(|e| short(&e.to_string(), left))?;
            if n == 0 {
                return Err(short("the message ended", left));
            }
            delivery.write(&chunk[..n]).await.map_err(failure)?;
        }
        Ok(delivery)
    }
}

/// Reads the annotations of a message, of so many bytes.
async fn annotations_of(
    bytes: u64,
    body: &mut (dyn AsyncRead + Unpin),
) -> Result<Vec<AnnotationValue>, Failure> {
    let bad = |text: String| Failure::new(FailureCode::BadRequest, text);
    if bytes > ANNOTATIONS_BYTES_MAX {
        let max = ANNOTATIONS_BYTES_MAX;
        return Err(bad(format!("{bytes} bytes of annotations, expected at most {max}")));
    }
    let mut text = Vec::new();
    body.take(bytes).read_to_end(&mut text).await.map_err(|e| short(&e.to_string(), bytes))?;
    let found: Vec<ImportAnnotation> = serde_json::from_slice(&text)
        .map_err(|e| bad(format!("annotations: {e}, expected a list of them")))?;
    let value = |one: ImportAnnotation| {
        let refusal = match engine::annotation_part(&one.entry) {
            Some(_) => engine::annotation_refusal(&one.entry, Some(&one.value)),
            None => Some("not the name of an entry"),
        };
        match refusal {
            Some(why) => Err(bad(format!("annotation {:?}: {why}", one.entry))),
            None => Ok(AnnotationValue {
                whose: one.whose,
                entry: one.entry,
                value: Some(one.value.into()),
            }),
        }
    };
    found.into_iter().map(value).collect()
}

fn short(what: &str, left: u64) -> Failure {
    Failure::new(FailureCode::BadRequest, format!("{what}, expected {left} bytes more"))
}

pub(crate) fn special(name: &str) -> Result<SpecialUse, Failure> {
    SpecialUse::parse(name).ok_or_else(|| {
        let expected =
            "\\All, \\Archive, \\Drafts, \\Flagged, \\Important, \\Junk, \\Sent, \\Trash";
        Failure::new(FailureCode::BadRequest, format!("special use {name:?}, expected {expected}"))
    })
}

/// Reads flags and keywords as IMAP writes them.
pub fn parse_flags(flags: &[String]) -> Result<(SystemFlags, Vec<Keyword>), Failure> {
    let mut system = SystemFlags::empty();
    let mut keywords = Vec::new();
    for flag in flags {
        let known = SystemFlags::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(flag));
        match (known, Keyword::new(flag)) {
            (Some((bit, _)), _) => system = system.union(*bit),
            (None, Some(keyword)) => keywords.push(keyword),
            (None, None) => {
                let expected = "\\Seen, \\Answered, \\Flagged, \\Deleted, \\Draft or a keyword";
                let message = format!("flag {flag:?}, expected {expected}");
                return Err(Failure::new(FailureCode::BadRequest, message));
            }
        }
    }
    Ok((system, keywords))
}

pub(crate) fn failure(error: Error) -> Failure {
    let code = match &error {
        Error::NoSuchMailbox | Error::MailboxGone => FailureCode::NoSuchMailbox,
        Error::MailboxExists => FailureCode::Exists,
        Error::OverQuota => FailureCode::OverQuota,
        Error::TooBig { .. } => FailureCode::TooBig,
        Error::NotAllowed(_)
        | Error::Name(_)
        | Error::TooManyKeywords { .. }
        | Error::MetadataTooBig { .. }
        | Error::MetadataTooMany { .. }
        | Error::Expunged(_) => FailureCode::NotAllowed,
        _ => FailureCode::Temporary,
    };
    Failure::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_imap_writes_them() {
        let given = ["\\seen".to_owned(), "$Forwarded".to_owned()];
        let (system, keywords) = parse_flags(&given).unwrap();
        assert_eq!(system, SystemFlags::SEEN);
        assert_eq!(keywords, vec![Keyword::new("$Forwarded").unwrap()]);
        let error = parse_flags(&["\\Wrong".to_owned()]).unwrap_err();
        assert!(error.message.contains("\\Wrong") && error.message.contains("expected"));
    }
}
