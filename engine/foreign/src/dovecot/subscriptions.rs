//! `subscriptions`: names without the namespace's prefix, in modified UTF-7.
//!
//! Version 2: line 1 `V TAB 2`, an empty line, then a name a line with TAB between levels. Without
//! that line, version 1: names with the namespace's separator.

use crate::lines::numbered;

const HEAD: &[u8] = b"V\t2";

/// Levels of each name, as they stand. `separator` is that of a file of version 1.
pub fn read(bytes: &[u8], separator: char) -> Vec<Vec<String>> {
    let mut lines = numbered(bytes).map(|(_, line)| line).peekable();
    let newer = lines.peek().is_some_and(|line| *line == HEAD);
    if newer {
        lines.next();
    }
    let separator = if newer { '\t' } else { separator };
    let name = |line: &[u8]| {
        let text = std::str::from_utf8(line).ok().filter(|text| !text.is_empty())?;
        Some(text.split(separator).map(str::to_owned).collect())
    };
    lines.filter_map(name).collect()
}

/// The bytes of the file, version 2. Levels with TAB or LF leave their name out.
pub fn write(names: &[Vec<String>]) -> Vec<u8> {
    let mut out = [HEAD, b"\n\n"].concat();
    let holds = |name: &&Vec<String>| {
        !name.iter().any(|level| level.is_empty() || level.contains(['\t', '\n']))
    };
    for name in names.iter().filter(holds).filter(|name| !name.is_empty()) {
        out.extend_from_slice(name.join("\t").as_bytes());
        out.push(b'\n');
    }
    out
}
