//! Logits, losses, hidden states, padding and greedy ids of the GPT-2 fixtures.

use burn::tensor::{Int, Tensor};
use smelt_backend::kernels::CrossEntropyOptions;
use smelt_backend::{Kernels, float_tensor, int_tensor, scalar, to_host};
use smelt_model::weights::{Checkpoint, load_weights};
use smelt_model::{Decoder, ForwardInput, KvCache, ModelConfig, load};
use smelt_testkit::{Golden, HostTensor, Tolerance, assert_close, backend_test};

const FIXTURES: [&str; 2] = ["gpt2", "gpt2_noprefix"];

backend_test!(logits_loss_and_hidden_states_match, plain);
backend_test!(both_config_spellings_give_the_same_model, spellings);
backend_test!(right_padding_changes_nothing, right_padding);
backend_test!(left_padding_changes_nothing, left_padding);
backend_test!(greedy_ids_match_without_a_cache, greedy_uncached);
backend_test!(greedy_ids_match_with_a_cache, greedy_cached);
backend_test!(left_padded_batches_match, greedy_batch);

fn each_model<B: Kernels>(device: &B::Device, check: impl Fn(&Golden, &Decoder<B>)) {
    for name in FIXTURES {
        let golden = Golden::open(name);
        let (_, model) = load::<B>(&golden.folder, device).unwrap();
        check(&golden, &model);
    }
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
    let width = hidden.dims()[2];
    let sum = Kernels::linear_cross_entropy(
        hidden.narrow(1, 0, seq - 1).reshape([rows, width]),
        model.head_weight(),
        int_tensor(&targets, [rows], device),
        float_tensor(weights, [rows], device),
        CrossEntropyOptions { chunk_tokens: 7 },
    );
    scalar(sum) as f32 / count
}

fn plain<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
        let input_ids = golden.tensor("input_ids");
        let hidden = model.hidden(ForwardInput::new(ids(input_ids, device)));
        let loss = mean_loss(model, hidden.clone(), input_ids, golden.tensor("attention_mask"), device);
        assert_close("loss", &[loss], golden.tensor("loss").floats(), Tolerance::Loss);
        let logits = to_host(model.logits(hidden));
        assert_close("logits", &logits, golden.tensor("logits").floats(), Tolerance::Logits);
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
    for name in FIXTURES {
        let golden = Golden::open(name);
        let checkpoint = Checkpoint::open(&golden.folder).unwrap();
        for file in ["config.json", "config_v5.json"] {
            let config = ModelConfig::from_file(&golden.folder.join(file)).unwrap();
            let model = load_weights::<B>(&config, &checkpoint, device).unwrap();
            let hidden = model.hidden(ForwardInput::new(ids(golden.tensor("input_ids"), device)));
            let logits = to_host(model.logits(hidden));
            assert_close(file, &logits, golden.tensor("logits").floats(), Tolerance::Logits);
        }
    }
}

/// Row 1 of `logits` `[2, seq, vocab]` from position `start` on, `count` positions.
fn row_one(logits: &[f32], seq: usize, start: usize, count: usize) -> &[f32] {
    let vocab = logits.len() / (2 * seq);
    &logits[(seq + start) * vocab..(seq + start + count) * vocab]
}

fn right_padding<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
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
        let (input_ids, keep) = (golden.tensor("left.input_ids"), golden.tensor("left.attention_mask"));
        let mut input = ForwardInput::new(ids(input_ids, device));
        input.attention_mask = Some(mask(keep, device));
        input.position_ids = Some(ids(golden.tensor("left.position_ids"), device));
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

/// The most likely next id of each row of `[batch, 1, vocab]`.
fn best<B: Kernels>(model: &Decoder<B>, hidden: Tensor<B, 3>) -> Vec<u32> {
    let [batch, seq, _] = hidden.dims();
    let logits = to_host(model.logits(hidden.narrow(1, seq - 1, 1)));
    let largest = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
    logits.chunks(logits.len() / batch).map(largest).collect()
}

fn greedy_uncached<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
        let prompt = golden.tensor("greedy.prompt_ids").ids();
        let expected = golden.tensor("greedy.ids").ids();
        let mut ids = prompt.clone();
        for _ in &expected {
            let input = ForwardInput::new(int_tensor(&ids, [1, ids.len()], device));
            ids.extend(best(model, model.hidden(input)));
        }
        assert_eq!(ids[prompt.len()..], expected);
    });
}

fn greedy_cached<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
        let mut new = golden.tensor("greedy.prompt_ids").ids();
        let expected = golden.tensor("greedy.ids").ids();
        let mut cache = KvCache::new(model.config(), 1, new.len() + expected.len(), device);
        let mut found: Vec<u32> = Vec::new();
        for _ in &expected {
            let mut input = ForwardInput::new(int_tensor(&new, [1, new.len()], device));
            input.cache = Some(&mut cache);
            new = best(model, model.hidden(input));
            found.extend(&new);
        }
        assert_eq!(found, expected);
    });
}

fn greedy_batch<B: Kernels>(device: &B::Device) {
    each_model::<B>(device, |golden, model| {
        let [batch, prompt_len] = golden.tensor("batch.prompt_ids").dims();
        let expected = golden.tensor("batch.ids");
        let steps = expected.shape[1];
        let mut keep: Vec<Vec<f32>> = golden
            .tensor("batch.attention_mask")
            .ints()
            .chunks(prompt_len)
            .map(|row| row.iter().map(|bit| *bit as f32).collect())
            .collect();
        let mut cache = KvCache::new(model.config(), batch, prompt_len + steps, device);
        let mut new = golden.tensor("batch.prompt_ids").ids();
        let mut found = vec![Vec::new(); batch];
        for _ in 0..steps {
            let seq = new.len() / batch;
            let positions: Vec<u32> = keep.iter().flat_map(|row| last_positions(row, seq)).collect();
            let kv_len = keep[0].len();
            let mut input = ForwardInput::new(int_tensor(&new, [batch, seq], device));
            input.position_ids = Some(int_tensor(&positions, [batch, seq], device));
            input.attention_mask = Some(float_tensor(keep.concat(), [batch, kv_len], device));
            input.cache = Some(&mut cache);
            new = best(model, model.hidden(input));
            found.iter_mut().zip(&new).for_each(|(row, id)| row.push(*id));
            keep.iter_mut().for_each(|row| row.push(1.0));
        }
        assert_eq!(found.concat(), expected.ids());
    });
}

/// `cumsum(keep) - 1`, at least 0, of the last `count` positions.
fn last_positions(keep: &[f32], count: usize) -> Vec<u32> {
    let mut seen = 0.0f32;
    let all = keep.iter().map(|bit| {
        seen += bit;
        (seen - 1.0).max(0.0) as u32
    });
    all.skip(keep.len() - count).collect()
}
