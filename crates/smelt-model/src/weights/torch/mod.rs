//! State dicts as `torch.save` writes them since PyTorch 1.6: a zip archive with a pickle that describes
//! tensors, and one record for each storage.
//!
//! A pickle is a program. [`machine`] runs the few instructions that build dicts, tuples and tensor
//! descriptions, and knows no way to call anything: what a pickle may name is an allow-list of 11 things
//! and the storage types. Loading reads no value; a tensor's bytes stay in the map until asked for.
//!
//! Reasons of refusal are text: nothing but a person reads them.

mod archive;
mod instructions;
mod machine;
mod state_dict;
mod value;

use std::collections::BTreeMap;

use self::archive::{Archive, is_archive};
use super::place::StoredTensor;

/// How files of PyTorch before 1.6 begin: a pickle (protocol 2) of a magic number.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Any pickle of a protocol with a mark at its beginning.
const PICKLE_MAGIC: u8 = 0x80;

/// `file` claims to be written by PyTorch, in whatever version.
pub(super) fn is_torch(file: &[u8]) -> bool {
    is_archive(file) || is_bare_pickle(file)
}

/// Safetensors begin with the length of their header: a pickle's first bytes would make that huge.
fn is_bare_pickle(file: &[u8]) -> bool {
    matches!(file, [PICKLE_MAGIC, 0..=5, _, _, _, _, _, rest, ..] if *rest != 0)
}

/// The tensors of the archive `file`, each checked to lie within it; the error says what is wrong.
///
/// Dicts within dicts join their names by a full stop; what is no tensor is left out.
pub(super) fn read_state_dict(file: &[u8]) -> Result<BTreeMap<String, StoredTensor>, String> {
    if file.starts_with(LEGACY_MAGIC) {
        return Err("it was written by PyTorch before 1.6 (a bare pickle, not a zip archive); \
                    load and save it with a current PyTorch, or use safetensors"
            .to_owned());
    }
    if !is_archive(file) {
        return Err("it is a bare pickle, expected a zip archive of `torch.save`".to_owned());
    }
    let archive = Archive::open(file)?;
    let pickle = archive.record("data.pkl").ok_or("it has no record `data.pkl`")?;
    let objects = machine::run(&file[pickle]).map_err(|reason| format!("its pickle {reason}"))?;
    state_dict::tensors(&objects, &archive)
}
