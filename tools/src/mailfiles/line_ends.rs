//! Line ends: CRLF on the wire, LF in files.
//!
//! Invariant: [`to_wire`] of what [`to_file`] gave is the message again, unless that said otherwise.

use std::borrow::Cow;

/// The message as files have it: LF, if it is of CRLF throughout, else as it is. Said is what will not
/// come back.
pub fn to_file(octets: &[u8]) -> (Cow<'_, [u8]>, Option<&'static str>) {
    if is_crlf(octets) {
        let text: Vec<u8> = octets.iter().copied().filter(|b| *b != b'\r').collect();
        return (Cow::Owned(text), None);
    }
    let has_pair = octets.windows(2).any(|pair| pair == b"\r\n");
    let lossy = (!has_pair && octets.contains(&b'\n'))
        .then_some("its line ends are bare LF and come back as CRLF");
    (Cow::Borrowed(octets), lossy)
}

/// The message as it is served: CRLF for every LF, if there is no CRLF, else as it is.
pub fn to_wire(text: Vec<u8>) -> Vec<u8> {
    if text.windows(2).any(|pair| pair == b"\r\n") {
        return text;
    }
    let ends = text.iter().filter(|b| **b == b'\n').count();
    let mut octets = Vec::with_capacity(text.len() + ends);
    for byte in text {
        if byte == b'\n' {
            octets.push(b'\r');
        }
        octets.push(byte);
    }
    octets
}

/// Whether CR and LF come only as CRLF.
fn is_crlf(octets: &[u8]) -> bool {
    let mut last = 0;
    for byte in octets {
        if (*byte == b'\n') != (last == b'\r') {
            return false;
        }
        last = *byte;
    }
    last != b'\r'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_to_a_file_comes_back(text in "[a\r\n]{0,12}") {
            let (file, lossy) = to_file(text.as_bytes());
            let back = to_wire(file.into_owned());
            prop_assert_eq!(back == text.as_bytes(), lossy.is_none());
        }
    }
}
