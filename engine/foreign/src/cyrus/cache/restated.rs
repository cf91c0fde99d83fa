//! ENVELOPE, BODY and BODYSTRUCTURE as Cyrus reads them back from its cache.
//!
//! Its reader compares media types, encodings and the names of parameters in upper case, and knows no
//! backslash in a quoted string: one with a quote or a backslash in it has to be a literal.

/// A value with what stands before it.
enum Node {
    /// `( … )`, each member with whether a blank stands before it.
    List(Vec<(bool, Node)>),
    /// A quoted string or literal.
    Text(Vec<u8>),
    /// NIL or a number.
    Atom(Vec<u8>),
}

/// The ENVELOPE, restated.
pub(super) fn envelope(wire: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, &Reader(wire).node());
    out
}

/// BODY or BODYSTRUCTURE, restated.
pub(super) fn body(wire: &[u8]) -> Vec<u8> {
    let mut node = Reader(wire).node();
    part(&mut node);
    let mut out = Vec::new();
    put(&mut out, &node);
    out
}

/// Reads what our own writer made.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn node(&mut self) -> Node {
        match self.0.first() {
            Some(b'(') => {
                self.take();
                let mut members = Vec::new();
                loop {
                    let mut blank = false;
                    while self.0.first() == Some(&b' ') {
                        blank = true;
                        self.take();
                    }
                    match self.0.first() {
                        None => break,
                        Some(b')') => {
                            self.take();
                            break;
                        }
                        Some(_) => members.push((blank, self.node())),
                    }
                }
                Node::List(members)
            }
            Some(b'"') => {
                self.take();
                let mut text = Vec::new();
                while let Some(byte) = self.take() {
                    match byte {
                        b'"' => break,
                        b'\\' => text.extend(self.take()),
                        other => text.push(other),
                    }
                }
                Node::Text(text)
            }
            Some(b'{') => {
                let end = self.0.iter().position(|b| *b == b'\n').map_or(self.0.len(), |at| at + 1);
                let (head, rest) = self.0.split_at(end);
                let digits: String =
                    head.iter().filter(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
                let len = digits.parse().unwrap_or(0).min(rest.len());
                let (text, rest) = rest.split_at(len);
                self.0 = rest;
                Node::Text(text.to_vec())
            }
            _ => {
                let ends = |b: &u8| matches!(b, b' ' | b'(' | b')');
                // At least one octet, so that every call gets on.
                let len = self.0.iter().skip(1).position(ends).map_or(self.0.len(), |at| at + 1);
                let (atom, rest) = self.0.split_at(len);
                self.0 = rest;
                Node::Atom(atom.to_vec())
            }
        }
    }
}

fn put(out: &mut Vec<u8>, node: &Node) {
    match node {
        Node::Atom(atom) => out.extend(atom),
        Node::Text(text) => {
            let plain = |b: &u8| (b' '..0x7f).contains(b) && !matches!(b, b'"' | b'\\');
            if text.iter().all(plain) {
                out.push(b'"');
                out.extend(text);
                out.push(b'"');
            } else {
                out.extend(format!("{{{}}}\r\n", text.len()).bytes());
                out.extend(text);
            }
        }
        Node::List(members) => {
            out.push(b'(');
            for (blank, member) in members {
                if *blank {
                    out.push(b' ');
                }
                put(out, member);
            }
            out.push(b')');
        }
    }
}

fn upper(node: Option<&mut (bool, Node)>) {
    if let Some((_, Node::Text(text))) = node {
        text.make_ascii_uppercase();
    }
}

/// The names of parameters, which take turns with their values.
fn parameters(node: Option<&mut (bool, Node)>) {
    if let Some((_, Node::List(members))) = node {
        members.iter_mut().step_by(2).for_each(|member| upper(Some(member)));
    }
}

/// A disposition with its parameters.
fn disposition(node: Option<&mut (bool, Node)>) {
    if let Some((_, Node::List(members))) = node {
        upper(members.first_mut());
        parameters(members.get_mut(1));
    }
}

fn part(node: &mut Node) {
    let Node::List(members) = node else { return };
    let parts = members.iter().take_while(|(_, member)| matches!(member, Node::List(_))).count();
    if parts > 0 {
        members.iter_mut().take(parts).for_each(|(_, member)| part(member));
        upper(members.get_mut(parts));
        parameters(members.get_mut(parts + 1));
        return disposition(members.get_mut(parts + 2));
    }
    upper(members.first_mut());
    upper(members.get_mut(1));
    parameters(members.get_mut(2));
    upper(members.get_mut(5));
    let is =
        |at: usize, word: &[u8]| matches!(members.get(at), Some((_, Node::Text(t))) if t == word);
    // Octets are the seventh; what follows depends on the type.
    let more = match (is(0, b"MESSAGE") && is(1, b"RFC822"), is(0, b"TEXT")) {
        (true, _) => {
            if let Some((_, inside)) = members.get_mut(8) {
                part(inside);
            }
            10
        }
        (false, true) => 8,
        (false, false) => 7,
    };
    disposition(members.get_mut(more + 1));
}
