//! Completions and manual pages, from the same definitions that the command line is parsed by.

use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::failure::{Failed, Kind};

/// Prints a completion script.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Failed> {
    clap_complete::generate(shell, &mut Cli::command(), "cursus", &mut std::io::stdout());
    Ok(())
}

/// Writes `cursus.1` and a page for each command.
pub fn write(directory: &Path) -> Result<(), Failed> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|e| Failed::new(Kind::Incomplete, format!("{}: {e}", directory.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        for page in ["cursus.1", "cursus-user-add.1", "cursus-message-import.1"] {
            let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
            assert!(text.contains("cursus"), "{page}");
        }
        let top = std::fs::read_to_string(dir.path().join("cursus.1")).unwrap();
        assert!(top.contains("Exit status"), "{top}");
    }
}
