//! Ctrl-C and SIGTERM: work in hand ends at its next step, and what was made is taken away.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Begins to listen. A second signal ends the process as it would without us; what that leaves
/// behind the next run takes away (see [`crate::leftovers`]).
pub fn listen() {
    let listener = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let kinds = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = kinds else { return };
            let mut again = false;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if again {
                    std::process::exit(130);
                }
                again = true;
                REQUESTED.store(true, Ordering::Relaxed);
                eprintln!("stopping, and taking away what was made (once more: at once)");
            }
        });
    };
    let _ = std::thread::Builder::new().name("signals".into()).spawn(listener);
}

/// Whether somebody wants this to end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// # Errors
/// [`Error::Stopped`] when somebody wants this to end.
pub fn check() -> Result<()> {
    if requested() { Err(Error::Stopped) } else { Ok(()) }
}
