//! Who may act as whom: authorisation identities (RFC 4422 section 2), master users, proxies.
//!
//! A user with `proxy=all` in the user file acts as everybody; one with `proxy=domain` as the users
//! of the same domain, but not as those who may act as others themselves. Both log in with their
//! own credentials and name the other: by the mechanism's authorisation identity, or, where the
//! setting is on, as `user*master` in place of the name.

use crate::directory::{Account, Proxy};
use crate::name::{LoginDomains, NameError, UserName};

/// Who a client says it is, and as whom it wants to act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose credentials are shown, as the client wrote it.
    pub named: String,
    /// The same in canonical form; `None` if that is no user's name.
    pub user: Option<UserName>,
    /// As whom else, if at all.
    pub acting_as: Option<Result<UserName, NameError>>,
}

impl Claim {
    /// Takes `named` apart at the separator of master users, if there is one.
    pub fn new(
        named: &str,
        authzid: &str,
        separator: Option<char>,
        domains: &LoginDomains,
    ) -> Claim {
        let (target, named) = match separator.and_then(|s| named.rsplit_once(s)) {
            Some((target, master)) => (Some(target), master),
            None => (None, named),
        };
        let user = domains.user(named).ok();
        let others = |name: &str| {
            let name = domains.user(name);
            // Somebody who names himself acts for himself.
            (user.is_none() || name.as_ref().ok() != user.as_ref()).then_some(name)
        };
        let by_identity = if authzid.is_empty() { None } else { others(authzid) };
        let acting_as = match (target.and_then(others), by_identity) {
            // Two wishes that differ: neither is granted.
            (Some(target), Some(identity)) if target != identity => Some(Err(NameError::Character)),
            (target, identity) => target.or(identity),
        };
        Claim { named: named.to_owned(), user, acting_as }
    }
}

/// Whether `own` may act as `other`.
pub fn may_act(own: &Account, other: &Account) -> bool {
    let domain = |account: &Account| {
        account.name.as_str().rsplit_once('@').map(|(_, domain)| domain.to_owned())
    };
    match own.attributes.proxy {
        Proxy::Nobody => false,
        Proxy::Everybody => true,
        Proxy::Domain => {
            other.attributes.proxy == Proxy::Nobody
                && domain(own).is_some()
                && domain(own) == domain(other)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Attributes;

    fn account(name: &str, proxy: Proxy) -> Account {
        Account::new(UserName::new(name).unwrap(), Attributes { proxy, ..Attributes::default() })
    }

    #[test]
    fn names_are_taken_apart() {
        let acting = |named: &str, authzid: &str, separator| {
            let claim = Claim::new(named, authzid, separator, &LoginDomains::default());
            let text = |n: &UserName| n.as_str().to_owned();
            let target = claim.acting_as.map(|t| t.map(|n| text(&n)).unwrap_or("-".into()));
            (claim.user.as_ref().map(text).unwrap_or("-".into()), target)
        };
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(acting("Jo", "", None), ("jo".into(), None));
        assert_eq!(acting("jo", "JO", None), ("jo".into(), None));
        assert_eq!(acting("boss", "jo", None), ("boss".into(), some("jo")));
        assert_eq!(acting("jo*boss", "", Some('*')), ("boss".into(), some("jo")));
        assert_eq!(acting("jo*boss", "jo", Some('*')), ("boss".into(), some("jo")));
        assert_eq!(acting("jo*boss", "mo", Some('*')), ("boss".into(), some("-")));
        assert_eq!(acting("boss*boss", "", Some('*')), ("boss".into(), None));
        assert_eq!(acting("jo*boss", "", None), ("-".into(), None));
        assert_eq!(acting("*boss", "", Some('*')), ("boss".into(), some("-")));
        assert_eq!(acting("boss", "a b", None), ("boss".into(), some("-")));
        assert_eq!(acting("a*b*boss", "", Some('*')), ("boss".into(), some("-")));
    }

    #[test]
    fn a_proxy_of_a_domain_stays_in_it() {
        let all = account("root", Proxy::Everybody);
        let boss = account("boss@a.example", Proxy::Domain);
        let jo = account("jo@a.example", Proxy::Nobody);
        let mo = account("mo@b.example", Proxy::Nobody);
        let bare = account("bare", Proxy::Nobody);
        assert!(may_act(&all, &jo) && may_act(&all, &mo) && may_act(&all, &boss));
        assert!(may_act(&boss, &jo));
        assert!(!may_act(&boss, &mo) && !may_act(&boss, &all) && !may_act(&boss, &bare));
        assert!(!may_act(&boss, &account("two@a.example", Proxy::Domain)));
        assert!(!may_act(&boss, &account("top@a.example", Proxy::Everybody)));
        assert!(!may_act(&jo, &mo) && !may_act(&jo, &bare));
        assert!(!may_act(&account("alone", Proxy::Domain), &bare));
    }
}
