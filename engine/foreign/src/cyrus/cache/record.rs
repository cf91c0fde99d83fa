//! A message's record of `cyrus.cache`, and what `cyrus.index` says of the message, made from its
//! bytes by the rules of cache version 11.
//!
//! Of the header all fields are cached, not only those that Cyrus's list names: it filters what it
//! is asked for. ENVELOPE, BODYSTRUCTURE and BODY are ours, [restated].

use protocol::mime::transfer::Decoder;
use protocol::mime::{
    Encoding, Kind, Limits, Parser, Part, Structure, address, date, encoded_word, header, wire,
};
use sha1::{Digest, Sha1};

use super::{ITEMS, restated, write};

/// The encoding word of a level's header.
const OF_HEADER: u32 = 0xffff;
/// What stands for a header that a level does not have.
const NOTHING: u32 = u32::MAX;

/// What is made of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The cache record.
    pub record: Vec<u8>,
    /// Octets of the header with its empty line.
    pub header_size: u32,
    /// The Date field, seconds since 1970; 0 for none.
    pub date_utc: i64,
    /// Midnight of the Date field's day as written; 0 for none.
    pub sent_date: i64,
    /// SHA-1 of the message.
    pub guid: [u8; 20],
}

/// Makes the cache record of a message as it is stored, with CRLF line ends.
pub fn make(message: &[u8]) -> Made {
    let mut parser = Parser::new(Limits::default());
    parser.feed(message);
    let structure = parser.finish();
    let (mut body, mut body_structure) = (Vec::new(), Vec::new());
    structure.write_body(&mut body);
    structure.write_body_structure(&mut body_structure);
    let mut sections = Sections { message, structure: &structure, out: Vec::new() };
    sections.of_message(0);
    let fields = structure.header().bytes();
    let field = |name: &[u8]| header::find(fields, name);
    let addresses = |name: &[u8]| field(name).map_or_else(Vec::new, search_form);
    let lists: [Vec<u8>; 4] = [&b"From"[..], b"To", b"Cc", b"Bcc"].map(addresses);
    let [from, to, cc, bcc] = &lists;
    let subject = field(b"Subject").map(|value| {
        let unfolded = header::unfold(value);
        encoded_word::decode(&unfolded).into_owned().into_bytes()
    });
    let mut quoted = Vec::new();
    wire::nstring(subject.as_deref(), &mut quoted);
    let envelope = restated::envelope(structure.envelope());
    let (body, body_structure) = (restated::body(&body), restated::body(&body_structure));
    let items: [&[u8]; ITEMS] =
        [&envelope, &body_structure, &body, &sections.out, fields, from, to, cc, bcc, &quoted];
    let sent = field(b"Date").and_then(date::parse);
    Made {
        record: write(&items),
        header_size: structure.parts().first().map_or(0, |part| part.body_start.served),
        date_utc: sent.map_or(0, |sent| sent.unix),
        sent_date: sent.map_or(0, |sent| i64::from(sent.local_day) * date::DAY_SECONDS),
        guid: Sha1::digest(message).into(),
    }
}

/// Addresses as `name <mailbox@host>`, decoded, with commas between them.
fn search_form(value: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    address::parse(value, |item| {
        let (name, local, domain) = match item {
            address::Address::Mailbox { name, local, domain, .. } => (name, local, domain),
            address::Address::GroupStart(name) => {
                out.push_str(&format!("{}:", encoded_word::decode(name)));
                return;
            }
            address::Address::GroupEnd => return out.push(';'),
        };
        if !out.is_empty() && !out.ends_with(':') {
            out.push(',');
        }
        let name = name.map(|name| encoded_word::decode(name).into_owned()).unwrap_or_default();
        if !name.is_empty() {
            let plain = |c: char| c.is_ascii_alphanumeric() || " !#$%&'*+-/=?^_`{|}~".contains(c);
            match name.chars().all(plain) {
                true => out.push_str(&name),
                false => {
                    out.push('"');
                    out.extend(name.chars().flat_map(|c| {
                        let escape = matches!(c, '"' | '\\').then_some('\\');
                        escape.into_iter().chain([c])
                    }));
                    out.push('"');
                }
            }
            out.push(' ');
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        out.push_str(&format!("<{}@{}>", text(local), text(domain.unwrap_or_default())));
    });
    out.into_bytes()
}

struct Sections<'a> {
    message: &'a [u8],
    structure: &'a Structure,
    out: Vec<u8>,
}

impl Sections<'_> {
    fn put(&mut self, numbers: impl IntoIterator<Item = u32>) {
        numbers.into_iter().for_each(|number| self.out.extend(number.to_be_bytes()));
    }

    fn children(&self, index: usize) -> Vec<usize> {
        let parts = self.structure.parts().iter().enumerate();
        let own = parts.filter(|(_, part)| part.parent.map(usize::from) == Some(index));
        own.map(|(child, _)| child).collect()
    }

    /// The level of a message: the whole, or one inside.
    fn of_message(&mut self, index: usize) {
        let Some(part) = self.structure.parts().get(index) else { return self.put([0]) };
        if part.kind == Kind::Multipart {
            let children = self.children(index);
            self.put([children.len() as u32 + 1]);
            self.part(index, true);
            children.iter().for_each(|child| self.part(*child, false));
            children.iter().for_each(|child| self.below(*child));
            return;
        }
        self.put([2]);
        self.part(index, true);
        self.part(index, false);
        self.below(index);
    }

    /// The level below a part.
    fn below(&mut self, index: usize) {
        let Some(part) = self.structure.parts().get(index) else { return self.put([0]) };
        match part.kind {
            Kind::Leaf => self.put([0]),
            Kind::Message => match self.children(index).first() {
                Some(inner) => self.of_message(*inner),
                None => self.put([0]),
            },
            Kind::Multipart => {
                let children = self.children(index);
                self.put([children.len() as u32 + 1, 0, NOTHING, 0, NOTHING, OF_HEADER]);
                self.put([0; 7]);
                children.iter().for_each(|child| self.part(*child, false));
                children.iter().for_each(|child| self.below(*child));
            }
        }
    }

    /// One part: header, content, encoding with charset, digest, decoded size, lines.
    fn part(&mut self, index: usize, as_header: bool) {
        let Some(part) = self.structure.parts().get(index) else { return };
        let (start, body) = (part.header_start.served, part.body_start.served);
        let mut size = part.end.served.saturating_sub(body);
        let mut lines = part.body_lines();
        let behind = self.message.get(part.end.served as usize..).unwrap_or_default();
        // Cyrus counts the line end before the next boundary of the multipart around this one.
        if part.kind == Kind::Multipart && part.parent.is_some() && behind.starts_with(b"\r\n") {
            (size, lines) = (size.saturating_add(2), lines.saturating_add(1));
        }
        self.put([start, body.saturating_sub(start), body, size]);
        if as_header {
            self.put([OF_HEADER]);
        } else {
            let charset = self.charset(part);
            self.put([(charset.len() as u32) << 16 | encoding(part)]);
            self.out.extend(charset);
        }
        if part.kind == Kind::Multipart {
            self.put([0; 6]);
        } else {
            let stored = self.message.get(body as usize..body.saturating_add(size) as usize);
            let mut decoded = Vec::new();
            let mut decoder = Decoder::new(match part.encoding {
                Encoding::Base64 | Encoding::QuotedPrintable => part.encoding,
                _ => Encoding::Binary,
            });
            decoder.feed(stored.unwrap_or_default(), &mut decoded);
            decoder.finish(&mut decoded);
            self.out.extend(Sha1::digest(&decoded));
            self.put([decoded.len() as u32]);
        }
        self.put([lines]);
    }

    /// The charset of a text part with NULs behind, in whole words.
    fn charset(&self, part: &Part) -> Vec<u8> {
        if part.kind != Kind::Leaf || self.structure.text(part.media_type) != b"text" {
            return Vec::new();
        }
        let named = self.structure.parameter(part, b"charset");
        let mut charset = named.as_deref().unwrap_or(b"us-ascii").to_ascii_lowercase();
        charset.push(0);
        charset.resize(charset.len().next_multiple_of(4), 0);
        charset
    }
}

fn encoding(part: &Part) -> u32 {
    match part.encoding {
        Encoding::SevenBit | Encoding::EightBit | Encoding::Binary => 0,
        Encoding::QuotedPrintable => 1,
        Encoding::Base64 => 2,
        Encoding::Other => 0xff,
    }
}
