//! What the embedded server prints for a person at a terminal: where it listens, the first user,
//! and a command that shows the first message.

use config::{Config, ListenerAddress, PlainLogin, Protocol, TlsMode};

use crate::first_start::{FIRST_USER, FirstUser};

/// Prints to standard output; whoever closed that doesn't want to read it.
pub fn print(config: &Config, first: Option<&FirstUser>) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text(config, first).as_bytes());
}

fn text(config: &Config, first: Option<&FirstUser>) -> String {
    let mut out = format!("\nCursus serves the store in {}\n\n", config.state_dir.display());
    for protocol in Protocol::ALL {
        let addresses: Vec<_> = config
            .listener
            .iter()
            .filter(|l| l.protocol == protocol)
            .map(|l| format!("{}{}", l.address, tls_words(l.tls)))
            .collect();
        let name = protocol.as_str().to_uppercase();
        out.push_str(&format!("  {name:<9} {}\n", addresses.join(", ")));
    }
    out.push_str(&format!("  admin     {}\n\n", config.admin_socket().display()));
    match first {
        Some(first) => {
            out.push_str(&format!("  user      {}\n  password  {}\n", first.name, first.password));
            out.push_str("            (shown this once)\n\nRead the first message:\n\n");
            if let Some(address) = plain_imap(config) {
                let (user, password) = (&first.name, &first.password);
                out.push_str(&format!(
                    "  curl --url \"imap://{address}/INBOX;UID=1\" -u {user}:{password}\n"
                ));
            }
        }
        None => out.push_str(&format!(
            "  The password was shown at the first start; `cursus user passwd {FIRST_USER}` sets\n  \
             another one.\n"
        )),
    }
    out.push('\n');
    out
}

fn tls_words(tls: TlsMode) -> &'static str {
    match tls {
        TlsMode::None => "",
        TlsMode::Starttls => " (STARTTLS)",
        TlsMode::Implicit => " (TLS)",
    }
}

fn plain_imap(config: &Config) -> Option<&str> {
    config.listener.iter().find_map(|l| match (&l.address, l.protocol, l.plain_login) {
        (ListenerAddress::Tcp(a), Protocol::Imap, PlainLogin::Loopback) => Some(a.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_shows_a_command_and_the_second_no_password() {
        let config = Config::embedded(std::path::Path::new("var"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("users");
        let first = crate::first_start::make_first_user(&file).unwrap().unwrap();
        let shown = text(&config, Some(&first));
        let curl = "curl --url \"imap://127.0.0.1:10143/INBOX;UID=1\" -u admin@localhost:";
        assert!(shown.contains(&format!("{curl}{}\n", first.password)), "{shown}");
        assert!(shown.contains("127.0.0.1:10993 (TLS)"), "{shown}");
        assert!(!text(&config, None).contains("-u admin"));
    }
}
