//! Taking a changed configuration into use without a restart.
//!
//! Invariant: a reload takes all that can change, or nothing; what needs a restart keeps its old
//! value, so that the configuration in use always says what is in force.

use config::Config;

/// What a reload comes to.
#[derive(Debug)]
pub struct Reloaded {
    /// To be used from now on.
    pub config: Config,
    /// Keys or tables that differ in the file and take a restart.
    pub restart_needed: Vec<&'static str>,
}

/// Joins the running configuration with what the file says now.
pub fn join(running: &Config, file: &Config) -> Reloaded {
    let mut config = file.clone();
    let mut restart_needed = Vec::new();
    macro_rules! keep {
        ($($name:literal => $($field:ident).+;)+) => {$(
            if config.$($field).+ != running.$($field).+ {
                restart_needed.push($name);
                config.$($field).+ = running.$($field).+.clone();
            }
        )+};
    }
    // Not here, hence changed at once: limits, lmtp, tls, quotas, server.drain_seconds_max.
    keep! {
        "state_dir" => state_dir;
        "default_partition" => default_partition;
        "partition" => partition;
        "sharing.courier_index" => sharing.courier_index;
        "sharing.courier_maildirs" => sharing.courier_maildirs;
        "store.log_dir" => store.log_dir;
        "store.log_bytes_max" => store.log_bytes_max;
        "store.checkpoint_seconds" => store.checkpoint_seconds;
        "store.helper_threads" => store.helper_threads;
        "store.network_state" => store.network_state;
        "server.cores" => server.cores;
        "server.io" => server.io;
        "server.hostname" => server.hostname;
        "server.busy_poll_us_max" => server.busy_poll_us_max;
        "listener" => listener;
        "auth" => auth;
        "limits.message_bytes_max" => limits.message_bytes_max;
        "limits.open_mailboxes_max" => limits.open_mailboxes_max;
        "limits.descriptors_max" => limits.descriptors_max;
        "limits.mapped_bytes_max" => limits.mapped_bytes_max;
        "limits.open_users_max" => limits.open_users_max;
        "limits.orders_bytes_max" => limits.orders_bytes_max;
        "archive" => archive;
        "admin" => admin;
        "log" => log;
    }
    Reloaded { config, restart_needed }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_takes_a_restart_is_named_and_keeps_its_value() {
        let running = Config::embedded(Path::new("var"));
        let mut file = running.clone();
        file.limits.line_bytes_max += 1;
        file.server.cores = 7;
        file.listener.pop();
        let reloaded = join(&running, &file);
        assert_eq!(reloaded.restart_needed, vec!["server.cores", "listener"]);
        assert_eq!(reloaded.config.limits.line_bytes_max, running.limits.line_bytes_max + 1);
        assert_eq!(reloaded.config.server.cores, running.server.cores);
        assert_eq!(reloaded.config.listener, running.listener);
    }
}
