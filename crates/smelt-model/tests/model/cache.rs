//! Cached passes equal full ones: however sequences are cut and put together, past windows, after tokens were taken
//! back, and with keys and values from another sequence.

use smelt_backend::kernels::KEY_BLOCK;
use smelt_backend::{Kernels, int_tensor, to_host};
use smelt_model::{CacheBits, CacheOptions, Decoder, Extension, ForwardInput, KvCache, ModelConfig, load};
use smelt_testkit::{Golden, Tolerance, assert_close, backend_test, max_abs_difference};

backend_test!(sequences_of_any_lengths_continue_together, together);
backend_test!(given_positions_count_for_one_sequence_too, given_positions);
backend_test!(a_cleared_cache_starts_again, cleared);
backend_test!(windows_forget_and_nothing_changes, windows);
backend_test!(positions_are_taken_back, taken_back);
backend_test!(spans_stand_for_passes, spans);
backend_test!(long_spans_fit_behind_each_other, long_spans);
backend_test!(packed_rows_come_close, packed);

fn open<B: Kernels>(name: &str, device: &B::Device) -> (Golden, ModelConfig, Decoder<B>) {
    let golden = Golden::open(name);
    let (config, model) = load::<B>(&golden.folder, device).unwrap();
    (golden, config, model)
}

/// Logits behind each of `ids`.
fn pass<B: Kernels>(model: &Decoder<B>, cache: &mut KvCache<B>, ids: &[u32], device: &B::Device) -> Vec<f32> {
    let known_length = cache.len() + ids.len();
    to_host(model.row_logits(model.extend(&mut [Extension { ids, cache, known_length }], device)))
}

/// The same without a cache.
fn full<B: Kernels>(model: &Decoder<B>, ids: &[u32], device: &B::Device) -> Vec<f32> {
    let hidden = model.hidden(ForwardInput::new(int_tensor(ids, [1, ids.len()], device)));
    to_host(model.logits(hidden))
}

fn together<B: Kernels>(device: &B::Device) {
    let (golden, _, model) = open::<B>("gpt2", device);
    let input_ids = golden.tensor("input_ids");
    let [_, seq] = input_ids.dims();
    let rows: Vec<Vec<u32>> = input_ids.ids().chunks(seq).map(<[u32]>::to_vec).collect();
    let mut caches: Vec<_> =
        rows.iter().map(|_| KvCache::new(model.config(), CacheOptions::new(seq + 3), device)).collect();
    let mut found = vec![Vec::new(); rows.len()];
    // Where each row is cut: once they go on alone, once with parts of other lengths.
    for cuts in [[0..5, 0..1], [5..6, 1..9], [6..6, 9..10], [6..seq, 10..seq]] {
        let going = caches.iter_mut().zip(&rows).zip(&cuts).filter(|(_, cut)| !cut.is_empty());
        let mut passes: Vec<_> = going
            .map(|((cache, row), cut)| Extension { ids: &row[cut.clone()], cache, known_length: seq })
            .collect();
        let logits = to_host(model.row_logits(model.extend(&mut passes, device)));
        let mut rest = &logits[..];
        for (found, cut) in found.iter_mut().zip(&cuts) {
            let (own, others) = rest.split_at(cut.len() * model.config().vocab_size);
            found.extend_from_slice(own);
            rest = others;
        }
    }
    assert!(caches.iter().all(|cache| cache.len() == seq));
    assert_close("cached logits", &found.concat(), golden.tensor("logits").floats(), Tolerance::Logits);
}

/// Two documents in one row, whose positions start again, are each as they are alone.
fn given_positions<B: Kernels>(device: &B::Device) {
    for name in ["gpt2", "llama_mha"] {
        let (golden, _, model) = open::<B>(name, device);
        let ids = golden.tensor("input_ids").ids()[..6].to_vec();
        let both = [&ids[..], &ids[..]].concat();
        let mut input = ForwardInput::new(int_tensor(&both, [1, 12], device));
        input.position_ids = Some((0..6).chain(0..6).collect());
        input.document_ids = Some([[0; 6], [1; 6]].concat());
        let found = to_host(model.logits(model.hidden(input)));
        let expected = full(&model, &ids, device);
        assert_close(name, &found, &[&expected[..], &expected[..]].concat(), Tolerance::Logits);
    }
}

fn cleared<B: Kernels>(device: &B::Device) {
    let (golden, _, model) = open::<B>("gpt2", device);
    let prompt = golden.tensor("greedy.prompt_ids").ids();
    let mut cache = KvCache::new(model.config(), CacheOptions::new(prompt.len()), device);
    let mut run = || {
        cache.clear();
        assert!(cache.is_empty());
        pass(&model, &mut cache, &prompt, device)
    };
    assert_eq!(run(), run());
}

/// A sequence so long that what is left of it moves to the front of the buffers. `cpu` promises all bits.
fn windows<B: Kernels>(device: &B::Device) {
    for name in ["mistral_swa", "gemma2", "gemma3_text", "qwen2_swa"] {
        let (_, config, model) = open::<B>(name, device);
        let window = config.decoder.layers.iter().filter_map(|layer| layer.sliding_window).min().unwrap();
        let length = 800;
        let ids: Vec<u32> = (0..length as u32).map(|at| at * 7 % config.decoder.vocab_size as u32).collect();
        let options = CacheOptions { max_pass: 9, ..CacheOptions::new(length) };
        let mut cache = KvCache::new(model.config(), options, device);
        let mut found = Vec::new();
        for part in ids.chunks(9) {
            let (head, rest) = part.split_at(1);
            found.extend(pass(&model, &mut cache, head, device));
            if !rest.is_empty() {
                found.extend(pass(&model, &mut cache, rest, device));
            }
        }
        assert!(2 * (window + KEY_BLOCK) < length, "{name}: a window of {window} leaves positions behind");
        let expected = full(&model, &ids, device);
        assert_close(name, &found, &expected, Tolerance::Logits);
        if B::name(device).contains("flex") {
            assert!(found == expected, "{name}: some bits differ");
        }
    }
}

fn taken_back<B: Kernels>(device: &B::Device) {
    for name in ["llama_gqa_tied", "mistral_swa"] {
        let (golden, _, model) = open::<B>(name, device);
        let ids = golden.tensor("input_ids").ids()[..12].to_vec();
        let mut cache = KvCache::new(model.config(), CacheOptions::new(20), device);
        pass(&model, &mut cache, &ids[..7], device);
        pass(&model, &mut cache, &[3, 1, 4, 1], device);
        cache.truncate(6);
        let found = pass(&model, &mut cache, &ids[6..], device);
        let expected = full(&model, &ids, device);
        let vocab_size = model.config().vocab_size;
        assert_close(name, &found, &expected[6 * vocab_size..], Tolerance::Logits);
    }
}

fn spans<B: Kernels>(device: &B::Device) {
    for name in ["llama_gqa_tied", "mistral_swa"] {
        for bits in [None, Some(CacheBits::Eight)] {
            let (golden, _, model) = open::<B>(name, device);
            let ids = golden.tensor("input_ids").ids()[..12].to_vec();
            let options = CacheOptions { bits, ..CacheOptions::new(20) };
            let mut cache = KvCache::new(model.config(), options, device);
            pass(&model, &mut cache, &ids[..5], device);
            let first = cache.span(0).unwrap();
            pass(&model, &mut cache, &ids[5..9], device);
            let second = cache.span(5).unwrap();
            let expected = pass(&model, &mut cache, &ids[9..], device);
            assert_eq!((first.len(), second.len()), (5, 4));
            assert_eq!(first.part(0..2).bytes() + first.part(2..5).bytes(), first.bytes());

            // Two of the second span are of another text, and one comes from a part.
            let mut other = KvCache::new(model.config(), options, device);
            other.append(&first.part(0..2), 2);
            other.append(&first.part(2..5), 3);
            other.append(&second, 2);
            pass(&model, &mut other, &ids[7..9], device);
            let found = pass(&model, &mut other, &ids[9..], device);
            assert_close(name, &found, &expected, Tolerance::Logits);
        }
    }
}

/// Spans longer than a pass, behind as much as the window reaches.
fn long_spans<B: Kernels>(device: &B::Device) {
    let (_, config, model) = open::<B>("mistral_swa", device);
    let vocab_size = config.decoder.vocab_size as u32;
    let ids: Vec<u32> = (0..400).map(|at| at * 7 % vocab_size).collect();
    for bits in [None, Some(CacheBits::Eight)] {
        let wide = CacheOptions { bits, ..CacheOptions::new(401) };
        let mut whole = KvCache::new(model.config(), wide, device);
        let mut narrow = KvCache::new(model.config(), CacheOptions { max_pass: 64, ..wide }, device);
        for part in ids.chunks(70) {
            let start = whole.len();
            for part in part.chunks(10) {
                pass(&model, &mut whole, part, device);
            }
            narrow.append(&whole.span(start).unwrap(), part.len());
        }
        let found = [&mut narrow, &mut whole].map(|cache| {
            cache.truncate(390);
            pass(&model, cache, &[5], device)
        });
        assert_close("behind long spans", &found[0], &found[1], Tolerance::Logits);
        narrow.clear();
        assert!(narrow.is_empty());
    }
}

/// Eight bits change logits little, four bits more; both less than a wrong cache would.
fn packed<B: Kernels>(device: &B::Device) {
    let (golden, _, model) = open::<B>("llama_gqa_tied", device);
    let ids = golden.tensor("input_ids").ids()[..16].to_vec();
    let expected = full(&model, &ids, device);
    let off = |bits| {
        let options = CacheOptions { bits, ..CacheOptions::new(16) };
        let mut cache = KvCache::new(model.config(), options, device);
        let mut found = pass(&model, &mut cache, &ids[..9], device);
        found.extend(pass(&model, &mut cache, &ids[9..], device));
        max_abs_difference(&found, &expected)
    };
    let [plain, eight, four] = [None, Some(CacheBits::Eight), Some(CacheBits::Four)].map(off);
    assert!(plain < 1e-4 && eight < 0.2 && four < 3.0, "{plain} {eight} {four}");
    assert!(plain < eight && eight < four, "{plain} {eight} {four}");
    let bytes = |bits| CacheOptions { bits, ..CacheOptions::new(16) }.bytes(model.config());
    assert!(bytes(Some(CacheBits::Four)) < bytes(Some(CacheBits::Eight)));
    assert!(bytes(Some(CacheBits::Eight)) * 2 < bytes(None));
}
