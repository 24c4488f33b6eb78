//! Any bytes as a GGUF file: opened, every parameter read, its vocabulary turned into a tokenizer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smelt_convert::Source;
use smelt_fuzz::folder;

fuzz_target!(|bytes: &[u8]| {
    let folder = folder(&[("model.gguf", bytes)]);
    let Ok(source) = Source::open(&folder.path().join("model.gguf")) else { return };
    let _ = source.companions.tokenizer();
    let Ok(parameters) = source.parameters() else { return };
    for parameter in &parameters {
        assert_eq!(parameter.values().len(), parameter.info().elements());
    }
});
