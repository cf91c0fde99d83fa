//! What this host, as a file server, exports and how.

use std::fs;

/// Options of the export that a client's source `host:/path` names, where this host is the server:
/// from nfsd's own table.
pub fn export_options(source: &str) -> Option<Vec<String>> {
    let (_, path) = source.split_once(":/")?;
    let table = fs::read_to_string("/var/lib/nfs/etab").ok()?;
    find(&table, &format!("/{path}"))
}

fn find(table: &str, path: &str) -> Option<Vec<String>> {
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
    found.pop().map(|(_, options)| options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_export_of_a_path_is_found_with_its_options() {
        let table = "/srv/mail\t127.0.0.1(rw,async,wdelay,no_root_squash)\n/srv\t*(ro,sync)\n";
        let options = find(table, "/srv/mail").unwrap();
        assert!(options.contains(&"async".to_owned()), "{options:?}");
        assert!(find(table, "/srv/mail/alice").unwrap().contains(&"async".to_owned()));
        assert!(find(table, "/srv/other").unwrap().contains(&"sync".to_owned()));
        assert_eq!(find(table, "/home"), None);
        // NFSv4 sees paths below the export with fsid=0.
        let table = "/srv\t*(rw,async,fsid=0)\n/srv/a\t*(rw,sync)\n";
        assert!(find(table, "/").unwrap().contains(&"async".to_owned()));
        assert!(find(table, "/a").unwrap().contains(&"sync".to_owned()));
    }
}
