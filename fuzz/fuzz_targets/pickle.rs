//! Any bytes as the pickle of a `torch.save` archive with one small storage: run, and every tensor read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smelt_fuzz::folder;
use smelt_model::weights::TensorFile;

/// Appends the record `name` to `file` and its entry to `table`.
fn record(file: &mut Vec<u8>, table: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let start = (file.len() as u32).to_le_bytes();
    let size = (bytes.len() as u32).to_le_bytes();
    let length = (name.len() as u16).to_le_bytes();
    let name = name.as_bytes();
    file.extend([b"PK\x03\x04".as_slice(), &[0; 14], &size, &size, &length, &[0; 2], name, bytes].concat());
    table.extend([b"PK\x01\x02".as_slice(), &[0; 16], &size, &size, &length, &[0; 12], &start, name].concat());
}

fuzz_target!(|pickle: &[u8]| {
    let (mut file, mut table) = (Vec::new(), Vec::new());
    record(&mut file, &mut table, "a/data.pkl", pickle);
    record(&mut file, &mut table, "a/data/0", &[7; 48]);
    let (start, size) = ((file.len() as u32).to_le_bytes(), (table.len() as u32).to_le_bytes());
    file.extend([table.as_slice(), b"PK\x05\x06", &[0; 8], &size, &start, &[0; 2]].concat());
    let folder = folder(&[("pytorch_model.bin", &file)]);
    let Ok(tensors) = TensorFile::open(&folder.path().join("pytorch_model.bin")) else { return };
    for name in tensors.names() {
        assert!(tensors.bytes(name).expect("a listed tensor").len() <= file.len());
    }
});
