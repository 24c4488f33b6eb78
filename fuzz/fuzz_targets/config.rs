//! Any bytes as a `config.json`: read, and what follows from it without weights computed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smelt_model::{ModelConfig, RopeLengths, estimate};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    let Ok(config) = ModelConfig::from_json(value) else { return };
    assert!(config.decoder.context_length() > 0);
    assert!(estimate::parameters(&config.decoder).total > 0);
    for rotary in config.decoder.rotary() {
        let lengths = RopeLengths { sequence: 100, prompt: 60 };
        assert_eq!(rotary.inverse_frequencies(lengths).len(), rotary.rotary_dim / 2);
    }
    let _ = config.eos_token_ids();
});
