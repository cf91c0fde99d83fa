//! What Courier writes into a text: options, quotas, and where a Maildir is.

use std::path::{Path, PathBuf};

use crate::directory::Attributes;
use crate::name::UserName;

/// Takes `disablepop3=1,group=staff`. What means nothing here is told in `remarks`.
pub(super) fn options(text: &str, attributes: &mut Attributes, remarks: &mut Vec<String>) {
    for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, "1"));
        // As Courier reads them; without a value we take the safe side.
        let is_on = value.starts_with(['t', 'T', 'y', 'Y'])
            || value.trim_start().parse::<i64>().is_ok_and(|n| n != 0);
        match name {
            "disableimap" => attributes.disableimap = is_on,
            "disablepop3" => attributes.disablepop3 = is_on,
            "disableshared" => attributes.disableshared = is_on,
            "group" => match UserName::new(value) {
                Ok(group) if !group.as_str().contains(['@', ',']) => attributes.groups.push(group),
                _ => remarks.push(format!("group {value:?} is no name of a group")),
            },
            "sharedgroup" => attributes.shared_group = Some(value.to_owned()),
            // Of webmail: not here.
            "disablewebmail" | "wbnochangingfrom" | "wbnochangepass" | "wbusexsender"
            | "wbnoimages" | "wbnodsn" => {}
            _ => remarks.push(format!("option {name} means nothing here")),
        }
    }
}

/// Takes `10000000S,1000C`: bytes and messages.
pub(super) fn quota(text: &str, attributes: &mut Attributes, remarks: &mut Vec<String>) {
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let number = |suffix| part.strip_suffix(suffix).and_then(|n: &str| n.parse::<u64>().ok());
        match (number('S'), number('C')) {
            (Some(bytes), _) => attributes.quota_bytes = Some(bytes),
            (None, Some(messages)) => attributes.quota_messages = Some(messages),
            (None, None) => {
                remarks.push(format!("quota {part:?} is no number of bytes (S) or messages (C)"))
            }
        }
    }
}

/// Where the Maildir is: `mail`, which may be relative to `home`; without it `Maildir` there.
pub(super) fn maildir(home: Option<&str>, mail: Option<&str>) -> Option<PathBuf> {
    let home = home.filter(|home| home.starts_with('/')).map(Path::new);
    let path = match (home, mail.filter(|mail| !mail.is_empty())) {
        (_, Some(mail)) if mail.starts_with('/') => PathBuf::from(mail),
        (Some(home), Some(mail)) => home.join(mail.strip_prefix("./").unwrap_or(mail)),
        (Some(home), None) => home.join("Maildir"),
        (None, _) => return None,
    };
    // Without the slash that some write at the end.
    Some(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_quotas_become_attributes() {
        let (mut attributes, mut remarks) = (Attributes::default(), Vec::new());
        let text = "disableimap=1,disablepop3=0,disableshared=yes,group=Staff,group=a@b,sharedgroup=x,colour=red";
        options(text, &mut attributes, &mut remarks);
        quota("10000000S,1000C,7G", &mut attributes, &mut remarks);
        assert!(attributes.disableimap && !attributes.disablepop3 && attributes.disableshared);
        assert_eq!(attributes.groups.iter().map(UserName::as_str).collect::<Vec<_>>(), ["staff"]);
        assert_eq!(
            (attributes.quota_bytes, attributes.quota_messages),
            (Some(10_000_000), Some(1000))
        );
        assert_eq!(remarks.len(), 3, "{remarks:?}");
        options("disablepop3", &mut attributes, &mut remarks);
        assert!(attributes.disablepop3);
    }

    #[test]
    fn a_maildir_is_named_whole() {
        let path = |home, mail| maildir(home, mail).map(|p| p.to_string_lossy().into_owned());
        assert_eq!(path(Some("/home/jo"), None).unwrap(), "/home/jo/Maildir");
        assert_eq!(path(Some("/home/jo"), Some("./Mail/")).unwrap(), "/home/jo/Mail");
        assert_eq!(path(Some("/home/jo"), Some("/m/jo/")).unwrap(), "/m/jo");
        assert_eq!(path(None, Some("x")), None);
    }
}
