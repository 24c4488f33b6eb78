//! Batches: golden greedy ids, and the same tokens as each prompt alone.

use std::ops::ControlFlow;

use smelt_backend::Kernels;
use smelt_generate::{GenerateOptions, generate, generate_batch};
use smelt_model::load;
use smelt_testkit::{Golden, backend_test};

backend_test!(greedy_batches_match, greedy);
backend_test!(rows_equal_the_prompts_alone, alone);

fn greedy<B: Kernels>(device: &B::Device) {
    for name in ["gpt2", "gpt2_noprefix"] {
        let golden = Golden::open(name);
        let (config, model) = load::<B>(&golden.folder, device).unwrap();
        let [_, width] = golden.tensor("batch.prompt_ids").dims();
        let ids = golden.tensor("batch.prompt_ids").ids();
        let keep = golden.tensor("batch.attention_mask").ints();
        let unpadded = |(ids, keep): (&[u32], &[i64])| -> Vec<u32> {
            ids.iter().zip(keep).filter(|(_, bit)| **bit == 1).map(|(id, _)| *id).collect()
        };
        let prompts: Vec<Vec<u32>> = ids.chunks(width).zip(keep.chunks(width)).map(unpadded).collect();
        assert_ne!(prompts[0].len(), prompts[1].len(), "one row is padded");
        let expected = golden.tensor("batch.ids");
        let options = GenerateOptions { max_tokens: expected.shape[1], ..Default::default() };
        let found = generate_batch(&model, &config, &prompts, &options, device).unwrap();
        assert_eq!(found.concat(), expected.ids());
    }
}

fn alone<B: Kernels>(device: &B::Device) {
    let golden = Golden::open("gpt2");
    let (config, model) = load::<B>(&golden.folder, device).unwrap();
    let prompts: Vec<Vec<u32>> = vec![vec![5, 6, 7], vec![250], (10..30).collect()];
    let single = |prompt: &Vec<u32>, options: &GenerateOptions| {
        let mut tokens = Vec::new();
        let mut collect = |token| {
            tokens.push(token);
            ControlFlow::Continue(())
        };
        generate(&model, &config, prompt, options, &mut collect, device).unwrap();
        tokens
    };
    let plain = GenerateOptions { max_tokens: 12, ..Default::default() };
    let stop = single(&prompts[1], &plain)[4];
    for options in [plain.clone(), GenerateOptions { stop_tokens: vec![stop], ..plain.clone() }] {
        let expected: Vec<Vec<u32>> = prompts.iter().map(|prompt| single(prompt, &options)).collect();
        assert_eq!(generate_batch(&model, &config, &prompts, &options, device).unwrap(), expected);
    }
    let until_full = GenerateOptions { max_tokens: 1000, ..Default::default() };
    let full = generate_batch(&model, &config, &prompts, &until_full, device).unwrap();
    assert!(full.iter().all(|row| row.len() == config.decoder.max_position_embeddings - 20));
    assert!(generate_batch(&model, &config, &[], &plain, device).unwrap().is_empty());
    assert!(generate_batch(&model, &config, &[vec![1], vec![]], &plain, device).is_err());
}
