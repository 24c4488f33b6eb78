//! Logits, losses, hidden states, padding and lengths of every decoder among the fixtures.
//!
//! Decoded ids are checked by `smelt verify` on the same fixtures, in the tests of the command line.

use burn::tensor::{Int, Tensor};
use smelt_backend::kernels::CrossEntropyOptions;
use smelt_backend::{Kernels, float_tensor, int_tensor, scalar, to_host};
use smelt_model::weights::{Checkpoint, LoadOptions, load_weights};
use smelt_model::{CacheOptions, Decoder, Extension, ForwardInput, KvCache, ModelConfig, load};
use smelt_testkit::{Golden, HostTensor, Tolerance, assert_close, backend_test};

/// Half precision on disk: `logits` are those of the weights in f32.
const HALF_PRECISION: [&str; 2] = ["llama_bf16", "llama_f16"];

backend_test!(logits_loss_and_hidden_states_match, plain);
backend_test!(both_config_spellings_give_the_same_model, spellings);
backend_test!(half_precision_weights_match, half_precision);
backend_test!(shorter_and_longer_sequences_match, lengths);
backend_test!(right_padding_changes_nothing, right_padding);
backend_test!(left_padding_changes_nothing, left_padding);
backend_test!(a_cached_pass_equals_the_whole, cached);

fn each_model<B: Kernels>(device: &B::Device, check: impl Fn(&Golden, &Decoder<B>)) {
    for golden in decoders() {
        let (_, model) = load::<B>(&golden.folder, device).unwrap();
        check(&golden, &model);
    }
}

/// The fixtures of decoders that hold all outputs.
fn decoders() -> Vec<Golden> {
    let all = Golden::of_kind("causal").into_iter();
    let whole: Vec<Golden> = all.filter(|golden| !HALF_PRECISION.contains(&&*golden.name())).collect();
    assert!(whole.len() > 25, "{} decoders", whole.len());
    whole
}

fn ids<B: Kernels>(tensor: &HostTensor, device: &B::Device) -> Tensor<B, 2, Int> {
    int_tensor(&tensor.ids(), tensor.dims(), device)
}

fn mask<B: Kernels>(tensor: &HostTensor, device: &B::Device) -> Tensor<B, 2> {
    float_tensor(tensor.ints().iter().map(|bit| *bit as f32).collect(), tensor.dims(), device)
}

/// Mean over targets that are no padding of the cross-entropy of the next token.
fn mean_loss<B: Kernels>(
    model: &Decoder<B>,
    hidden: Tensor<B, 3>,
    input_ids: &HostTensor,
    keep: &HostTensor,
    device: &B::Device,
) -> f32 {
    let [batch, seq] = input_ids.dims();
    let all = input_ids.ids();
    let shifted = |row: usize| row * seq + 1..(row + 1) * seq;
    let targets: Vec<u32> = (0..batch).flat_map(|row| all[shifted(row)].to_vec()).collect();
    let weights: Vec<f32> =
        (0..batch).flat_map(|row| keep.ints()[shifted(row)].iter().map(|bit| *bit as f32)).collect();
    let count: f32 = weights.iter().sum();
    let rows = batch * (seq - 1);
    let loss = model.cross_entropy(
        hidden.narrow(1, 0, seq - 1),
        int_tensor(&targets, [rows], device),
        float_tensor(weights, [rows], device),
        CrossEntropyOptions { chunk_tokens: 7, ..Default::default() },
    );
    scalar(loss.likelihood) as f32 / count
}

fn plain<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
        let input_ids = golden.tensor("input_ids");
        let hidden = model.hidden(ForwardInput::new(ids(input_ids, device)));
        let loss = mean_loss(model, hidden.clone(), input_ids, golden.tensor("attention_mask"), device);
        assert_close("loss", &[loss], golden.tensor("loss").floats(), Tolerance::Loss);
        let logits = to_host(model.logits(hidden));
        assert_close("logits", &logits, golden.tensor("logits").floats(), Tolerance::Logits);
        if !golden.contains("hidden.0") {
            return;
        }
        let states = model.hidden_states(ForwardInput::new(ids(input_ids, device)));
        assert_eq!(states.len(), model.config().num_hidden_layers + 1);
        for (index, state) in states.into_iter().enumerate() {
            let expected = golden.tensor(&format!("hidden.{index}"));
            let [positions, _] = expected.dims();
            let found = to_host(state.narrow(0, 0, 1).narrow(1, 0, positions));
            assert_close(&format!("hidden.{index}"), &found, expected.floats(), Tolerance::Hidden);
        }
    });
}

fn spellings<B: Kernels>(device: &B::Device) {
    for golden in decoders() {
        let checkpoint = Checkpoint::open(&golden.folder).unwrap();
        for file in ["config.json", "config_v5.json"] {
            // Qwen 1 has one spelling: transformers does not hold it.
            if !golden.folder.join(file).exists() {
                continue;
            }
            let config = ModelConfig::from_file(&golden.folder.join(file)).unwrap();
            let model = load_weights::<B>(&config, &checkpoint, LoadOptions::default(), device).unwrap();
            let hidden = model.hidden(ForwardInput::new(ids(golden.tensor("input_ids"), device)));
            let logits = to_host(model.logits(hidden));
            assert_close(file, &logits, golden.tensor("logits").floats(), Tolerance::Logits);
        }
    }
}

fn half_precision<B: Kernels>(device: &B::Device) {
    for name in HALF_PRECISION {
        let golden = Golden::open(name);
        let (_, model) = load::<B>(&golden.folder, device).unwrap();
        let hidden = model.hidden(ForwardInput::new(ids(golden.tensor("input_ids"), device)));
        let logits = to_host(model.logits(hidden));
        assert_close(name, &logits, golden.tensor("logits").floats(), Tolerance::Logits);
    }
}

fn lengths<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
        for length in golden.names().filter_map(|name| name.strip_suffix(".input_ids")) {
            if length.starts_with("len") {
                let hidden = model
                    .hidden(ForwardInput::new(ids(golden.tensor(&format!("{length}.input_ids")), device)));
                let expected = golden.tensor(&format!("{length}.logits"));
                assert_close(length, &to_host(model.logits(hidden)), expected.floats(), Tolerance::Logits);
            }
        }
    });
}

/// Row 1 of `logits` `[2, seq, vocab]` from position `start` on, `count` positions.
fn row_one(logits: &[f32], seq: usize, start: usize, count: usize) -> &[f32] {
    let vocab = logits.len() / (2 * seq);
    &logits[(seq + start) * vocab..(seq + start + count) * vocab]
}

fn right_padding<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
        if !golden.contains("right.input_ids") {
            return;
        }
        let (input_ids, keep) = (golden.tensor("right.input_ids"), golden.tensor("right.attention_mask"));
        let mut input = ForwardInput::new(ids(input_ids, device));
        input.attention_mask = Some(mask(keep, device));
        let hidden = model.hidden(input);
        let loss = mean_loss(model, hidden.clone(), input_ids, keep, device);
        assert_close("right.loss", &[loss], golden.tensor("right.loss").floats(), Tolerance::Loss);
        let [_, seq] = input_ids.dims();
        let kept = keep.ints()[seq..].iter().filter(|bit| **bit == 1).count();
        assert!(kept < seq, "row 1 is padded");
        let logits = to_host(model.logits(hidden));
        let expected = row_one(golden.tensor("logits").floats(), seq, 0, kept);
        assert_close("right logits", row_one(&logits, seq, 0, kept), expected, Tolerance::Logits);
    });
}

fn left_padding<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
        if !golden.contains("left.input_ids") {
            return;
        }
        let (input_ids, keep) = (golden.tensor("left.input_ids"), golden.tensor("left.attention_mask"));
        let mut input = ForwardInput::new(ids(input_ids, device));
        input.attention_mask = Some(mask(keep, device));
        input.position_ids = Some(golden.tensor("left.position_ids").ids());
        let logits = to_host(model.logits(model.hidden(input)));
        assert!(logits.iter().all(|logit| logit.is_finite()), "padding rows stay finite");
        let [_, seq] = input_ids.dims();
        let pads = keep.ints()[seq..].iter().filter(|bit| **bit == 0).count();
        assert!(pads > 0, "row 1 is padded");
        let expected = row_one(golden.tensor("logits").floats(), seq, 0, seq - pads);
        let found = row_one(&logits, seq, pads, seq - pads);
        assert_close("left logits", found, expected, Tolerance::Logits);
    });
}

/// In parts of several lengths, one position among them.
fn cached<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
        let input_ids = golden.tensor("input_ids");
        let [batch, seq] = input_ids.dims();
        let rows: Vec<Vec<u32>> = input_ids.ids().chunks(seq).map(<[u32]>::to_vec).collect();
        let mut parts = vec![Vec::new(); batch];
        let cache = |_: &Vec<u32>| KvCache::new(model.config(), CacheOptions::new(seq), device);
        let mut caches: Vec<_> = rows.iter().map(cache).collect();
        for (start, end) in [(0, 5), (5, 6), (6, 9), (9, seq)] {
            let sequences = caches.iter_mut().zip(&rows);
            let mut sequences: Vec<_> = sequences
                .map(|(cache, row)| Extension { ids: &row[start..end], cache, known_length: seq })
                .collect();
            let logits = to_host(model.row_logits(model.extend(&mut sequences, device)));
            let own = logits.chunks(logits.len() / batch);
            parts.iter_mut().zip(own).for_each(|(part, logits)| part.extend_from_slice(logits));
        }
        let logits = parts.concat();
        assert_close(&golden.name(), &logits, golden.tensor("logits").floats(), Tolerance::Logits);
    });
}
