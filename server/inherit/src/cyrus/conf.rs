//! The options of imapd.conf, for whoever asks for one.

use crate::draft::{Draft, Set};
use crate::value;

/// All options, and which services there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Conf {
    pub(super) all: Vec<Set>,
    /// Names of the entries of cyrus.conf that are served.
    pub(super) services: Vec<String>,
}

impl Conf {
    /// An option that is set to something.
    pub(super) fn get(&self, name: &str) -> Option<&Set> {
        self.all.iter().rev().find(|set| set.name == name && !set.value.is_empty())
    }

    /// The same under its name of today, else under an older one.
    pub(super) fn either(&self, name: &str, older: &str) -> Option<&Set> {
        self.get(name).or_else(|| self.get(older))
    }

    /// The option of a service, else of all.
    pub(super) fn of(&self, service: &str, name: &str) -> Option<&Set> {
        self.get(&format!("{service}_{name}")).or_else(|| self.get(name))
    }

    /// A yes or no with who said it; what is neither is refused.
    pub(super) fn switch(&self, set: Option<&Set>, default: bool, draft: &mut Draft) -> bool {
        let Some(set) = set else { return default };
        value::switch(&set.value).unwrap_or_else(|| {
            draft.refuse(set, "expected yes or no");
            default
        })
    }

    /// Seconds; `None` where the option isn't set, or below zero.
    pub(super) fn seconds(&self, set: Option<&Set>, unit: u64, draft: &mut Draft) -> Option<u64> {
        let set = set?;
        value::duration(&set.value, unit).unwrap_or_else(|| {
            draft.refuse(set, "expected a duration, such as 32m or 1h30m");
            None
        })
    }

    /// A number.
    pub(super) fn number(&self, set: Option<&Set>, draft: &mut Draft) -> Option<i64> {
        let set = set?;
        let number = set.value.parse().ok();
        if number.is_none() {
            draft.refuse(set, "expected a number");
        }
        number
    }
}

/// Words with blanks between them.
pub(super) fn words(set: Option<&Set>) -> Vec<String> {
    set.map(|set| set.value.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}
