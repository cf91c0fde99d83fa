//! Commands on their way out: words, strings, and what has to wait for a continuation.

/// A command without its tag.
#[derive(Clone)]
pub struct Command {
    name: String,
    /// What is sent at once, and behind each continuation.
    pieces: Vec<Vec<u8>>,
}

impl Command {
    /// A command of this name, which may be two words.
    pub fn new(name: &str) -> Command {
        Command { name: name.to_owned(), pieces: vec![name.as_bytes().to_vec()] }
    }

    /// Its name, for errors. It never holds an argument.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn push(mut self, bytes: &[u8]) -> Command {
        if let Some(last) = self.pieces.last_mut() {
            last.extend_from_slice(bytes);
        }
        self
    }

    /// An argument as it is.
    pub fn word(self, word: &str) -> Command {
        self.push(b" ").push(word.as_bytes())
    }

    /// A string: quoted, or a literal where it holds what quotes cannot.
    pub fn astring(self, text: &[u8]) -> Command {
        let quotable = text.iter().all(|b| (b' '..0x7f).contains(b)) && text.len() < 1000;
        if !quotable {
            let mut this = self.push(format!(" {{{}}}\r\n", text.len()).as_bytes());
            this.pieces.push(text.to_vec());
            return this;
        }
        let mut quoted = vec![b' ', b'"'];
        for byte in text {
            if b"\"\\".contains(byte) {
                quoted.push(b'\\');
            }
            quoted.push(*byte);
        }
        quoted.push(b'"');
        self.push(&quoted)
    }

    /// A mailbox's name as the server wrote it.
    pub fn mailbox(self, wire: &[u8]) -> Command {
        self.astring(wire)
    }

    /// A line that is sent when the server asks for it.
    pub fn after_continuation(self, line: &[u8]) -> Command {
        let mut this = self.push(b"\r\n");
        this.pieces.push(line.to_vec());
        this
    }

    /// What goes over the wire, piece by piece.
    pub(super) fn pieces(self, tag: &str) -> Vec<Vec<u8>> {
        let mut pieces = self.pieces;
        if let Some(first) = pieces.first_mut() {
            first.splice(0..0, format!("{tag} ").into_bytes());
        }
        if let Some(last) = pieces.last_mut() {
            last.extend_from_slice(b"\r\n");
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(command: Command) -> Vec<String> {
        let pieces = command.pieces("t").into_iter();
        pieces.map(|p| String::from_utf8_lossy(&p).into_owned()).collect()
    }

    #[test]
    fn strings_are_quoted_or_literals() {
        let login = Command::new("LOGIN").astring(b"jo").astring(b"a\"b\\");
        assert_eq!(wire(login), ["t LOGIN \"jo\" \"a\\\"b\\\\\"\r\n"]);
        let odd = Command::new("LOGIN").astring("ö".as_bytes()).astring(b"x\r\ny");
        assert_eq!(wire(odd), ["t LOGIN {2}\r\n", "ö {4}\r\n", "x\r\ny\r\n"]);
        let sasl = Command::new("AUTHENTICATE").word("PLAIN").after_continuation(b"AGE=");
        assert_eq!(wire(sasl), ["t AUTHENTICATE PLAIN\r\n", "AGE=\r\n"]);
    }
}
