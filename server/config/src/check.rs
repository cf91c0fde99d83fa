//! What the types alone can't say: values in range, names that refer to something, settings that
//! go together. All mistakes are collected, so that one run shows every one.

use crate::{
    AuthBackend, ClientCertificates, Config, ConfigError, ConfigErrors, ImapId, LayoutKind,
    ListenerAddress, NameForm, NewMailbox, Origin, Origins, Partition, PlainLogin, Pop3, Protocol,
    SaslMechanism, Spread, TlsMode,
};

/// IMAP's literals and sizes have 32 bits.
const MESSAGE_BYTES_CEILING: u64 = u32::MAX as u64;

/// A client that takes longer is not waited for in any way but asleep.
const BUSY_POLL_US_MAX: u64 = 1000;

/// Of RFC 6154 and RFC 8457.
const SPECIAL_USES: &[&str] =
    &["\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Important", "\\Junk", "\\Sent", "\\Trash"];

struct Findings<'a> {
    origins: &'a Origins,
    errors: Vec<ConfigError>,
}

impl Findings<'_> {
    fn add(&mut self, key: impl Into<String>, found: impl ToString, expected: &str) {
        let key = key.into();
        let origin = self.origins.nearest(&key).or_else(|| self.origins.0.values().next());
        self.errors.push(ConfigError::Value {
            place: origin.map_or_else(|| "configuration".to_owned(), Origin::to_string),
            key,
            found: found.to_string(),
            expected: expected.to_owned(),
        });
    }

    fn at_least(&mut self, key: &str, found: u64, least: u64) {
        if found < least {
            self.add(key, found, &format!("at least {least}"));
        }
    }
}

pub(crate) fn check(config: &Config, origins: &Origins) -> Result<(), ConfigErrors> {
    let mut findings = Findings { origins, errors: Vec::new() };
    partitions(config, &mut findings);
    domains(config, &mut findings);
    listeners(config, &mut findings);
    tls(config, &mut findings);
    limits(config, &mut findings);
    archive(config, &mut findings);
    logins(config, &mut findings);
    backends(config, &mut findings);
    learn(config, &mut findings);
    pop3(config, &mut findings);
    imap(config, &mut findings);
    trash_and_outbox(config, &mut findings);
    sharing(config, &mut findings);
    others(config, &mut findings);
    if findings.errors.is_empty() { Ok(()) } else { Err(ConfigErrors(findings.errors)) }
}

/// What is expected of a `user_path`, where it isn't so.
fn bad_user_path(partition: &Partition) -> Option<&'static str> {
    let path = &partition.user_path;
    let whole = path.contains("{user}");
    let parts = path.contains("{local}") && path.contains("{domain}");
    let odd = |level: &str| level.is_empty() || level == "." || level == "..";
    if partition.layout != LayoutKind::Maildir {
        (path != "{user}").then_some("layout = \"maildir\" with it")
    } else if !whole && !parts {
        Some("{user}, or both {local} and {domain}, so that users don't share")
    } else if path.split('/').any(odd) {
        Some("a relative path without empty levels, '.' and '..'")
    } else {
        None
    }
}

fn partitions(config: &Config, out: &mut Findings<'_>) {
    if config.partition.is_empty() {
        out.add("partition", "nothing", "at least one [[partition]] with name, path and layout");
    }
    for (i, partition) in config.partition.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if partition.name.is_empty() || !partition.name.chars().all(plain) {
            let expected = "letters, digits, '-' and '_', at least one";
            out.add(format!("partition[{i}].name"), quoted(&partition.name), expected);
        }
        if let Some(expected) = bad_user_path(partition) {
            out.add(format!("partition[{i}].user_path"), quoted(&partition.user_path), expected);
        }
        if partition.spread != Spread::default() && partition.layout != LayoutKind::Cyrus {
            let found = quoted(&format!("{:?}", partition.spread).to_lowercase());
            out.add(format!("partition[{i}].spread"), found, "layout = \"cyrus\" with it");
        }
        if config.partition[..i].iter().any(|p| p.name == partition.name) {
            let expected = "a name that no earlier partition has";
            out.add(format!("partition[{i}].name"), quoted(&partition.name), expected);
        }
        if config.partition[..i].iter().any(|p| p.path == partition.path) {
            let expected = "a path that no earlier partition has";
            out.add(format!("partition[{i}].path"), partition.path.display(), expected);
        }
    }
    let known = config.partition.iter().any(|p| p.name == config.default_partition);
    if !known && !config.partition.is_empty() {
        let names: Vec<_> = config.partition.iter().map(|p| quoted(&p.name)).collect();
        let expected = format!("the name of a partition: {}", names.join(", "));
        out.add("default_partition", quoted(&config.default_partition), &expected);
    }
}

fn domains(config: &Config, out: &mut Findings<'_>) {
    for (i, domain) in config.domain.iter().enumerate() {
        let key = |name: &str| format!("domain[{i}].{name}");
        let odd = |c: char| c.is_ascii_uppercase() || c.is_whitespace() || c == '@';
        if domain.name.is_empty() || domain.name.contains(odd) {
            let expected = "what stands behind the @, in lower case";
            out.add(key("name"), quoted(&domain.name), expected);
        }
        if config.domain[..i].iter().any(|before| before.name == domain.name) {
            out.add(key("name"), quoted(&domain.name), "a name that no earlier domain has");
        }
        if let Some(partition) = &domain.partition
            && !config.partition.iter().any(|known| known.name == *partition)
        {
            let names: Vec<_> = config.partition.iter().map(|p| quoted(&p.name)).collect();
            let expected = format!("the name of a partition: {}", names.join(", "));
            out.add(key("partition"), quoted(partition), &expected);
        }
        new_mailboxes(domain.new_mailbox.as_deref().unwrap_or(&[]), &key("new_mailbox"), out);
    }
}

fn new_mailboxes(mailboxes: &[NewMailbox], key: &str, out: &mut Findings<'_>) {
    for (i, mailbox) in mailboxes.iter().enumerate() {
        let odd = |level: &str| level.is_empty() || level.starts_with('.');
        if mailbox.name.split('/').any(odd) || mailbox.name.eq_ignore_ascii_case("INBOX") {
            let expected = "the name of a mailbox beside INBOX";
            out.add(format!("{key}[{i}].name"), quoted(&mailbox.name), expected);
        }
        let (found, known) = (&mailbox.special_use, SPECIAL_USES);
        if !found.is_empty() && !known.contains(&found.as_str()) {
            let expected = format!("one of {}, or nothing", known.join(" "));
            out.add(format!("{key}[{i}].special_use"), quoted(found), &expected);
        }
    }
}

fn imap(config: &Config, out: &mut Findings<'_>) {
    if config.imap.message_limit > 0 && config.imap.save_limit > 0 {
        let expected = "0 beside imap.message_limit, which also limits what is saved";
        out.add("imap.save_limit", config.imap.save_limit, expected);
    }
    if config.imap.compress_level > 9 {
        out.add("imap.compress_level", config.imap.compress_level, "0 to 9");
    }
    if config.imap.quota_warn_percent > 100 {
        out.add("imap.quota_warn_percent", config.imap.quota_warn_percent, "0 to 100");
    }
    new_mailboxes(&config.store.new_mailbox, "store.new_mailbox", out);
    for (name, value) in config.imap.id.pairs() {
        if value.len() > ImapId::VALUE_BYTES_MAX || value.contains(['\0', '\r', '\n']) {
            let expected = "one line of at most 1024 bytes";
            out.add(format!("imap.id.{}", name.replace('-', "_")), quoted(value), expected);
        }
    }
}

fn trash_and_outbox(config: &Config, out: &mut Findings<'_>) {
    if config.trash.mailbox.is_empty() {
        out.add("trash.mailbox", "\"\"", "the name of a mailbox");
    }
    for (i, expiry) in config.trash.empty.iter().enumerate() {
        let inbox = expiry.mailbox.eq_ignore_ascii_case("INBOX");
        if expiry.mailbox.is_empty() || inbox {
            let expected = "the name of a mailbox other than INBOX";
            out.add(format!("trash.empty[{i}].mailbox"), quoted(&expiry.mailbox), expected);
        }
        out.at_least(&format!("trash.empty[{i}].days"), expiry.days.into(), 1);
    }
    let outbox = &config.outbox;
    // It is told in CAPABILITY.
    let plain = |b: u8| (b'!'..0x7f).contains(&b) && !b"(){%*\"\\]".contains(&b);
    if !outbox.mailbox.bytes().all(plain) || outbox.mailbox.eq_ignore_ascii_case("INBOX") {
        let expected = "a name of printable ASCII without spaces and none of ( ) { % * \" \\ ]";
        out.add("outbox.mailbox", quoted(&outbox.mailbox), expected);
    }
    if outbox.sendmail.first().is_none_or(|program| !program.starts_with('/')) {
        let expected = "the path of a program from /, and its arguments";
        out.add("outbox.sendmail", format!("{:?}", outbox.sendmail), expected);
    }
    let field = |b: u8| (b'!'..0x7f).contains(&b) && b != b':';
    if !outbox.header_from.bytes().all(field) {
        out.add("outbox.header_from", quoted(&outbox.header_from), "the name of a header field");
    }
    out.at_least("outbox.seconds_max", outbox.seconds_max, 1);
}

/// Letters of RFC 4314 and of its RFC 2086 forerunner; `n` as Cyrus has it, for annotations.
const RIGHTS: &str = "lrswipkxteacdn";

fn sharing(config: &Config, out: &mut Findings<'_>) {
    let sharing = &config.sharing;
    let (user, shared) = (&sharing.user_prefix, &sharing.shared_prefix);
    for (key, prefix) in [("sharing.user_prefix", user), ("sharing.shared_prefix", shared)] {
        let bad = |c: char| c.is_control() || matches!(c, '/' | '.' | '*' | '%');
        let inbox = prefix.eq_ignore_ascii_case("inbox");
        if prefix.is_empty() || prefix.contains(bad) || inbox {
            let expected = "one level of a name, without / . * %, and not INBOX";
            out.add(key, quoted(prefix), expected);
        }
    }
    if user == shared {
        let expected = "another name than sharing.user_prefix";
        out.add("sharing.shared_prefix", quoted(shared), expected);
    }
    for entry in &sharing.default_acl {
        let is_good = entry.split_once(' ').is_some_and(|(name, rights)| {
            !name.is_empty() && rights.chars().all(|c| RIGHTS.contains(c))
        });
        if !is_good {
            let expected = "a name, a blank, and letters of lrswipkxteacdn";
            out.add("sharing.default_acl", quoted(entry), expected);
        }
    }
    if !config.lmtp.post_user.is_empty() && sharing.shared_user.is_empty() {
        let expected = "the user with the shared mailboxes, as lmtp.post_user gives them addresses";
        out.add("sharing.shared_user", "\"\"", expected);
    }
}

fn listeners(config: &Config, out: &mut Findings<'_>) {
    if config.listener.is_empty() {
        out.add("listener", "nothing", "at least one [[listener]] with protocol and address");
    }
    for (i, listener) in config.listener.iter().enumerate() {
        let key = |name: &str| format!("listener[{i}].{name}");
        match &listener.address {
            ListenerAddress::Tcp(address) => {
                let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
                if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                    let expected = "\"host:port\", \"unix:/path\" or \"systemd:NAME\"";
                    out.add(key("address"), quoted(address), expected);
                }
            }
            ListenerAddress::Unix(path) => {
                // sockaddr_un holds 108 bytes with the closing zero.
                if path.as_os_str().len() > 107 {
                    out.add(key("address"), path.display(), "a path of at most 107 bytes");
                }
            }
            ListenerAddress::Systemd(name) => {
                if name.is_empty() {
                    out.add(key("address"), "\"systemd:\"", "a name after \"systemd:\"");
                }
            }
        }
        if config.listener[..i].iter().any(|l| l.address == listener.address) {
            let expected = "an address that no earlier listener has";
            out.add(key("address"), quoted(&listener.address.to_string()), expected);
        }
        if listener.plain_login != PlainLogin::Never && listener.tls == TlsMode::Implicit {
            let found = quoted(&format!("{:?}", listener.plain_login).to_lowercase());
            let expected = "\"never\": with tls = \"implicit\" no login is plain";
            out.add(key("plain_login"), found, expected);
        }
        if listener.protocol == Protocol::Lmtp {
            if listener.plain_login != PlainLogin::Never && config.lmtp.users.is_empty() {
                let found = quoted(&format!("{:?}", listener.plain_login).to_lowercase());
                let expected = "\"never\": without lmtp.users, LMTP has no logins";
                out.add(key("plain_login"), found, expected);
            }
        } else if listener.trusted {
            out.add(key("trusted"), "true", "nothing: it is about deliveries by LMTP");
        }
        if listener.protocol != Protocol::Imap {
            if listener.names != NameForm::default() {
                let found = quoted(&format!("{:?}", listener.names).to_lowercase());
                out.add(key("names"), found, "nothing: only IMAP has names of mailboxes");
            }
            if listener.separator.is_some() {
                let expected = "nothing: only IMAP has names of mailboxes";
                out.add(key("separator"), quoted(&listener.separator().to_string()), expected);
            }
        }
        if listener.names == NameForm::Courier && listener.separator() != '.' {
            let expected = "\".\", as Courier has it, beside names = \"courier\"";
            out.add(key("separator"), "\"/\"", expected);
        }
        if listener.protocol == Protocol::Auth && listener.tls != TlsMode::None {
            let found = quoted(&format!("{:?}", listener.tls).to_lowercase());
            let expected = "\"none\": the SMTP server has the TLS";
            out.add(key("tls"), found, expected);
        }
        if listener.tls == TlsMode::None
            && !matches!(listener.protocol, Protocol::Lmtp | Protocol::Auth)
            && listener.plain_login == PlainLogin::Never
        {
            let expected = "\"starttls\" or \"implicit\": without TLS and with plain_login = \
                            \"never\" nobody can log in";
            out.add(key("tls"), "\"none\"", expected);
        }
    }
}

fn tls(config: &Config, out: &mut Findings<'_>) {
    match (&config.tls.certificate, &config.tls.key) {
        (Some(_), None) => out.add("tls.key", "nothing", "the key of tls.certificate"),
        (None, Some(_)) => out.add("tls.certificate", "nothing", "the certificate of tls.key"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if config.tls.versions.is_empty() {
        out.add("tls.versions", "nothing", "\"1.2\", \"1.3\" or both");
    }
    let suites = &config.tls.cipher_suites;
    if !suites.is_empty()
        && config.tls.versions.iter().all(|v| suites.iter().all(|s| s.version() != *v))
    {
        let expected = "suites of a version that tls.versions has";
        out.add("tls.cipher_suites", suites.len(), expected);
    }
    let asks = config.tls.client_certificates != ClientCertificates::None;
    if asks && config.tls.client_ca.is_none() {
        out.add("tls.client_ca", "nothing", "a PEM file, as tls.client_certificates asks for it");
    }
    if !asks && config.tls.client_ca.is_some() {
        let expected = "\"optional\" or \"required\" beside tls.client_ca";
        out.add("tls.client_certificates", "\"none\"", expected);
    }
    if config.tls.client_crl.is_some() && config.tls.client_ca.is_none() {
        out.add("tls.client_crl", "a file", "nothing without tls.client_ca");
    }
}

fn limits(config: &Config, out: &mut Findings<'_>) {
    let l = &config.limits;
    let size = |n: usize| n as u64;
    out.at_least("limits.connections_max", size(l.connections_max), 1);
    out.at_least("limits.connections_per_address_max", size(l.connections_per_address_max), 1);
    out.at_least("limits.connections_loopback_max", size(l.connections_loopback_max), 1);
    // RFC 7162 section 4: servers should take lines of 8192 octets.
    out.at_least("limits.line_bytes_max", size(l.line_bytes_max), 8192);
    out.at_least("limits.literal_bytes_max", size(l.literal_bytes_max), 4096);
    if l.command_bytes_max < l.line_bytes_max.max(l.literal_bytes_max) {
        let expected = "at least line_bytes_max and literal_bytes_max";
        out.add("limits.command_bytes_max", l.command_bytes_max, expected);
    }
    out.at_least("limits.message_bytes_max", l.message_bytes_max, 64 * 1024);
    if l.message_bytes_max > MESSAGE_BYTES_CEILING {
        let expected = format!("at most {MESSAGE_BYTES_CEILING}: IMAP counts in 32 bits");
        out.add("limits.message_bytes_max", l.message_bytes_max, &expected);
    }
    let value_bytes_max = size(l.metadata_value_bytes_max);
    out.at_least("limits.metadata_value_bytes_max", value_bytes_max, 1024);
    out.at_least("limits.metadata_entries_max", size(l.metadata_entries_max), 10);
    // RFC 5257 section 4.1.
    out.at_least("limits.annotations_max", size(l.annotations_max), 10);
    out.at_least("limits.out_queue_bytes_high", size(l.out_queue_bytes_high), 16 * 1024);
    out.at_least("limits.login_seconds_max", l.login_seconds_max, 1);
    out.at_least("limits.login_failures_max", l.login_failures_max.into(), 1);
    out.at_least("limits.bad_commands_max", l.bad_commands_max.into(), 1);
    out.at_least("limits.tls_handshake_seconds_max", l.tls_handshake_seconds_max, 1);
    out.at_least("limits.write_stall_seconds_max", l.write_stall_seconds_max, 1);
    out.at_least("limits.imap_idle_seconds_max", l.imap_idle_seconds_max, 1);
    out.at_least("limits.pop3_idle_seconds_max", l.pop3_idle_seconds_max, 1);
    out.at_least("limits.lmtp_idle_seconds_max", l.lmtp_idle_seconds_max, 1);
    out.at_least("limits.open_mailboxes_max", l.open_mailboxes_max as u64, 8);
    out.at_least("limits.descriptors_max", l.descriptors_max as u64, 64);
    out.at_least("limits.mapped_bytes_max", l.mapped_bytes_max, 1 << 20);
    out.at_least("limits.open_users_max", l.open_users_max as u64, 8);
}

fn archive(config: &Config, out: &mut Findings<'_>) {
    let archive = &config.archive;
    if archive.directory.is_some() && !archive.command.is_empty() {
        out.add("archive.command", quoted(&archive.command.join(" ")), "nothing beside directory");
    }
    if archive.command.first().is_some_and(String::is_empty) {
        out.add("archive.command", "an empty program", "a program and its arguments");
    }
    out.at_least("archive.pending_bytes_max", archive.pending_bytes_max, 64 << 20);
    out.at_least("archive.segment_seconds_max", archive.segment_seconds_max, 1);
    out.at_least("archive.command_seconds_max", archive.command_seconds_max, 1);
}

fn logins(config: &Config, out: &mut Findings<'_>) {
    let auth = &config.auth;
    let offers = |mechanism| auth.mechanisms.contains(&mechanism);
    for (i, mechanism) in auth.mechanisms.iter().enumerate() {
        if auth.mechanisms[..i].contains(mechanism) {
            out.add("auth.mechanisms", quoted(mechanism.as_str()), "each mechanism once");
        }
    }
    if !auth.default_domain.is_empty() && !auth.bare_domain.is_empty() {
        let expected = "nothing beside auth.default_domain, which adds what this takes away";
        out.add("auth.bare_domain", quoted(&auth.bare_domain), expected);
    }
    for (key, domain) in
        [("auth.default_domain", &auth.default_domain), ("auth.bare_domain", &auth.bare_domain)]
    {
        if domain.contains(['@', ':', '/', ' ']) || domain.starts_with('.') {
            out.add(key, quoted(domain), "a domain, without @");
        }
    }
    let separator = &auth.master_separator;
    if !separator.is_empty() {
        let mut characters = separator.chars();
        // What no user's name may hold, or it would be taken apart.
        let good = matches!(characters.next(), Some('*' | '%' | '/' | '\\' | '"'));
        if !good || characters.next().is_some() {
            let expected = "one of the characters * % / \\ \", which no user's name holds, or \"\"";
            out.add("auth.master_separator", quoted(separator), expected);
        }
    }
    let anonymous = !auth.anonymous_user.is_empty();
    if anonymous != offers(SaslMechanism::Anonymous) {
        let expected = "a user where auth.mechanisms has ANONYMOUS, else \"\"";
        out.add("auth.anonymous_user", quoted(&auth.anonymous_user), expected);
    }
    if offers(SaslMechanism::External) && config.tls.client_certificates == ClientCertificates::None
    {
        let expected = "\"optional\" or \"required\", as auth.mechanisms has EXTERNAL";
        out.add("tls.client_certificates", "\"none\"", expected);
    }
    let oauth = &auth.oauth;
    let bearer = offers(SaslMechanism::OAuthBearer) || offers(SaslMechanism::XOAuth2);
    if bearer != oauth.is_on() {
        let expected = "keys or introspection where auth.mechanisms has OAUTHBEARER or XOAUTH2, \
                        and only there";
        out.add("auth.oauth.keys", if oauth.is_on() { "something" } else { "nothing" }, expected);
    }
    if oauth.keys.is_some() && !oauth.introspection.is_empty() {
        out.add("auth.oauth.introspection", quoted(&oauth.introspection), "nothing beside keys");
    }
    if oauth.user_claim.is_empty() {
        out.add("auth.oauth.user_claim", "\"\"", "the claim that names the user");
    }
    if oauth.client_id.is_empty() != oauth.client_secret_file.is_none() {
        let expected = "both client_id and client_secret_file, or neither";
        out.add("auth.oauth.client_id", quoted(&oauth.client_id), expected);
    }
}

fn backends(config: &Config, out: &mut Findings<'_>) {
    let auth = &config.auth;
    if auth.backends.is_empty() {
        out.add("auth.backends", "[]", "at least one back end, such as \"users\"");
    }
    for (i, &backend) in auth.backends.iter().enumerate() {
        if auth.backends[..i].contains(&backend) {
            out.add("auth.backends", quoted(backend.as_str()), "each back end once");
        }
        let is_last = i + 1 == auth.backends.len();
        if backend == AuthBackend::Saslauthd && !is_last {
            let expected = "\"saslauthd\" as the last one: it can't say whom it knows";
            out.add("auth.backends", quoted(backend.as_str()), expected);
        }
    }
    let uses_passwd = auth.backends.contains(&AuthBackend::Passwd);
    if uses_passwd && auth.passwd.path.file_name().is_none() {
        out.add("auth.passwd.path", "nothing", "the file of the back end \"passwd\"");
    }
}

fn learn(config: &Config, out: &mut Findings<'_>) {
    let learn = &config.auth.learn;
    if !learn.is_on() {
        if !learn.until.is_empty() {
            out.add("auth.learn.server", "\"\"", "the server that is asked until then");
        }
        return;
    }
    if learn.address().is_none() {
        out.add("auth.learn.server", quoted(&learn.server), "a host, perhaps with :port");
    }
    if learn.until_unix().is_none() {
        out.add("auth.learn.until", quoted(&learn.until), "a day such as \"2027-01-31\"");
    }
    if !config.auth.backends.contains(&AuthBackend::Users) {
        let expected = "\"\", as auth.backends has no \"users\" to store what is learned";
        out.add("auth.learn.server", quoted(&learn.server), expected);
    }
    out.at_least("auth.learn.timeout_seconds", learn.timeout_seconds, 1);
    out.at_least("auth.learn.questions_max", learn.questions_max as u64, 1);
}

fn pop3(config: &Config, out: &mut Findings<'_>) {
    if !Pop3::is_form(config.pop3.uidl_form()) {
        let names: Vec<_> = Pop3::UIDL_NAMES.iter().map(|(name, _)| quoted(name)).collect();
        let expected =
            format!("{}, or a form with %u or %f, also %v, as in \"%08Xu%08Xv\"", names.join(", "));
        out.add("pop3.uidl", quoted(&config.pop3.uidl), &expected);
    }
}

fn others(config: &Config, out: &mut Findings<'_>) {
    out.at_least("store.log_bytes_max", config.store.log_bytes_max, 16 << 20);
    out.at_least("store.checkpoint_seconds", config.store.checkpoint_seconds, 1);
    out.at_least("store.helper_threads", config.store.helper_threads as u64, 1);
    if config.server.busy_poll_us_max > BUSY_POLL_US_MAX {
        let found = config.server.busy_poll_us_max;
        out.add("server.busy_poll_us_max", found, &format!("at most {BUSY_POLL_US_MAX}"));
    }
    let auth = &config.auth;
    out.at_least("auth.hash_threads", auth.hash_threads as u64, 1);
    out.at_least("auth.hash_queue_max", auth.hash_queue_max as u64, 1);
    let per_address = auth.hash_queue_per_address_max as u64;
    out.at_least("auth.hash_queue_per_address_max", per_address, 1);
    out.at_least("auth.failures_per_address_max", auth.failures_per_address_max.into(), 1);
    out.at_least("auth.failure_window_seconds", auth.failure_window_seconds, 1);
    if auth.failure_delay_seconds_max < auth.failure_delay_first_seconds {
        let found = auth.failure_delay_seconds_max;
        out.add("auth.failure_delay_seconds_max", found, "at least failure_delay_first_seconds");
    }
    out.at_least("search.index_messages_min", config.search.index_messages_min as u64, 1);
    out.at_least("lmtp.recipients_max", config.lmtp.recipients_max as u64, 100);
    let separator = config.lmtp.detail_separator;
    if !separator.is_ascii_punctuation() || separator == '@' || separator == '.' {
        let expected = "one of the characters + - _ = # ~ or other punctuation, not '@' or '.'";
        out.add("lmtp.detail_separator", quoted(&separator.to_string()), expected);
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}
