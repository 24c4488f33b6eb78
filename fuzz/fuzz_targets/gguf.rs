//! Any bytes as a GGUF file: opened, every parameter read, its vocabulary turned into a tokenizer.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use smelt_convert::Source;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).expect("a writable folder");
    let Ok(source) = Source::open(&path) else { return };
    let Ok(parameters) = source.parameters() else { return };
    for parameter in &parameters {
        assert_eq!(parameter.values().len(), parameter.info().elements());
    }
    let _ = source.companions.tokenizer();
});
