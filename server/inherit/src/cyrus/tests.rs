use config::{Config, LayoutKind, NameForm, PlainLogin, Separator, Spread, TlsMode, TlsVersion};
use proptest::prelude::*;

use super::*;
use crate::testing::Given;
use crate::{Inherited, RemarkKind, Sources};

/// What Debian's package sets, in words of our own.
const IMAPD_CONF: &str = "\
configdirectory: /var/lib/cyrus
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
defaultpartition: default
partition-default: /var/spool/cyrus/mail
partition-news: /var/spool/cyrus/news
newsspool: /var/spool/news
altnamespace: no
unixhierarchysep: no
lmtp_downcase_rcpt: yes
allowanonymouslogin: no
popminpoll: 1
autocreate_quota: 0
umask: 077
sieveusehomedir: false
sievedir: /var/spool/sieve
httpmodules: caldav carddav
hashimapspool: true
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auto_transition: no
tls_client_ca_dir: /etc/ssl/certs
tls_session_timeout: 1440
lmtpsocket: /run/cyrus/socket/lmtp
idlesocket: /run/cyrus/socket/idle
notifysocket: /run/cyrus/socket/notify
syslog_prefix: cyrus
";

const CYRUS_CONF: &str = r#"
START {
	# the first
	recover		cmd="/usr/sbin/cyrus ctl_cyrusdb -r"
	delprune	cmd="/usr/sbin/cyrus expire -E 3"
	tlsprune	cmd="/usr/sbin/cyrus tls_prune"
}
SERVICES {
	imap		cmd="imapd -U 30" listen="imap" prefork=0 maxchild=100
	#imaps		cmd="imapd -s -U 30" listen="imaps" prefork=0 maxchild=100
	pop3		cmd="pop3d -U 30" listen="pop3" prefork=0 maxchild=50
	nntp		cmd="nntpd -U 30" listen="nntp" prefork=0 maxchild=100
	http		cmd="httpd -U 30" listen="8008" prefork=0 maxchild=100
	lmtpunix	cmd="lmtpd" listen="/run/cyrus/socket/lmtp" prefork=0 maxchild=20
  	sieve		cmd="timsieved" listen="localhost:sieve" prefork=0 maxchild=100
	notify		cmd="notifyd" listen="/run/cyrus/socket/notify" proto="udp" prefork=1
}
EVENTS {
	checkpoint	cmd="/usr/sbin/cyrus ctl_cyrusdb -c" period=30
	delprune	cmd="/usr/sbin/cyrus expire -E 3" at=0401
	deleteprune	cmd="/usr/sbin/cyrus expire -E 4 -D 28" at=0430
	expungeprune	cmd="/usr/sbin/cyrus expire -E 4 -X 28" at=0445
	squatter_1	cmd="/usr/bin/nice -n 19 /usr/sbin/cyrus squatter -s" period=120
}
"#;

fn sources() -> Sources {
    Sources {
        imapd_conf: Some("/etc/imapd.conf".into()),
        cyrus_conf: Some("/etc/cyrus.conf".into()),
        ..Sources::default()
    }
}

/// Debian's, with further options, and lines in SERVICES.
fn files(options: &str, services: &str) -> Given {
    let cyrus = CYRUS_CONF.replace("SERVICES {\n", &format!("SERVICES {{\n{services}"));
    Given::with(&[
        ("/etc/imapd.conf", &format!("{IMAPD_CONF}{options}")),
        ("/etc/cyrus.conf", &cyrus),
        ("/etc/sasldb2", ""),
    ])
}

fn read_all(options: &str, services: &str) -> Inherited {
    let read = sources().read(&files(options, services));
    read.unwrap_or_else(|errors| panic!("{options}{services}{errors}"))
}

fn config(options: &str, services: &str) -> Config {
    read_all(options, services).loaded.config
}

fn refused(options: &str, services: &str) -> String {
    let outcome = sources().read(&files(options, services)).map(drop);
    outcome.expect_err(&format!("{options}{services}")).to_string()
}

fn not_served(read: &Inherited) -> Vec<String> {
    let missing = read.remarks.iter().filter(|r| r.kind == RemarkKind::NotServed);
    missing.map(|r| format!("{}:{}", r.line, r.option)).collect()
}

#[test]
fn debian_s_files_give_what_they_say() {
    let read = read_all("", "");
    let config = &read.loaded.config;
    let shown: Vec<String> = config
        .listener
        .iter()
        .map(|l| {
            format!(
                "{} {} {:?} {:?} {}",
                l.protocol, l.address, l.tls, l.plain_login, l.connections_max
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "imap *:143 None Always 100",
            "pop3 *:110 None Always 50",
            "lmtp unix:/run/cyrus/socket/lmtp None Never 20",
        ]
    );
    let imap = &config.listener[0];
    assert_eq!((imap.names, imap.separator), (NameForm::Internal, Some(Separator::Dot)));
    assert!(config.listener[2].trusted);
    let partitions: Vec<_> =
        config.partition.iter().map(|p| (&*p.name, p.path.to_str().unwrap())).collect();
    let expected = [("default", "/var/spool/cyrus/mail"), ("news", "/var/spool/cyrus/news")];
    assert_eq!(partitions, expected);
    assert_eq!(config.partition[0].layout, LayoutKind::Cyrus);
    assert_eq!(config.partition[0].spread, Spread::First);
    assert_eq!(config.default_partition, "default");
    assert_eq!(config.announce.dir.to_str(), Some("/var/lib/cyrus/msg"));
    assert_eq!(config.telemetry.dir.to_str(), Some("/var/lib/cyrus/log"));
    assert_eq!(config.deny_file().to_str(), Some("/var/lib/cyrus/user_deny.db"));
    assert_eq!(config.listener[2].name(), "lmtpunix");
    let elsewhere = read_all("userdeny_db: twoskip\nuserdeny_db_path: /srv/deny.db\n", "");
    assert_eq!(elsewhere.loaded.config.deny_file().to_str(), Some("/srv/deny.db"));
    assert!(refused("userdeny_db: sql\n", "").contains("expected flat, skiplist"));
    assert_eq!(config.pop3.login_delay_seconds, 60);
    assert_eq!(config.limits.imap_idle_seconds_max, 1920);
    assert_eq!((&*config.pop3.uidl, config.imap.quota_warn_percent), ("cyrus", 90));
    assert_eq!(config.auth.backends, [config::AuthBackend::Users, config::AuthBackend::Sasldb]);
    let missing = not_served(&read);
    for part in
        ["httpmodules", "sievedir", "nntp", "http", "sieve = ", "notify = ", "tls_client_ca_dir"]
    {
        assert!(missing.iter().any(|m| m.contains(part)), "{part}: {missing:#?}");
    }
    // Of these the files say nothing.
    for part in
        ["munge8bit", "duplicatesuppression = \"1\", by default", "expunge_mode", "delete_mode"]
    {
        assert!(missing.iter().any(|m| m.contains(part)), "{part}: {missing:#?}");
    }
    assert_eq!(missing.len(), 14, "{missing:#?}");
    assert_eq!(config.sharing.default_acl, ["anyone lrs"]);
    assert!(config.imap.protected_special_uses.contains(&"\\Sent".to_owned()));
    let text = read.loaded.to_toml();
    assert_eq!(Config::parse(&text, Path::new("/x/c.toml")).unwrap(), *config, "{text}");
    let of = |key: &str| read.loaded.origins.of(key).to_string();
    assert_eq!(of("pop3.login_delay_seconds"), "/etc/imapd.conf:12");
    assert_eq!(of("listener[0].address"), "/etc/cyrus.conf:9");
    assert_eq!(of("pop3.uidl"), "Cyrus: uidl_format");
}

#[test]
fn services_of_every_form() {
    let address = |line: &str| config("", line).listener[0].address.to_string();
    assert_eq!(address("a cmd=\"imapd\" listen=\"127.0.0.1:1143\"\n"), "127.0.0.1:1143");
    assert_eq!(address("a cmd=\"imapd\" listen=\"[::1]:imap\"\n"), "[::1]:143");
    assert_eq!(address("a cmd=\"imapd\" listen=1143 proto=tcp4\n"), "0.0.0.0:1143");
    assert_eq!(address("a cmd=\"imapd\" listen=1143 proto=\"tcp6\"\n"), "[::]:1143");
    assert_eq!(address("a cmd=\"pop3d\" listen=\"/run/pop\" # here\n"), "unix:/run/pop");
    let first = |line: &str| config("", line).listener[0].clone();
    assert_eq!(first("imaps cmd=\"imapd -s -U 30\" listen=imaps\n").tls, TlsMode::Implicit);
    let behind = first("a cmd=\"imapd -p 128 -C /etc/imapd.conf\" listen=1143\n");
    assert_eq!((behind.plain_login, behind.connections_max), (PlainLogin::Always, 0));
    let open = first("lmtp cmd=\"lmtpd -a\" listen=\"localhost:24\"\n");
    assert!(open.trusted && open.protocol == config::Protocol::Lmtp);
    let made = config("lmtp_admins: postman mx\n", "lmtp cmd=\"lmtpd\" listen=\"localhost:24\"\n");
    assert!(!made.listener[0].trusted && made.listener[0].plain_login == PlainLogin::Always);
    assert_eq!(made.lmtp.users, ["postman", "mx"]);
    for (line, words) in [
        ("lmtp cmd=\"lmtpd\" listen=\"localhost:24\"\n", "nobody may deliver here"),
        ("a cmd=\"imapd -C /etc/other.conf\" listen=1143\n", "one imapd.conf"),
        ("a cmd=\"imapd -x\" listen=1143\n", "-x: of this program's flags"),
        ("a cmd=\"imapd\" listen=nothing\n", "\"nothing\" is no port"),
        ("a cmd=\"imapd\"\n", "expected listen"),
        ("a cmd=\"imapd\" listen=1143 proto=udp\n", "proto udp"),
        ("a cmd=\"imapd\" listen=1143 maxchild=few\n", "maxchild=few"),
        ("a listen=1143\n", "expected cmd"),
        ("a cmd=\"imapd listen=1143\n", "quotes do not end"),
        ("a cmd=\"mupdate\" listen=3905\n", "murder"),
        ("a cmd=\"sync_server\" listen=csync\n", "replication"),
        ("a cmd=\"/usr/local/bin/own\" listen=1\n", "other programs are not run"),
        ("}\nMORE {\n a cmd=x\n", "expected START, SERVICES"),
        ("}\nimap cmd=x\nSTART {\n", "expected the beginning of a section"),
    ] {
        let told = refused("", line);
        assert!(told.contains(words) && told.starts_with("/etc/cyrus.conf:"), "{line}: {told}");
    }
    let events = "}\nEVENTS {\n archive cmd=\"cyr_expire -A 7d\" at=0400\n";
    assert!(refused("", events).contains("archive partitions"));
    let unclosed = Given::with(&[
        ("/etc/imapd.conf", IMAPD_CONF),
        ("/etc/cyrus.conf", "SERVICES {\n imap cmd=imapd listen=imap\n"),
    ]);
    let told = sources().read(&unclosed).map(drop).unwrap_err().to_string();
    assert!(told.contains("closing"), "{told}");
}

#[test]
fn transport_of_all_and_of_one_service() {
    let pair = "tls_server_cert: /c\ntls_server_key: /k\n";
    let made = config(pair, "");
    assert_eq!(made.listener[0].tls, TlsMode::Starttls);
    assert_eq!(made.tls.certificate.as_deref(), Some(Path::new("/c")));
    let made =
        config(&format!("{pair}imap_tls_server_cert: /ic,/ec\nimap_tls_server_key: /ik,/ek\n"), "");
    assert_eq!(made.tls.pair(config::Protocol::Imap), Some((Path::new("/ec"), Path::new("/ek"))));
    assert_eq!(made.tls.pair(config::Protocol::Pop3), Some((Path::new("/c"), Path::new("/k"))));
    let made = config(&format!("{pair}pop3_tls_server_cert: disabled\n"), "");
    assert_eq!(made.listener[1].tls, TlsMode::None);
    let two = format!("{pair}imaps_tls_server_cert: /other\n");
    let told = refused(&two, "imaps cmd=\"imapd -s\" listen=imaps\n");
    assert!(told.contains("one certificate"), "{told}");
    let made = config("tls_cert_file: /both\n", "");
    assert_eq!(made.tls.key.as_deref(), Some(Path::new("/both")));
    let made = config(&format!("{pair}tls_versions: tls1_3\ntls_ciphers: AESGCM:!AES128\n"), "");
    assert_eq!(made.tls.versions, [TlsVersion::V1_3]);
    assert_eq!(made.tls.cipher_suites.len(), 5);
    assert!(refused("tls_versions: tls1_0\n", "").contains("older ones"));
    let made = config(&format!("{pair}tls_client_ca_file: /ca\ntls_crl_file: /crl\n"), "");
    assert_eq!(made.tls.client_certificates, config::ClientCertificates::Optional);
    assert!(made.tls.client_crl.is_some());
    assert!(refused("tls_client_certs: require\n", "").contains("needs tls_client_ca_file"));
    let made = config(&format!("{pair}tls_required: yes\n"), "");
    assert_eq!(made.listener[0].plain_login, PlainLogin::Never);
    let made = config(&format!("{pair}pop3_tls_required: 1\n"), "");
    let logins: Vec<_> = made.listener.iter().map(|l| l.plain_login).collect();
    assert_eq!(logins[..2], [PlainLogin::Always, PlainLogin::Never]);
    assert!(refused("tls_required: yes\n", "").contains("nobody can log in"));
}

#[test]
fn accounts_and_names() {
    let made = config("admins: cyrus root\nimap_admins: boss\n", "");
    assert_eq!(made.auth.admins, ["cyrus", "root", "boss"]);
    let made = config("sasl_pwcheck_method: saslauthd auxprop\n", "");
    let backends: Vec<_> = made.auth.backends.iter().map(|b| b.as_str()).collect();
    assert_eq!(backends, ["users", "sasldb", "saslauthd"]);
    let mut given = files("", "");
    given.0.remove(Path::new("/etc/sasldb2"));
    let read = sources().read(&given).unwrap();
    assert_eq!(read.loaded.config.auth.backends, [config::AuthBackend::Users]);
    assert!(read.remarks.iter().any(|r| r.text.contains("no /etc/sasldb2")));
    for (more, last) in [("", None), (" anonymous", Some("ANONYMOUS"))] {
        let list = format!("sasl_mech_list: GSSAPI SCRAM-SHA-256 cram-md5{more}\n");
        let made = config(&format!("{list}allowanonymouslogin: yes\n"), "");
        let names: Vec<_> = made.auth.mechanisms.iter().map(|m| m.as_str()).collect();
        let wanted: Vec<_> =
            ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN"].into_iter().chain(last).collect();
        assert_eq!(names, wanted);
    }
    let made = config("virtdomains: userid\ndefaultdomain: a.example\n", "");
    assert_eq!((&*made.auth.bare_domain, &*made.lmtp.domains[0]), ("a.example", "a.example"));
    let made = config("altnamespace: yes\nunixhierarchysep: yes\nuserprefix: Others\n", "");
    let imap = &made.listener[0];
    assert_eq!((imap.names, imap.separator), (NameForm::Alternate, Some(Separator::Slash)));
    assert_eq!(made.sharing.user_prefix, "Others");
    for (option, words) in [
        ("virtdomains: yes\n", "set it to userid"),
        ("sasl_pwcheck_method: alwaystrue\n", "expected auxprop"),
        ("sasl_auxprop_plugin: sql\n", "sql is not served"),
        ("username_tolower: no\n", "lower case"),
        ("altnamespace: perhaps\n", "expected yes or no"),
        ("timeout: soon\n", "expected a duration"),
        ("ldap_uri: ldap://x\n", "LDAP"),
        ("mupdate_server: x\n", "murder"),
        ("sync_host: x\n", "replication"),
        ("autocreate_sieve_script: /x\n", "Sieve"),
        ("newspeer: x\n", "NNTP"),
        ("auth_mech: pts\n", "groups"),
        ("anyoneuseracl: no\n", "set it to yes"),
        ("archive_enabled: yes\n", "copies them back"),
        ("imap_timeout: 45\n", "one for the whole server"),
        ("no colon\n", "name: value"),
    ] {
        let told = refused(option, "");
        assert!(told.contains(words) && told.contains("/etc/imapd.conf:28"), "{option}: {told}");
    }
}

#[test]
fn sessions_and_deliveries() {
    let made = config(
        "timeout: 40\npoptimeout: 15m\nfailedloginpause: 20s\nmaxmessagesize: 1000000\n\
         maxlogins_per_host: 7\npopexpiretime: 3d\nuidl_format: courier\nquotawarn: 75\n\
         lmtp_over_quota_perm_failure: yes\nlmtp_catchall_mailbox: lost\npostuser: bb\n\
         suppress_capabilities: ESEARCH QRESYNC\nsubmitservers: mx\nsearch_engine: xapian\n\
         servername: mail.a.example\ncrossdomains: yes\n",
        "",
    );
    let limits = &made.limits;
    assert_eq!((limits.imap_idle_seconds_max, limits.pop3_idle_seconds_max), (2400, 900));
    assert_eq!((limits.message_bytes_max, limits.connections_per_address_max), (1_000_000, 7));
    assert_eq!(made.auth.failure_delay_first_seconds, 20);
    assert_eq!((&*made.pop3.uidl, made.pop3.expire_days), ("cyrus-courier", Some(3)));
    assert_eq!(made.imap.quota_warn_percent, 75);
    assert_eq!(made.lmtp.over_quota, config::OverQuota::Permanent);
    assert_eq!((&*made.lmtp.catch_all, &*made.sharing.shared_user), ("lost", "bb"));
    assert_eq!(made.imap.suppress_capabilities, ["ESEARCH", "QRESYNC"]);
    assert_eq!(made.search.index, config::SearchIndex::All);
    assert_eq!(made.server.hostname, "mail.a.example");
    let made = config(
        "autocreate_quota: 1024\nautocreate_inbox_folders: Sent | Junk.Old | Trash\n\
         autocreate_subscribe_folders: Sent\nxlist-sent: Sent\nxlist-trash: Trash\n",
        "",
    );
    assert_eq!(made.store.quota_bytes, 1 << 20);
    let new: Vec<_> =
        made.store.new_mailbox.iter().map(|m| (&*m.name, &*m.special_use, m.subscribe)).collect();
    let expected = [("Sent", "\\Sent", true), ("Junk/Old", "", false), ("Trash", "\\Trash", false)];
    assert_eq!(new, expected);
    assert_eq!(config("fulldirhash: yes\n", "").partition[0].spread, Spread::Full);
    assert_eq!(config("hashimapspool: no\n", "").partition[0].spread, Spread::None);
}

#[test]
fn a_default_that_is_not_ours_is_named_and_what_is_ours_is_not() {
    let missing = |options: &str| not_served(&read_all(options, "")).len();
    let usual = missing("");
    // Four of them are told where the file says nothing, too.
    let theirs = "munge8bit: yes\nduplicatesuppression: 1\nexpunge_mode: delayed\n\
                  delete_mode: delayed\nsendmail: /usr/lib/sendmail2\n";
    assert_eq!(missing(theirs), usual + 1);
    let ours = "munge8bit: no\nduplicatesuppression: off\nexpunge_mode: immediate\n\
                delete_mode: immediate\nsendmail: /usr/lib/sendmail\n";
    assert_eq!(missing(ours), usual - 4);
}

#[test]
fn unknown_dead_and_included_options() {
    let mut given =
        files("@include: more.conf\nalownewnews: yes\nsieve_timeout: 5\npopminpoll: 2\n", "");
    given.0.insert("/etc/more.conf".into(), "quotawarn: 80\nchatty: yes\n".to_owned());
    let read = sources().read(&given).unwrap();
    assert_eq!(read.loaded.config.imap.quota_warn_percent, 80);
    let of = read.loaded.origins.of("imap.quota_warn_percent").to_string();
    assert_eq!(of, "/etc/more.conf:1");
    assert_eq!(read.loaded.config.pop3.login_delay_seconds, 120);
    let told: Vec<String> = read.remarks.iter().map(ToString::to_string).collect();
    for part in [
        "imapd.conf:29: alownewnews = \"yes\": not served: Cyrus 3.6 has no such option; allownewnews",
        "imapd.conf:30: sieve_timeout = \"5\": not served: it is about a service",
        "imapd.conf:12: popminpoll = \"1\": not served: set again in line 31",
        "/etc/more.conf:2: chatty = \"yes\": not served",
    ] {
        assert!(told.iter().any(|t| t.contains(part)), "{part}: {told:#?}");
    }
    let alone = Sources { cyrus_conf: None, ..sources() };
    let told = alone.read(&files("", "")).map(drop).unwrap_err().to_string();
    assert!(told.contains("listener"), "without cyrus.conf nothing listens: {told}");
}

/// `CURSUS_WRITE_DOCS=1 cargo test -p cursus-inherit` makes it anew.
#[test]
fn the_document_is_made_from_the_table() {
    crate::testing::assert_document("cyrus", &table::document());
    let mut names: Vec<&str> = table::ROWS.iter().flat_map(|r| r.iter()).map(|r| r.name).collect();
    // imapd.conf(5) of 3.6.1 has 537; seven more are the SASL library's, and Debian's own.
    assert_eq!(names.len(), 546);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 546, "no option has two rows");
}

/// A default that a file sets as it is changes nothing and refuses nothing.
#[test]
fn every_option_may_be_set_to_its_default() {
    let rows = table::ROWS.iter().flat_map(|rows| rows.iter());
    for row in rows.filter(|row| !row.default.is_empty() && !row.name.contains('*')) {
        // A list of words of the manual, not of the option.
        let value = row.default.replace('\n', " ");
        let outcome = sources().read(&files(&format!("{}: {value}\n", row.name), ""));
        // Without a certificate, plain logins are what there is.
        let allowed = ["allowplaintext"].contains(&row.name);
        assert!(outcome.is_ok() || allowed, "{}: {}", row.name, outcome.map(drop).unwrap_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_texts_do_not_panic(
        imapd in "(?s:.{0,80})|([a-z_-]{1,12}: ?[A-Za-z0-9{}/ .,:#|-]{0,30}\n){0,8}",
        cyrus in "(?s:.{0,80})|(SERVICES \\{\n([a-z]{1,5} [a-z]{3,6}=\"?[a-z0-9 /:\\[\\]-]{0,20}\"?\n){0,5}\\}\n)",
        value in "[^\n]{0,40}",
        row in prop::sample::select(
            table::ROWS.iter().flat_map(|rows| rows.iter().map(|row| row.name)).collect::<Vec<_>>()
        ),
        service in "(imap|pop3|lmtp|sieve|x)_",
    ) {
        let name = row.replace('*', "x");
        let options = format!("{name}: {value}\n{service}{name}: {value}\n{imapd}");
        let mut given = files(&options, &format!("a cmd=\"imapd {value}\" listen=\"{value}\"\n"));
        let _ = sources().read(&given);
        given.0.insert("/etc/cyrus.conf".into(), cyrus);
        let _ = sources().read(&given);
    }
}
