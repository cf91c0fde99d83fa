use std::path::PathBuf;

use config::{Config, LayoutKind, PlainLogin, TlsMode, TlsVersion};
use proptest::prelude::*;

use super::*;
use crate::testing::Given;
use crate::{Inherited, RemarkKind, Sources};

/// What Debian's package sets, in words of our own.
pub(crate) const IMAPD: &str = r#"
ADDRESS=0
PORT=143
MAXDAEMONS=40
MAXPERIP=20
PIDFILE=/run/courier/imapd.pid
TCPDOPTS="-nodnslookup -noidentlookup"
IMAPACCESSFILE=/etc/courier/imapaccess
LOGGEROPTS="-name=imapd"
IMAP_CAPABILITY="IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE"
IMAP_KEYWORDS=1
IMAP_ACL=1
IMAP_CAPABILITY_ORIG="IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA AUTH=CRAM-MD5 AUTH=CRAM-SHA1 AUTH=CRAM-SHA256 IDLE"
IMAP_PROXY=0
IMAP_PROXY_FOREIGN=0
IMAP_IDLE_TIMEOUT=60
IMAP_MAILBOX_SANITY_CHECK=1
IMAP_CAPABILITY_TLS="$IMAP_CAPABILITY AUTH=PLAIN"
IMAP_CAPABILITY_TLS_ORIG="$IMAP_CAPABILITY_ORIG AUTH=PLAIN"
IMAP_DISABLETHREADSORT=0
IMAP_CHECK_ALL_FOLDERS=0
IMAP_OBSOLETE_CLIENT=0
IMAP_UMASK=022
IMAP_ULIMITD=131072
IMAP_USELOCKS=1
IMAP_SHAREDINDEXFILE=/etc/courier/shared/index
IMAP_ENHANCEDIDLE=0
IMAP_TRASHFOLDERNAME=Trash
IMAP_EMPTYTRASH=Trash:7
IMAP_MOVE_EXPUNGE_TO_TRASH=0
SENDMAIL=/usr/sbin/sendmail
HEADERFROM=X-IMAP-Sender
IMAPDSTART=YES
MAILDIRPATH=Maildir
"#;

const IMAPD_SSL: &str = r#"
SSLPORT=993
SSLADDRESS=0
SSLPIDFILE=/run/courier/imapd-ssl.pid
SSLLOGGEROPTS="-name=imapd-ssl"
IMAPDSSLSTART=YES
IMAPDSTARTTLS=YES
IMAP_TLS_REQUIRED=0
COURIERTLS=/usr/bin/couriertls
TLS_STARTTLS_PROTOCOL="$TLS_PROTOCOL"
TLS_CERTFILE=/etc/courier/imapd.pem
TLS_DHPARAMS=/etc/courier/dhparams.pem
TLS_TRUSTCERTS=/etc/ssl/certs/ca-certificates.crt
TLS_VERIFYPEER=NONE
TLS_CACHEFILE=/var/lib/courier/couriersslpop3cache
TLS_CACHESIZE=524288
MAILDIRPATH=Maildir
"#;

const POP3D: &str = r#"
PIDFILE=/run/courier/pop3d.pid
MAXDAEMONS=40
MAXPERIP=4
POP3AUTH=""
POP3AUTH_ORIG="PLAIN LOGIN CRAM-MD5 CRAM-SHA1 CRAM-SHA256"
POP3AUTH_TLS=""
POP3AUTH_TLS_ORIG="LOGIN PLAIN"
POP3_PROXY=0
PORT=110
ADDRESS=0
TCPDOPTS="-nodnslookup -noidentlookup"
LOGGEROPTS="-name=pop3d"
POP3DSTART=YES
MAILDIRPATH=Maildir
MIME_UNICODE_MESSAGE_TYPE="message/global"
"#;

const AUTHDAEMONRC: &str = r#"
authmodulelist="authpam"
authmodulelistorig="authuserdb authpam authpgsql authldap authmysql authsqlite authcustom authpipe"
daemons=5
authdaemonvar=/run/courier/authdaemon
DEBUG_LOGIN=0
DEFAULTOPTIONS=""
LOGGEROPTS=""
"#;

fn debian() -> Given {
    let ssl = IMAPD_SSL.replace("IMAPDSSL", "POP3DSSL").replace("993", "995");
    let ssl = ssl.replace("IMAPDSTARTTLS", "POP3_STARTTLS").replace("imapd.pem", "pop3d.pem");
    let pop3_ssl = ssl.replace("IMAP_TLS_REQ", "POP3_TLS_REQ");
    Given::with(&[
        ("/etc/courier/authdaemonrc", AUTHDAEMONRC),
        ("/etc/courier/imapd", IMAPD),
        ("/etc/courier/imapd-ssl", IMAPD_SSL),
        ("/etc/courier/pop3d", POP3D),
        ("/etc/courier/pop3d-ssl", &pop3_ssl),
    ])
}

fn sources() -> Sources {
    Sources { courier: Some(PathBuf::from("/etc/courier")), ..Sources::default() }
}

fn read_all(files: &Given) -> Inherited {
    sources().read(files).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Debian's, with other or further lines in one file.
fn changed(file: &str, lines: &str) -> Given {
    let mut files = debian();
    files.0.get_mut(&Path::new("/etc/courier").join(file)).unwrap().push_str(lines);
    files
}

fn config(file: &str, lines: &str) -> Config {
    read_all(&changed(file, lines)).loaded.config
}

/// With further lines in imapd and pop3d, or in the two for TLS.
fn config_of_both(suffix: &str, lines: &str) -> Config {
    let mut files = changed(&format!("imapd{suffix}"), lines);
    let other = PathBuf::from(format!("/etc/courier/pop3d{suffix}"));
    files.0.get_mut(&other).unwrap().push_str(lines);
    read_all(&files).loaded.config
}

fn refused(file: &str, lines: &str) -> String {
    let outcome = sources().read(&changed(file, lines));
    outcome.map(drop).expect_err(lines).to_string()
}

#[test]
fn debian_s_files_give_what_they_say() {
    let Inherited { loaded, remarks } = read_all(&debian());
    let config = &loaded.config;
    let shown: Vec<String> = config
        .listener
        .iter()
        .map(|l| {
            format!(
                "{} {} {:?} {:?} {} {}",
                l.protocol,
                l.address,
                l.tls,
                l.plain_login,
                l.connections_max,
                l.connections_per_address_max
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "imap *:143 Starttls Always 40 20",
            "imap *:993 Implicit Never 40 20",
            "pop3 *:110 Starttls Always 40 4",
            "pop3 *:995 Implicit Never 40 4",
        ]
    );
    assert_eq!(config.listener[0].names, config::NameForm::Courier);
    let partition = &config.partition[0];
    assert_eq!(partition.layout, LayoutKind::Maildir);
    assert_eq!((partition.path.to_str(), &*partition.user_path), (Some("/home"), "{user}/Maildir"));
    let mechanisms: Vec<_> = config.auth.mechanisms.iter().map(|m| m.as_str()).collect();
    assert_eq!(mechanisms, ["PLAIN"]);
    assert!(config.imap.suppress_capabilities.is_empty() && !config.imap.smap);
    assert_eq!(config.trash.empty[0].days, 7);
    assert_eq!(config.outbox.header_from, "X-IMAP-Sender");
    let pair = |protocol| config.tls.pair(protocol).unwrap().0.to_str().unwrap().to_owned();
    assert_eq!(pair(config::Protocol::Imap), "/etc/courier/imapd.pem");
    assert_eq!(pair(config::Protocol::Pop3), "/etc/courier/pop3d.pem");
    assert_eq!(config.pop3.uidl, "courier");
    let of = |key: &str| loaded.origins.of(key).to_string();
    assert_eq!(of("listener[0].address"), "/etc/courier/imapd:3");
    assert_eq!(of("trash.empty[0].days"), "/etc/courier/imapd:29");
    assert!(of("pop3.uidl").starts_with("Courier"), "{}", of("pop3.uidl"));
    let missing: Vec<_> = remarks
        .iter()
        .filter(|r| r.kind == RemarkKind::NotServed)
        .map(ToString::to_string)
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let backends: Vec<_> = config.auth.backends.iter().map(|b| b.as_str()).collect();
    assert_eq!(backends, ["users", "authdaemon"], "pam is asked of authdaemond");
    assert_eq!(config.auth.authdaemon.socket, Path::new("/run/courier/authdaemon/socket"));
    assert!(remarks.iter().any(|r| r.option.starts_with("PIDFILE") && r.line > 0));
    let text = loaded.to_toml();
    assert_eq!(Config::parse(&text, Path::new("/x/c.toml")).unwrap(), *config, "{text}");
}

#[test]
fn a_file_of_our_own_goes_first() {
    let mut files = debian();
    let own = "state_dir = \"s\"\n[[listener]]\nprotocol = \"imap\"\naddress = \"127.0.0.1:1143\"\n\
               [tls]\ncertificate = \"c\"\nkey = \"k\"\n";
    files.0.insert("/etc/cursus.toml".into(), own.to_owned());
    let sources = Sources { config: Some("/etc/cursus.toml".into()), ..sources() };
    let config = sources.read(&files).unwrap().loaded.config;
    assert_eq!(config.listener.len(), 1);
    assert_eq!(config.tls.pair(config::Protocol::Pop3).unwrap().0, Path::new("/etc/c"));
    assert_eq!(config.trash.empty[0].days, 7);
    assert_eq!(config.state_dir, Path::new("/etc/s"));
}

#[test]
fn addresses_ports_and_what_both_daemons_set() {
    let addresses = |made: &Config| -> Vec<String> {
        made.listener.iter().map(|l| l.address.to_string()).collect()
    };
    let made = config("imapd", "ADDRESS=192.0.2.1\nPORT=imap2,127.0.0.1.1143\n");
    assert_eq!(addresses(&made)[..3], ["192.0.2.1:143", "127.0.0.1:1143", "*:993"]);
    // Each daemon reads its own file last.
    let made = config("imapd-ssl", "MAXDAEMONS=10\nMAXPERIP=3\nSSLADDRESS=::1\n");
    assert_eq!(addresses(&made)[..2], ["*:143", "[::1]:993"]);
    let limits =
        |i: usize| (made.listener[i].connections_max, made.listener[i].connections_per_address_max);
    assert_eq!((limits(0), limits(1)), ((40, 20), (10, 3)));
    let made = config("imapd", "IMAPDSTART=NO\n");
    assert_eq!(addresses(&made), ["*:993", "*:110", "*:995"]);
    assert!(refused("imapd", "PORT=143x\n").contains("imapd:35: PORT"));
    assert!(refused("imapd", "MAXDAEMONS=some\n").contains("expected a number"));
    let told = refused("imapd", "TCPDOPTS=\"-nodnslookup -drop\"\n");
    assert!(told.contains("-drop: of couriertcpd's options only"), "{told}");
}

#[test]
fn who_may_log_in_and_how() {
    let made = config("imapd-ssl", "IMAP_TLS_REQUIRED=1\n");
    assert_eq!(made.listener[0].plain_login, PlainLogin::Never);
    let made = config("imapd-ssl", "IMAPDSTARTTLS=NO\n");
    assert_eq!(made.listener[0].tls, TlsMode::None);
    let told = refused("imapd-ssl", "IMAPDSTARTTLS=NO\nIMAP_TLS_REQUIRED=1\n");
    assert!(told.contains("imapd-ssl:18") && told.contains("nobody can log in"), "{told}");
    let names =
        |made: Config| -> Vec<&str> { made.auth.mechanisms.iter().map(|m| m.as_str()).collect() };
    let made = config(
        "imapd",
        "IMAP_CAPABILITY=\"IMAP4rev1 AUTH=CRAM-MD5 AUTH=cram-sha1\"\nIMAP_CAPABILITY_TLS=\n",
    );
    assert!(made.imap.suppress_capabilities.contains(&"IDLE".to_owned()));
    assert!(made.imap.suppress_capabilities.contains(&"SORT=DISPLAY".to_owned()));
    assert_eq!(names(made), ["CRAM-MD5", "CRAM-SHA1", "PLAIN"]);
    let both = "TLS_VERIFYPEER=PEER\nTLS_EXTERNAL=commonname\n";
    let made = config_of_both("-ssl", both);
    assert_eq!(made.auth.certificate_field, config::CertificateField::CommonName);
    assert_eq!(names(made), ["PLAIN", "EXTERNAL"]);
    assert!(refused("imapd-ssl", "TLS_EXTERNAL=uid\n").contains("needs TLS_VERIFYPEER"));
    let made = config_of_both("", "DEFDOMAIN=@example.com\n");
    assert_eq!(made.auth.default_domain, "example.com");
    // What one has alone would hold for the other, too, if that is served.
    for (file, lines, other) in [
        ("imapd", "DEFDOMAIN=@example.com\n", "only IMAP has it: set it for POP3"),
        ("pop3d", "DEFDOMAIN=@example.com\n", "only POP3 has it: set it for IMAP"),
        ("imapd-ssl", "TLS_PROTOCOL=TLSv1.3\nTLS_STARTTLS_PROTOCOL=TLSv1.3\n", "only IMAP has it"),
        ("pop3d-ssl", "TLS_VERIFYPEER=PEER\nTLS_TRUSTCERTS=/ca\n", "only POP3 has it"),
        ("imapd", "MAILDIRPATH=Mail\n", "with and without TLS the same Maildir"),
        ("pop3d", "MAILDIRPATH=Mail\n", "with and without TLS the same Maildir"),
    ] {
        let told = refused(file, lines);
        assert!(told.contains(other), "{file}: {lines}: {told}");
    }
    let mut files = changed("imapd", "DEFDOMAIN=@example.com\n");
    files.0.get_mut(Path::new("/etc/courier/pop3d")).unwrap().push_str("POP3DSTART=NO\n");
    files.0.get_mut(Path::new("/etc/courier/pop3d-ssl")).unwrap().push_str("POP3DSSLSTART=NO\n");
    assert_eq!(read_all(&files).loaded.config.auth.default_domain, "example.com");
    assert!(refused("imapd", "DEFDOMAIN=%example.com\n").contains("behind @"));
    let mut files = changed("pop3d", "DEFDOMAIN=@a\n");
    files.0.get_mut(Path::new("/etc/courier/imapd")).unwrap().push_str("DEFDOMAIN=@b\n");
    let told = sources().read(&files).map(drop).unwrap_err().to_string();
    assert!(told.contains("imapd:35 has another value"), "{told}");
}

#[test]
fn modules_are_back_ends_in_their_order() {
    let made = |list: &str, userdb: &str| {
        let mut files = changed("authdaemonrc", &format!("authmodulelist=\"{list}\"\n"));
        files.0.insert(userdb.into(), String::new());
        read_all(&files)
    };
    let backends = |list: &str, userdb: &str| -> Vec<&str> {
        made(list, userdb).loaded.config.auth.backends.iter().map(|b| b.as_str()).collect()
    };
    let file = "/etc/courier/userdb";
    assert_eq!(backends("authuserdb authshadow authpwd", file), ["users", "userdb", "passwd"]);
    assert_eq!(backends("authuserdb authmysql", file), ["users", "authdaemon"]);
    assert_eq!(backends("authuserdb", "/none"), ["users"]);
    let compiled = made("authuserdb", "/etc/courier/userdb.dat").loaded.config.auth;
    assert_eq!(compiled.userdb.path, Path::new("/etc/courier/userdb.dat"));
    let Inherited { remarks, .. } = made("authuserdb", "/none");
    assert!(remarks.iter().any(|r| r.text.contains("no userdb")), "{remarks:#?}");
    let made = config("authdaemonrc", "authmodulelist=authshadow\nauthdaemonvar=/run/other\n");
    assert_eq!(made.auth.passwd.path, Path::new("/etc/shadow"));
    assert_eq!(made.auth.authdaemon.socket, Path::new("/run/other/socket"));
}

#[test]
fn transport_settings() {
    let made = config_of_both("-ssl", "TLS_PROTOCOL=TLSv1.3\nTLS_STARTTLS_PROTOCOL=TLSv1.3\n");
    assert_eq!(made.tls.versions, [TlsVersion::V1_3]);
    let Inherited { loaded, remarks } =
        read_all(&changed("imapd-ssl", "TLS_PROTOCOL=TLSv1\nTLS_STARTTLS_PROTOCOL=TLSv1\n"));
    assert_eq!(loaded.config.tls.versions, [TlsVersion::V1_2, TlsVersion::V1_3]);
    assert!(remarks.iter().any(|r| r.kind == RemarkKind::NotServed && r.text.contains("oldest")));
    assert!(refused("imapd-ssl", "TLS_STARTTLS_PROTOCOL=TLSv1.2\n").contains("same versions"));
    let made = config_of_both("-ssl", "TLS_PRIORITY=SECURE256:-VERS-ALL:+VERS-TLS1.3\n");
    assert_eq!(made.tls.versions, [TlsVersion::V1_3]);
    assert!(
        refused("imapd-ssl", "TLS_PRIORITY=NORMAL:-VERS-ALL:+VERS-TLS1.0\n").contains("oldest")
    );
    let made = config_of_both("-ssl", "TLS_CIPHER_LIST=AESGCM:!AES128\n");
    assert_eq!(made.tls.cipher_suites.len(), 5);
    let made = config("imapd-ssl", "TLS_PRIVATE_KEYFILE=/k\n");
    assert_eq!(made.tls.key.as_deref(), Some(Path::new("/k")));
}

#[test]
fn trash_outbox_and_the_rest_of_imap() {
    let made = config(
        "imapd",
        "IMAP_TRASHFOLDERNAME=\"Deleted Items\"\nIMAP_EMPTYTRASH=\"Deleted Items:3,Lists.Old:30\"\n\
         IMAP_MOVE_EXPUNGE_TO_TRASH=1\nOUTBOX=.Send\nSENDMAIL=\"/usr/bin/env sendmail\"\n\
         OUTBOX_MULTIPLE_SEND=1\nHEADERFROM=\nSMAP_CAPABILITY=SMAP1\nIMAP_ID_FIELDS=2\nIMAP_ACL=0\n",
    );
    let empty: Vec<_> = made.trash.empty.iter().map(|e| (&*e.mailbox, e.days)).collect();
    assert_eq!(empty, [("Deleted Items", 3), ("Lists/Old", 30)]);
    assert!(made.trash.move_expunged && made.imap.smap && made.outbox.multiple_send);
    assert_eq!((&*made.outbox.mailbox, made.outbox.sendmail.len()), ("Send", 2));
    assert_eq!((&*made.outbox.header_from, &*made.imap.id.version), ("", ""));
    assert!(made.imap.suppress_capabilities.contains(&"ACL".to_owned()));
    assert!(refused("imapd", "IMAP_EMPTYTRASH=Trash:never\n").contains("expected folder:days"));
    for (lines, words) in [
        ("IMAP_KEYWORDS=0\n", "keywords are always there"),
        ("IMAP_PROXY=1\n", "proxy"),
        ("IMAP_OBSOLETE_CLIENT=1\n", "NoInferiors"),
        ("X=$(id)\n", "of $ only"),
    ] {
        let told = refused("imapd", lines);
        assert!(told.contains(words), "{lines}: {told}");
    }
    assert!(refused("pop3d-ssl", "MAILDIRPATH=Mail\n").contains("the same Maildir"));
    assert!(refused("authdaemonrc", "DEFAULTOPTIONS=disableimap=1\n").contains("accounts"));
}

#[test]
fn rules_on_who_may_connect_are_refused_and_none_are_not() {
    let with = |files: &[(&str, &str)]| {
        let mut given = debian();
        given.0.extend(Given::with(files).0);
        sources().read(&given).map(drop).map_err(|refused| refused.to_string())
    };
    let (source, compiled) = ("/etc/courier/imapaccess", "/etc/courier/imapaccess.dat");
    // As Debian's package leaves it, and as the first start of Courier does.
    assert_eq!(with(&[(source, "")]), Ok(()));
    assert_eq!(with(&[(source, ""), (compiled, "GDBM")]), Ok(()));
    for files in [&[(source, "10 deny\n")][..], &[(compiled, "GDBM")]] {
        let told = with(files).unwrap_err();
        assert!(told.contains("imapd:") && told.contains("who may connect"), "{told}");
    }
}

#[test]
fn unknown_dead_and_misplaced_variables_are_named() {
    let Inherited { remarks, .. } = read_all(&changed(
        "imapd",
        "MAXDEMONS=4\nSSLPORT=994\nIMAP_LOG_DELETIONS=1\nIMAP_UMASK=007\nLDAP_URI=x\n",
    ));
    let told: Vec<String> = remarks
        .iter()
        .filter(|r| r.kind == RemarkKind::NotServed)
        .map(|r| format!("{}:{} {}", r.option, r.line, r.text))
        .collect();
    let has = |option: &str, words: &str| {
        assert!(told.iter().any(|t| t.starts_with(option) && t.contains(words)), "{told:#?}");
    };
    has("MAXDEMONS", "MAXDAEMONS is one");
    has("SSLPORT", "it belongs into imapd-ssl");
    has("IMAP_LOG_DELETIONS", "not logged");
    has("IMAP_UMASK", "set again in line 38");
    has("LDAP_URI", "no such variable");
    assert_eq!(told.len(), 6, "{told:#?}");
}

#[test]
fn the_shared_index_tells_where_homes_are() {
    let mut files = debian();
    let index = "a.example\t*\ta\nmo@b.example\t1000\t1000\t/v/b.example/mo\t./Maildir\n";
    files.0.insert("/etc/courier/shared/index".into(), index.to_owned());
    let inner = "jo@a.example\t1000\t1000\t/v/a.example/jo\n";
    files.0.insert("/etc/courier/shared/a".into(), inner.to_owned());
    let Inherited { loaded, .. } = read_all(&files);
    let partition = &loaded.config.partition[0];
    let got = (partition.path.to_str().unwrap(), &*partition.user_path);
    assert_eq!(got, ("/v", "{domain}/{local}/Maildir"));
    assert_eq!(loaded.origins.of("partition[0].path").to_string(), "/etc/courier/imapd:26");
    files.0.insert("/etc/courier/shared/a".into(), "broken\n".to_owned());
    let told = sources().read(&files).map(drop).unwrap_err().to_string();
    assert!(told.contains("shared index"), "{told}");
    files.0.insert("/etc/courier/shared/a".into(), "a\t*\ta\n".to_owned());
    assert!(sources().read(&files).map(drop).unwrap_err().to_string().contains("without an end"));
}

#[test]
fn a_directory_without_files_is_refused_and_one_with_pop3_alone_is_not() {
    let told = sources().read(&Given::default()).map(drop).unwrap_err().to_string();
    assert!(told.contains("no file imapd or pop3d"), "{told}");
    let pop3 = Given::with(&[("/etc/courier/pop3d", POP3D)]);
    let config = read_all(&pop3).loaded.config;
    assert_eq!(config.listener.len(), 1);
    assert_eq!(config.listener[0].tls, TlsMode::None, "without pop3d-ssl");
}

/// `CURSUS_WRITE_DOCS=1 cargo test -p cursus-inherit` makes it anew.
#[test]
fn the_document_is_made_from_the_table() {
    crate::testing::assert_document("courier", &table::document());
    for (file, table) in FILES {
        let mut names: Vec<&str> = table.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), table.len(), "{file}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_texts_do_not_panic(
        imapd in "(?s:.{0,80})|([A-Z_]{1,12}=[\"'$A-Za-z0-9{} .,:#-]{0,30}\n){0,8}",
        value in "[^\n]{0,40}",
        name in prop::sample::select(
            FILES.iter().flat_map(|(f, t)| t.iter().map(move |r| (*f, r.name))).collect::<Vec<_>>()
        ),
    ) {
        let mut files = debian();
        let text = files.0.get_mut(&Path::new("/etc/courier").join(name.0)).unwrap();
        text.push_str(&format!("{}={value}\n{}={value:?}\n{imapd}", name.1, name.1));
        let _ = sources().read(&files);
    }
}
