//! `cursus-generate` makes stores of a size that takes days to come by: many accounts, many
//! mailboxes in the first one, many messages in its INBOX.
//!
//! Everything goes through the engine, so the files are what a server would have written, by two
//! short cuts: nothing is synced before the end, and messages beyond the first few are COPYs, hard
//! links that the engine makes in transactions of thousands. A store that a crash interrupted is
//! to be thrown away.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use engine::io::blocking::Blocking;
use engine::io::layer::{FileLayer, Layer};
use engine::io::{Lane, Open, Storage, StoredFile};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Delivery, Drive, INBOX, MountOptions, Partition, Store, StoreConfig, Target, User, UserOptions,
};
use load::message::Generator;
use protocol::types::{SystemFlags, Uid};

/// Messages that are delivered; the others are copies of them. A file has at most 65,000 links on
/// ext4, so this many carry a mailbox of millions.
const SEEDS: u64 = 256;
/// Mean size of a message, bytes.
const MESSAGE_BYTES: u32 = 600;
/// Copied by one call.
const COPY_MAX: usize = 64 << 10;

/// Makes a large store, quickly.
#[derive(Debug, Parser)]
#[command(name = "cursus-generate", version)]
struct Options {
    /// `state_dir` of the configuration; must not exist yet.
    #[arg(long)]
    state: PathBuf,
    /// Path of the partition `default`.
    #[arg(long)]
    mail: PathBuf,
    /// How messages lie in it.
    #[arg(long, value_enum, default_value = "maildir")]
    layout: Kinds,
    /// Accounts: user1, user2 and so on, each with an INBOX.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    accounts: u32,
    /// Mailboxes of user1 beside INBOX: in folders of a hundred.
    #[arg(long, default_value_t = 0)]
    mailboxes: u32,
    /// Messages in user1's INBOX.
    #[arg(long, default_value_t = 0)]
    messages: u64,
    /// Messages in the INBOX of every other account.
    #[arg(long, default_value_t = 0)]
    messages_each: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kinds {
    Maildir,
    Cyrus,
}

/// The operating system's storage without syncs.
struct Unsynced(Blocking);

struct UnsyncedFile(Arc<dyn StoredFile>);

impl FileLayer for UnsyncedFile {
    fn below(&self) -> &dyn StoredFile {
        &*self.0
    }
    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn start_writeback(&self, _: u64, _: u64) {}
}

impl Layer for Unsynced {
    fn below(&self) -> &dyn Storage {
        &self.0
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        let how = if how == Open::Log { Open::Write } else { how };
        Ok(Arc::new(UnsyncedFile(self.0.open(path, how)?)))
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_filesystem(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cursus-generate: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn run(options: &Options) -> Result<(), Failure> {
    if options.state.exists() {
        return Err(format!("{} exists already", options.state.display()).into());
    }
    let kind = match options.layout {
        Kinds::Maildir => LayoutKind::Maildir,
        Kinds::Cyrus => LayoutKind::Cyrus,
    };
    let partition = Partition {
        name: "default".into(),
        path: options.mail.clone(),
        layout: layout_for(kind, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    let config = StoreConfig::new(&options.state, vec![partition]);
    let storage: Arc<dyn Storage> = Arc::new(Unsynced(Blocking::new()));
    let store = Store::open(config, storage.clone(), Drive::Threads)?;
    let lane = Lane::inline(storage);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    runtime.block_on(fill(options, &store, &lane))?;
    store.close()?;
    for root in [&options.state, &options.mail] {
        Blocking::new().sync_filesystem(root)?;
    }
    println!(
        "{} accounts, {} mailboxes and {} messages in user1's, in {:.1} s",
        options.accounts,
        options.mailboxes + 1,
        options.messages,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn fill(options: &Options, store: &Store, lane: &Lane) -> Result<(), Failure> {
    for number in 1..=options.accounts {
        let user = store.user(&format!("user{number}"), &UserOptions::default()).await?;
        if number > 1 {
            messages(store, lane, &user, options.messages_each).await?;
            continue;
        }
        for n in 0..options.mailboxes {
            user.create(&format!("Folder {:03}/Box {n:05}", n / 100), &[]).await?;
        }
        messages(store, lane, &user, options.messages).await?;
    }
    Ok(())
}

/// Brings a user's INBOX to so many messages.
async fn messages(store: &Store, lane: &Lane, user: &User, count: u64) -> Result<(), Failure> {
    if count == 0 {
        return Ok(());
    }
    let inbox = user.mailbox(INBOX).await?;
    let generator = Generator::new(1, MESSAGE_BYTES);
    let mut text = Vec::new();
    for serial in 0..count.min(SEEDS) {
        text.clear();
        generator.write(serial, &mut text);
        let target = Target {
            user: user.clone(),
            mailbox: inbox.clone(),
            flags: SystemFlags::empty(),
            keywords: vec![],
            internal_date: None,
            annotations: vec![],
        };
        let mut delivery = Delivery::new(store, lane, vec![target])?;
        delivery.write(&text).await?;
        delivery.commit().await.remove(0)?;
    }
    loop {
        let view = inbox.view();
        let left = count.saturating_sub(u64::from(view.exists()));
        if left == 0 {
            return Ok(());
        }
        let most = COPY_MAX.min(usize::try_from(left)?);
        let uids: Vec<Uid> = view.uids().take(most).map(|(_, uid)| uid).collect();
        inbox.copy(&view, uids, &inbox).await?;
    }
}
