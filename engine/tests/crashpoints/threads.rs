//! The store with its own threads, under a cut at any moment: log writer, appliers, ticker and
//! sessions race as they do in service, so a seed does not decide on everything here.
//!
//! Each session works on messages of its own, in mailboxes that all share. So of each message it
//! is known what the last answer said, and what the change under way would make of it: after the
//! cut it is one of the two.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use engine::io::Lane;
use engine::io::sim::{Mode, Sim};
use engine::{Delivery, Drive, Mailbox, Result, Store, StoreMode, StoreRequest, Target, User};
use protocol::types::{SystemFlags, Uid};

use crate::bench::{Bench, USERS, config, options, storage, text};
use crate::model::Place;
use crate::work::Random;

/// Sessions at once.
const SESSIONS: u64 = 4;
/// Operations of the disk until the cut, at most.
const OPERATIONS_MAX: u64 = 2500;
/// How long an answer may still come after the power went.
const GRACE: Duration = Duration::from_millis(20);
/// How long an answer may take at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a message is and its flags; `None`: nowhere.
type At = Option<(Place, u8)>;

/// What is known of a message: by the last answer, and if the change under way is kept.
struct Own {
    sure: At,
    maybe: At,
}

fn wait<T>(sim: &Sim, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let (began, mut cut) = (Instant::now(), None);
    loop {
        if let Poll::Ready(out) = future.as_mut().poll(&mut context) {
            return Some(out);
        }
        if sim.is_stopped() && cut.get_or_insert_with(Instant::now).elapsed() > GRACE {
            return None;
        }
        assert!(began.elapsed() < PATIENCE, "a call hangs");
        std::thread::sleep(Duration::from_micros(20));
    }
}

struct Session {
    sim: Sim,
    store: Store,
    lane: Lane,
    random: Random,
    places: Vec<(Place, User, Mailbox)>,
    own: BTreeMap<u32, Own>,
    /// Messages that are there by the last answer: text, place, UID.
    live: Vec<(u32, usize, Uid)>,
}

impl Session {
    fn new(store: &Store, sim: &Sim, seed: u64) -> Result<Session> {
        let wait = |f| wait(sim, f).unwrap_or(Err(engine::Error::Closing));
        let mut places = Vec::new();
        for (name, _) in USERS {
            for mailbox in ["INBOX", "A"] {
                let (user, opened) = wait(Box::pin(async {
                    let user = store.user(name, &options(name)).await?;
                    let opened = user.mailbox(mailbox).await?;
                    Ok((user, opened))
                })
                    as std::pin::Pin<Box<dyn Future<Output = Result<(User, Mailbox)>>>>)?;
                places.push(((name.to_owned(), mailbox.to_owned()), user, opened));
            }
        }
        Ok(Session {
            sim: sim.clone(),
            store: store.clone(),
            lane: Lane::inline(storage(sim)),
            random: Random(seed),
            places,
            own: BTreeMap::new(),
            live: Vec::new(),
        })
    }

    /// Works until the power is gone.
    fn run(mut self, token: &AtomicU32) -> BTreeMap<u32, Own> {
        while !self.sim.is_stopped() && self.step(token).is_some() {}
        self.own
    }

    /// `None` when no answer came, or an error.
    fn step(&mut self, token: &AtomicU32) -> Option<()> {
        let to = self.random.below(self.places.len() as u64) as usize;
        let flags = self.random.flags();
        if self.live.is_empty() || self.random.once_in(3) {
            let token = token.fetch_add(1, Ordering::Relaxed);
            return self.append(token, to, flags);
        }
        let at = self.random.below(self.live.len() as u64) as usize;
        let (token, from, uid) = self.live[at];
        let mailbox = self.places[from].2.clone();
        let own = self.own.get_mut(&token).expect("it was appended");
        let before = own.sure.clone();
        match self.random.below(4) {
            0 | 1 => {
                let after = before.map(|(place, _)| (place, flags));
                own.maybe = after.clone();
                let flags = SystemFlags(flags);
                let mode = StoreMode::Replace;
                let (uids, keywords) = (vec![uid], Vec::new());
                let request = StoreRequest { uids, mode, flags, keywords, unchanged_since: None };
                wait(&self.sim, mailbox.store(request))?.ok()?;
                own.sure = after;
            }
            2 => {
                own.maybe = None;
                let view = mailbox.view();
                wait(&self.sim, mailbox.expunge(&view, vec![uid]))?.ok()?;
                own.sure = None;
                self.live.swap_remove(at);
            }
            _ => {
                let after = before.map(|(_, flags)| (self.places[to].0.clone(), flags));
                own.maybe = after.clone();
                let view = mailbox.view();
                let target = &self.places[to].2;
                let moved = wait(&self.sim, mailbox.move_to(&view, vec![uid], target))?.ok()?;
                own.sure = after;
                self.live[at] = (token, to, moved.pairs.first()?.1);
            }
        }
        Some(())
    }

    fn append(&mut self, token: u32, to: usize, flags: u8) -> Option<()> {
        let (place, user, mailbox) = &self.places[to];
        let there = Some((place.clone(), flags));
        self.own.insert(token, Own { sure: None, maybe: there.clone() });
        let target = Target {
            user: user.clone(),
            mailbox: mailbox.clone(),
            flags: SystemFlags(flags),
            keywords: Vec::new(),
            internal_date: None,
            annotations: vec![],
        };
        let done = wait(&self.sim, async {
            let mut delivery = Delivery::new(&self.store, &self.lane, vec![target])?;
            delivery.write(text(token).as_bytes()).await?;
            delivery.commit().await.remove(0)
        });
        let appended = done?.ok()?;
        self.own.insert(token, Own { sure: there.clone(), maybe: there });
        self.live.push((token, to, appended.uid));
        Some(())
    }
}

/// One store, one cut, one look.
pub fn race(seed: u64) {
    let mut random = Random(seed);
    let mode = if random.once_in(2) { Mode::Ordered } else { Mode::Weak };
    let sync_names = mode == Mode::Weak;
    let sim = Sim::with_mode(seed, mode);
    let mut settings = config(sync_names);
    // The ticker makes a checkpoint whenever half of it is full.
    settings.log_bytes_max = 128 << 10;
    settings.helpers = 3;
    let store = Store::open(settings, storage(&sim), Drive::Threads).expect("a fresh store");
    for (name, _) in USERS {
        let made = async { store.user(name, &options(name)).await?.create("A", &[]).await };
        wait(&sim, made).expect("no cut yet").expect("a mailbox");
    }
    sim.stop_at(sim.operations() + 1 + random.below(OPERATIONS_MAX));
    let token = AtomicU32::new(1);
    let mut own = BTreeMap::new();
    std::thread::scope(|scope| {
        let mut sessions = Vec::new();
        for n in 0..SESSIONS {
            let Ok(session) = Session::new(&store, &sim, seed ^ n << 32) else { break };
            // What a session holds stays on the thread that it is made on.
            let Session { random, places, .. } = session;
            let (store, sim, token) = (store.clone(), sim.clone(), &token);
            sessions.push(scope.spawn(move || {
                let lane = Lane::inline(storage(&sim));
                let (own, live) = Default::default();
                Session { sim, store, lane, random, places, own, live }.run(token)
            }));
        }
        for session in sessions {
            own.append(&mut session.join().expect("a session"));
        }
    });
    sim.stop_at(1);
    let image = sim.image();
    // The old store sees nothing but the cut; its end takes its time.
    std::thread::spawn(move || store.close());
    let (after, _) = image.after_cut(random.next());
    let mut bench = Bench::open(&after, sync_names).expect("a start after a power cut");
    let world = bench.look().expect("a look after a power cut");
    let findings = bench.findings().expect("a check can be made");
    assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
    let mut found: BTreeMap<u32, Vec<(Place, u8)>> = BTreeMap::new();
    for (user, space) in &world.users {
        for (name, folder) in &space.folders {
            for message in folder.messages.values() {
                let place = (user.clone(), name.clone());
                found.entry(message.token).or_default().push((place, message.flags));
            }
        }
    }
    for (token, known) in own {
        let mut there = found.remove(&token).unwrap_or_default();
        assert!(there.len() < 2, "seed {seed}: message {token} is there twice: {there:?}");
        let is = there.pop();
        let Own { sure, maybe } = known;
        let fits = is == sure || is == maybe;
        assert!(fits, "seed {seed}: message {token}: {is:?}, expected {sure:?} or {maybe:?}");
    }
    assert!(found.is_empty(), "seed {seed}: from nowhere: {found:?}");
}
