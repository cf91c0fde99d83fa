//! Busy polling: for a moment after an answer a core looks for the client's next command instead of
//! going to sleep.
//!
//! A client on the same machine (webmail, a proxy, an MTA) asks again within microseconds; putting
//! the core's thread to sleep and waking it takes longer than most commands do. What a client did
//! before tells whether it is worth it: clients across a network, and idle ones, cost nothing.
//!
//! Where several clients keep a core busy there is nothing to gain: what they wait for is processors.
//!
//! Invariants: a core polls only while all of its sessions wait for their clients, none but one has
//! had a command lately, and for at most the window after its answer; and no more cores at once than
//! [`polling_cores`] allows, so that the clients have processors to ask from.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use super::peer::SessionId;

/// Prompt commands in a row, with no other session's between them, before the next is polled for.
const PROMPTNESS_WORTH: u8 = 4;
/// More are not counted, so that the past is soon forgotten.
const PROMPTNESS_MAX: u8 = 8;
/// What a command that came late takes off.
const LATE_COST: u8 = 4;

/// How many cores may poll at once: half of the processors; a single one is left to its clients.
pub fn polling_cores(processors: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(processors / 2))
}

/// One core's polling.
#[derive(Debug)]
pub struct BusyPoll {
    /// Zero: never.
    window: Duration,
    /// Of [`polling_cores`].
    cores: Arc<Semaphore>,
    /// Sessions that do not wait for their clients.
    awake: Cell<usize>,
    last: Cell<Last>,
    until: Cell<Option<Instant>>,
    wanted: Notify,
}

/// The session that had the last command of a core.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    session: Option<SessionId>,
    /// Since when it waits for the next.
    since: Option<Instant>,
    /// See [`PROMPTNESS_WORTH`].
    promptness: u8,
}

impl BusyPoll {
    /// Polls for at most `window` after an answer (`server.busy_poll_us_max`).
    pub fn new(window: Duration, cores: Arc<Semaphore>) -> BusyPoll {
        BusyPoll {
            window,
            cores,
            awake: Cell::new(0),
            last: Cell::default(),
            until: Cell::new(None),
            wanted: Notify::new(),
        }
    }

    /// Polls when it is worth it. Ends never.
    pub async fn run(&self) {
        loop {
            self.wanted.notified().await;
            let Ok(_one) = self.cores.try_acquire() else { continue };
            while self.is_due(Instant::now()) {
                // With nothing else to run, the runtime asks the kernel for events, without waiting.
                tokio::task::yield_now().await;
            }
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.awake.get() == 0 && self.until.get().is_some_and(|until| now < until)
    }

    /// A session has begun; it does not wait yet.
    pub(super) fn joined(&self) {
        self.awake.set(self.awake.get() + 1);
    }

    /// A session that did not wait is gone.
    pub(super) fn left(&self) {
        self.awake.set(self.awake.get() - 1);
    }

    /// A session begins to wait for its client.
    pub(super) fn waits(&self, session: SessionId, now: impl FnOnce() -> Instant) {
        self.awake.set(self.awake.get() - 1);
        let last = self.last.get();
        if self.window.is_zero() || last.session != Some(session) {
            return;
        }
        let now = now();
        self.last.set(Last { since: Some(now), ..last });
        if last.promptness >= PROMPTNESS_WORTH {
            self.until.set(Some(now + self.window));
            self.wanted.notify_one();
        }
    }

    /// A session waits no longer: its client has said something.
    pub(super) fn heard(&self, session: SessionId, now: impl FnOnce() -> Instant) {
        self.awake.set(self.awake.get() + 1);
        self.until.set(None);
        let last = self.last.get();
        let promptness = match last.since {
            _ if last.session != Some(session) => 0,
            Some(since) if now().duration_since(since) <= self.window => {
                (last.promptness + 1).min(PROMPTNESS_MAX)
            }
            _ => last.promptness.saturating_sub(LATE_COST),
        };
        self.last.set(Last { session: Some(session), since: None, promptness });
    }
}

impl Default for BusyPoll {
    /// One that never polls.
    fn default() -> BusyPoll {
        BusyPoll::new(Duration::ZERO, polling_cores(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_micros(50);

    struct Core {
        polling: BusyPoll,
        now: Instant,
    }

    impl Core {
        fn new() -> Core {
            let polling = BusyPoll::new(WINDOW, polling_cores(2));
            Core { polling, now: Instant::now() }
        }

        /// A session that waits for its first command.
        fn session(&self) -> SessionId {
            let session = SessionId::next();
            self.polling.joined();
            self.polling.waits(session, || self.now);
            session
        }

        /// Its client asks after so long, and is answered at once.
        fn asks(&mut self, session: SessionId, after_us: u64) {
            self.now += Duration::from_micros(after_us);
            self.polling.heard(session, || self.now);
            assert!(!self.polling.is_due(self.now), "there is something to do");
            self.polling.waits(session, || self.now);
        }

        fn is_due(&self) -> bool {
            self.polling.is_due(self.now)
        }
    }

    fn asks_promptly(core: &mut Core, session: SessionId, times: u8) {
        for _ in 0..times {
            core.asks(session, 10);
        }
    }

    #[test]
    fn prompt_clients_are_polled_for_and_others_are_not() {
        let mut core = Core::new();
        let session = core.session();
        // The first one tells nothing: it was not heard before.
        asks_promptly(&mut core, session, PROMPTNESS_WORTH);
        assert!(!core.is_due(), "too little is known of the client");
        core.asks(session, 50);
        assert!(core.is_due(), "it asked promptly so many times");
        core.now += WINDOW;
        assert!(!core.is_due(), "the window is over");
        core.asks(session, 1);
        assert!(!core.is_due(), "it asked 51 µs after the answer");

        asks_promptly(&mut core, session, 100);
        core.asks(session, 1000);
        assert!(core.is_due(), "once late is no habit");
        core.asks(session, 1000);
        assert!(!core.is_due());
    }

    #[test]
    fn clients_that_take_turns_are_not_polled_for() {
        let mut core = Core::new();
        let (one, other) = (core.session(), core.session());
        for _ in 0..10 {
            for session in [one, one, other] {
                core.asks(session, 10);
                assert!(!core.is_due());
            }
        }
        asks_promptly(&mut core, one, PROMPTNESS_WORTH + 1);
        assert!(core.is_due(), "the other has been silent since");
        core.asks(other, 0);
        assert!(!core.is_due(), "what was begun for another one is over");
    }

    #[test]
    fn no_core_polls_while_a_session_has_something_to_do() {
        let mut core = Core::new();
        let (one, other) = (core.session(), core.session());
        core.polling.heard(other, || core.now);
        asks_promptly(&mut core, one, PROMPTNESS_MAX);
        assert!(!core.is_due(), "the other is at work");
        core.polling.left();
        assert!(core.is_due());
    }

    #[test]
    fn processors_are_left_to_the_clients() {
        let of = |processors| polling_cores(processors).available_permits();
        assert_eq!([0, 1, 2, 5].map(of), [0, 0, 1, 2]);
    }

    #[tokio::test]
    async fn polling_ends_with_the_window() {
        let core = BusyPoll::new(WINDOW, polling_cores(2));
        core.until.set(Some(Instant::now() + WINDOW));
        core.wanted.notify_one();
        let _ = tokio::time::timeout(Duration::from_millis(20), core.run()).await;
        assert_eq!(core.cores.available_permits(), 1, "it still polls");
        assert!(!core.is_due(Instant::now()));
    }
}
