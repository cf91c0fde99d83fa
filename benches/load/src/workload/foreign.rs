//! A Maildir that some other program filled: making one, and opening it for the first time.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use super::Run;
use crate::error::{Error, Result, check_equal};
use crate::imap::Imap;
use crate::message::Generator;
use crate::report::Better;
use crate::scan::{Kind, Words};
use crate::target::{Target, TargetOptions};

/// Options of `plant`.
#[derive(Debug, clap::Args)]
pub(crate) struct Plant {
    /// The Maildir: the directory that holds `cur`, `new` and `tmp`, made where they are missing.
    #[arg(long)]
    directory: PathBuf,
    /// Messages to write into `cur`.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// Mean size of a message in bytes.
    #[arg(long, default_value_t = 3_000)]
    size: u32,
    /// Leave `,S=` out of the names, as programs do that know of no quotas.
    #[arg(long)]
    no_sizes: bool,
    /// Leave all of them unseen; otherwise two of three are seen.
    #[arg(long)]
    unseen: bool,
}

impl Plant {
    pub(crate) fn run(&self, run: &mut Run) -> Result<String> {
        let generator = Generator::new(run.seed, self.size);
        for part in ["cur", "new", "tmp"] {
            let path = self.directory.join(part);
            fs::create_dir_all(&path).map_err(|source| Error::File { path, source })?;
        }
        let section = run.meter.begin();
        let (mut message, mut stored) = (Vec::new(), Vec::new());
        for serial in 0..self.count {
            message.clear();
            generator.write(serial, &mut message);
            stored.clear();
            stored.extend(message.iter().filter(|&&byte| byte != b'\r'));
            let size = if self.no_sizes { String::new() } else { format!(",S={}", stored.len()) };
            let seconds = 1_700_000_000 + serial;
            let seen = if self.unseen || serial % 3 == 0 { "" } else { "S" };
            let name = format!("{seconds}.M{serial}P77.other.example.net{size}:2,{seen}");
            let path = self.directory.join("cur").join(name);
            let written = fs::File::create(&path).and_then(|mut file| file.write_all(&stored));
            written.map_err(|source| Error::File { path, source })?;
        }
        let wall = run.meter.end(&section).as_secs_f64();
        run.findings.sample("planted", "1/s", Better::Higher, self.count as f64 / wall);
        run.findings.parameter("count", self.count);
        Ok(self.directory.display().to_string())
    }
}

/// Options of `open`.
#[derive(Debug, clap::Args)]
pub(crate) struct Open {
    #[command(flatten)]
    target: TargetOptions,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Messages that `plant` put there.
    #[arg(long, default_value_t = 100_000)]
    count: u32,
}

impl Open {
    /// One session that does what a mail program does at its first sight of a mailbox. There is
    /// one first time only, so rounds do not apply.
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        let mut imap = Imap::login(&target, 0).await?;
        let section = run.meter.begin();
        let exists = imap.select("SELECT", &self.mailbox).await?;
        let wall = run.meter.end(&section);
        check_equal("EXISTS", self.count, exists)?;
        run.sample_ms("first SELECT", wall);
        for (name, items) in [
            ("first list of UID FLAGS", "UID FLAGS"),
            ("first list of sizes", "UID RFC822.SIZE INTERNALDATE"),
            ("first list of ENVELOPE", "UID ENVELOPE"),
        ] {
            let mut answers = 0;
            let section = run.meter.begin();
            imap.each(&format!("FETCH 1:* ({items})"), &Words::default(), |response| {
                answers += u32::from(matches!(response.kind, Kind::Fetch(_)));
                Ok(())
            })
            .await?;
            let wall = run.meter.end(&section);
            check_equal("FETCH responses", exists, answers)?;
            run.sample_ms(name, wall);
        }
        imap.logout().await?;
        run.findings.checked("EXISTS and the lists count every planted message");
        run.findings.parameter("messages", exists);
        Ok(target.to_string())
    }
}
