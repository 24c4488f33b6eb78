//! Any bytes as the index of two shards: opened, and every tensor found where the index says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smelt_fuzz::folder;
use smelt_model::weights::{Checkpoint, INDEX_FILE};

/// A file with one number, called `name`.
fn shard(name: &str) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let (a, b) = (shard("a"), shard("b"));
    let folder = folder(&[(INDEX_FILE, bytes), ("1.safetensors", &a), ("2.safetensors", &b)]);
    let Ok(checkpoint) = Checkpoint::open(folder.path()) else { return };
    for name in checkpoint.names() {
        let file = checkpoint.file_of(name).expect("a listed tensor");
        assert!(file.path().starts_with(folder.path()));
        assert!(file.f32(name).is_ok());
    }
    checkpoint.fingerprint().expect("files that stay");
});
