//! From a command to its answer: whether it may run now, what runs it, what is told behind it.

use protocol::imap::command::{Body, Command, FetchItem, Tag};
use protocol::imap::encode::Status;

use super::reply::{End, Outcome, Reply};
use super::selected::Selected;
use super::session::Session;
use super::sync::SyncPoint;
use super::{cmd, filters};

impl Session {
    pub(super) async fn command(&mut self, Command { tag, mut body }: Command) -> Result<(), End> {
        self.ahead.command();
        self.services.meter.doing(body.name());
        if std::mem::take(&mut self.smap) {
            return Box::pin(self.change_over(&tag, body)).await;
        }
        self.check_rights()?;
        if let Some(reply) = self.answer_early(&body).await? {
            return self.finish(&tag, &reply);
        }
        if !needs_no_messages(&body)
            && let Some(refusal) = self.keep_promise(needs_sequence_numbers(&body)).await?
        {
            return self.finish(&tag, &refusal);
        }
        if let Some(key) = filters::filtered(&mut body) {
            match filters::expand(self, key.clone()).await {
                Ok(expanded) => *key = expanded,
                Err(reply) => return self.finish(&tag, &reply),
            }
        }
        let sync = SyncPoint::of(&body);
        if looks_at_flags(&body)
            && let Some(selected) = &self.selected
        {
            selected.mailbox.settled().await;
        }
        self.tag = may_take_long(&body).then(|| tag.clone());
        let known = self.selected.as_ref().map(|selected| selected.modseq_told());
        let reply = self.carry_out(&tag, body).await?;
        self.sync_point(sync).await?;
        // MODSEQs were told that are above those of changes held back (RFC 7162 section 3.2).
        let is_ahead = |s: &Selected| s.told_ahead() && known.is_none_or(|k| s.modseq_told() > k);
        if self.selected.as_deref().is_some_and(is_ahead) {
            self.tell_modseq_highest();
        }
        if self.notices.is_some() {
            Box::pin(self.tell_notices()).await?;
        }
        if reply.status != Status::Bad {
            self.bad_commands = 0;
        }
        self.finish(&tag, &reply)
    }

    /// A login whose tag asks for SMAP: answered in SMAP's way.
    async fn change_over(&mut self, tag: &Tag, body: Body) -> Result<(), End> {
        let reply = match body {
            Body::Login { .. } | Body::Authenticate { .. } => self.carry_out(tag, body).await?,
            _ => Reply::bad("Log in"),
        };
        if reply.status == Status::Ok && self.user.is_some() {
            return Err(End::Smap);
        }
        self.conn.out.push(format!("-ERR {}\n", reply.text).as_bytes());
        match self.last_words {
            Some(text) => Err(End::Bye(text)),
            None => self.count_bad(),
        }
    }

    async fn carry_out(&mut self, tag: &Tag, body: Body) -> Outcome {
        if let Some(refusal) = self.refusal(&body) {
            return Ok(refusal);
        }
        match body {
            Body::Capability => cmd::capability::run(self),
            Body::Noop | Body::Check => Ok(Reply::ok("Completed")),
            Body::Logout => cmd::logout::run(self, tag),
            Body::StartTls => Box::pin(cmd::starttls::run(self, tag)).await,
            Body::Login { user, password } => {
                Box::pin(cmd::login::run(self, &user, &password)).await
            }
            Body::Authenticate { mechanism, initial } => {
                Box::pin(cmd::authenticate::run(self, &mechanism, initial)).await
            }
            Body::Enable(names) => cmd::enable::run(self, &names),
            Body::Compress { algorithm } => {
                Box::pin(cmd::compress::run(self, tag, &algorithm)).await
            }
            Body::GenUrlAuth(urls) => Box::pin(cmd::genurlauth::run(self, urls)).await,
            Body::ResetKey { mailbox, mechanisms } => {
                Box::pin(cmd::resetkey::run(self, mailbox, &mechanisms)).await
            }
            Body::UrlFetch(urls) => Box::pin(cmd::urlfetch::run(self, urls)).await,
            Body::Language(ranges) => cmd::language::run(self, &ranges),
            Body::Unauthenticate => Box::pin(cmd::unauthenticate::run(self, tag)).await,
            Body::Id(pairs) => cmd::id::run(self, &pairs),
            Body::Namespace => cmd::namespace::run(self),
            Body::Idle => Box::pin(cmd::idle::run(self)).await,
            Body::Select { mailbox, read_only, parameters } => {
                let read_only = read_only || self.read_only;
                Box::pin(cmd::select::run(self, &mailbox, read_only, parameters)).await
            }
            Body::Create { mailbox, partition, special_use } => {
                Box::pin(cmd::create::run(self, mailbox, partition, special_use)).await
            }
            Body::Delete { mailbox } => Box::pin(cmd::delete::run(self, &mailbox)).await,
            Body::Rename { from, to, partition } => {
                Box::pin(cmd::rename::run(self, from, to, partition)).await
            }
            Body::Subscribe { mailbox } => {
                Box::pin(cmd::subscribe::run(self, &mailbox, true)).await
            }
            Body::Unsubscribe { mailbox } => {
                Box::pin(cmd::subscribe::run(self, &mailbox, false)).await
            }
            Body::List(list) => Box::pin(cmd::list::run(self, &list)).await,
            Body::Lsub { reference, pattern } => {
                Box::pin(cmd::lsub::run(self, &reference, &pattern)).await
            }
            Body::Scan { reference, pattern, text } => {
                Box::pin(cmd::scan::run(self, reference, pattern, text)).await
            }
            Body::Status { mailbox, items } => {
                Box::pin(cmd::status::run(self, &mailbox, &items)).await
            }
            Body::Notify(notify) => Box::pin(cmd::notify::run(self, notify)).await,
            Body::GetMetadata(get) => Box::pin(cmd::metadata::get(self, get)).await,
            Body::SetMetadata { mailbox, changes } => {
                Box::pin(cmd::metadata::set(self, mailbox.as_deref(), changes)).await
            }
            Body::GetAcl { mailbox } => Box::pin(cmd::acl::get(self, &mailbox)).await,
            Body::SetAcl { mailbox, identifier, rights } => {
                Box::pin(cmd::acl::set(self, mailbox, identifier, rights)).await
            }
            Body::DeleteAcl { mailbox, identifier } => {
                Box::pin(cmd::acl::delete(self, mailbox, identifier)).await
            }
            Body::ListRights { mailbox, identifier } => {
                Box::pin(cmd::acl::list(self, mailbox, identifier)).await
            }
            Body::MyRights { mailbox } => Box::pin(cmd::acl::mine(self, &mailbox)).await,
            Body::GetQuota { root } => Box::pin(cmd::quota::get(self, &root)).await,
            Body::GetQuotaRoot { mailbox } => Box::pin(cmd::quota::get_root(self, &mailbox)).await,
            Body::SetQuota { root, limits } => Box::pin(cmd::quota::set(self, root, limits)).await,
            Body::Close => Box::pin(cmd::close::run(self)).await,
            Body::Unselect => cmd::close::unselect(self),
            Body::Expunge => Box::pin(cmd::expunge::run(self, None)).await,
            Body::UidExpunge(set) => Box::pin(cmd::expunge::run(self, Some(set))).await,
            Body::UidBatches(asked) => cmd::uid_batches::run(self, tag, asked),
            Body::Search(search) => Box::pin(cmd::search::run(self, tag, search)).await,
            Body::MultiSearch(search) => Box::pin(cmd::multi_search::run(self, tag, *search)).await,
            Body::CancelUpdate(tags) => cmd::cancel_update::run(self, &tags),
            Body::Comparator(names) => cmd::comparator::run(self, &names),
            Body::Sort(sort) => Box::pin(cmd::sort::run(self, tag, *sort)).await,
            Body::Thread(thread) => Box::pin(cmd::thread::run(self, thread)).await,
            Body::Fetch(fetch) => Box::pin(cmd::fetch::run(self, fetch)).await,
            Body::Store(store) => Box::pin(cmd::store::run(self, store)).await,
            Body::Copy(copy) => Box::pin(cmd::copy::run(self, copy)).await,
            Body::Move(copy) => Box::pin(cmd::copy::run_move(self, copy)).await,
        }
    }

    /// Refuses commands that have no place in the session's state.
    fn refusal(&self, body: &Body) -> Option<Reply> {
        let (logged_in, selected) = (self.user.is_some(), self.selected.is_some());
        if self.features.uid_only && needs_sequence_numbers(body) {
            return Some(Reply::bad("Only UIDs are in use").word("UIDREQUIRED"));
        }
        if self.read_only && !only_reads(body) {
            return Some(Reply::read_only_login());
        }
        let before_enable = matches!(
            body,
            Body::Capability
                | Body::Noop
                | Body::Logout
                | Body::Id(_)
                | Body::Language(_)
                | Body::Enable(_)
                | Body::Compress { .. }
                | Body::Unauthenticate
        );
        if logged_in
            && !before_enable
            && let Some(refusal) = self.utf8_refusal()
        {
            return Some(refusal);
        }
        match body {
            Body::Capability | Body::Noop | Body::Logout | Body::Id(_) | Body::Language(_) => None,
            Body::StartTls | Body::Login { .. } | Body::Authenticate { .. } => {
                logged_in.then(|| Reply::bad("Already logged in"))
            }
            Body::Check
            | Body::Close
            | Body::Unselect
            | Body::Expunge
            | Body::UidExpunge(_)
            | Body::UidBatches(_)
            | Body::Search(_)
            | Body::Sort(_)
            | Body::Thread(_)
            | Body::CancelUpdate(_)
            | Body::Fetch(_)
            | Body::Store(_)
            | Body::Copy(_)
            | Body::Move(_)
                if logged_in =>
            {
                (!selected).then(|| Reply::bad("Select a mailbox first"))
            }
            _ => (!logged_in).then(|| Reply::bad("Log in first")),
        }
    }

    /// Refuses what may need UTF-8 of clients that have not said that they take it, where that is
    /// set (RFC 6855 section 6).
    pub(super) fn utf8_refusal(&self) -> Option<Reply> {
        let only = self.services.config().imap.utf8 == config::Utf8::Only;
        (only && !self.features.utf8())
            .then(|| Reply::no("ENABLE UTF8=ACCEPT first").word("CANNOT"))
    }
}

/// Commands for a login that may read and nothing else. Those that change flags by the way (FETCH)
/// find the mailbox selected for reading.
fn only_reads(body: &Body) -> bool {
    matches!(
        body,
        Body::Capability
            | Body::Noop
            | Body::Check
            | Body::Logout
            | Body::Id(_)
            | Body::Language(_)
            | Body::Compress { .. }
            | Body::Unauthenticate
            | Body::Enable(_)
            | Body::Comparator(_)
            | Body::Namespace
            | Body::Idle
            | Body::Select { .. }
            | Body::Unselect
            | Body::Close
            | Body::List(_)
            | Body::Lsub { .. }
            | Body::Scan { .. }
            | Body::Status { .. }
            | Body::Notify(_)
            | Body::GetMetadata(_)
            | Body::GetQuota { .. }
            | Body::GetQuotaRoot { .. }
            | Body::GetAcl { .. }
            | Body::ListRights { .. }
            | Body::MyRights { .. }
            | Body::Search(_)
            | Body::MultiSearch(_)
            | Body::CancelUpdate(_)
            | Body::Sort(_)
            | Body::Thread(_)
            | Body::UidBatches(_)
            | Body::UrlFetch(_)
            | Body::Fetch(_)
            | Body::StartTls
            | Body::Login { .. }
            | Body::Authenticate { .. }
    )
}

/// Whether a command's answer depends on flags: it then waits for changes that were answered before
/// they are visible. NOOP and the like do so by their refresh.
fn looks_at_flags(body: &Body) -> bool {
    match body {
        Body::Fetch(fetch) => {
            let flags = |item: &FetchItem| matches!(item, FetchItem::Flags | FetchItem::ModSeq);
            fetch.changed_since.is_some() || fetch.items.iter().any(flags)
        }
        Body::Search(_)
        | Body::Sort(_)
        | Body::Thread(_)
        | Body::MultiSearch(_)
        | Body::Copy(_)
        | Body::Move(_)
        | Body::Expunge
        | Body::UidExpunge(_)
        | Body::Close => true,
        _ => false,
    }
}

/// Whether a command is answered while messages of the selected mailbox are still being read.
fn needs_no_messages(body: &Body) -> bool {
    matches!(
        body,
        Body::Capability
            | Body::Logout
            | Body::Id(_)
            | Body::Namespace
            | Body::List(_)
            | Body::Lsub { .. }
            | Body::Select { .. }
    )
}

/// Whether a command may take so long that its client is told of its progress.
fn may_take_long(body: &Body) -> bool {
    matches!(
        body,
        Body::Copy(_)
            | Body::Move(_)
            | Body::Search(_)
            | Body::MultiSearch(_)
            | Body::Scan { .. }
            | Body::Sort(_)
            | Body::Thread(_)
            | Body::Store(_)
            | Body::Expunge
            | Body::UidExpunge(_)
            | Body::Close
    )
}

/// Whether a command speaks of sequence numbers, which UIDONLY forbids (RFC 9586 section 3.2).
fn needs_sequence_numbers(body: &Body) -> bool {
    match body {
        Body::Fetch(fetch) => !fetch.uid,
        Body::Store(store) => !store.uid,
        Body::Copy(copy) | Body::Move(copy) => !copy.uid,
        Body::Search(search) => !search.uid || search.key.names_sequence_numbers(),
        Body::Sort(sort) => !sort.uid || sort.key.names_sequence_numbers(),
        Body::Thread(thread) => !thread.uid || thread.key.names_sequence_numbers(),
        Body::MultiSearch(search) => search.key.names_sequence_numbers(),
        Body::Select { parameters, .. } => {
            parameters.qresync.as_ref().is_some_and(|known| known.matched.is_some())
        }
        _ => false,
    }
}
