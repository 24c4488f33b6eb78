//! Long files in bounded memory: a text in parts that end at line ends, or line by line.

use std::io::{self, BufRead, BufReader, Read};

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A part of a text, or a line.
    Bytes {
        /// Line with which it begins, from 1.
        line: u64,
        bytes: Vec<u8>,
    },
    /// A line over the limit, which was passed over.
    TooLong {
        /// Its number, from 1.
        line: u64,
        /// Its length.
        bytes: u64,
    },
}

/// The parts of a text: all of it where it fits the limit, else as many whole lines as fit.
pub struct Parts<R> {
    reader: R,
    limit: usize,
    pending: Vec<u8>,
    line: u64,
    ended: bool,
}

impl<R: Read> Parts<R> {
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit, pending: Vec::new(), line: 1, ended: false }
    }

    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        if !self.ended {
            let missing = (self.limit + 1 - self.pending.len()) as u64;
            self.ended =
                (self.reader.by_ref().take(missing).read_to_end(&mut self.pending)? as u64) < missing;
        }
        if self.pending.is_empty() {
            return Ok(None);
        }
        if self.pending.len() <= self.limit {
            return Ok(Some(self.take(self.pending.len())));
        }
        match self.pending[..self.limit].iter().rposition(|&byte| byte == b'\n') {
            Some(last) => Ok(Some(self.take(last + 1))),
            None => self.pass_over().map(Some),
        }
    }

    fn take(&mut self, length: usize) -> Piece {
        let rest = self.pending.split_off(length);
        let bytes = std::mem::replace(&mut self.pending, rest);
        let line = self.line;
        self.line += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        Piece::Bytes { line, bytes }
    }

    /// Drops the line that fills `pending`.
    fn pass_over(&mut self) -> io::Result<Piece> {
        let (line, mut length) = (self.line, 0);
        self.line += 1;
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                self.pending.drain(..=end);
                return Ok(Piece::TooLong { line, bytes: length + end as u64 });
            }
            length += self.pending.len() as u64;
            self.pending.clear();
            let step = self.limit.min(1 << 16) as u64;
            if self.reader.by_ref().take(step).read_to_end(&mut self.pending)? == 0 {
                self.ended = true;
                return Ok(Piece::TooLong { line, bytes: length });
            }
        }
    }
}

/// The lines of a file that are not blank.
pub struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
    line: u64,
}

impl<R: Read> Lines<R> {
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::with_capacity(1 << 16, reader), limit, line: 0 }
    }

    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let mut bytes = Vec::new();
            let room = self.limit as u64 + 1;
            if self.reader.by_ref().take(room).read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let line = self.line;
            if bytes.len() as u64 == room && bytes.last() != Some(&b'\n') {
                let bytes = bytes.len() as u64 + self.reader.skip_until(b'\n')? as u64;
                return Ok(Some(Piece::TooLong { line, bytes }));
            }
            if !bytes.trim_ascii().is_empty() {
                return Ok(Some(Piece::Bytes { line, bytes }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str, limit: usize) -> Vec<Piece> {
        let mut parts = Parts::new(text.as_bytes(), limit);
        std::iter::from_fn(|| parts.next_piece().unwrap()).collect()
    }

    fn bytes(line: u64, text: &str) -> Piece {
        Piece::Bytes { line, bytes: text.into() }
    }

    #[test]
    fn parts_end_at_lines() {
        assert_eq!(parts("one\ntwo\nthree", 100), [bytes(1, "one\ntwo\nthree")]);
        assert_eq!(parts("one\ntwo\nthree", 9), [bytes(1, "one\ntwo\n"), bytes(3, "three")]);
        assert_eq!(
            parts("one\nlonger\ntwo\n", 5),
            [bytes(1, "one\n"), Piece::TooLong { line: 2, bytes: 6 }, bytes(3, "two\n")]
        );
        assert_eq!(parts("longer", 5), [Piece::TooLong { line: 1, bytes: 6 }]);
        assert_eq!(parts("", 5), []);
    }

    #[test]
    fn lines_keep_their_numbers() {
        let mut lines = Lines::new(&b"one\n\n longer\nend"[..], 4);
        let found: Vec<Piece> = std::iter::from_fn(|| lines.next_piece().unwrap()).collect();
        assert_eq!(found, [bytes(1, "one\n"), Piece::TooLong { line: 3, bytes: 8 }, bytes(4, "end")]);
    }

    proptest! {
        #[test]
        fn parts_make_up_the_text(text in "[a\n]{0,60}", limit in 1_usize..20) {
            let mut found = String::new();
            let mut lines = 1;
            for piece in parts(&text, limit) {
                match piece {
                    Piece::Bytes { line, bytes } => {
                        prop_assert_eq!(line, lines);
                        prop_assert!(bytes.len() <= limit);
                        found += std::str::from_utf8(&bytes).unwrap();
                    }
                    Piece::TooLong { line, bytes } => {
                        prop_assert_eq!(line, lines);
                        prop_assert!(bytes as usize > limit - 1);
                        found += &"a".repeat(bytes as usize);
                        if found.len() < text.len() {
                            found += "\n";
                        }
                    }
                }
                lines = 1 + found.matches('\n').count() as u64;
            }
            prop_assert_eq!(found, text);
        }
    }
}
