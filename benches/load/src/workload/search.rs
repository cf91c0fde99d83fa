//! SEARCH by body text, header fields and a flag; hits are checked against the planted words. SORT
//! and THREAD of all messages, as far as the server offers them.

use super::Run;
use crate::error::{Result, check_equal};
use crate::imap::Imap;
use crate::message::{
    PERSONS, WORD_BODY, WORD_BODY_EVERY, WORD_SUBJECT, WORD_SUBJECT_EVERY, person, planted,
};
use crate::target::TargetOptions;

/// Options of `search`.
#[derive(Debug, clap::Args)]
pub(crate) struct Search {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// The mailbox was not made by `fill`: don't check how many messages match.
    #[arg(long)]
    foreign: bool,
    /// Leave SEARCH BODY out, which reads every message.
    #[arg(long)]
    no_body: bool,
}

impl Search {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = run.target(&self.target)?;
        let mut imap = Imap::login(&target, 0).await?;
        let exists = imap.select("SELECT", &self.mailbox).await?;
        let count = u64::from(exists);
        // Serials start at 0, so `person(7)` wrote those 7, 207, …: one more than fits below 7.
        let from = planted(count.saturating_sub(7), PERSONS);
        let mut kinds = vec![
            (
                "subject",
                format!("SEARCH SUBJECT {WORD_SUBJECT}"),
                planted(count, WORD_SUBJECT_EVERY),
            ),
            ("from", format!("SEARCH FROM {}@", person(7)), from),
            ("unflagged", "SEARCH UNFLAGGED".to_owned(), count),
        ];
        if !self.no_body {
            kinds.push((
                "body",
                format!("SEARCH BODY {WORD_BODY}"),
                planted(count, WORD_BODY_EVERY),
            ));
        }
        let whole = [
            ("SORT", "sort arrival", "SORT (ARRIVAL) UTF-8 ALL"),
            ("SORT", "sort date", "SORT (DATE) UTF-8 ALL"),
            ("SORT", "sort subject", "SORT (SUBJECT) UTF-8 ALL"),
            ("SORT", "sort reverse from, date", "SORT (REVERSE FROM DATE) UTF-8 ALL"),
            ("THREAD=ORDEREDSUBJECT", "thread orderedsubject", "THREAD ORDEREDSUBJECT UTF-8 ALL"),
            ("THREAD=REFERENCES", "thread references", "THREAD REFERENCES UTF-8 ALL"),
            ("THREAD=REFS", "thread refs", "THREAD REFS UTF-8 ALL"),
        ];
        for (capability, name, command) in whole {
            if imap.has(capability).await? {
                kinds.push((name, command.to_owned(), count));
            }
        }
        imap.run("STORE 1:* -FLAGS.SILENT (\\Flagged)").await?;
        for _ in 0..run.rounds {
            for (name, criteria, expected) in &kinds {
                let section = run.meter.begin();
                let found = imap.search(criteria).await?;
                let wall = run.meter.end(&section);
                run.sample_ms(name, wall);
                if !self.foreign {
                    check_equal(criteria, *expected, u64::from(found))?;
                    run.findings.checked("every search found exactly what was planted");
                }
            }
        }
        imap.logout().await?;
        run.findings.parameter("messages", exists);
        Ok(target.to_string())
    }
}
