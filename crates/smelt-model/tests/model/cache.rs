//! Cached passes equal full ones, however the positions are cut.

use smelt_backend::{Kernels, int_tensor, to_host};
use smelt_model::{ForwardInput, KvCache, load};
use smelt_testkit::{Golden, Tolerance, assert_close, backend_test};

backend_test!(cached_passes_equal_the_full_one, cuts);
backend_test!(a_cleared_cache_starts_again, cleared);

fn cuts<B: Kernels>(device: &B::Device) {
    let golden = Golden::open("gpt2");
    let (_, model) = load::<B>(&golden.folder, device).unwrap();
    let input_ids = golden.tensor("input_ids");
    let [batch, seq] = input_ids.dims();
    let rows: Vec<Vec<u32>> = input_ids.ids().chunks(seq).map(<[u32]>::to_vec).collect();
    for cuts in [vec![seq], vec![1; seq], vec![7, 1, 1, seq - 9]] {
        let mut cache = KvCache::new(model.config(), batch, seq + 3, device);
        let mut found = vec![Vec::new(); batch];
        for length in cuts {
            let start = cache.len();
            let ids: Vec<u32> = rows.iter().flat_map(|row| row[start..start + length].to_vec()).collect();
            let mut input = ForwardInput::new(int_tensor(&ids, [batch, length], device));
            input.cache = Some(&mut cache);
            let logits = to_host(model.logits(model.hidden(input)));
            let per_row = logits.len() / batch;
            found.iter_mut().zip(logits.chunks(per_row)).for_each(|(row, part)| row.extend(part));
        }
        assert_eq!(cache.len(), seq);
        let expected = golden.tensor("logits").floats();
        assert_close("cached logits", &found.concat(), expected, Tolerance::Logits);
    }
}

fn cleared<B: Kernels>(device: &B::Device) {
    let golden = Golden::open("gpt2");
    let (_, model) = load::<B>(&golden.folder, device).unwrap();
    let prompt = golden.tensor("greedy.prompt_ids").ids();
    let mut cache = KvCache::new(model.config(), 1, prompt.len(), device);
    let mut run = || {
        cache.clear();
        assert!(cache.is_empty());
        let mut input = ForwardInput::new(int_tensor(&prompt, [1, prompt.len()], device));
        input.cache = Some(&mut cache);
        to_host(model.hidden(input))
    };
    assert_eq!(run(), run());
}
