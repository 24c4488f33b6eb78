//! The instructions of a pickle, with their arguments.
//!
//! Those that Python's `pickle` writes in protocols 2 to 5 for the objects of a state dict; all others are
//! refused by name or number. Reference: Python's `Lib/pickletools.py`.

use super::value::Value;

/// One instruction. Jumps do not exist: a pickle is read from its beginning to `Stop`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Instruction<'a> {
    /// Has no effect here: protocol, frame.
    Nothing,
    Stop,
    Push(Value<'a>),
    EmptyTuple,
    EmptyList,
    EmptyDict,
    Mark,
    Pop,
    PopMark,
    Duplicate,
    /// A tuple of what lies above the mark; a list likewise.
    SequenceToMark,
    /// A tuple of the last values.
    Tuple(usize),
    DictToMark,
    Append,
    AppendToMark,
    SetItem,
    SetItemsToMark,
    Remember(u32),
    RememberNext,
    Recall(u32),
    Global(&'a str, &'a str),
    /// As `Global`, with both names on the stack.
    GlobalFromStack,
    Reduce,
    Build,
    PersistentId,
}

/// Reads instructions one after the other.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        Self { rest: pickle }
    }

    /// The next instruction.
    pub(super) fn next(&mut self) -> Result<Instruction<'a>, String> {
        let [code] = self.array::<1>()?;
        Ok(match code {
            0x80 => self.array::<1>().map(|_| Instruction::Nothing)?,
            0x95 => self.array::<8>().map(|_| Instruction::Nothing)?,
            b'.' => Instruction::Stop,
            b')' => Instruction::EmptyTuple,
            b']' => Instruction::EmptyList,
            b'}' => Instruction::EmptyDict,
            b'(' => Instruction::Mark,
            b'0' => Instruction::Pop,
            b'1' => Instruction::PopMark,
            b'2' => Instruction::Duplicate,
            b't' | b'l' => Instruction::SequenceToMark,
            0x85 => Instruction::Tuple(1),
            0x86 => Instruction::Tuple(2),
            0x87 => Instruction::Tuple(3),
            b'd' => Instruction::DictToMark,
            b'a' => Instruction::Append,
            b'e' => Instruction::AppendToMark,
            b's' => Instruction::SetItem,
            b'u' => Instruction::SetItemsToMark,
            b'q' => Instruction::Remember(self.array::<1>().map(|[index]| index.into())?),
            b'r' => Instruction::Remember(self.array().map(u32::from_le_bytes)?),
            0x94 => Instruction::RememberNext,
            b'h' => Instruction::Recall(self.array::<1>().map(|[index]| index.into())?),
            b'j' => Instruction::Recall(self.array().map(u32::from_le_bytes)?),
            b'c' => Instruction::Global(self.line()?, self.line()?),
            0x93 => Instruction::GlobalFromStack,
            b'R' => Instruction::Reduce,
            b'b' => Instruction::Build,
            b'Q' => Instruction::PersistentId,
            _ => Instruction::Push(self.value(code)?),
        })
    }

    /// The value that instruction `code` holds.
    fn value(&mut self, code: u8) -> Result<Value<'a>, String> {
        Ok(match code {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(self.array().map(i32::from_le_bytes)?.into()),
            b'K' => Value::Int(self.array::<1>().map(|[int]| int.into())?),
            b'M' => Value::Int(self.array().map(u16::from_le_bytes)?.into()),
            0x8a => self.long()?,
            b'G' => self.array::<8>().map(|_| Value::Opaque)?,
            // Texts of Python 2 are bytes; names of tensors are ASCII in both.
            b'X' | b'T' => self.text::<4>()?,
            0x8c | b'U' => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            b'B' => self.sized::<4>().map(|_| Value::Opaque)?,
            b'C' => self.sized::<1>().map(|_| Value::Opaque)?,
            0x81 | 0x92 | b'i' | b'o' => return Err("wants to create an object of a class".to_owned()),
            0x82..=0x84 => return Err("names a class by a number of its own".to_owned()),
            _ => return Err(format!("has the instruction {code:#04x}, which no state dict needs")),
        })
    }

    /// An integer of up to eight bytes in two's complement.
    fn long(&mut self) -> Result<Value<'a>, String> {
        let raw = self.sized::<1>()?;
        if raw.len() > size_of::<i64>() {
            return Err(format!("has an integer of {} bytes", raw.len()));
        }
        let sign = if raw.last().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
        Ok(Value::Int(raw.iter().rev().fold(sign, |int, byte| int << 8 | i64::from(*byte))))
    }

    fn text<const N: usize>(&mut self) -> Result<Value<'a>, String> {
        let raw = self.sized::<N>()?;
        str::from_utf8(raw).map(Value::Text).map_err(|_| "has a text that is not UTF-8".to_owned())
    }

    /// Bytes behind their number, itself of `N` bytes.
    fn sized<const N: usize>(&mut self) -> Result<&'a [u8], String> {
        let raw = self.array::<N>()?;
        self.take(raw.iter().rev().fold(0, |length, byte| length << 8 | u64::from(*byte)))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let length = self.rest.iter().position(|byte| *byte == b'\n').ok_or_else(cut_short)?;
        let line = str::from_utf8(&self.rest[..length]);
        self.rest = &self.rest[length + 1..];
        line.map_err(|_| "has a name that is not UTF-8".to_owned())
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*array)
    }
}

fn cut_short() -> String {
    "ends in the middle".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(pickle: &[u8]) -> Result<Value<'_>, String> {
        match Reader::new(pickle).next()? {
            Instruction::Push(value) => Ok(value),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn integers_have_the_sign_of_their_last_byte() {
        assert_eq!(pushed(b"K\xff"), Ok(Value::Int(255)));
        assert_eq!(pushed(b"J\xff\xff\xff\xff"), Ok(Value::Int(-1)));
        assert_eq!(pushed(b"\x8a\x00"), Ok(Value::Int(0)));
        assert_eq!(pushed(b"\x8a\x02\x00\x80"), Ok(Value::Int(-32768)));
        assert_eq!(pushed(b"\x8a\x05\x00\x00\x00\x80\x00"), Ok(Value::Int(1 << 31)));
    }

    #[test]
    fn lengths_beyond_the_end_allocate_nothing() {
        assert_eq!(pushed(b"X\xff\xff\xff\xffabc"), Err(cut_short()));
        assert_eq!(pushed(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc"), Err(cut_short()));
        assert_eq!(pushed(b"\x8a\x09123456789"), Err("has an integer of 9 bytes".to_owned()));
    }
}
