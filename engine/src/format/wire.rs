//! Cursor pair for variable-length payloads: little-endian integers and counted bytes.

use super::FormatError;

/// Appends values to a buffer.
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// One byte.
    pub fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    /// Four bytes.
    pub fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// Eight bytes.
    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// Eight bytes, signed.
    pub fn i64(&mut self, v: i64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// The bytes alone, of a length that the reader knows.
    pub fn raw(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }
    /// A 32-bit count, then the bytes. Payloads are bounded far below 4 GiB by their makers.
    pub fn bytes(&mut self, v: &[u8]) {
        debug_assert!(u32::try_from(v.len()).is_ok());
        self.u32(v.len() as u32);
        self.raw(v);
    }
}

/// Takes values from a slice; every read is checked.
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which are a `what` (for the error).
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, what }
    }

    /// The next `n` bytes.
    pub fn raw(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        if n > self.rest.len() {
            let found = format!("{} bytes left, {n} wanted", self.rest.len());
            return Err(FormatError::new(self.what, "a longer payload", found));
        }
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        out.copy_from_slice(self.raw(N)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }
    /// Eight bytes, signed.
    pub fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_le_bytes)
    }
    /// Sixteen bytes.
    pub fn id(&mut self) -> Result<[u8; 16], FormatError> {
        self.array()
    }
    /// Counted bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], FormatError> {
        let n = self.u32()? as usize;
        self.raw(n)
    }
    /// Counted bytes that are UTF-8.
    pub fn text(&mut self) -> Result<String, FormatError> {
        let what = self.what;
        match std::str::from_utf8(self.bytes()?) {
            Ok(text) => Ok(text.to_owned()),
            Err(e) => Err(FormatError::new(what, "UTF-8 text", e.to_string())),
        }
    }
    /// Bytes not yet taken.
    pub fn left(&self) -> usize {
        self.rest.len()
    }
}
