//! Back ends in their order: the first that knows a name decides.
//!
//! One that can't answer makes the name unavailable even if a later one knows it: the later one
//! may have another password for it.

use std::sync::{Arc, OnceLock};

use super::{Backend, Listing};
use crate::directory::{
    Account, Attributes, BoxFuture, Candidate, PassDb, PasswordCheck, Unavailable, UserDb,
};
use crate::name::UserName;

/// Knows who has mail here: of users whom a back end knows by their password alone, only those
/// get mail.
pub trait MailOwners: Send + Sync {
    /// Whether the store has a user of that name.
    fn has_mail<'a>(&'a self, user: &'a UserName) -> BoxFuture<'a, Result<bool, Unavailable>>;
}

/// One link: a back end, and whether it knows names without passwords.
struct Link {
    backend: Arc<dyn Backend>,
    /// It can't tell who exists; it stands last.
    is_blind: bool,
}

/// All back ends.
#[derive(Default)]
pub struct Chain {
    links: Vec<Link>,
    owners: OnceLock<Arc<dyn MailOwners>>,
}

impl Chain {
    /// In that order. `blind` is asked for passwords last, and for nothing else.
    pub fn new(backends: Vec<Arc<dyn Backend>>, blind: Option<Arc<dyn Backend>>) -> Chain {
        let seeing = backends.into_iter().map(|backend| Link { backend, is_blind: false });
        let blind = blind.into_iter().map(|backend| Link { backend, is_blind: true });
        Chain { links: seeing.chain(blind).collect(), owners: OnceLock::new() }
    }

    /// Says who knows whose mail is here; once.
    pub fn set_owners(&self, owners: Arc<dyn MailOwners>) {
        // A second start in one process would keep the first one's.
        let _ = self.owners.set(owners);
    }

    /// The back ends.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.links.iter().map(|link| &link.backend)
    }

    /// Reads all of them again. Blocks.
    ///
    /// # Errors
    /// What could not be read, each named; the others are read all the same.
    pub fn reload(&self) -> Result<(), String> {
        let failed: Vec<String> =
            self.backends().filter_map(|backend| backend.reload().err()).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    /// What each back end has; see [`Backend::list`].
    pub async fn list(&self) -> Vec<(&'static str, Result<Listing, Unavailable>)> {
        let mut lists = Vec::new();
        for backend in self.backends() {
            lists.push((backend.kind(), backend.list().await));
        }
        lists
    }

    async fn account(&self, user: &UserName) -> Result<Option<Account>, Unavailable> {
        for link in &self.links {
            if link.is_blind {
                let Some(owners) = self.owners.get() else { continue };
                if owners.has_mail(user).await? {
                    return Ok(Some(Account::new(user.clone(), Attributes::default())));
                }
            } else if let Some(account) = link.backend.lookup(user).await? {
                return Ok(Some(account));
            }
        }
        Ok(None)
    }
}

impl UserDb for Chain {
    fn lookup<'a>(
        &'a self,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>> {
        Box::pin(self.account(user))
    }

    fn proven<'a>(
        &'a self,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>> {
        Box::pin(async move {
            for link in &self.links {
                if let Some(account) = link.backend.proven(user).await? {
                    return Ok(Some(account));
                }
            }
            Ok(None)
        })
    }
}

impl PassDb for Chain {
    fn find<'a>(
        &'a self,
        user: &'a UserName,
        service: &'a str,
    ) -> BoxFuture<'a, Result<Candidate, Unavailable>> {
        Box::pin(async move {
            let mut decoys: Vec<Arc<dyn PasswordCheck>> = Vec::new();
            for link in &self.links {
                match link.backend.find(user, service).await? {
                    known @ Candidate::Known { .. } => return Ok(known),
                    Candidate::Unknown { decoy } => decoys.extend(decoy),
                }
            }
            // The same for one name, so that asking twice tells nothing.
            let hash =
                user.as_str().bytes().fold(7usize, |h, b| h.wrapping_mul(31) ^ usize::from(b));
            let decoy = match decoys.len() {
                0 => None,
                many => Some(decoys.swap_remove(hash % many)),
            };
            Ok(Candidate::Unknown { decoy })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Credential, Credentials};

    /// Knows one name, with its own password; or nobody; or nothing at all.
    enum Fake {
        Knows(&'static str, &'static str),
        Down,
    }

    impl UserDb for Fake {
        fn lookup<'a>(
            &'a self,
            user: &'a UserName,
        ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>> {
            Box::pin(async move {
                match self {
                    Fake::Knows(name, _) if *name == user.as_str() => {
                        Ok(Some(Account::new(user.clone(), Attributes::default())))
                    }
                    Fake::Knows(..) => Ok(None),
                    Fake::Down => Err(Unavailable("down".to_owned())),
                }
            })
        }
    }

    impl PassDb for Fake {
        fn find<'a>(
            &'a self,
            user: &'a UserName,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Candidate, Unavailable>> {
            Box::pin(async move {
                match self {
                    Fake::Knows(name, password) if *name == user.as_str() => {
                        let clear = Credential::Clear((*password).to_owned());
                        let check = Arc::new(Credentials(vec![clear]));
                        Ok(Candidate::Known { check, version: [0; 32] })
                    }
                    Fake::Knows(..) => Ok(Candidate::Unknown { decoy: None }),
                    Fake::Down => Err(Unavailable("down".to_owned())),
                }
            })
        }
    }

    impl Backend for Fake {
        fn kind(&self) -> &'static str {
            "fake"
        }

        fn reload(&self) -> Result<(), String> {
            match self {
                Fake::Down => Err("down".to_owned()),
                Fake::Knows(..) => Ok(()),
            }
        }

        fn list<'a>(&'a self) -> BoxFuture<'a, Result<Listing, Unavailable>> {
            Box::pin(async { Ok(Listing::default()) })
        }
    }

    struct Owner(&'static str);

    impl MailOwners for Owner {
        fn has_mail<'a>(&'a self, user: &'a UserName) -> BoxFuture<'a, Result<bool, Unavailable>> {
            Box::pin(async move { Ok(user.as_str() == self.0) })
        }
    }

    fn chain(fakes: Vec<Fake>) -> Chain {
        let backends = fakes.into_iter().map(|fake| Arc::new(fake) as Arc<dyn Backend>);
        Chain::new(backends.collect(), None)
    }

    async fn password(chain: &Chain, user: &str) -> Result<Option<String>, Unavailable> {
        let user = UserName::new(user).unwrap();
        Ok(match chain.find(&user, "imap").await? {
            Candidate::Known { check, .. } => check.password().map(str::to_owned),
            Candidate::Unknown { .. } => None,
        })
    }

    #[tokio::test]
    async fn the_first_that_knows_a_name_decides() {
        let chain =
            chain(vec![Fake::Knows("jo", "a"), Fake::Knows("jo", "b"), Fake::Knows("mo", "c")]);
        assert_eq!(password(&chain, "jo").await, Ok(Some("a".to_owned())));
        assert_eq!(password(&chain, "mo").await, Ok(Some("c".to_owned())));
        assert_eq!(password(&chain, "flo").await, Ok(None));
        assert_eq!(chain.lookup(&UserName::new("flo").unwrap()).await, Ok(None));
    }

    #[tokio::test]
    async fn one_that_is_down_makes_later_names_unavailable_and_none_unknown() {
        let chain = chain(vec![Fake::Knows("jo", "a"), Fake::Down, Fake::Knows("mo", "c")]);
        assert_eq!(password(&chain, "jo").await, Ok(Some("a".to_owned())));
        for name in ["mo", "flo"] {
            let user = UserName::new(name).unwrap();
            assert!(password(&chain, name).await.is_err());
            assert!(chain.lookup(&user).await.is_err() && chain.proven(&user).await.is_err());
        }
        assert_eq!(chain.reload(), Err("down".to_owned()));
    }

    #[tokio::test]
    async fn whom_a_blind_one_knows_has_mail_or_a_password() {
        let chain = Chain::new(
            vec![Arc::new(Fake::Knows("mo", "c"))],
            Some(Arc::new(Fake::Knows("jo", "a"))),
        );
        let jo = UserName::new("jo").unwrap();
        assert_eq!(chain.lookup(&jo).await, Ok(None));
        assert!(chain.proven(&jo).await.unwrap().is_some());
        chain.set_owners(Arc::new(Owner("jo")));
        assert!(chain.lookup(&jo).await.unwrap().is_some());
        assert_eq!(chain.lookup(&UserName::new("flo").unwrap()).await, Ok(None));
    }
}
