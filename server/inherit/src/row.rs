//! What a table of another server's options says of each of them.

/// An option of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// As its file has it. A name that ends in `*` stands for all that begin so.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: Kind,
    /// Its value where it is not set; empty where it has none.
    pub default: &'static str,
    /// What becomes of it here.
    pub fate: Fate,
}

/// What kind of value an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Yes or no.
    Switch,
    /// A number.
    Number,
    /// A number with a unit.
    Duration,
    /// Text, names, paths.
    Text,
}

impl Kind {
    /// The word for documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Switch => "switch",
            Kind::Number => "number",
            Kind::Duration => "duration",
            Kind::Text => "text",
        }
    }
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has its effect: by these settings of ours, and with what differs.
    Honoured(&'static str),
    /// Nothing is to be done, because of this.
    NotNeeded(&'static str),
    /// It has no effect here, and whoever sets it has to know: why.
    NotServed(&'static str),
    /// With another value than its default (or one that means off) there is no start: why, and what
    /// to do.
    Refused(&'static str),
}

impl Fate {
    /// The word for documents and its explanation.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Fate::Honoured(text) => ("honoured", text),
            Fate::NotNeeded(text) => ("not needed", text),
            Fate::NotServed(text) => ("not served", text),
            Fate::Refused(text) => ("refused", text),
        }
    }
}

/// The row that says something of `name`.
pub(crate) fn find<'t>(table: &'t [Row], name: &str) -> Option<&'t Row> {
    let exact = table.iter().find(|row| row.name == name);
    exact.or_else(|| {
        table.iter().find(|row| row.name.strip_suffix('*').is_some_and(|p| name.starts_with(p)))
    })
}

/// The name of the table that differs least from one that is not in it, if it is near.
pub(crate) fn nearest<'t>(names: impl Iterator<Item = &'t str>, name: &str) -> Option<&'t str> {
    let near = names.map(|one| (distance(one, name), one)).min()?;
    (near.0 <= 2 && near.0 * 3 <= name.len()).then_some(near.1)
}

/// Insertions, removals and replacements from one name to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut before = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let replaced = before + usize::from(ca != *cb);
            before = *cell;
            left = replaced.min(left + 1).min(before + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The rows as a document has them.
pub fn document(table: &[Row]) -> String {
    let mut out = String::from("| option | kind | default | here | |\n|---|---|---|---|---|\n");
    for row in table {
        let (word, text) = row.fate.words();
        let default = match row.default {
            "" => String::new(),
            text => format!("`{}`", text.replace('|', "\\|")),
        };
        let name = row.name.replace('|', "\\|");
        out.push_str(&format!(
            "| `{name}` | {} | {default} | {word} | {text} |\n",
            row.kind.as_str()
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_has_a_near_one() {
        let names = ["MAXDAEMONS", "MAXPERIP", "PORT"];
        let near = |name: &str| nearest(names.into_iter(), name);
        assert_eq!(near("MAXDEMONS"), Some("MAXDAEMONS"));
        assert_eq!(near("MAXPERIPP"), Some("MAXPERIP"));
        assert_eq!(near("LDAP_URI"), None);
        assert_eq!(near("PRT"), Some("PORT"));
        assert_eq!(near(""), None);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("abc", "adc")), (3, 3, 1));
    }
}
