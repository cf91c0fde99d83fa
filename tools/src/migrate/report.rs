//! What became of each user: for people, and as JSON or CSV for programs.

use std::path::Path;

use serde::Serialize;

use crate::failure::{Failed, Kind};
use crate::output::{Output, Table, human_bytes};

/// What became of one user.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UserReport {
    /// Name at the source.
    pub source: String,
    /// Name here.
    pub target: String,
    /// `done`; `partial`: something is missing, see `failed` and `error`; `failed`: nothing was done.
    pub status: &'static str,
    /// Folders that were looked at.
    pub folders: u64,
    /// Mailboxes made.
    pub created: u64,
    /// Mailboxes renamed, as the source has done.
    pub renamed: u64,
    /// Mailboxes deleted, as the source has done.
    pub removed: u64,
    /// Messages copied.
    pub messages: u64,
    /// Messages that were here already, by `--match`.
    pub matched: u64,
    /// Messages whose flags changed.
    pub flags: u64,
    /// Messages removed, as the source has done.
    pub expunged: u64,
    /// Entries of access control lists set.
    pub acl: u64,
    /// Subscriptions changed.
    pub subscriptions: u64,
    /// UIDLs of POP3 given.
    pub uidls: u64,
    /// Octets copied.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// How often a connection was made anew.
    pub retries: u64,
    /// What is missing.
    pub failed: Vec<Missing>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// Why the user's run ended early.
    pub error: Option<String>,
}

/// A folder or message that did not come over.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    /// Name at the source.
    pub folder: String,
    /// UID at the source; `None`: the folder.
    pub uid: Option<u32>,
    /// Why.
    pub reason: String,
}

impl UserReport {
    /// Sets the status from what is known.
    pub fn conclude(&mut self) {
        let begun = self.folders > 0;
        self.status = match (&self.error, self.failed.is_empty()) {
            (None, true) => "done",
            (Some(_), _) if !begun => "failed",
            _ => "partial",
        };
    }

    /// Whether all is over here.
    pub fn is_done(&self) -> bool {
        self.status == "done"
    }
}

/// The columns of CSV files.
const COLUMNS: &str = "source,target,status,folders,created,renamed,removed,messages,matched,flags,\
                       expunged,acl,subscriptions,uidls,bytes,seconds,retries,failed,error";

/// A cell of a CSV file (RFC 4180).
fn cell(text: &str) -> String {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn csv(reports: &[UserReport]) -> String {
    let line = |r: &UserReport| {
        let error = r.error.clone().or_else(|| r.failed.first().map(|one| one.reason.clone()));
        let cells = [
            cell(&r.source),
            cell(&r.target),
            r.status.to_owned(),
            r.folders.to_string(),
            r.created.to_string(),
            r.renamed.to_string(),
            r.removed.to_string(),
            r.messages.to_string(),
            r.matched.to_string(),
            r.flags.to_string(),
            r.expunged.to_string(),
            r.acl.to_string(),
            r.subscriptions.to_string(),
            r.uidls.to_string(),
            r.bytes.to_string(),
            format!("{:.3}", r.seconds),
            r.retries.to_string(),
            r.failed.len().to_string(),
            cell(&error.unwrap_or_default()),
        ];
        cells.join(",") + "\n"
    };
    reports.iter().fold(format!("{COLUMNS}\n"), |text, report| text + &line(report))
}

/// Writes the file asked for by `--report`: CSV where its name ends so, else JSON.
pub fn write(path: &Path, reports: &[UserReport]) -> Result<(), Failed> {
    let text = match path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("csv")) {
        true => csv(reports),
        false => serde_json::to_string_pretty(reports).unwrap_or_default() + "\n",
    };
    std::fs::write(path, text)
        .map_err(|e| Failed::new(Kind::Incomplete, format!("{}: {e}", path.display())))
}

/// Prints all, and gives the exit status: what is missing is named on standard error.
pub fn tell(reports: &[UserReport], out: &Output) -> Result<(), Failed> {
    for report in reports {
        for missing in &report.failed {
            let uid = missing.uid.map_or_else(String::new, |uid| format!(" UID {uid}"));
            eprintln!("cursus: {} {}{uid}: {}", report.source, missing.folder, missing.reason);
        }
        for note in &report.notes {
            eprintln!("cursus: {}: {note}", report.source);
        }
        if let Some(error) = &report.error {
            eprintln!("cursus: {}: {error}", report.source);
        }
    }
    let row = |r: &UserReport| {
        let plain = [r.folders, r.messages, r.matched, r.flags, r.expunged];
        let mut cells = vec![r.source.clone(), r.target.clone(), r.status.to_owned()];
        cells.extend(plain.iter().map(u64::to_string));
        cells.extend([human_bytes(r.bytes), r.failed.len().to_string()]);
        cells
    };
    out.table(&reports, || Table {
        headings: &[
            "source",
            "target",
            "status",
            "#folders",
            "#messages",
            "#matched",
            "#flags",
            "#expunged",
            "#size",
            "#failed",
        ],
        rows: reports.iter().map(row).collect(),
    });
    let open = reports.iter().filter(|report| !report.is_done()).count();
    match open {
        0 => Ok(()),
        n => {
            let message = format!("{n} of {} users are not done; run it again", reports.len());
            Err(Failed::new(Kind::Incomplete, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_it_must() {
        let mut report = UserReport {
            source: "a,b".to_owned(),
            error: Some("say \"hi\"".to_owned()),
            ..UserReport::default()
        };
        report.conclude();
        let text = csv(&[report]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split(',').count(), 19);
        assert!(
            lines[1].starts_with("\"a,b\",,failed,0,") && lines[1].ends_with(",\"say \"\"hi\"\"\"")
        );
    }
}
