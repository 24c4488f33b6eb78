//! One sequence: golden greedy ids, stopping, limits, errors.

use std::ops::ControlFlow;

use smelt_backend::Kernels;
use smelt_generate::{GenerateError, GenerateOptions, GenerateReport, SamplingOptions, StopReason, generate};
use smelt_model::{Decoder, ModelConfig, load};
use smelt_testkit::{Golden, backend_test, golden_folder};

backend_test!(greedy_ids_match, greedy);
backend_test!(generation_stops_where_it_should, stops);
backend_test!(long_prompts_are_filled_in_parts, long_prompt);
backend_test!(seeds_decide, seeds);
backend_test!(impossible_requests_are_refused, refused);

fn run<B: Kernels>(
    (config, model): &(ModelConfig, Decoder<B>),
    prompt: &[u32],
    options: &GenerateOptions,
    device: &B::Device,
) -> Result<(Vec<u32>, GenerateReport), GenerateError> {
    let mut tokens = Vec::new();
    let mut collect = |token| {
        tokens.push(token);
        ControlFlow::Continue(())
    };
    let report = generate(model, config, prompt, options, &mut collect, device)?;
    assert_eq!(report.generated_tokens, tokens.len());
    assert_eq!(report.prompt_tokens, prompt.len());
    Ok((tokens, report))
}

fn tokens(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ..Default::default() }
}

fn greedy<B: Kernels>(device: &B::Device) {
    for name in ["gpt2", "gpt2_noprefix"] {
        let golden = Golden::open(name);
        let loaded = load::<B>(&golden.folder, device).unwrap();
        let expected = golden.tensor("greedy.ids").ids();
        let prompt = golden.tensor("greedy.prompt_ids").ids();
        let (found, report) = run(&loaded, &prompt, &tokens(expected.len()), device).unwrap();
        assert_eq!(found, expected);
        assert_eq!(report.stop_reason, StopReason::MaxTokens);
        assert!(report.prompt_tokens_per_second() > 0.0 && report.generation_tokens_per_second() > 0.0);
    }
}

fn stops<B: Kernels>(device: &B::Device) {
    let golden = Golden::open("gpt2");
    let loaded = load::<B>(&golden.folder, device).unwrap();
    let expected = golden.tensor("greedy.ids").ids();
    let prompt = golden.tensor("greedy.prompt_ids").ids();

    let context = loaded.0.decoder.max_position_embeddings;
    let (all, report) = run(&loaded, &prompt, &tokens(usize::MAX), device).unwrap();
    assert_eq!((all.len(), report.stop_reason), (context - prompt.len(), StopReason::ContextFull));

    let stop = expected[5];
    let first = expected.iter().position(|token| *token == stop).unwrap();
    let options = GenerateOptions { stop_tokens: vec![stop], ..tokens(16) };
    let (found, report) = run(&loaded, &prompt, &options, device).unwrap();
    assert_eq!((found.as_slice(), report.stop_reason), (&expected[..first], StopReason::StopToken));

    let mut seen = Vec::new();
    let mut three = |token| {
        seen.push(token);
        if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let report = generate(&loaded.1, &loaded.0, &prompt, &tokens(16), &mut three, device).unwrap();
    assert_eq!((seen.as_slice(), report.stop_reason), (&expected[..3], StopReason::Caller));
    assert_eq!(report.generated_tokens, 3);

    let (none, report) = run(&loaded, &prompt, &tokens(0), device).unwrap();
    assert_eq!((none.len(), report.stop_reason), (0, StopReason::MaxTokens));
}

/// A context above the part size, so that a prompt needs several passes.
fn long_prompt<B: Kernels>(device: &B::Device) {
    let section = serde_json::json!({
        "vocab_size": 50, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 1200, "initializer_range": 0.3,
    });
    let config = ModelConfig::from_section(section.as_object().unwrap()).unwrap();
    let model = Decoder::<B>::init(&config, 1, device);
    let prompt: Vec<u32> = (0..1100).map(|at| at * 31 % 50).collect();
    let input = smelt_model::ForwardInput::new(smelt_backend::int_tensor(&prompt, [1, 1100], device));
    let logits = smelt_backend::to_host(model.logits(model.hidden(input).narrow(1, 1099, 1)));
    let best = (0..50).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32;
    let (found, _) = run(&(config, model), &prompt, &tokens(1), device).unwrap();
    assert_eq!(found, [best]);
}

fn seeds<B: Kernels>(device: &B::Device) {
    let golden = Golden::open("gpt2");
    let loaded = load::<B>(&golden.folder, device).unwrap();
    let prompt = golden.tensor("greedy.prompt_ids").ids();
    let draw = |seed| {
        let sampling = SamplingOptions { temperature: 2.0, seed, ..Default::default() };
        run(&loaded, &prompt, &GenerateOptions { sampling, ..tokens(20) }, device).unwrap().0
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

fn refused<B: Kernels>(device: &B::Device) {
    let loaded = load::<B>(&golden_folder("gpt2"), device).unwrap();
    let message = |prompt: &[u32], options: &GenerateOptions| {
        run(&loaded, prompt, options, device).unwrap_err().to_string()
    };
    assert_eq!(message(&[], &tokens(1)), "the prompt has no tokens");
    let long = "the prompt has 64 tokens, the context of this model holds 64";
    assert_eq!(message(&[1; 64], &tokens(1)), long);
    assert_eq!(message(&[1, 257], &tokens(1)), "the prompt does not fit the model");
    let sampling = SamplingOptions { top_p: Some(1.5), ..Default::default() };
    let found = message(&[1], &GenerateOptions { sampling, ..tokens(1) });
    assert_eq!(found, "`top_p` is 1.5, expected a number above 0 and at most 1");
}
