//! Any bytes as a safetensors file: opened, and every tensor read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smelt_fuzz::folder;
use smelt_model::weights::TensorFile;

fuzz_target!(|bytes: &[u8]| {
    let folder = folder(&[("model.safetensors", bytes)]);
    let Ok(file) = TensorFile::open(&folder.path().join("model.safetensors")) else { return };
    for name in file.names() {
        let size: usize = file.shape(name).expect("a listed tensor").iter().product();
        assert!(file.bytes(name).expect("a listed tensor").len() <= bytes.len());
        assert!(file.f32(name).is_ok_and(|values| values.len() == size) || file.f32(name).is_err());
    }
});
