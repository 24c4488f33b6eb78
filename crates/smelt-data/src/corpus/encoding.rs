//! From bytes to text: UTF-8, UTF-16 with a byte order mark, and what is done about the rest.
//!
//! Guesses no encoding. Text that is neither is refused unless the caller says that it is Latin-1:
//! taking KOI8-R or EUC-JP for Latin-1 would teach a model gibberish.

use std::io::{self, Read};

/// What to do about text that is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInvalidUtf8 {
    /// Leave it out.
    Skip,
    /// Read it as Latin-1 (ISO 8859-1), or leave it out if it has control characters as that.
    Latin1,
    /// Take it with U+FFFD for every invalid sequence.
    Replace,
}

/// A text, and whether it took more than UTF-8 to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    pub text: String,
    pub repaired: bool,
}

/// Decodes `bytes`, without a byte order mark and with line feeds for CR LF; the line, from 0, of what
/// is not UTF-8 where that is refused.
pub fn decode(bytes: Vec<u8>, invalid: OnInvalidUtf8) -> Result<Decoded, usize> {
    let (text, repaired) = match String::from_utf8(bytes) {
        Ok(text) => (text, false),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let refused = error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
            (repair(error.as_bytes(), invalid).ok_or(refused)?, true)
        }
    };
    Ok(Decoded { text: normalized(text), repaired })
}

fn repair(bytes: &[u8], invalid: OnInvalidUtf8) -> Option<String> {
    match invalid {
        OnInvalidUtf8::Skip => None,
        OnInvalidUtf8::Latin1 if bytes.iter().any(|byte| matches!(byte, 0x80..0xA0)) => None,
        OnInvalidUtf8::Latin1 => Some(bytes.iter().map(|&byte| char::from(byte)).collect()),
        OnInvalidUtf8::Replace => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// `text` without a byte order mark in front, and with line feeds for CR LF.
pub fn normalized(text: String) -> String {
    let text = match text.strip_prefix('\u{FEFF}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    if text.contains("\r\n") { text.replace("\r\n", "\n") } else { text }
}

/// How the two bytes of a UTF-16 unit lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Utf16 {
    Little,
    Big,
}

impl Utf16 {
    /// The order that the first bytes of a text say.
    pub fn of_mark(head: &[u8]) -> Option<Self> {
        match head {
            [0xFF, 0xFE, ..] => Some(Self::Little),
            [0xFE, 0xFF, ..] => Some(Self::Big),
            _ => None,
        }
    }

    fn unit(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }
}

/// Reads UTF-16 as UTF-8; half a surrogate pair becomes U+FFFD.
pub struct Utf16Reader<R> {
    inner: R,
    order: Utf16,
    /// The first half of a pair whose second half was not read yet.
    high: Option<u16>,
    /// UTF-8 that was not asked for yet, last byte first.
    ready: Vec<u8>,
    ended: bool,
}

impl<R: Read> Utf16Reader<R> {
    pub fn new(inner: R, order: Utf16) -> Self {
        Self { inner, order, high: None, ready: Vec::new(), ended: false }
    }

    fn refill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 8 << 10];
        let length = super::format::read_up_to(&mut self.inner, &mut bytes)?;
        self.ended = length < bytes.len();
        let (units, odd) = bytes[..length].as_chunks::<2>();
        let mut units: Vec<u16> =
            self.high.take().into_iter().chain(units.iter().map(|unit| self.order.unit(*unit))).collect();
        if !self.ended {
            self.high = units.pop_if(|unit| (0xD800..0xDC00).contains(unit));
        } else if !odd.is_empty() {
            units.push(0xFFFD);
        }
        let text: String =
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        self.ready = text.into_bytes();
        self.ready.reverse();
        Ok(())
    }
}

impl<R: Read> Read for Utf16Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.ended {
            self.refill()?;
        }
        let length = buffer.len().min(self.ready.len());
        let rest = self.ready.len() - length;
        for (to, from) in buffer.iter_mut().zip(self.ready.drain(rest..).rev()) {
            *to = from;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_utf16(bytes: &[u8]) -> String {
        let order = Utf16::of_mark(bytes).unwrap();
        let mut text = String::new();
        Utf16Reader::new(bytes, order).read_to_string(&mut text).unwrap();
        normalized(text)
    }

    #[test]
    fn utf16_of_both_orders_is_read() {
        // A pair of surrogates across the border of the internal buffer, too.
        for text in ["one\r\ntwo é €".to_owned(), format!("{}😀 end", "x".repeat((4 << 10) - 2))] {
            let units: Vec<u16> = std::iter::once(0xFEFF).chain(text.encode_utf16()).collect();
            let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            assert_eq!(read_utf16(&little), text.replace('\r', ""));
            assert_eq!(read_utf16(&big), text.replace('\r', ""));
        }
        assert_eq!(read_utf16(b"\xFF\xFEa\0\x00\xD8b"), "a\u{FFFD}\u{FFFD}");
    }

    #[test]
    fn what_is_not_utf8_is_handled_as_asked() {
        let bytes = b"one\ncaf\xE9\n".to_vec();
        assert_eq!(decode(bytes.clone(), OnInvalidUtf8::Skip), Err(1));
        let text = |invalid| decode(bytes.clone(), invalid).unwrap().text;
        assert_eq!(text(OnInvalidUtf8::Latin1), "one\ncafé\n");
        assert_eq!(text(OnInvalidUtf8::Replace), "one\ncaf\u{FFFD}\n");
        assert_eq!(decode(b"\xE9 \x93quoted\x94".to_vec(), OnInvalidUtf8::Latin1), Err(0));
    }

    #[test]
    fn marks_and_carriage_returns_go() {
        let decoded = decode(b"\xEF\xBB\xBFone\r\ntwo\rthree\n".to_vec(), OnInvalidUtf8::Skip).unwrap();
        assert_eq!(decoded, Decoded { text: "one\ntwo\rthree\n".to_owned(), repaired: false });
    }
}
