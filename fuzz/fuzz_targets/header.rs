//! Any bytes as a safetensors file: opened, and every tensor read.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use smelt_model::weights::TensorFile;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).expect("a writable folder");
    let Ok(file) = TensorFile::open(&path) else { return };
    for name in file.names() {
        let size: usize = file.shape(name).expect("a listed tensor").iter().product();
        assert!(file.bytes(name).expect("a listed tensor").len() <= bytes.len());
        assert!(file.f32(name).is_ok_and(|values| values.len() == size) || file.f32(name).is_err());
    }
});
