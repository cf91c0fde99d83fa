//! `cursus-imapcheck`: many IMAP clients at once on shared mailboxes, each of which models what it
//! is told and stops at the first response that breaks a rule, in the manner of imaptest.
//!
//! It starts `cursusd` itself, kills it as often as it is told to, and looks at everything once more
//! when all is quiet. `--seed` decides what each client does; the order in which the server gets to
//! do it is the scheduler's.

mod actions;
mod deliver;
mod ledger;
mod select;
mod server;
mod session;
mod value;
mod view;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use ledger::Ledger;
use select::Listing;
use server::Server;
use session::{Command, Session, Shared, Stop};
use view::Flags;
use wire::Transport;

/// Checks a server's IMAP under many clients.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The `cursusd` to check.
    #[arg(long)]
    binary: PathBuf,
    /// maildir or cyrus.
    #[arg(long, default_value = "maildir")]
    layout: String,
    #[arg(long, value_enum, default_value = "plain")]
    transport: Transport,
    /// Commands of all clients together.
    #[arg(long, default_value_t = 100_000)]
    commands: u64,
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Mailboxes that all clients share.
    #[arg(long, default_value_t = 3)]
    mailboxes: usize,
    /// How often the server is killed.
    #[arg(long, default_value_t = 3)]
    kills: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Answer plain STOREs before their sync, as the default is; needs --kills 0.
    #[arg(long)]
    early: bool,
    /// Keep the server's directory here.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED with --seed {}: {error}", options.seed);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let scratch;
    let dir = match &options.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
            dir.clone()
        }
        None => {
            scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
            scratch.path().to_owned()
        }
    };
    if options.early && options.kills > 0 {
        return Err("--early promises nothing across a kill: use --kills 0 with it".to_owned());
    }
    let trouble = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    let mut server = Server::new(&options.binary, &dir, &options.layout, options.early)
        .map_err(trouble("prepare"))?;
    server.start().map_err(trouble("start"))?;
    let tls = options.transport.is_tls();
    let mailboxes = (1..options.mailboxes).map(|n| format!("Shared{n}"));
    let mailboxes: Vec<String> = std::iter::once("INBOX".to_owned()).chain(mailboxes).collect();
    let shared = Arc::new(Shared {
        address: if tls { server.imaps } else { server.imap },
        tls: if tls { Some(server.tls().map_err(trouble("TLS"))?) } else { None },
        transport: options.transport,
        user: server::USER.to_owned(),
        password: server::PASSWORD.to_owned(),
        ledger: Ledger::new(mailboxes.len()),
        mailboxes,
        commands: AtomicU64::new(0),
        generation: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    });
    let mut setup = Session::new(options.clients, shared.clone(), options.seed);
    setup.connect().map_err(|stop| stop.to_string())?;
    for name in shared.mailboxes.iter().skip(1) {
        let made = setup.command(Command::new(format!("CREATE {name}")));
        made.and_then(|answer| Ok(answer.ok("CREATE")?)).map_err(|stop| stop.to_string())?;
    }

    let began = Instant::now();
    let stop = AtomicBool::new(false);
    let (lmtp, shared_by_all, stop_now) = (server.lmtp, &shared, &stop);
    let ended = thread::scope(|scope| {
        scope.spawn(move || deliver::run(shared_by_all, lmtp, stop_now));
        let clients: Vec<_> = (0..options.clients)
            .map(|id| {
                let client = Session::new(id, shared.clone(), options.seed);
                scope.spawn(move || work(client, options.commands))
            })
            .collect();
        let killed = kill_now_and_then(&mut server, &shared, options);
        let ended: Vec<Result<Session, String>> = clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".to_owned())))
            .collect();
        stop.store(true, Ordering::Relaxed);
        killed.map(|()| ended)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let (mut clients, mut faults) = (Vec::new(), Vec::new());
    for one in ended {
        match one {
            Ok(client) => clients.push(client),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        faults.extend(settle(&mut clients, setup).err());
    }
    faults.extend(server.complaints());
    if let Some(first) = faults.first() {
        return Err(first.clone());
    }
    server.stop().map_err(trouble("stop"))?;
    println!(
        "{} {:?}: {} commands of {} clients, {} kills, {} deliveries in {seconds:.1} s, seed {}",
        options.layout,
        options.transport,
        shared.commands.load(Ordering::Relaxed),
        options.clients,
        options.kills,
        shared.ledger.deliveries().len(),
        options.seed,
    );
    Ok(())
}

/// One client's life.
fn work(mut client: Session, commands: u64) -> Result<Session, String> {
    let shared = client.shared.clone();
    let mut result = client.connect();
    while shared.commands.load(Ordering::Relaxed) < commands
        && !shared.failed.load(Ordering::Relaxed)
    {
        result = match result {
            Ok(()) => client.step(),
            Err(Stop::Lost(_)) if client.was_killed() => {
                client.drop_connection();
                client.connect()
            }
            Err(stop) => Err(stop),
        };
        if matches!(&result, Err(Stop::Wrong(_))) {
            break;
        }
        if matches!(&result, Err(Stop::Lost(_))) && !client.was_killed() {
            break;
        }
    }
    match result {
        Err(stop) if !(matches!(stop, Stop::Lost(_)) && client.was_killed()) => {
            shared.failed.store(true, Ordering::Relaxed);
            Err(format!("client {}: {stop}\n{}", client.id, client.lines()))
        }
        _ => Ok(client),
    }
}

/// Kills the server in the midst of the work, as often as asked for.
fn kill_now_and_then(
    server: &mut Server,
    shared: &Shared,
    options: &Options,
) -> Result<(), String> {
    for number in 1..=options.kills {
        let at = options.commands / (options.kills + 1) * number;
        while shared.commands.load(Ordering::Relaxed) < at {
            if shared.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        shared.generation.fetch_add(1, Ordering::SeqCst);
        let restarted = server.kill().and_then(|()| server.start());
        if let Err(error) = restarted {
            shared.failed.store(true, Ordering::Relaxed);
            return Err(format!("kill {number}: {error}"));
        }
        // Sessions that had connected before the kill, but noted the new generation.
        shared.generation.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// When all is quiet, everybody sees the same, and it is what was answered.
fn settle(clients: &mut [Session], mut fresh: Session) -> Result<(), String> {
    let told = |client: &Session, stop: Stop| format!("at the end: {stop}\n{}", client.lines());
    let mut truth: BTreeMap<usize, Listing> = BTreeMap::new();
    fresh.drop_connection();
    fresh.connect().map_err(|stop| told(&fresh, stop))?;
    let shared = fresh.shared.clone();
    for mailbox in 0..shared.mailboxes.len() {
        fresh.select(mailbox, true).map_err(|stop| told(&fresh, stop))?;
        let listing = fresh.listing().map_err(|stop| told(&fresh, stop))?;
        let gone = shared.ledger.removed(mailbox).into_iter().find(|uid| listing.contains_key(uid));
        if let Some(uid) = gone {
            return Err(format!("UID {uid} of {} is back", shared.mailboxes[mailbox]));
        }
        truth.insert(mailbox, listing);
    }
    delivered_once(&mut fresh)?;
    for client in clients {
        if client.was_killed() {
            client.drop_connection();
            client.connect().map_err(|stop| told(client, stop))?;
        }
        let Some(mailbox) = client.selected.as_ref().map(|s| s.mailbox) else { continue };
        client.noop().map_err(|stop| told(client, stop))?;
        let seen = client.listing().map_err(|stop| told(client, stop))?;
        let without_modseqs = |listing: &Listing| -> BTreeMap<u32, Flags> {
            listing.iter().map(|(uid, (flags, _))| (*uid, flags.clone())).collect()
        };
        let (seen, whole) = (without_modseqs(&seen), without_modseqs(&truth[&mailbox]));
        if seen != whole {
            let differs = whole.iter().find(|(uid, flags)| seen.get(uid) != Some(flags));
            return Err(format!(
                "client {} sees {} messages of {}, there are {}; first difference {differs:?}\n{}",
                client.id,
                seen.len(),
                shared.mailboxes[mailbox],
                whole.len(),
                client.lines(),
            ));
        }
        let keyword = client.keyword();
        for (&(mailbox, uid), &on) in &client.keywords {
            let flags = truth[&mailbox].get(&uid).map(|(flags, _)| flags);
            if flags.is_some_and(|flags| flags.contains(&keyword) != on) {
                return Err(format!("{keyword} of UID {uid} should be {on}: {flags:?}"));
            }
        }
    }
    Ok(())
}

/// Every delivery that was answered is in INBOX, once. Clients never remove them.
fn delivered_once(fresh: &mut Session) -> Result<(), String> {
    let answered = fresh.shared.ledger.deliveries();
    fresh.select(0, true).map_err(|stop| stop.to_string())?;
    for marker in answered {
        let command = format!("UID SEARCH HEADER X-Marker {marker}");
        let found = fresh
            .command(Command::new(&command))
            .and_then(|answer| Ok(answer.ok(&command)?.search()?))
            .map_err(|stop| stop.to_string())?;
        // Substrings: lmtp-1 is in lmtp-10 too.
        if found.is_empty() {
            return Err(format!("delivery {marker} was answered 250 and is missing"));
        }
    }
    Ok(())
}
