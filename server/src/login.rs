//! What logins of all protocols share: which mechanisms are offered on a connection, and what they
//! may know about it.

use auth::{Channel, Context, Mechanism, Origin};
use config::{Config, SaslMechanism};

use crate::certificate;
use crate::net::Conn;
use crate::services::Services;

/// Who is asking, for the authenticator.
pub fn context(conn: &Conn, service: &'static str) -> Context {
    let origin = conn.peer().ip().map_or(Origin::Local, Origin::from);
    Context { origin, service, listener: conn.listener().name().into() }
}

impl Services {
    /// The mechanisms that this connection is offered now, best first.
    ///
    /// Those with channel binding only under TLS 1.3: clients of older versions know `tls-unique`
    /// alone, which a TLS library of today doesn't tell.
    pub fn mechanisms(&self, conn: &Conn) -> Vec<Mechanism> {
        let config = self.config();
        let is_set = |m: &Mechanism| config.auth.mechanisms.iter().any(|&s| sasl(s) == Some(*m));
        let has_binding = conn.exporter().is_some();
        let fits = |m: &Mechanism| match m {
            Mechanism::External => !certificate_users(&config, conn).is_empty(),
            m if m.is_plus() => has_binding,
            _ => true,
        };
        let offered = |m: &Mechanism| is_set(m) && fits(m) && self.auth.can(*m);
        Mechanism::ALL.into_iter().filter(offered).collect()
    }

    /// Whether passwords are taken in clear: IMAP's LOGIN and POP3's USER are as good as PLAIN.
    pub fn takes_passwords(&self) -> bool {
        let set = &self.config().auth.mechanisms;
        [SaslMechanism::Plain, SaslMechanism::Login].iter().any(|m| set.contains(m))
    }

    /// The mechanism of that name, if this connection is offered it.
    pub fn mechanism(&self, conn: &Conn, name: &[u8]) -> Option<Mechanism> {
        let named = Mechanism::parse(name)?;
        self.mechanisms(conn).contains(&named).then_some(named)
    }

    /// What an exchange may know about the connection.
    pub fn channel(&self, conn: &Conn) -> Channel {
        Channel {
            host: self.hostname().to_owned(),
            exporter: conn.exporter(),
            end_point: conn.end_point().map(<[u8]>::to_vec),
            offers_plus: self.mechanisms(conn).iter().any(|m| m.is_plus()),
            certificate_users: certificate_users(&self.config(), conn),
        }
    }
}

fn certificate_users(config: &Config, conn: &Conn) -> Vec<String> {
    let field = config.auth.certificate_field;
    conn.client_certificate().map(|der| certificate::users(der, field)).unwrap_or_default()
}

fn sasl(setting: SaslMechanism) -> Option<Mechanism> {
    Mechanism::parse(setting.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_has_a_setting() {
        let set: Vec<_> = SaslMechanism::ALL.into_iter().map(sasl).collect();
        assert!(set.iter().all(Option::is_some));
        for mechanism in Mechanism::ALL {
            assert!(set.contains(&Some(mechanism)), "{}", mechanism.name());
        }
    }
}
