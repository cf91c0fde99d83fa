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
    check::check(&Config::embedded(Path::new("var")), &Origins::default()).unwrap();
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
    let mut config = Config::embedded(Path::new("var"));
    // Lists of tables that are empty by default, and tables that are not there.
    config.store.new_mailbox.push(NewMailbox {
        name: "Sent".into(),
        special_use: String::new(),
        subscribe: true,
    });
    let new_mailbox = Some(Vec::new());
    config.domain.push(Domain { new_mailbox, ..Domain::default() });
    let pair = CertificatePair { certificate: "c".into(), key: "k".into() };
    config.tls.imap = Some(pair.clone());
    config.tls.pop3 = Some(pair.clone());
    config.tls.lmtp = Some(pair);
    config.sharing.courier_index = Some("/etc/courier/shared/index".into());
    let json = serde_json::to_value(config).unwrap();
    let mut known = Vec::new();
    keys("", &json, &mut known);
    let doc = include_str!("../../../docs/configuration.md");
    // The first cell of a row: keys in backquotes.
    let cells = doc.lines().filter_map(|l| l.strip_prefix("| `")?.split_once("` |")).map(|c| c.0);
    let documented: Vec<&str> = cells.flat_map(|cell| cell.split("`, `")).collect();
    // A list of tables is named where it is told what its entries are.
    known.extend(["store.new_mailbox", "domain.new_mailbox"].map(str::to_owned));
    for key in &known {
        assert!(documented.contains(&key.as_str()), "docs/configuration.md lacks {key}");
    }
    for key in documented {
        assert!(known.iter().any(|k| k == key), "docs/configuration.md describes unknown {key}");
    }
}

#[test]
fn a_domain_has_defaults_of_its_own() {
    let text = format!(
        "{SMALL}\n[store]\nquota_bytes = 1000\n[[store.new_mailbox]]\nname = \"Sent\"\n\
         [[domain]]\nname = \"a.org\"\nquota_bytes = 0\npartition = \"default\"\nnew_mailbox = []\n\
         [[domain]]\nname = \"b.org\"\nquota_messages = 7\n"
    );
    let config = Config::parse(&text, Path::new("/etc/cursus/cursus.toml")).unwrap();
    let sent = config.store.new_mailbox.as_slice();
    let server = UserDefaults { quota_bytes: 1000, new_mailboxes: sent, ..UserDefaults::default() };
    assert_eq!(config.user_defaults("jo"), server);
    assert_eq!(config.user_defaults("jo@sub.a.org"), server);
    assert_eq!(
        config.user_defaults("jo@a.org"),
        UserDefaults { partition: Some("default"), ..UserDefaults::default() }
    );
    assert_eq!(config.user_defaults("jo@b.org"), UserDefaults { quota_messages: 7, ..server });
    let found = errors(&format!(
        "{SMALL}\n[[domain]]\nname = \"A.org\"\n[[domain]]\nname = \"b\"\npartition = \"no\"\n\
         [[domain]]\nname = \"b\"\n[[domain.new_mailbox]]\nname = \"inbox\"\n"
    ));
    for key in
        ["domain[0].name", "domain[1].partition", "domain[2].name", "domain[2].new_mailbox[0]"]
    {
        assert!(found.contains(key), "{key}: {found}");
    }
}

/// Two sources: a file of our own, and one that only sets what is told.
fn layered(upper: &str, lower: &[(&str, toml::Value)]) -> Result<Loaded, ConfigErrors> {
    let mut below = Layer::default();
    for (i, (key, value)) in lower.iter().enumerate() {
        let origin = Origin::Line { file: "/etc/other/file.conf".into(), line: i + 1 };
        below.set(key, value.clone(), origin);
    }
    join(&[Layer::parse(upper, Path::new("/etc/cursus/cursus.toml")).unwrap(), below])
}

#[test]
fn the_first_source_decides_key_by_key_and_lists_are_whole() {
    let lower = [
        ("limits.connections_max", 7.into()),
        ("limits.login_seconds_max", 9.into()),
        ("listener[0].protocol", "pop3".into()),
        ("listener[0].address", "127.0.0.1:110".into()),
        ("listener[1].protocol", "pop3".into()),
        ("listener[1].address", "127.0.0.1:111".into()),
        ("trash.empty[0].mailbox", "Trash".into()),
        ("trash.empty[0].days", 3.into()),
    ];
    let upper = format!("{SMALL}\n[limits]\nconnections_max = 5\n");
    let loaded = layered(&upper, &lower).unwrap();
    let limits = &loaded.config.limits;
    assert_eq!((limits.connections_max, limits.login_seconds_max), (5, 9));
    assert_eq!(loaded.config.listener.len(), 1, "a list is one setting");
    assert_eq!(loaded.config.trash.empty, [Expiry { mailbox: "Trash".into(), days: 3 }]);
    let of = |key: &str| loaded.origins.of(key).to_string();
    assert_eq!(of("limits.connections_max"), "/etc/cursus/cursus.toml:11");
    assert_eq!(of("limits.login_seconds_max"), "/etc/other/file.conf:2");
    assert_eq!(of("listener[0].address"), "/etc/cursus/cursus.toml:8");
    assert_eq!(of("listener[1].address"), "default");
    assert_eq!(of("limits.line_bytes_max"), "default");
}

#[test]
fn what_belongs_together_comes_from_one_source() {
    let lower = [
        ("tls.certificate", "/old/c".into()),
        ("tls.key", "/old/k".into()),
        ("tls.pop3.certificate", "/old/pc".into()),
        ("tls.pop3.key", "/old/pk".into()),
        ("tls.alpn", false.into()),
    ];
    let upper = format!("{SMALL}\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n");
    let tls = layered(&upper, &lower).unwrap().config.tls;
    let own = (Path::new("/etc/cursus/c"), Path::new("/etc/cursus/k"));
    assert_eq!(tls.pair(Protocol::Pop3), Some(own));
    assert!(!tls.alpn, "not of the group");
    let tls = layered(SMALL, &lower).unwrap().config.tls;
    assert_eq!(tls.pair(Protocol::Pop3), Some((Path::new("/old/pc"), Path::new("/old/pk"))));
    assert_eq!(tls.pair(Protocol::Imap), Some((Path::new("/old/c"), Path::new("/old/k"))));
}

#[test]
fn mistakes_of_any_source_are_told_at_their_place() {
    let told = |lower: &[(&str, toml::Value)]| layered(SMALL, lower).unwrap_err().to_string();
    let found = told(&[("limits.connections_max", "many".into())]);
    assert!(found.starts_with("/etc/other/file.conf:1: limits.connections_max: "), "{found}");
    let found = told(&[("search.fuzzy", true.into()), ("limits.line_bytes_max", 1.into())]);
    assert!(found.starts_with("/etc/other/file.conf:2: limits.line_bytes_max: found 1"), "{found}");
}

#[test]
fn a_converted_configuration_is_the_same() {
    let lower = [
        ("tls.pop3.certificate", "/old/pc".into()),
        ("tls.pop3.key", "/old/pk".into()),
        ("tls.alpn", false.into()),
        ("tls.versions", toml::Value::Array(vec!["1.3".into()])),
        ("trash.empty[0].mailbox", "Trash".into()),
        ("trash.empty[0].days", 3.into()),
        ("trash.empty[1].mailbox", "Junk".into()),
        ("trash.empty[1].days", 5.into()),
        ("trash.move_expunged", true.into()),
        ("auth.oauth.issuer", "i".into()),
        ("imap.id.vendor", "a \"quoted\" one".into()),
    ];
    let loaded = layered(SMALL, &lower).unwrap();
    let text = loaded.to_toml();
    assert!(text.contains("days = 5  # /etc/other/file.conf:8"), "{text}");
    let again = Config::parse(&text, Path::new("/elsewhere/cursus.toml"));
    assert_eq!(again.unwrap(), loaded.config, "{text}");
    let shown = loaded.shown();
    let one = shown.iter().find(|one| one.key == "trash.empty[1].days").unwrap();
    assert_eq!(
        (one.value.to_string(), one.origin.to_string()),
        ("5".into(), "/etc/other/file.conf:8".into())
    );
}

#[test]
fn arbitrary_text_and_keys_do_not_panic() {
    for text in ["", "=", "[", "a.b.c = 1", "[[a]]\n[[a.b]]", "a = [{b = 1}, 2]", "\u{0}"] {
        let _ = Layer::parse(text, Path::new("x")).and_then(|layer| join(&[layer]));
    }
    let mut layer = Layer::default();
    for key in ["a", "a.b", "a[0].b", "b[0].c", "b[2].c", "b.c", "b[x].c", "", "."] {
        layer.set(key, 1, Origin::Default);
    }
    assert!(join(&[layer]).is_err());
}

#[test]
fn back_ends_have_an_order_and_what_they_need() {
    let parse = |auth: &str| {
        Config::parse(&format!("{SMALL}\n[auth]\n{auth}"), Path::new("/etc/cursus/cursus.toml"))
    };
    let config = parse(
        "backends = [\"users\", \"userdb\", \"sasldb\", \"saslauthd\"]\n\
         [auth.userdb]\npath = \"userdb.dat\"\n[auth.sasldb]\nrealm = \"example.org\"\n",
    )
    .unwrap();
    assert_eq!(config.auth.userdb.path, Path::new("/etc/cursus/userdb.dat"));
    assert_eq!(config.auth.sasldb.path, Path::new("/etc/sasldb2"));
    assert_eq!(config.auth.saslauthd.socket, Path::new("/run/saslauthd/mux"));
    for (auth, key) in [
        ("backends = []\n", "auth.backends"),
        ("backends = [\"users\", \"users\"]\n", "auth.backends"),
        ("backends = [\"saslauthd\", \"users\"]\n", "auth.backends"),
        ("backends = [\"pam\"]\n", "auth.backends"),
        ("backends = [\"passwd\"]\n", "auth.passwd.path"),
        ("[auth.userdb]\nfile = \"x\"\n", "auth.userdb"),
    ] {
        let found = parse(auth).expect_err("is wrong").to_string();
        assert!(found.contains(key), "{found}");
    }
}

#[test]
fn scram_is_offered_where_all_users_can_have_keys_or_somebody_asks_for_it() {
    let offers = |auth: &str| {
        let text = format!("{SMALL}\n[auth]\n{auth}");
        let config = Config::parse(&text, Path::new("/etc/cursus/cursus.toml")).unwrap();
        config.auth.mechanisms.contains(&SaslMechanism::ScramSha256)
    };
    assert!(offers(""));
    assert!(!offers("backends = [\"users\", \"userdb\"]\n"));
    assert!(offers("backends = [\"userdb\"]\nmechanisms = [\"SCRAM-SHA-256\"]\n"));
}
