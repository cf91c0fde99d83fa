//! Files that the shell reads: lines `NAME=value`.
//!
//! A value is a word of unquoted, `'single'` and `"double"` quoted pieces with `$NAME` and `${NAME}`
//! of earlier variables outside of single quotes. `#` begins a comment at the beginning of a word.
//! What else the shell can do (commands, substitutions, conditions, values over several lines) is
//! refused with its line.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use crate::draft::{Draft, Set};

/// Variables after a file was read, or several one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    /// The last value of each.
    by_name: BTreeMap<String, Set>,
}

impl Variables {
    /// The variable, if any file sets it, even to nothing.
    pub(super) fn set(&self, name: &str) -> Option<&Set> {
        self.by_name.get(name)
    }

    /// The variable, if it has a value.
    pub(super) fn get(&self, name: &str) -> Option<&Set> {
        self.by_name.get(name).filter(|set| !set.value.is_empty())
    }

    /// Names of variables that begin so, with what they are set to.
    pub(super) fn all(&self) -> impl Iterator<Item = &Set> {
        self.by_name.values()
    }

    /// Reads a file on top of what is known, as `. file` does. Says what it passes over.
    pub(super) fn read(&mut self, text: &str, file: &Path, draft: &mut Draft) {
        let file: Rc<Path> = file.into();
        let mut here: BTreeMap<String, usize> = BTreeMap::new();
        for (i, line) in text.lines().enumerate() {
            let number = i + 1;
            match self.assignment(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => {
                    let set = Set { name: name.clone(), value, file: file.clone(), line: number };
                    let key = name.clone();
                    let before = self.by_name.insert(name.clone(), set);
                    let again = format!("set again in line {number}");
                    match (before, here.insert(name, number), self.by_name.get(&key)) {
                        (Some(before), Some(_), Some(now)) if before.value == now.value => {
                            draft.not_needed(&before, again);
                        }
                        (Some(before), Some(_), _) => draft.not_served(&before, again),
                        _ => {}
                    }
                }
                Err(reason) => draft.refuse_line(&file, number, line.trim(), reason),
            }
        }
    }

    fn assignment(&self, line: &str) -> Result<Option<(String, String)>, String> {
        const FORM: &str = "only NAME=value is read, as these files have it";
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let (name, rest) = line.split_once('=').ok_or(FORM)?;
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !is_name(name) {
            return Err(FORM.to_owned());
        }
        Ok(Some((name.to_owned(), self.word(rest)?)))
    }

    /// The value at the beginning of `text`; behind it there may only be a comment.
    fn word(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text.chars().peekable();
        let mut quote: Option<char> = None;
        let mut begun = false;
        loop {
            let Some(c) = rest.next() else {
                return match quote {
                    Some(_) => Err("the quotes do not end in this line".to_owned()),
                    None => Ok(out),
                };
            };
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (Some('\''), c) => out.push(c),
                (None, '\'' | '"') => quote = Some(c),
                (_, '$') => self.variable(&mut rest, &mut out)?,
                (_, '`') => return Err("commands are not run".to_owned()),
                (Some(_), '\\') => match rest.next() {
                    Some(c @ ('\\' | '"' | '$' | '`')) => out.push(c),
                    Some(c) => out.extend(['\\', c]),
                    None => return Err("values over several lines are not read".to_owned()),
                },
                (None, '\\') => match rest.next() {
                    Some(c) => out.push(c),
                    None => return Err("values over several lines are not read".to_owned()),
                },
                (None, c) if c.is_whitespace() => {
                    let behind: String = rest.collect();
                    let behind = behind.trim_start();
                    return match behind.is_empty() || behind.starts_with('#') {
                        true => Ok(out),
                        false => Err(format!("commands are not run: {behind}")),
                    };
                }
                (None, '~') if !begun => return Err("~ is not expanded".to_owned()),
                (None, ';' | '|' | '&' | '<' | '>' | '(' | ')') => {
                    return Err(format!("an unquoted {c:?} of the shell is not read"));
                }
                (_, c) => out.push(c),
            }
            begun = true;
        }
    }

    fn variable(
        &self,
        rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
        out: &mut String,
    ) -> Result<(), String> {
        let braced = rest.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if braced && rest.next_if_eq(&'}').is_none() || name.is_empty() {
            return Err("of $ only $NAME and ${NAME} are read".to_owned());
        }
        if let Some(set) = self.by_name.get(&name) {
            out.push_str(&set.value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Variables, Draft) {
        let (mut variables, mut draft) = (Variables::default(), Draft::default());
        variables.read(text, Path::new("/etc/courier/imapd"), &mut draft);
        (variables, draft)
    }

    fn value(text: &str) -> String {
        let (variables, draft) = read(&format!("OLD=old\nEMPTY=\nX={text}\n"));
        assert!(draft.errors.is_empty(), "{text}: {:?}", draft.errors);
        variables.set("X").unwrap().value.clone()
    }

    #[test]
    fn values_are_read_as_the_shell_reads_them() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("\"two words\"", "two words"),
            ("'$OLD'", "$OLD"),
            ("\"$OLD AUTH=PLAIN\"", "old AUTH=PLAIN"),
            ("$OLD", "old"),
            ("${OLD}er", "older"),
            ("a\"b\"'c'", "abc"),
            ("\"$UNKNOWN\"", ""),
            ("\"a\\\"b\\$OLD\\n\"", "a\"b$OLD\\n"),
            ("a\\ b", "a b"),
            ("value # a comment", "value"),
            ("value#no-comment", "value#no-comment"),
            ("\"$EMPTY\"", ""),
            ("/usr/sbin/sendmail", "/usr/sbin/sendmail"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn comments_and_later_values() {
        let (variables, draft) =
            read("##NAME: PORT:1\n#PORT=1\n\n  PORT=143\nPORT=144 # mine\n# COMMENT: X=1\n");
        assert_eq!(variables.set("PORT").unwrap().value, "144");
        assert_eq!(variables.set("PORT").unwrap().line, 5);
        assert!(variables.set("X").is_none());
        assert_eq!(draft.remarks.len(), 1);
        let remark = draft.remarks[0].to_string();
        assert!(
            remark.contains("imapd:4: PORT = \"143\"") && remark.contains("line 5"),
            "{remark}"
        );
    }

    #[test]
    fn what_else_the_shell_can_do_is_refused_with_its_line() {
        for bad in [
            "X=$(hostname)",
            "X=`hostname`",
            "X=\"a",
            "X='a",
            "X=a\\",
            "X=\"a\\",
            "X=a;b",
            "X=a|b",
            "X=a&",
            "X=<a",
            "X=~/x",
            "X=a b",
            "export X",
            "if true",
            "export X=1",
            "1X=2",
            "X =1",
            ". /etc/other",
            "X=${OLD:-1}",
            "X=${OLD",
            "X=$",
            "X=\"$(a)\"",
            "=x",
            "X=(a)",
        ] {
            let (_, draft) = read(&format!("\n{bad}\n"));
            assert_eq!(draft.errors.len(), 1, "{bad}: {:?}", draft.remarks);
            let told = draft.errors[0].to_string();
            assert!(told.starts_with("/etc/courier/imapd:2: "), "{told}");
        }
    }
}
