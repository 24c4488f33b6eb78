//! Lines of a file, of which none may fill the memory.

use std::io::{self, BufRead};

/// Lines of `reader` with their numbers from 1, blank ones left out.
///
/// A line that is not UTF-8 or longer than `limit` bytes is passed over and comes as what is wrong with it.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    limit: usize,
    line: usize,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit, line: 0 }
    }

    /// The bytes of the next line, the end of line included, cut off after `limit`; `None` at the end.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let mut is_any = false;
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                return Ok(is_any.then_some(bytes));
            }
            is_any = true;
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            // One byte above the limit is enough to know that it is crossed.
            let kept = taken.min((self.limit + 1).saturating_sub(bytes.len()));
            bytes.extend(&available[..kept]);
            self.reader.consume(taken);
            if end.is_some() {
                return Ok(Some(bytes));
            }
        }
    }

    fn checked(&self, mut bytes: Vec<u8>) -> Result<String, String> {
        if bytes.len() > self.limit {
            return Err(format!("longer than {} bytes", self.limit));
        }
        const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
        if self.line == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        String::from_utf8(bytes)
            .map_err(|error| format!("not UTF-8 from byte {} on", error.utf8_error().valid_up_to() + 1))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<(usize, Result<String, String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let bytes = match self.read().transpose()? {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error)),
            };
            self.line += 1;
            let line = self.checked(bytes);
            if !line.as_ref().is_ok_and(|text| text.trim().is_empty()) {
                return Some(Ok((self.line, line)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(usize, Result<String, String>)> {
        // A small buffer, so that lines cross it.
        Lines::new(BufReader::with_capacity(3, bytes), 10).map(Result::unwrap).collect()
    }

    #[test]
    fn lines_keep_their_numbers() {
        let found = lines(b"\xEF\xBB\xBFone\r\n\n  \nfour");
        assert_eq!(found, [(1, Ok("one\r\n".to_owned())), (4, Ok("four".to_owned()))]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next() {
        let found = lines(b"0123456789a\n\xFFx\nab\xFF\nlast\n");
        let reasons = ["longer than 10 bytes", "not UTF-8 from byte 1 on", "not UTF-8 from byte 3 on"];
        let expected: Vec<_> = (1..).zip(reasons.map(|reason| Err(reason.to_owned()))).collect();
        assert_eq!(found[..3], expected);
        assert_eq!(found[3], (4, Ok("last\n".to_owned())));
    }

    #[test]
    fn a_line_of_a_gigabyte_is_not_held() {
        let endless = io::repeat(b'x').take(1 << 30);
        let mut lines = Lines::new(BufReader::with_capacity(1 << 16, endless.chain(&b"\nshort\n"[..])), 100);
        assert_eq!(lines.read().unwrap().unwrap().capacity().next_power_of_two(), 128);
        assert_eq!(lines.next().unwrap().unwrap().1.unwrap(), "short\n");
    }
}
