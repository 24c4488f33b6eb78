//! The header of a safetensors file.
//!
//! Read by ourselves rather than by the `safetensors` crate, whose map keeps only the last of several
//! tensors of one name. Nothing is allocated that the header does not spell out.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};

use super::place::{Place, StoredTensor};

/// Longest header, as in the `safetensors` crate.
const MOST_BYTES: u64 = 100_000_000;

/// What a safetensors header says, checked against the size of its file.
pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, StoredTensor>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of `file`; the error says what is wrong.
pub(super) fn read_header(file: &[u8]) -> Result<Header, String> {
    let length = file.first_chunk().map(|raw| u64::from_le_bytes(*raw));
    let length = length.ok_or_else(|| format!("it has {} bytes, too few for a header", file.len()))?;
    if length > MOST_BYTES {
        return Err(format!("its header claims {length} bytes, the most is {MOST_BYTES}"));
    }
    let (header, data) = file[size_of::<u64>()..]
        .split_at_checked(length as usize)
        .ok_or_else(|| format!("its header claims {length} bytes, the file has {}", file.len()))?;
    let Entries { mut tensors, metadata } =
        serde_json::from_slice(header).map_err(|error| format!("its header does not parse: {error}"))?;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let data_start = file.len() - data.len();
    let mut placed = BTreeMap::new();
    let mut end = 0;
    for (name, info) in tensors {
        let (from, to) = info.data_offsets;
        if from != end {
            return Err(format!("tensor `{name}` begins at byte {from} of the data, expected {end}"));
        }
        let needed = bytes_of(&info).ok_or_else(|| format!("tensor `{name}` has shape {:?}", info.shape))?;
        if to.checked_sub(from) != Some(needed) {
            let (dtype, shape) = (info.dtype, info.shape);
            return Err(format!(
                "tensor `{name}` has the bytes {from} to {to}, {dtype} {shape:?} needs {needed}"
            ));
        }
        if to > data.len() {
            return Err(format!("tensor `{name}` ends at byte {to} of the data, which has {}", data.len()));
        }
        end = to;
        let place = Place::Whole(data_start + from..data_start + to);
        if placed.contains_key(&name) {
            return Err(format!("tensor `{name}` is there twice"));
        }
        placed.insert(name, StoredTensor { dtype: info.dtype, shape: info.shape, place });
    }
    if end != data.len() {
        return Err(format!("its tensors take {end} bytes, the data has {}", data.len()));
    }
    Ok(Header { tensors: placed, metadata })
}

/// Bytes of the values; `None` if no memory could hold them or they end within a byte.
fn bytes_of(info: &TensorInfo) -> Option<usize> {
    let elements = info.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    let bits = elements.checked_mul(info.dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// The entries of a header as they come, names that repeat included.
struct Entries {
    tensors: Vec<(String, TensorInfo)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let (mut tensors, mut metadata) = (Vec::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name != "__metadata__" {
                tensors.push((name, map.next_value()?));
            } else if metadata.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("`__metadata__` is there twice"));
            }
        }
        Ok(Entries { tensors, metadata: metadata.unwrap_or_default() })
    }
}
