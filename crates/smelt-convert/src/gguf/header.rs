//! The header of a GGUF file, versions 2 and 3: metadata, and where the tensors lie.
//!
//! Nothing is believed before it was checked against the file, and nothing is allocated that the file does not
//! spell out. Reasons of refusal are text: nothing but a person reads them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::kind::TensorKind;
use super::value::{Metadata, Value};

/// How files begin.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Bytes that the data and each tensor are aligned to, unless the metadata say otherwise.
pub(super) const DEFAULT_ALIGNMENT: usize = 32;
/// The key that says otherwise.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// Dimensions of a tensor.
const DIMENSIONS: usize = 4;
/// Bytes of a tensor's name.
const NAME_BYTES: usize = 128;
/// Largest alignment: far beyond every file, below every overflow.
const ALIGNMENT: u64 = 1 << 20;

/// What a header says, checked against the size of its file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    pub(super) tensors: BTreeMap<String, FileTensor>,
}

/// One tensor as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileTensor {
    pub(super) kind: TensorKind,
    /// Slowest dimension first; the file lists them the other way round.
    pub(super) shape: Vec<usize>,
    /// Its bytes in the file.
    pub(super) range: Range<usize>,
}

impl FileTensor {
    /// Rows along all dimensions but the last.
    pub(super) fn rows(&self) -> usize {
        self.shape[..self.shape.len().saturating_sub(1)].iter().product()
    }

    /// Values of a row.
    pub(super) fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// Reads and checks the header of `file`.
pub(super) fn read_header(file: &[u8]) -> Result<Header, String> {
    let mut reader = Reader { file, at: 0 };
    if reader.take(MAGIC.len())? != MAGIC {
        return Err("it does not begin with `GGUF`".to_owned());
    }
    match reader.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => {
            return Err("it was written for machines of the other byte order".to_owned());
        }
        version => return Err(format!("it is of version {version}, expected 2 or 3")),
    }
    let tensor_count = reader.count("tensors", 24)?;
    let key_count = reader.count("keys", 13)?;
    let metadata = read_metadata(&mut reader, key_count)?;
    let listed = read_tensors(&mut reader, tensor_count)?;
    let alignment = match metadata.get(ALIGNMENT_KEY) {
        None => DEFAULT_ALIGNMENT,
        Some(Value::Unsigned(bytes)) if bytes.is_power_of_two() && *bytes <= ALIGNMENT => *bytes as usize,
        Some(other) => return Err(format!("`{ALIGNMENT_KEY}` is {other}, expected a power of two")),
    };
    let data = reader.at.next_multiple_of(alignment);
    Ok(Header { metadata, tensors: place(listed, data, alignment, file.len())? })
}

fn read_metadata(reader: &mut Reader<'_>, count: usize) -> Result<Metadata, String> {
    let mut metadata = Metadata::default();
    for _ in 0..count {
        let key = reader.text("a key")?;
        let kind = reader.u32()?;
        let value = reader.value(kind).map_err(|reason| format!("`{key}` {reason}"))?;
        if metadata.0.insert(key.clone(), value).is_some() {
            return Err(format!("`{key}` is there twice"));
        }
    }
    Ok(metadata)
}

/// A tensor as it is listed: its offset is counted from where the data begin.
struct Listed {
    name: String,
    kind: TensorKind,
    shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

fn read_tensors(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Listed>, String> {
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    for _ in 0..count {
        let name = reader.text("the name of a tensor")?;
        if name.len() > NAME_BYTES {
            return Err(format!("a tensor's name has {} bytes, expected at most {NAME_BYTES}", name.len()));
        }
        if !names.insert(name.clone()) {
            return Err(format!("tensor `{name}` is there twice"));
        }
        tensors.push(read_tensor(reader, &name).map_err(|reason| format!("tensor `{name}` {reason}"))?);
    }
    Ok(tensors)
}

fn read_tensor(reader: &mut Reader<'_>, name: &str) -> Result<Listed, String> {
    let dimensions = reader.u32()? as usize;
    if !(1..=DIMENSIONS).contains(&dimensions) {
        return Err(format!("has {dimensions} dimensions, expected 1 to {DIMENSIONS}"));
    }
    let mut shape = Vec::with_capacity(DIMENSIONS);
    for _ in 0..dimensions {
        let size = reader.u64()?;
        let size = usize::try_from(size).ok().filter(|known| *known > 0);
        shape.push(size.ok_or("has a dimension of 0, or of more than memory can have")?);
    }
    let kind = TensorKind::from_number(reader.u32()?)?;
    let offset = reader.u64()?;
    let columns = shape[0];
    shape.reverse();
    let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let fits = columns.is_multiple_of(kind.block_values());
    let bytes = elements.filter(|_| fits).and_then(|elements| kind.bytes(elements));
    let bytes = bytes.ok_or_else(|| format!("has shape {shape:?}, which {} cannot hold", kind.name()))?;
    Ok(Listed { name: name.to_owned(), kind, shape, offset, bytes })
}

/// Where the listed tensors lie in a file of `length` bytes: apart from each other, and within it.
fn place(
    mut listed: Vec<Listed>,
    data: usize,
    alignment: usize,
    length: usize,
) -> Result<BTreeMap<String, FileTensor>, String> {
    listed.sort_by_key(|tensor| tensor.offset);
    let mut placed = BTreeMap::new();
    let mut end = data;
    for Listed { name, kind, shape, offset, bytes } in listed {
        if !offset.is_multiple_of(alignment as u64) {
            return Err(format!("tensor `{name}` begins at {offset}, expected a multiple of {alignment}"));
        }
        let start = usize::try_from(offset).ok().and_then(|offset| data.checked_add(offset));
        let range = start.and_then(|start| Some(start..start.checked_add(bytes)?));
        let range = range.filter(|range| range.end <= length);
        let range = range
            .ok_or_else(|| format!("tensor `{name}` of {bytes} bytes at {offset} ends behind the file"))?;
        if range.start < end {
            return Err(format!("tensor `{name}` overlaps the one before it"));
        }
        end = range.end;
        placed.insert(name, FileTensor { kind, shape, range });
    }
    Ok(placed)
}

/// Reads a file from its start; whatever is not there is an error.
struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.file.len());
        let end =
            end.ok_or_else(|| format!("it ends at byte {} in the middle of its header", self.file.len()))?;
        let bytes = &self.file[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        Ok(*bytes.first_chunk().expect("as many bytes as were taken"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things that take `least` bytes each, so that more than the file holds are no allocation.
    fn count(&mut self, what: &str, least: usize) -> Result<usize, String> {
        let count = self.u64()?;
        let most = (self.file.len() - self.at) / least;
        match usize::try_from(count) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(format!("it claims {count} {what}, its bytes are enough for {most}")),
        }
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        let length = self.count("bytes of text", 1)?;
        let bytes = self.take(length)?;
        str::from_utf8(bytes).map(str::to_owned).map_err(|_| format!("{what} is not UTF-8"))
    }

    fn value(&mut self, kind: u32) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.bool()?),
            8 => Value::Text(self.text("its text")?),
            9 => self.list()?,
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            other => return Err(format!("has a value of type {other}, expected 0 to 12")),
        })
    }

    fn bool(&mut self) -> Result<bool, String> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("is the flag {other}, expected 0 or 1")),
        }
    }

    fn list(&mut self) -> Result<Value, String> {
        let kind = self.u32()?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            _ => return Err(format!("is a list of type {kind}, expected plain values")),
        };
        let count = self.count("entries", least)?;
        Ok(match kind {
            7 => Value::Flags((0..count).map(|_| self.bool()).collect::<Result<_, _>>()?),
            8 => Value::Texts((0..count).map(|_| self.text("an entry")).collect::<Result<_, _>>()?),
            6 | 12 => Value::Floats((0..count).map(|_| self.float(kind)).collect::<Result<_, _>>()?),
            _ => Value::Integers((0..count).map(|_| self.integer(kind)).collect::<Result<_, _>>()?),
        })
    }

    fn float(&mut self, kind: u32) -> Result<f64, String> {
        match self.value(kind)? {
            Value::Float(value) => Ok(value),
            other => Err(format!("holds {other}, expected a number")),
        }
    }

    fn integer(&mut self, kind: u32) -> Result<i64, String> {
        match self.value(kind)? {
            Value::Signed(value) => Ok(value),
            Value::Unsigned(value) => i64::try_from(value).map_err(|_| format!("holds {value}")),
            other => Err(format!("holds {other}, expected an integer")),
        }
    }
}
