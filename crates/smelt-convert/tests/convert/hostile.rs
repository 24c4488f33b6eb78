//! Damaged and lying GGUF files: each is read or refused with a reason, none panics or takes what it claims.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use smelt_convert::Source;
use smelt_convert::gguf::GgufModel;
use smelt_testkit::golden_folder;

/// The bytes of a header, field by field.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn header(version: u32, tensors: u64, keys: u64) -> Self {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(keys.to_le_bytes());
        Self(bytes)
    }

    fn text(mut self, text: &[u8]) -> Self {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text);
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn tensor(self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let sized = self.text(name.as_bytes()).u32(shape.len() as u32);
        shape.iter().fold(sized, |bytes, size| bytes.u64(*size)).u32(kind).u64(offset)
    }

    fn data(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 0);
        self
    }
}

fn refusal(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let error = GgufModel::open(&path).expect_err("a hostile file");
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[test]
fn lies_are_refused_by_what_they_are() {
    let huge = u64::MAX;
    let one =
        |name: &str, shape: &[u64], kind, offset| Bytes::header(3, 1, 0).tensor(name, shape, kind, offset);
    let cases: Vec<(&str, Bytes)> = vec![
        ("too few", Bytes(b"GG".to_vec())),
        ("does not begin with `GGUF`", Bytes(b"GGML\x03\0\0\0".to_vec())),
        ("version 1, expected 2 or 3", Bytes::header(1, 0, 0)),
        ("other byte order", Bytes::header(3u32.swap_bytes(), 0, 0)),
        ("claims 18446744073709551615 tensors", Bytes::header(3, huge, 0)),
        ("claims 18446744073709551615 keys", Bytes::header(3, 0, huge)),
        ("bytes of text", Bytes::header(3, 0, 1).u64(huge).u64(0).u32(0)),
        ("not UTF-8", Bytes::header(3, 0, 1).text(b"\xff\xfe").u32(4).u32(1)),
        ("type 77", Bytes::header(3, 0, 1).text(b"a").u32(77).u32(1)),
        ("entries", Bytes::header(3, 0, 1).text(b"a").u32(9).u32(4).u64(1 << 60)),
        ("plain values", Bytes::header(3, 0, 1).text(b"a").u32(9).u32(9).u64(1).u64(0)),
        ("there twice", Bytes::header(3, 0, 2).text(b"a").u32(4).u32(1).text(b"a").u32(4).u32(1)),
        ("power of two", Bytes::header(3, 0, 1).text(b"general.alignment").u32(4).u32(0)),
        ("dimensions", one("t", &[1, 1, 1, 1, 1], 0, 0).data(64)),
        ("dimensions", one("t", &[], 0, 0).data(64)),
        ("type 4, expected", one("t", &[32], 4, 0).data(64)),
        ("cannot hold", one("t", &[huge / 2, 8], 0, 0).data(64)),
        ("cannot hold", one("t", &[33], 2, 0).data(64)),
        ("ends behind the file", one("t", &[32], 0, 0).data(64)),
        ("ends behind the file", one("t", &[8], 0, huge - 31).data(64)),
        ("multiple of 32", one("t", &[8], 0, 4).data(64)),
        ("there twice", Bytes::header(3, 2, 0).tensor("t", &[8], 0, 0).tensor("t", &[8], 0, 32).data(64)),
        ("overlaps", Bytes::header(3, 2, 0).tensor("t", &[8], 0, 0).tensor("u", &[8], 0, 0).data(64)),
        ("no tensor `token_embd.weight`", one("t", &[8], 0, 0).data(64)),
    ];
    for (reason, Bytes(bytes)) in cases {
        let refused = refusal(&bytes);
        let short = reason == "too few" && refused.contains("in the middle of its header");
        assert!(refused.contains(reason) || short, "{reason:?} is not in {refused:?}");
    }
}

#[test]
fn sizes_that_no_model_has_are_refused() {
    let bytes = fs::read(golden_folder("gguf").join("model-q4_0.gguf")).unwrap();
    let changed = |key: &str, value: u32| {
        let at = bytes.windows(key.len()).position(|part| part == key.as_bytes()).unwrap() + key.len() + 4;
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        refusal_of_model(&bytes)
    };
    for (key, value, words) in [
        ("llama.block_count", u32::MAX, "not a valid GGUF file"),
        ("llama.block_count", 3, "blk.2.attn_norm.weight"),
        ("llama.embedding_length", 64, "mis-shaped"),
        ("llama.attention.head_count", 0, "num_attention_heads"),
        ("llama.attention.head_count", 3, "num_"),
        ("llama.rope.dimension_count", 7, "rotary"),
        ("llama.feed_forward_length", 96, "blk.0.ffn_gate.weight"),
    ] {
        let refused = changed(key, value);
        assert!(refused.contains(words), "{key} = {value}: {words:?} is not in {refused:?}");
    }
}

#[test]
fn heads_whose_product_is_too_large_are_refused() {
    let key = |bytes: Bytes, name: &str, value: u64| bytes.text(name.as_bytes()).u32(10).u64(value);
    let names = ["block_count", "context_length", "embedding_length", "feed_forward_length"];
    let mut bytes = Bytes::header(3, 1, 8).text(b"general.architecture").u32(8).text(b"llama");
    for name in names {
        bytes = key(bytes, &format!("llama.{name}"), 1);
    }
    bytes = key(bytes, "llama.attention.head_count", 1 << 40);
    bytes = key(bytes, "llama.attention.key_length", 1 << 40);
    bytes = bytes.text(b"llama.attention.layer_norm_rms_epsilon").u32(6).u32(1e-5f32.to_bits());
    let refused = refusal(&bytes.tensor("token_embd.weight", &[1, 8], 0, 0).data(64).0);
    assert!(refused.contains("num_attention_heads") || refused.contains("head_dim"), "{refused}");
}

fn refusal_of_model(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    Source::open(&path).expect_err("a hostile file").to_string()
}

/// Opens a file and reads every value that it has to give.
fn read_all(path: &Path) -> bool {
    let Ok(source) = Source::open(path) else { return false };
    let Ok(parameters) = source.parameters() else { return false };
    parameters.iter().for_each(|parameter| drop(parameter.values()));
    drop(source.companions.tokenizer());
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damage_never_panics(
        kind in prop::sample::select(vec!["q4_0", "q8_0", "f16", "q5_1"]),
        cut in prop::option::of(0.0f64..1.0),
        flips in prop::collection::vec((0usize..14_000, any::<u8>()), 0..6),
    ) {
        let mut bytes = fs::read(golden_folder("gguf").join(format!("model-{kind}.gguf"))).unwrap();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Some(share) = cut {
            bytes.truncate((bytes.len() as f64 * share) as usize);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, bytes).unwrap();
        read_all(&path);
    }
}
