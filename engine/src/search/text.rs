//! The text of fields and bodies with case taken off, piece by piece.
//!
//! Decoding goes the same way as in [`super::needle`], so that a string is in this text exactly if
//! a search finds it.

use protocol::mime::charset::{self, CoderResult};
use protocol::mime::transfer::Decoder;
use protocol::mime::{Encoding, encoded_word, header};

use super::fold::fold;
use super::needle::{Buffers, TEXT_BYTES};

impl Buffers {
    /// Gives a field, raw, as text.
    pub(super) fn each_value(&mut self, raw: &[u8], each: &mut dyn FnMut(&str)) {
        self.folded.clear();
        fold(&encoded_word::decode(&header::unfold(raw)), &mut self.folded);
        tell(&self.folded, each);
    }
}

fn tell(folded: &[u8], each: &mut dyn FnMut(&str)) {
    // What was folded from text is text.
    each(&String::from_utf8_lossy(folded));
}

/// A body that comes in pieces.
pub(super) struct Pieces<'a> {
    label: &'a [u8],
    transfer: Decoder,
    /// Set by the first decoded bytes.
    charset: Option<charset::Decoder>,
    buffers: &'a mut Buffers,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(encoding: Encoding, label: &'a [u8], buffers: &'a mut Buffers) -> Pieces<'a> {
        Pieces { label, transfer: Decoder::new(encoding), charset: None, buffers }
    }

    /// Takes the next piece of the stored body.
    pub(super) fn feed(&mut self, piece: &[u8], each: &mut dyn FnMut(&str)) {
        let mut decoded = std::mem::take(&mut self.buffers.decoded);
        decoded.clear();
        self.transfer.feed(piece, &mut decoded);
        self.decode(&decoded, false, each);
        self.buffers.decoded = decoded;
    }

    /// Ends the body.
    pub(super) fn finish(mut self, each: &mut dyn FnMut(&str)) {
        let mut decoded = Vec::new();
        std::mem::replace(&mut self.transfer, Decoder::Identity).finish(&mut decoded);
        self.decode(&decoded, true, each);
    }

    fn decode(&mut self, bytes: &[u8], is_last: bool, each: &mut dyn FnMut(&str)) {
        let label = self.label;
        let decoder = self.charset.get_or_insert_with(|| {
            charset::of_text(label, bytes).new_decoder_without_bom_handling()
        });
        let Buffers { text, folded, .. } = &mut *self.buffers;
        let mut rest = bytes;
        loop {
            text.clear();
            text.reserve(TEXT_BYTES);
            let (result, read, _) = decoder.decode_to_string(rest, text, is_last);
            rest = &rest[read..];
            folded.clear();
            fold(text, folded);
            tell(folded, each);
            if result == CoderResult::InputEmpty {
                return;
            }
        }
    }
}

/// A search string as it is compared.
pub(crate) fn folded(string: &str) -> String {
    let mut out = Vec::new();
    fold(string, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
