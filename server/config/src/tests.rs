use super::*;

const SMALL: &str = r#"
state_dir = "state"
[[partition]]
name = "default"
path = "/mail"
[[listener]]
protocol = "imap"
address = "127.0.0.1:143"
"#;

fn errors(text: &str) -> String {
    Config::parse(text, Path::new("/etc/cursus/cursus.toml")).expect_err("is wrong").to_string()
}

#[test]
fn defaults_fill_in_and_paths_are_relative_to_the_file() {
    let config = Config::parse(SMALL, Path::new("/etc/cursus/cursus.toml")).unwrap();
    assert_eq!(config.state_dir, Path::new("/etc/cursus/state"));
    assert_eq!(config.users_file(), Path::new("/etc/cursus/state/users"));
    assert_eq!(config.partition[0].path, Path::new("/mail"));
    assert_eq!(config.partition[0].layout, LayoutKind::Maildir);
    assert_eq!(config.listener[0].tls, TlsMode::Starttls);
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_known_ones() {
    let found = errors(&format!("{SMALL}\n[limits]\nconections_max = 5\n"));
    assert!(found.contains("cursus.toml:11: limits"), "{found}");
    assert!(found.contains("`conections_max`") && found.contains("`connections_max`"), "{found}");
}

#[test]
fn a_wrong_type_names_key_found_and_expected() {
    let found = errors(&format!("{SMALL}\n[limits]\nline_bytes_max = \"many\"\n"));
    assert!(found.contains("limits.line_bytes_max"), "{found}");
    assert!(found.contains("\"many\"") && found.contains("expected"), "{found}");
}

#[test]
fn one_limit_on_messages_makes_the_other_useless() {
    let found = errors(&format!("{SMALL}\n[imap]\nmessage_limit = 1000\nsave_limit = 500\n"));
    assert!(found.contains("imap.save_limit") && found.contains("500"), "{found}");
    let one = format!("{SMALL}\n[imap]\nsave_limit = 500\n");
    assert!(Config::parse(&one, Path::new("/etc/cursus/cursus.toml")).is_ok());
}

#[test]
fn every_mistake_is_reported_at_once() {
    let text = r#"
state_dir = "s"
default_partition = "other"
[[partition]]
name = "default"
path = "/mail"
[[listener]]
protocol = "pop3"
address = "110"
tls = "none"
[tls]
key = "key.pem"
[limits]
line_bytes_max = 8191
"#;
    let found = errors(text);
    for key in ["default_partition", "listener[0].address", "listener[0].tls", "tls.certificate"] {
        assert!(found.contains(key), "{key} is missing from: {found}");
    }
    assert!(found.contains("limits.line_bytes_max: found 8191, expected at least 8192"), "{found}");
}

#[test]
fn names_of_mailboxes_have_a_form_and_a_separator_that_go_together() {
    let imap = |more: &str| {
        let address = "protocol = \"imap\"\naddress = \"[::1]:143\"\n";
        errors(&format!("{SMALL}\n[[listener]]\n{address}{more}\n"))
    };
    assert!(imap("separator = \":\"").contains("separator"), "{}", imap("separator = \":\""));
    let found = imap("names = \"courier\"\nseparator = \"/\"");
    assert!(found.contains(".separator") && found.contains("Courier"), "{found}");
    assert!(imap("names = \"other\"").contains("names"));
    let lmtp =
        "protocol = \"lmtp\"\naddress = \"unix:/l\"\nnames = \"internal\"\nseparator = \".\"";
    let found = errors(&format!("{SMALL}\n[[listener]]\n{lmtp}\n"));
    assert!(found.contains(".names") && found.contains(".separator"), "{found}");
    let found = errors(&format!(
        "{SMALL}\n[sharing]\nuser_prefix = \"a/b\"\nshared_prefix = \"\"\n[lmtp]\npost_user = \"bb\"\n"
    ));
    for key in ["sharing.user_prefix", "sharing.shared_prefix", "sharing.shared_user"] {
        assert!(found.contains(key), "{key} is missing from: {found}");
    }
}

#[test]
fn an_archive_is_a_directory_or_a_command() {
    let both = "[archive]\ndirectory = \"a\"\ncommand = [\"take\"]\npending_bytes_max = 1";
    let found = errors(&format!("{SMALL}\n{both}\n"));
    assert!(found.contains("archive.command") && found.contains("beside directory"), "{found}");
    assert!(found.contains("archive.pending_bytes_max"), "{found}");
    let text = format!("{SMALL}\n[archive]\ndirectory = \"a\"\n");
    let config = Config::parse(&text, Path::new("/etc/cursus/cursus.toml")).unwrap();
    assert_eq!(config.archive.directory.as_deref(), Some(Path::new("/etc/cursus/a")));
    assert!(config.archive.is_on() && !Config::embedded(Path::new("v")).archive.is_on());
}

#[test]
fn a_limit_at_its_least_value_is_taken() {
    let text = format!("{SMALL}\n[limits]\nline_bytes_max = 8192\n");
    assert!(Config::parse(&text, Path::new("c.toml")).is_ok());
}

#[test]
fn the_embedded_default_passes_its_own_check() {
    check::check(&Config::embedded(Path::new("var")), Path::new("embedded")).unwrap();
}

/// Dotted names of all keys; a list's entries stand under the list's own name.
fn keys(prefix: &str, value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, inner) in map {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                if !inner.is_object()
                    && !inner.as_array().is_some_and(|l| l.iter().any(serde_json::Value::is_object))
                {
                    out.push(key.clone());
                }
                keys(&key, inner, out);
            }
        }
        serde_json::Value::Array(list) => list.iter().take(1).for_each(|v| keys(prefix, v, out)),
        _ => {}
    }
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let json = serde_json::to_value(Config::embedded(Path::new("var"))).unwrap();
    let mut known = Vec::new();
    keys("", &json, &mut known);
    let doc = include_str!("../../../docs/configuration.md");
    for key in &known {
        assert!(doc.contains(&format!("| `{key}` |")), "docs/configuration.md lacks {key}");
    }
    let documented =
        doc.lines().filter_map(|l| l.strip_prefix("| `")).filter_map(|l| l.split('`').next());
    for key in documented {
        assert!(known.iter().any(|k| k == key), "docs/configuration.md describes unknown {key}");
    }
}
