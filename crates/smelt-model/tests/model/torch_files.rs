//! Files of `torch.save`: what PyTorch writes is read exactly, what wants more than that is refused.

use std::fs;
use std::path::Path;

use smelt_backend::Kernels;
use smelt_model::load;
use smelt_model::weights::{Checkpoint, TensorFile};
use smelt_testkit::{backend_test, golden_folder};

use crate::chain;

backend_test!(a_folder_of_torch_files_loads_like_one_of_safetensors, folders);

#[test]
fn values_are_those_that_pytorch_wrote() {
    for name in ["layouts", "dtypes", "training", "protocol4"] {
        let open = |file: String| TensorFile::open(&golden_folder("torch_files").join(file)).unwrap();
        let (found, expected) = (open(format!("{name}.bin")), open(format!("{name}.safetensors")));
        assert_eq!(found.names(), expected.names(), "{name}");
        for tensor in expected.names() {
            assert_eq!(found.shape(tensor).unwrap(), expected.shape(tensor).unwrap(), "{name} {tensor}");
            assert_eq!(found.dtype(tensor).unwrap(), expected.dtype(tensor).unwrap(), "{name} {tensor}");
            assert_eq!(found.bytes(tensor).unwrap(), expected.bytes(tensor).unwrap(), "{name} {tensor}");
            found.release(tensor);
            assert_eq!(found.bytes(tensor).unwrap(), expected.bytes(tensor).unwrap(), "{name} {tensor}");
        }
    }
}

#[test]
fn files_of_pytorch_before_1_6_are_refused_by_name() {
    let error = chain(&TensorFile::open(&golden_folder("torch_files").join("legacy.bin")).unwrap_err());
    assert!(error.contains("written by PyTorch before 1.6 (a bare pickle, not a zip archive)"), "{error}");
}

fn folders<B: Kernels>(device: &B::Device) {
    let (_, whole) = load::<B>(&golden_folder("llama_bin"), device).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "pytorch_model.bin"] {
        fs::copy(golden_folder("llama_bin").join(file), folder.path().join(file)).unwrap();
    }
    let shard = folder.path().join("pytorch_model-00001-of-00001.bin");
    fs::rename(folder.path().join("pytorch_model.bin"), shard).unwrap();
    let names = TensorFile::open(&golden_folder("llama_bin").join("pytorch_model.bin")).unwrap();
    let entry = |name: &str| (name.to_owned(), "pytorch_model-00001-of-00001.bin".into());
    let map: serde_json::Map<_, _> = names.names().into_iter().map(entry).collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(folder.path().join("pytorch_model.bin.index.json"), index).unwrap();
    assert_eq!(Checkpoint::open(folder.path()).unwrap().names().count(), names.names().len());
    let (_, sharded) = load::<B>(folder.path(), device).unwrap();
    let values = |model: &smelt_model::Decoder<B>| smelt_backend::to_host(model.embed_tokens.weight.values());
    assert_eq!(values(&whole), values(&sharded));
}

/// One record of an archive: its name, its bytes.
type Record<'a> = (&'a str, &'a [u8]);

/// A zip archive of uncompressed records, as `torch.save` writes it but for checksums.
fn archive(records: &[Record<'_>]) -> Vec<u8> {
    let (mut file, mut table) = (Vec::new(), Vec::new());
    for (name, bytes) in records {
        let start = file.len() as u32;
        let sizes = [(bytes.len() as u32).to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat();
        let name_bytes = (name.len() as u16).to_le_bytes();
        file.extend(
            [b"PK\x03\x04".as_slice(), &[0; 14], &sizes, &name_bytes, &[0; 2], name.as_bytes()].concat(),
        );
        file.extend(*bytes);
        table.extend([b"PK\x01\x02".as_slice(), &[0; 16], &sizes, &name_bytes, &[0; 12]].concat());
        table.extend([start.to_le_bytes().as_slice(), name.as_bytes()].concat());
    }
    let start = (file.len() as u32).to_le_bytes();
    let count = (records.len() as u16).to_le_bytes();
    let bytes = (table.len() as u32).to_le_bytes();
    file.extend(table);
    file.extend([b"PK\x05\x06".as_slice(), &[0; 4], &count, &count, &bytes, &start, &[0; 2]].concat());
    file
}

fn open(bytes: &[u8]) -> Result<TensorFile, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    fs::write(&path, bytes).unwrap();
    TensorFile::open(&path).map_err(|error| chain(&error))
}

/// The archive of `pickle`, with a storage `0` of 6 numbers of four bytes.
fn with_pickle(pickle: &[u8]) -> Result<TensorFile, String> {
    let values: Vec<u8> = (0..6).flat_map(|value: i32| (value as f32).to_le_bytes()).collect();
    open(&archive(&[("archive/data.pkl", pickle), ("archive/data/0", &values)]))
}

#[track_caller]
fn assert_refused(pickle: &[u8], reason: &str) {
    let error = with_pickle(pickle).unwrap_err();
    assert!(error.ends_with(reason), "{error}");
}

/// A dict of one tensor `w`, with these arguments of `_rebuild_tensor_v2` after its storage.
fn tensor(arguments: &[u8]) -> Vec<u8> {
    let storage = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ";
    let head = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n";
    [head, storage.as_slice(), arguments, b"\x89NtRs."].concat()
}

#[test]
fn views_stay_within_their_storage() {
    let open = |arguments: &[u8]| with_pickle(&tensor(arguments));
    let file = open(b"K\x00K\x02K\x03\x86K\x03K\x01\x86").unwrap();
    assert_eq!(file.f32("w").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let file = open(b"K\x01K\x02K\x02\x86K\x01K\x03\x86").unwrap();
    assert_eq!(file.f32("w").unwrap(), [1.0, 4.0, 2.0, 5.0]);
    let refused = [
        (b"K\x01K\x02K\x03\x86K\x03K\x01\x86".as_slice(), "`w` reaches beyond its storage of 6 values"),
        (b"K\x00K\x02\x85K\x06\x85", "`w` reaches beyond its storage of 6 values"),
        (b"K\x00K\x07\x85K\x00\x85", "`w` has shape [7], its storage 6 values"),
        (b"K\x00J\xff\xff\xff\x7f\x85K\x00\x85", "`w` has shape [2147483647], its storage 6 values"),
        (b"K\x00J\xff\xff\xff\xff\x85K\x00\x85", "has -1 where a size belongs"),
        (b"K\x00K\x02K\x03\x86K\x01\x85", "makes a tensor of 2 sizes and 1 strides"),
        (b"K\x00]K\x02aK\x01\x85Nb0K\x01\x85K\x01\x85", "sets attributes of what has none"),
        (
            b"K\x00K\x02\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85",
            "`w` reaches beyond its storage of 6 values",
        ),
        (
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x02\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85",
            "`w` reaches beyond its storage of 6 values",
        ),
        (b"K\x00\x8a\x09\0\0\0\0\0\0\0\0\x01\x85K\x01\x85", "has an integer of 9 bytes"),
    ];
    for (arguments, reason) in refused {
        let error = open(arguments).unwrap_err();
        assert!(error.ends_with(reason), "{error}");
    }
}

#[test]
fn a_pickle_that_wants_to_run_code_is_refused_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("ran");
    let command = format!("touch {}", witness.display());
    let length = (command.len() as u32).to_le_bytes();
    for module in ["os", "posix", "nt", "subprocess", "builtins", "__builtin__"] {
        let call = [format!("\u{0}c{module}\nsystem\nX").as_bytes(), &length, command.as_bytes(), b"\x85R."]
            .concat();
        let pickle = [b"\x80\x02".as_slice(), &call[1..]].concat();
        assert_refused(
            &pickle,
            &format!("wants `{module}.system`, which no state dict needs; it was not run"),
        );
    }
    assert_refused(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "which no state dict needs; it was not run");
    assert_refused(b"\x80\x02c__torch__\nModule\n)\x81.", "which no state dict needs; it was not run");
    assert_refused(b"\x80\x02ccollections\nOrderedDict\n)\x81.", "wants to create an object of a class");
    assert_refused(b"\x80\x02(ios\nsystem\n.", "wants to create an object of a class");
    assert_refused(b"\x80\x02\x82\x01.", "names a class by a number of its own");
    assert_refused(b"\x80\x02ctorch\nFloatStorage\n)R.", "with 0 arguments that do not fit");
    assert!(!witness.exists());
}

#[test]
fn bombs_are_refused_by_their_size() {
    let bomb = |opcode: &[u8], count: usize| [b"\x80\x02".as_slice(), &opcode.repeat(count), b"."].concat();
    assert_refused(&bomb(b"(", 1 << 20), "nests more than 1024 objects");
    assert_refused(&bomb(b"N", 1 << 20), "puts more than 65536 values on its stack");
    assert_refused(&bomb(b")0", 5 << 20), "makes more than 4194304 objects");
    assert_refused(&bomb(b"\x80\x02", (1 << 25) + 1), "the most is 67108864");
    assert_refused(b"\x80\x02N\x94r\xff\xff\xff\xffj\xfe\xff\xff\xff.", "recalls what it never remembered");
    assert_refused(b"\x80\x02X\xff\xff\xff\xff.", "ends in the middle");
    // Each dict holds the last one twice: 2^40 paths through 40 dicts.
    let doubling = b"}q\x01X\x01\0\0\0ah\x00sX\x01\0\0\0bh\x00sh\x01q\x000".repeat(40);
    let doubling = [b"\x80\x02}q\x00".as_slice(), &doubling, b"h\x00."].concat();
    assert_refused(&doubling, "nests more than 8 dicts");
    // A dict that holds itself.
    assert_refused(b"\x80\x02}q\x00X\x01\0\0\0ah\x00s.", "nests more than 8 dicts");
    // One level of 1000 entries that all are the next level: 1000^8 paths.
    let level = [b"}q\x01".as_slice(), &b"X\x01\0\0\0ah\x00s".repeat(1000), b"h\x01q\x000"].concat();
    let wide = [b"\x80\x02}q\x00".as_slice(), &level.repeat(6), b"h\x00."].concat();
    assert_refused(&wide, "its pickle has more than 1048576 entries");
    assert_refused(&tensor(b"K\x00(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01tK\x01\x85"), "whose shape has not 0 to 16 sizes");
}

/// A few names for one storage are tied weights; many would make a large model of a small file.
#[test]
fn a_storage_is_shared_within_reason() {
    let values = vec![0u8; 4 * 20_000];
    let named = |names: u8| {
        let view = tensor(b"K\x00M\x20\x4e\x85K\x01\x85");
        let at = view.windows(3).position(|part| part == b"K\x06t").unwrap();
        let entry = [&view[3..at], b"M\x20\x4e", &view[at + 2..view.len() - 1]].concat();
        let entries = (b'a'..b'a' + names).flat_map(|name| [&entry[..5], &[name], &entry[6..]].concat());
        let pickle = [&view[..3], &entries.collect::<Vec<u8>>(), b"."].concat();
        open(&archive(&[("a/data.pkl", &pickle), ("a/data/0", &values)]))
    };
    assert_eq!(named(4).unwrap().names(), ["a", "b", "c", "d"]);
    let error = named(10).unwrap_err();
    assert!(error.ends_with("its tensors together are over 8 times as large as the file"), "{error}");
}

#[test]
fn names_repeat_in_no_dict() {
    let view = tensor(b"K\x00K\x06\x85K\x01\x85");
    let entry = &view[3..view.len() - 1];
    assert_refused(&[&view[..3], entry, entry, b"."].concat(), "tensor `w` is there twice");
}

#[test]
fn archives_that_lie_are_refused() {
    let pickle = tensor(b"K\x00K\x06\x85K\x01\x85");
    let values = [0u8; 24];
    let whole = archive(&[("a/data.pkl", &pickle), ("a/data/0", &values)]);
    assert!(open(&whole).is_ok());
    for length in (4..whole.len()).step_by(3) {
        let error = open(&whole[..length]).unwrap_err();
        assert!(error.contains("is not a valid PyTorch file: "), "{error}");
    }
    let refused = |bytes: &[u8], reason: &str| {
        let error = open(bytes).unwrap_err();
        assert!(error.ends_with(reason), "{error}");
    };
    refused(&archive(&[("a/data.pkl", &pickle)]), "tensor `w` has no record `data/0`");
    refused(&archive(&[("a/data.pkl", &pickle), ("a/data/0", &values[..20])]), "its record 20 bytes");
    refused(&archive(&[("a/version", b"3")]), "it has no record `data.pkl`");
    refused(&archive(&[("a/data.pkl", &pickle), ("a/data.pkl", &pickle)]), "`data.pkl` is there twice");
    let order = archive(&[("a/data.pkl", &pickle), ("a/data/0", &values), ("a/byteorder", b"middle")]);
    refused(&order, "`byteorder` is neither `little` nor `big`");
    let table = whole.windows(4).position(|part| part == b"PK\x01\x02").unwrap();
    let changed = |offset: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[table + offset] = value;
        bytes
    };
    refused(&changed(10, 8), "is compressed, which `torch.save` never does");
    refused(&changed(24, 1), "is compressed, which `torch.save` never does");
    refused(&changed(8, 1), "is encrypted");
    refused(&changed(45, 0xf0), "lies outside of the file");
    let second = table + 46 + "a/data.pkl".len();
    let mut overlapping = whole.clone();
    overlapping[second + 42..second + 46].copy_from_slice(&[0; 4]);
    refused(&overlapping, "its records `a/data.pkl` and `a/data/0` overlap");
    // The place of a zip64 number without the number.
    let mut long = whole.clone();
    long[table + 42..table + 46].copy_from_slice(&[0xff; 4]);
    refused(&long, "its table of records is damaged");
}

#[test]
fn the_other_byte_order_is_turned() {
    let pickle = tensor(b"K\x00K\x06\x85K\x01\x85");
    let values: Vec<u8> = (0..6).flat_map(|value: i32| (value as f32).to_be_bytes()).collect();
    let records: [Record<'_>; 3] = [("a/data.pkl", &pickle), ("a/data/0", &values), ("a/byteorder", b"big")];
    let file = open(&archive(&records)).unwrap();
    assert_eq!(file.f32("w").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn safetensors_under_another_name_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.bin");
    fs::copy(golden_folder("gpt2").join("model.safetensors"), &path).unwrap();
    assert!(TensorFile::open(&path).unwrap().contains("transformer.wte.weight"));
    assert!(TensorFile::open(Path::new("absent.bin")).is_err());
}
