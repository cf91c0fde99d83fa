//! What this host, as a file server, exports and how.

use std::fs;
use std::path::{Path, PathBuf};

/// Options of the export that a client's source `host:/path` names, where this host is the server:
/// from nfsd's own table.
pub fn export_options(source: &str) -> Option<Vec<String>> {
    let (_, path) = source.split_once(":/")?;
    let table = fs::read_to_string("/var/lib/nfs/etab").ok()?;
    find(&table, &format!("/{path}")).map(|(_, options)| options)
}

/// The directory of this host's that a client's source `host:/path` names, where this host is the
/// server.
pub fn exported_path(source: &str) -> Option<PathBuf> {
    let (_, path) = source.split_once(":/")?;
    let table = fs::read_to_string("/var/lib/nfs/etab").ok()?;
    exported(&table, &format!("/{path}"))
}

fn exported(table: &str, path: &str) -> Option<PathBuf> {
    let (export, _) = find(table, path)?;
    // As the server names it, or below the root that NFSv4's clients see, or that root itself.
    Some(match (path.starts_with(&export), export.ends_with(path)) {
        (true, _) => PathBuf::from(path),
        (false, true) => PathBuf::from(export),
        (false, false) => Path::new(&export).join(path.trim_start_matches('/')),
    })
}

/// Whether this host, as a file server, exports a root of NFSv4's.
pub fn has_root() -> bool {
    let table = fs::read_to_string("/var/lib/nfs/etab").unwrap_or_default();
    table.lines().any(|line| line.split(['(', ',', ')']).any(|option| option == "fsid=0"))
}

/// The export that a path is of, and its options.
fn find(table: &str, path: &str) -> Option<(String, Vec<String>)> {
    // NFSv4 names paths below a root that fsid=0 sets, so the longest ending counts too.
    let exports = table.lines().filter_map(|line| {
        let (exported, client) = line.split_once(['\t', ' '])?;
        let options = client.split_once('(')?.1.trim_end_matches(')');
        Some((exported, options.split(',').map(str::to_owned).collect::<Vec<_>>()))
    });
    let is_root = |options: &[String]| options.iter().any(|option| option == "fsid=0");
    let mut found: Vec<_> = exports
        .filter(|(e, options)| {
            *e == path || e.ends_with(path) || path.starts_with(e) || is_root(options)
        })
        .collect();
    found.sort_by_key(|(e, options)| {
        let below_root = is_root(options) && !path.starts_with(e);
        (*e == path, !below_root, e.len())
    });
    found.pop().map(|(export, options)| (export.to_owned(), options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_export_of_a_path_is_found_with_its_options() {
        let table = "/srv/mail\t127.0.0.1(rw,async,wdelay,no_root_squash)\n/srv\t*(ro,sync)\n";
        let find = |table: &str, path: &str| super::find(table, path).map(|(_, options)| options);
        let options = find(table, "/srv/mail").unwrap();
        assert!(options.contains(&"async".to_owned()), "{options:?}");
        assert!(find(table, "/srv/mail/alice").unwrap().contains(&"async".to_owned()));
        assert!(find(table, "/srv/other").unwrap().contains(&"sync".to_owned()));
        assert_eq!(find(table, "/home"), None);
        // NFSv4 sees paths below the export with fsid=0.
        let table = "/srv\t*(rw,async,fsid=0)\n/srv/a\t*(rw,sync)\n";
        assert!(find(table, "/").unwrap().contains(&"async".to_owned()));
        assert!(find(table, "/a").unwrap().contains(&"sync".to_owned()));
        for (path, here) in [("/srv/a", "/srv/a"), ("/a", "/srv/a"), ("/b/c", "/srv/b/c")] {
            assert_eq!(exported(table, path).as_deref(), Some(Path::new(here)));
        }
        assert_eq!(exported(table, "/"), Some("/srv/".into()));
    }
}
