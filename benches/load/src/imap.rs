//! An IMAP client that knows as little as a load needs: commands out, responses counted.

use crate::error::{Error, Result};
use crate::scan::{Kind, Response, Status, Words};
use crate::target::{Target, Tls};
use crate::wire::Wire;

/// Literals up to this size may go without waiting under LITERAL- (RFC 7888).
const LITERAL_MINUS_BYTES_MAX: usize = 4096;

/// A session; commands may be pipelined by `push` and read back in order by `finish`.
#[derive(Debug)]
pub(crate) struct Imap {
    wire: Wire,
    tag: u32,
    out: Vec<u8>,
    capabilities: String,
}

impl Imap {
    /// Connects, reads the greeting and starts TLS if so asked.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let mut wire = target.connect().await?;
        let greeting = wire.response(&Words::default()).await?;
        if !matches!(greeting.kind, Kind::Status(Status::Ok)) {
            return Err(unexpected("a greeting", greeting.text));
        }
        let mut imap = Self { wire, tag: 0, out: Vec::new(), capabilities: String::new() };
        if target.tls() == Tls::Starttls {
            imap.run("STARTTLS").await?;
            imap.wire = target.encrypt(imap.wire).await?;
        }
        Ok(imap)
    }

    /// Connects and logs in as the account of `connection`.
    pub(crate) async fn login(target: &Target, connection: u32) -> Result<Self> {
        let mut imap = Self::connect(target).await?;
        imap.authenticate(target, connection).await?;
        Ok(imap)
    }

    pub(crate) async fn authenticate(&mut self, target: &Target, connection: u32) -> Result<()> {
        let user = target.user(connection);
        self.run(&format!("LOGIN {} {}", quoted(&user), quoted(target.password()))).await
    }

    /// Asks for the capabilities of the logged-in state, once.
    pub(crate) async fn has(&mut self, capability: &str) -> Result<bool> {
        if self.capabilities.is_empty() {
            let mut found = String::new();
            self.each("CAPABILITY", &Words::default(), |response| {
                if response.text.starts_with("* CAPABILITY ") {
                    found = response.text.to_ascii_uppercase();
                }
                Ok(())
            })
            .await?;
            self.capabilities = found;
        }
        Ok(self.capabilities.split(' ').any(|word| word == capability))
    }

    /// Queues a command and hands back its tag; `flush` sends it.
    pub(crate) fn push(&mut self, command: &str) -> u32 {
        self.tag += 1;
        self.out.extend_from_slice(format!("a{} {command}\r\n", self.tag).as_bytes());
        self.tag
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.wire.send(&self.out).await?;
        self.out.clear();
        // A batch of messages may have made it large.
        self.out.shrink_to(64 << 10);
        Ok(())
    }

    /// Reads until the answer to `tag`, which must be OK.
    pub(crate) async fn finish(
        &mut self,
        tag: u32,
        words: &Words,
        mut each: impl FnMut(&Response) -> Result<()>,
    ) -> Result<()> {
        loop {
            let response = match self.wire.response_here(words) {
                Some(response) => response,
                None => self.wire.response(words).await?,
            };
            match response.kind {
                Kind::Tagged { tag: found, status: Status::Ok } if found == tag => return Ok(()),
                Kind::Tagged { .. } | Kind::Bye => {
                    return Err(unexpected(&format!("a{tag} OK"), response.text));
                }
                _ => each(&response)?,
            }
        }
    }

    /// One command, its untagged responses handed to `each`.
    pub(crate) async fn each(
        &mut self,
        command: &str,
        words: &Words,
        each: impl FnMut(&Response) -> Result<()>,
    ) -> Result<()> {
        let tag = self.push(command);
        self.flush().await?;
        self.finish(tag, words, each).await
    }

    /// Many commands with up to `window` of them in flight, all responses handed to `each`.
    ///
    /// Untagged data are not matched with commands: a server may run pipelined commands together
    /// and send their tagged answers at the end.
    pub(crate) async fn pipeline(
        &mut self,
        commands: impl IntoIterator<Item = String>,
        window: u32,
        mut each: impl FnMut(&Response) -> Result<()>,
    ) -> Result<()> {
        let words = Words::default();
        let mut commands = commands.into_iter();
        let mut in_flight = 0;
        loop {
            // Topped up when half of the window is answered, so that commands share packets.
            if in_flight <= window / 2 {
                for command in commands.by_ref().take((window - in_flight) as usize) {
                    self.push(&command);
                    in_flight += 1;
                }
                self.flush().await?;
            }
            if in_flight == 0 {
                return Ok(());
            }
            let response = self.wire.response(&words).await?;
            match response.kind {
                Kind::Tagged { status: Status::Ok, .. } => in_flight -= 1,
                Kind::Tagged { .. } | Kind::Bye => {
                    return Err(unexpected("a tagged OK", response.text));
                }
                _ => each(&response)?,
            }
        }
    }

    /// One command whose untagged responses don't matter.
    pub(crate) async fn run(&mut self, command: &str) -> Result<()> {
        self.each(command, &Words::default(), |_| Ok(())).await
    }

    /// SELECT or EXAMINE; hands back EXISTS.
    pub(crate) async fn select(&mut self, command: &str, mailbox: &str) -> Result<u32> {
        let mut exists = None;
        self.each(&format!("{command} {}", quoted(mailbox)), &Words::default(), |response| {
            if let Kind::Exists(count) = response.kind {
                exists = Some(count);
            }
            Ok(())
        })
        .await?;
        exists.ok_or_else(|| unexpected("EXISTS in the answer to SELECT", String::new()))
    }

    /// The mailbox's MESSAGES by STATUS.
    pub(crate) async fn messages(&mut self, mailbox: &str) -> Result<u64> {
        let mut count = None;
        let command = format!("STATUS {} (MESSAGES)", quoted(mailbox));
        self.each(&command, &Words::number_after("(MESSAGES "), |response| {
            count = count.or(response.number);
            Ok(())
        })
        .await?;
        count.ok_or_else(|| unexpected("MESSAGES in the answer to STATUS", String::new()))
    }

    /// SEARCH; hands back how many messages matched.
    pub(crate) async fn search(&mut self, command: &str) -> Result<u32> {
        let mut count = 0;
        self.each(command, &Words::default(), |response| {
            if let Kind::Search(found) = response.kind {
                count += found;
            }
            Ok(())
        })
        .await?;
        Ok(count)
    }

    /// Queues an APPEND of several messages (RFC 3502), or of one; the tag's OK is still to be
    /// read. Waits for a continuation only where the server offers no way around it.
    pub(crate) async fn append(&mut self, mailbox: &str, messages: &[&[u8]]) -> Result<u32> {
        let plus = self.has("LITERAL+").await?;
        let minus = self.has("LITERAL-").await?;
        self.tag += 1;
        let tag = self.tag;
        self.out.extend_from_slice(format!("a{tag} APPEND {}", quoted(mailbox)).as_bytes());
        for message in messages {
            let waits = !(plus || minus && message.len() <= LITERAL_MINUS_BYTES_MAX);
            let sign = if waits { "" } else { "+" };
            self.out.extend_from_slice(format!(" {{{}{sign}}}\r\n", message.len()).as_bytes());
            if waits {
                self.flush().await?;
                self.continuation().await?;
            }
            self.out.extend_from_slice(message);
        }
        self.out.extend_from_slice(b"\r\n");
        Ok(tag)
    }

    /// Starts IDLE; hands back its tag once the server idles.
    pub(crate) async fn idle(&mut self) -> Result<u32> {
        let tag = self.push("IDLE");
        self.flush().await?;
        self.continuation().await?;
        Ok(tag)
    }

    /// The next response, whatever it is.
    pub(crate) async fn next(&mut self) -> Result<Response> {
        self.wire.response(&Words::default()).await
    }

    pub(crate) async fn done(&mut self, tag: u32) -> Result<()> {
        self.wire.send(b"DONE\r\n").await?;
        self.finish(tag, &Words::default(), |_| Ok(())).await
    }

    pub(crate) async fn logout(mut self) -> Result<()> {
        let tag = self.push("LOGOUT");
        self.flush().await?;
        loop {
            let response = self.wire.response(&Words::default()).await?;
            if matches!(response.kind, Kind::Tagged { tag: found, .. } if found == tag) {
                return Ok(());
            }
        }
    }

    async fn continuation(&mut self) -> Result<()> {
        loop {
            let response = self.wire.response(&Words::default()).await?;
            match response.kind {
                Kind::Continue => return Ok(()),
                Kind::Tagged { .. } | Kind::Bye => {
                    return Err(unexpected("a continuation (+)", response.text));
                }
                _ => {}
            }
        }
    }
}

fn unexpected(expected: &str, found: String) -> Error {
    Error::Answer { expected: expected.to_owned(), found }
}

/// A quoted string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}
