//! Command lines as getopt(3) reads them: single letters, together or apart, with or without a value,
//! and operands between them.

use super::Stop;

/// What a command line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    options: Vec<(char, String)>,
    /// Without options.
    pub(super) operands: Vec<String>,
}

impl Given {
    /// Reads `arguments`. `letters` is as getopt has it: a colon behind a letter that takes a value.
    /// Those of `refused` are understood and refused, with the reason.
    pub(super) fn read(
        arguments: &[String],
        letters: &str,
        refused: &[(&str, &str)],
    ) -> Result<Given, Stop> {
        let mut given = Given::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                given.operands.extend(arguments.by_ref().cloned());
                break;
            }
            let Some(cluster) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                given.operands.push(argument.clone());
                continue;
            };
            let mut rest = cluster.chars();
            while let Some(letter) = rest.next() {
                let takes = letters.split(letter).nth(1).filter(|_| letter != ':');
                let Some(behind) = takes else {
                    return Err(Stop::Usage(format!("unknown option -{letter}")));
                };
                let mut value = String::new();
                if behind.starts_with(':') {
                    let attached: String = rest.by_ref().collect();
                    value = match attached.is_empty() {
                        false => attached,
                        true => arguments
                            .next()
                            .cloned()
                            .ok_or_else(|| Stop::Usage(format!("-{letter} needs a value")))?,
                    };
                }
                if let Some((_, why)) = refused.iter().find(|(set, _)| set.contains(letter)) {
                    return Err(Stop::Refused(format!("-{letter}: {why}")));
                }
                given.options.push((letter, value));
            }
        }
        Ok(given)
    }

    /// Whether an option is there.
    pub(super) fn has(&self, letter: char) -> bool {
        self.value(letter).is_some()
    }

    /// The last value of an option.
    pub(super) fn value(&self, letter: char) -> Option<&str> {
        let of = self.options.iter().rev().find(|(one, _)| *one == letter);
        of.map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_getopt_reads_them() {
        let read = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Given::read(&arguments, "C:D:X:vn", &[("n", "because")])
        };
        let given = read("-vX3 -C conf user/alice -D 7d -- -x").unwrap();
        assert_eq!(
            (given.value('X'), given.value('C'), given.value('D')),
            (Some("3"), Some("conf"), Some("7d"))
        );
        assert!(given.has('v') && !given.has('n'));
        assert_eq!(given.operands, ["user/alice", "-x"]);
        assert!(matches!(read("-q"), Err(Stop::Usage(text)) if text.contains("-q")));
        assert!(matches!(read("-:"), Err(Stop::Usage(_))));
        assert!(matches!(read("-X"), Err(Stop::Usage(text)) if text.contains("-X")));
        assert!(matches!(read("-vn"), Err(Stop::Refused(text)) if text == "-n: because"));
        assert_eq!(read("-").unwrap().operands, ["-"]);
    }
}
