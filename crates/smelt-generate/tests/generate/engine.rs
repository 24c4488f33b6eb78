//! The engine gives what `generate` gives, whatever else runs, and keeps its promises to those who wait.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use smelt_backend::Kernels;
use smelt_generate::engine::{
    CompletionOptions, DraftSource, EndReport, Engine, EngineHandle, EngineModel, EngineOptions,
    EngineStatistics, Event, LoadedModel, PrefixFile, Request, Speculation, Ticket, Work, complete_all,
    engine_channel,
};
use smelt_generate::{GenerateError, GenerateOptions, SamplingOptions, StopReason, generate};
use smelt_model::{CacheBits, Decoder, ModelConfig, RotaryConfig, load};
use smelt_testkit::{Golden, backend_test};

backend_test!(every_family_decodes_together_as_alone, families);
backend_test!(golden_batches_match, golden_batches);
backend_test!(prefixes_change_no_token, prefixes);
backend_test!(prefixes_are_kept_in_files, kept_in_files);
backend_test!(guesses_change_no_token, guesses);
backend_test!(a_window_shorter_than_the_prompt_changes_no_token, windows);
backend_test!(packed_caches_decode, packed);
backend_test!(requests_end_as_they_should, endings);
backend_test!(limits_hold, limits);
backend_test!(what_is_told_was_counted_before, counts);
backend_test!(logprobs_and_embeddings_are_those_of_the_passes, scores);
backend_test!(models_make_room_for_each_other, models);

fn alone<B: Kernels>(
    (config, model): &(ModelConfig, Decoder<B>),
    (prompt, options): &(Vec<u32>, CompletionOptions),
    device: &B::Device,
) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut collect = |token| {
        tokens.push(token);
        ControlFlow::Continue(())
    };
    let options = GenerateOptions {
        max_tokens: options.max_tokens,
        stop_tokens: options.stop_tokens.clone(),
        sampling: options.sampling.clone(),
    };
    generate(model, config, prompt, &options, &mut collect, device).unwrap();
    tokens
}

/// Prompts of several lengths, greedy and not, some with stop tokens.
fn requests(config: &ModelConfig, count: usize) -> Vec<(Vec<u32>, CompletionOptions)> {
    let (vocab_size, context) = (config.decoder.vocab_size, config.decoder.context_length());
    let request = |index: usize| {
        let length = 1 + (index * 11) % (context * 2 / 3);
        let prompt = (0..length).map(|at| ((at * 31 + index * 17 + at * at) % vocab_size) as u32).collect();
        let temperature = if index.is_multiple_of(2) { 0.0 } else { 0.9 };
        let sampling = SamplingOptions { temperature, seed: index as u64, ..Default::default() };
        let stop_tokens = if index.is_multiple_of(3) { vec![7, 8, 9] } else { Vec::new() };
        (prompt, CompletionOptions { max_tokens: 3 + index * 5, stop_tokens, sampling, ..Default::default() })
    };
    (0..count).map(request).collect()
}

fn agrees<B: Kernels>(name: &str, count: usize, options: EngineOptions, device: &B::Device) {
    let loaded = load::<B>(&Golden::open(name).folder, device).unwrap();
    let expected: Vec<_> =
        requests(&loaded.0, count).iter().map(|request| alone(&loaded, request, device)).collect();
    let prompts = requests(&loaded.0, count);
    let found = complete_all(&loaded.1, &loaded.0, prompts, options.clone(), device).unwrap();
    assert_eq!(found, expected, "{name} with {options:?}");
}

fn families<B: Kernels>(device: &B::Device) {
    let options = EngineOptions { max_running: 3, prefill_tokens: 10, ..Default::default() };
    let decoders = Golden::of_kind("causal");
    assert!(decoders.len() > 25);
    for golden in decoders {
        agrees::<B>(&golden.name(), 7, options.clone(), device);
    }
}

fn golden_batches<B: Kernels>(device: &B::Device) {
    for name in ["gpt2", "gpt2_noprefix"] {
        let golden = Golden::open(name);
        let (config, model) = load::<B>(&golden.folder, device).unwrap();
        let [_, width] = golden.tensor("batch.prompt_ids").dims();
        let ids = golden.tensor("batch.prompt_ids").ids();
        let keep = golden.tensor("batch.attention_mask").ints();
        let expected = golden.tensor("batch.ids");
        let request = |(ids, keep): (&[u32], &[i64])| {
            let kept = ids.iter().zip(keep).filter(|(_, bit)| **bit == 1);
            let options = CompletionOptions { max_tokens: expected.shape[1], ..Default::default() };
            (kept.map(|(id, _)| *id).collect(), options)
        };
        let prompts: Vec<(Vec<u32>, _)> = ids.chunks(width).zip(keep.chunks(width)).map(request).collect();
        assert_ne!(prompts[0].0.len(), prompts[1].0.len(), "prompts of two lengths");
        let found = complete_all(&model, &config, prompts, EngineOptions::default(), device).unwrap();
        assert_eq!(found.concat(), expected.ids());
    }
}

fn prefixes<B: Kernels>(device: &B::Device) {
    for (name, reuses) in [("llama_gqa_tied", true), ("gemma3_text", true), ("qwen2_dynamic", false)] {
        let loaded = load::<B>(&Golden::open(name).folder, device).unwrap();
        let base: Vec<u32> = (0..20).map(|at| at * 5 % 97).collect();
        // The same, shorter, longer, and branching within what is held.
        let prompts: Vec<Vec<u32>> = vec![
            base.clone(),
            base.clone(),
            base[..9].to_vec(),
            [&base[..], &[3, 4, 5]].concat(),
            [&base[..12], &[90, 91]].concat(),
            [&base[..12], &[90, 92]].concat(),
            vec![50, 51],
        ];
        let server =
            Server::start(vec![loaded], EngineOptions { max_running: 1, ..Default::default() }, device);
        for round in 0..2 {
            for prompt in &prompts {
                let options = CompletionOptions { max_tokens: 12, ..Default::default() };
                let expected = alone(&server.models[0], &(prompt.clone(), options), device);
                let (tokens, _) = server.ask(0, prompt.clone(), 12);
                assert_eq!(tokens, expected, "{name}, round {round}, {prompt:?}");
            }
        }
        let statistics = server.stop();
        let all: usize = 2 * prompts.iter().map(Vec::len).sum::<usize>();
        let read = statistics.prompt_tokens + statistics.cached_prompt_tokens;
        assert_eq!(read, all as u64);
        // Everything but the last tokens, and the first prompt of each branch.
        assert_eq!(statistics.cached_prompt_tokens > all as u64 / 2, reuses, "{statistics:?}");
    }
}

fn kept_in_files<B: Kernels>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.safetensors");
    for kv_bits in [None, Some(CacheBits::Eight)] {
        let run = |kv_bits, fingerprint: &str| {
            let loaded = load::<B>(&Golden::open("gemma3_text").folder, device).unwrap();
            let config = Arc::new(loaded.0);
            let prefix_file = Some(PrefixFile { path: path.clone(), fingerprint: fingerprint.to_owned() });
            let entry = EngineModel { prefix_file, ..EngineModel::without_text("nano", config) };
            let (handle, inbox) =
                engine_channel(vec![entry], EngineOptions { kv_bits, ..Default::default() });
            let asked: Vec<_> = [vec![1, 2, 3, 4, 5], vec![1, 2, 3, 9, 9, 9]]
                .into_iter()
                .map(|prompt| {
                    let (sender, receiver) = channel();
                    let options = CompletionOptions { max_tokens: 9, ..Default::default() };
                    let work = Work::Complete(Box::new(options));
                    let on_event = Box::new(move |event| drop(sender.send(event)));
                    let request = Request { model: 0, prompt, work, deadline: None, on_event };
                    (receiver, handle.submit(request).unwrap())
                })
                .collect();
            handle.shut_down();
            let load = |_, _: &B::Device| Ok(LoadedModel { decoder: loaded.1.clone(), draft: None });
            Engine::new(inbox, load, device.clone()).run();
            let answers: Vec<_> = asked.iter().map(|(receiver, _)| tokens_of(receiver)).collect();
            (answers, handle.statistics().cached_prompt_tokens)
        };
        std::fs::remove_file(&path).ok();
        let (first, none) = run(kv_bits, "a");
        let (second, cached) = run(kv_bits, "a");
        assert_eq!((none, cached), (0, 9), "all but the last tokens");
        for (first, second) in first.iter().zip(&second) {
            assert_eq!(first.0, second.0);
        }
        let (other, _) = run(kv_bits, "b");
        assert!(matches!(other[0].1, Err(GenerateError::PrefixFile(_))), "{other:?}");
        let (other, _) = run(Some(CacheBits::Four), "a");
        assert!(matches!(other[0].1, Err(GenerateError::PrefixFile(_))), "{other:?}");
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 7, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (damaged, _) = run(kv_bits, "a");
            assert!(matches!(damaged[0].1, Err(GenerateError::PrefixFile(_))), "{length} bytes: {damaged:?}");
        }
    }
}

fn guesses<B: Kernels>(device: &B::Device) {
    // Of few prefill tokens, a draft model reads its prompts in several pieces.
    for (source, prefill_tokens) in
        [(DraftSource::PromptLookup, 512), (DraftSource::Model, 512), (DraftSource::Model, 32)]
    {
        for name in ["llama_gqa_tied", "mistral_swa", "phi3_longrope", "qwen2_dynamic", "qwen_v1"] {
            let speculation = Some(Speculation { tokens: 4, source });
            let options = EngineOptions { speculation, max_running: 3, prefill_tokens, ..Default::default() };
            let loaded = load::<B>(&Golden::open(name).folder, device).unwrap();
            let config = loaded.0.clone();
            let server = Server::start(vec![loaded], options, device);
            let loaded = &server.models[0];
            let mut waiting = Vec::new();
            for request in requests(&loaded.0, 8) {
                let expected = alone(loaded, &request, device);
                waiting.push((server.submit(0, request.0, request.1), expected));
            }
            for ((receiver, _ticket), expected) in waiting {
                assert_eq!(tokens_of(&receiver).0, expected, "{name} with {source:?}");
            }
            let statistics = server.stop();
            assert!(statistics.drafted_tokens > 0, "{statistics:?}");
            // A model guesses its own tokens right, but for the rounding of passes of other lengths.
            let steady = !config.decoder.rotary().iter().any(RotaryConfig::depends_on_length);
            if source == DraftSource::Model && steady {
                assert!(statistics.accepted_tokens * 10 >= statistics.drafted_tokens * 9, "{statistics:?}");
                assert!(prefill_tokens < 512 || statistics.passes * 2 < statistics.generated_tokens);
            }
        }
    }
}

fn windows<B: Kernels>(device: &B::Device) {
    for prefill_tokens in [1, 3, 64] {
        let options = EngineOptions { prefill_tokens, ..Default::default() };
        agrees::<B>("mistral_swa", 5, options.clone(), device);
        agrees::<B>("gemma2", 5, options, device);
    }
}

/// Eight bits seldom change the likeliest token; the request must end as asked in any case.
fn packed<B: Kernels>(device: &B::Device) {
    let loaded = load::<B>(&Golden::open("llama_gqa_tied").folder, device).unwrap();
    for kv_bits in [CacheBits::Eight, CacheBits::Four] {
        let options = EngineOptions { kv_bits: Some(kv_bits), ..Default::default() };
        let server = Server::start(
            vec![load::<B>(&Golden::open("llama_gqa_tied").folder, device).unwrap()],
            options,
            device,
        );
        let prompt: Vec<u32> = (0..12).collect();
        let options = CompletionOptions { max_tokens: 10, ..Default::default() };
        let expected = alone(&loaded, &(prompt.clone(), options), device);
        for _ in 0..2 {
            let (tokens, _) = server.ask(0, prompt.clone(), 10);
            assert_eq!(tokens.len(), 10);
            assert!(kv_bits == CacheBits::Four || tokens[..4] == expected[..4], "{tokens:?} {expected:?}");
        }
        assert_eq!(server.stop().cached_prompt_tokens, 11);
    }
}

fn endings<B: Kernels>(device: &B::Device) {
    let loaded = load::<B>(&Golden::open("gpt2").folder, device).unwrap();
    let context = loaded.0.decoder.context_length();
    let server = Server::start(vec![loaded], EngineOptions::default(), device);
    let prompt = vec![5, 6, 7];
    let (tokens, end) = server.ask(0, prompt.clone(), 8);
    assert_eq!((tokens.len(), end.unwrap().reason), (8, StopReason::MaxTokens));
    let (all, end) = server.ask(0, prompt.clone(), usize::MAX);
    assert_eq!((all.len(), end.unwrap().reason), (context - 3, StopReason::ContextFull));
    let (none, end) = server.ask(0, prompt.clone(), 0);
    assert_eq!((none.len(), end.unwrap().reason), (0, StopReason::MaxTokens));
    let stop_tokens = vec![tokens[4]];
    let first = tokens.iter().position(|token| stop_tokens.contains(token)).unwrap();
    let options = CompletionOptions { max_tokens: 8, stop_tokens, ..Default::default() };
    let (receiver, _ticket) = server.submit(0, prompt.clone(), options);
    let (stopped, end) = tokens_of(&receiver);
    assert_eq!((stopped.len(), end.unwrap().reason), (first, StopReason::StopToken));

    // Who leaves is dropped at once, and who is late as well.
    let endless =
        || Work::Complete(Box::new(CompletionOptions { max_tokens: usize::MAX, ..Default::default() }));
    let (sender, receiver) = channel();
    let (left, has_left) = channel();
    let on_event = Box::new(move |event| {
        let is_prompt = matches!(event, Event::Prompt(_));
        drop(sender.send(event));
        // The engine waits here, or else it could be done before the test gets to leave.
        if is_prompt {
            has_left.recv().unwrap();
        }
    });
    let request = Request { model: 0, prompt: prompt.clone(), work: endless(), deadline: None, on_event };
    let ticket = server.handle.submit(request).unwrap();
    assert!(matches!(receiver.recv(), Ok(Event::Prompt(_))));
    drop(ticket);
    left.send(()).unwrap();
    assert!(tokens_of(&receiver).0.len() < context - 3, "it was not cut short");
    let (sender, receiver) = channel();
    let request = Request {
        model: 0,
        prompt: prompt.clone(),
        work: endless(),
        deadline: Some(Instant::now()),
        on_event: Box::new(move |event| drop(sender.send(event))),
    };
    let _ticket = server.handle.submit(request).unwrap();
    assert!(matches!(tokens_of(&receiver).1, Err(GenerateError::Deadline)));

    let statistics = server.stop();
    assert_eq!((statistics.finished, statistics.cancelled, statistics.failed), (4, 1, 1), "{statistics:?}");
    assert_eq!((statistics.running, statistics.waiting, statistics.cache_bytes), (0, 0, 0));
}

fn limits<B: Kernels>(device: &B::Device) {
    let loaded = load::<B>(&Golden::open("gpt2").folder, device).unwrap();
    let context = loaded.0.decoder.context_length();
    let one = smelt_model::CacheOptions::new(20).bytes(&loaded.0.decoder);
    let options = EngineOptions {
        max_waiting: 3,
        cache_bytes: 2 * one,
        prefix_bytes: one,
        prefill_tokens: 64,
        ..Default::default()
    };
    let server = Server::start(vec![loaded], options, device);
    let refused = |model: usize, prompt: Vec<u32>, sampling: SamplingOptions| {
        let work =
            Work::Complete(Box::new(CompletionOptions { max_tokens: 5, sampling, ..Default::default() }));
        let request =
            Request { model, prompt, work, deadline: None, on_event: Box::new(|_| panic!("refused")) };
        server.handle.submit(request).map(drop).unwrap_err()
    };
    let plain = SamplingOptions::default;
    assert!(matches!(refused(0, vec![], plain()), GenerateError::EmptyPrompt));
    assert!(matches!(refused(0, vec![1; context], plain()), GenerateError::PromptTooLong { .. }));
    assert!(matches!(refused(0, vec![1_000_000], plain()), GenerateError::Prompt(_)));
    assert!(matches!(refused(1, vec![1], plain()), GenerateError::NoModel { index: 1, models: 1 }));
    let cold = SamplingOptions { temperature: -1.0, ..Default::default() };
    assert!(matches!(refused(0, vec![1], cold), GenerateError::BadOption { .. }));
    let (_, end) = server.ask(0, vec![1, 2, 3], context);
    assert!(matches!(end, Err(GenerateError::TooLarge { .. })), "{end:?}");

    // More than may wait: some are refused, all others are answered, two at a time.
    let mut waiting = Vec::new();
    let mut full = 0;
    for index in 0..40 {
        let (sender, receiver) = channel();
        let work = Work::Complete(Box::new(CompletionOptions { max_tokens: 17, ..Default::default() }));
        let on_event = Box::new(move |event| drop(sender.send(event)));
        let request = Request { model: 0, prompt: vec![index, 2, 3], work, deadline: None, on_event };
        match server.handle.submit(request) {
            Ok(ticket) => waiting.push((receiver, ticket)),
            Err(GenerateError::QueueFull { limit: 3 }) => full += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(server.handle.statistics().cache_bytes <= 2 * one);
    }
    assert!(full > 0 && waiting.len() >= 3);
    for (receiver, _ticket) in waiting {
        assert_eq!(tokens_of(&receiver).0.len(), 17);
    }
    let statistics = server.stop();
    assert!(statistics.prefix_bytes <= one);
    assert_eq!(statistics.refused, 5 + full);
}

fn scores<B: Kernels>(device: &B::Device) {
    use smelt_backend::{int_tensor, to_host};
    use smelt_model::ForwardInput;

    let loaded = load::<B>(&Golden::open("llama_gqa_tied").folder, device).unwrap();
    let prompt: Vec<u32> = (0..30).map(|at| at * 7 % 60).collect();
    let hidden = loaded.1.hidden(ForwardInput::new(int_tensor(&prompt, [1, prompt.len()], device)));
    let logits = to_host(loaded.1.logits(hidden.clone()));
    let hidden = to_host(hidden);
    let (vocab_size, hidden_size) = (loaded.0.decoder.vocab_size, loaded.0.decoder.hidden_size);
    let options = EngineOptions { prefill_tokens: 13, ..Default::default() };
    let server = Server::start(vec![loaded], options, device);
    for _ in 0..2 {
        let options = CompletionOptions { prompt_logprobs: Some(2), max_tokens: 1, ..Default::default() };
        let (receiver, _ticket) = server.submit(0, prompt.clone(), options);
        let Ok(Event::Prompt(report)) = receiver.recv() else { panic!("the prompt comes first") };
        assert_eq!((report.tokens, report.cached_tokens, report.logprobs.len()), (30, 0, 29));
        for (row, (found, token)) in logits.chunks(vocab_size).zip(report.logprobs.iter().zip(&prompt[1..])) {
            let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
            let expected = f64::from(row[*token as usize]) - sum.ln();
            assert_eq!(found.token, *token);
            assert!((f64::from(found.logprob) - expected).abs() < 1e-4, "{found:?} {expected}");
        }

        let (sender, receiver) = channel();
        let on_event = Box::new(move |event| drop(sender.send(event)));
        let request =
            Request { model: 0, prompt: prompt.clone(), work: Work::Embed, deadline: None, on_event };
        let _ticket = server.handle.submit(request).unwrap();
        let embedding = receiver.iter().find_map(|event| match event {
            Event::Embedding(embedding) => Some(embedding),
            _ => None,
        });
        let mut mean = vec![0f64; hidden_size];
        for row in hidden.chunks(hidden_size) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value));
        }
        let length = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
        let close = |(found, mean): (&f32, &f64)| (f64::from(*found) - mean / length).abs() < 1e-5;
        assert!(embedding.unwrap().iter().zip(&mean).all(close));
    }
}

fn models<B: Kernels>(device: &B::Device) {
    let open = |name: &str| load::<B>(&Golden::open(name).folder, device).unwrap();
    // Each takes 10 bytes of 15: one at a time.
    let options = EngineOptions { weights_bytes: 15, ..Default::default() };
    let server = Server::start(vec![open("gpt2"), open("llama_gqa_tied")], options, device);
    for model in [0, 1, 1, 0, 1] {
        let options = CompletionOptions { max_tokens: 6, ..Default::default() };
        let expected = alone(&server.models[model], &(vec![4, 5], options), device);
        assert_eq!(server.ask(model, vec![4, 5], 6).0, expected);
        assert_eq!(server.handle.statistics().loaded_models, [model]);
    }
    // Both at once take turns, first come first served.
    let options = || CompletionOptions { max_tokens: 6, ..Default::default() };
    let asked: Vec<_> = (0..10).map(|index| server.submit(index % 2, vec![4, 5], options())).collect();
    for (receiver, _ticket) in asked {
        assert_eq!(tokens_of(&receiver).0.len(), 6);
    }
    server.stop();
}

fn counts<B: Kernels>(device: &B::Device) {
    let loaded = load::<B>(&Golden::open("gpt2").folder, device).unwrap();
    let server = Server::start(vec![loaded], EngineOptions::default(), device);
    // What the engine's thread has counted when it tells something.
    let counted = |max_tokens, deadline| {
        let (sender, receiver) = channel();
        let handle = server.handle.clone();
        let on_event = Box::new(move |event| drop(sender.send((event, handle.statistics()))));
        let work = Work::Complete(Box::new(CompletionOptions { max_tokens, ..Default::default() }));
        let request = Request { model: 0, prompt: vec![3; 4], work, deadline, on_event };
        let _ticket = server.handle.submit(request).unwrap();
        receiver.into_iter().collect::<Vec<_>>()
    };
    let told = counted(9, None);
    let mut tokens = 0;
    for (event, counts) in &told {
        tokens += u64::from(matches!(event, Event::Token(_)));
        assert!(counts.generated_tokens >= tokens, "{event:?}: {counts:?}");
        assert_eq!(counts.finished, u64::from(tokens == 9), "{event:?}");
    }
    assert!(matches!(told.last(), Some((Event::End(_), _))) && tokens == 9, "{told:?}");
    let [(Event::Failed(GenerateError::Deadline), counts)] = &counted(9, Some(Instant::now()))[..] else {
        panic!("its time is over");
    };
    assert_eq!(counts.failed, 1);
    server.stop();
}

/// An engine on a thread of its own.
struct Server<B: Kernels> {
    handle: EngineHandle,
    thread: std::thread::JoinHandle<()>,
    models: Vec<(ModelConfig, Decoder<B>)>,
}

impl<B: Kernels> Server<B> {
    fn start(models: Vec<(ModelConfig, Decoder<B>)>, options: EngineOptions, device: &B::Device) -> Self {
        let entry = |(config, _): &(ModelConfig, Decoder<B>)| {
            let config = Arc::new(config.clone());
            let draft = options.speculation.map(|_| config.clone());
            EngineModel { weights_bytes: 10, draft, ..EngineModel::without_text("nano", config) }
        };
        let (handle, inbox) = engine_channel(models.iter().map(entry).collect(), options);
        let decoders: Vec<Decoder<B>> = models.iter().map(|(_, decoder)| decoder.clone()).collect();
        let device = device.clone();
        let thread = std::thread::spawn(move || {
            let load = |index: usize, _: &B::Device| {
                let decoder: Decoder<B> = decoders[index].clone();
                Ok(LoadedModel { draft: Some(decoder.clone()), decoder })
            };
            Engine::new(inbox, load, device).run();
        });
        Self { handle, thread, models }
    }

    fn submit(
        &self,
        model: usize,
        prompt: Vec<u32>,
        options: CompletionOptions,
    ) -> (Receiver<Event>, Ticket) {
        let (sender, receiver) = channel();
        let work = Work::Complete(Box::new(options));
        let on_event = Box::new(move |event| drop(sender.send(event)));
        let request = Request { model, prompt, work, deadline: None, on_event };
        (receiver, self.handle.submit(request).unwrap())
    }

    fn ask(&self, model: usize, prompt: Vec<u32>, max_tokens: usize) -> Answered {
        let options = CompletionOptions { max_tokens, ..Default::default() };
        let (receiver, _ticket) = self.submit(model, prompt, options);
        tokens_of(&receiver)
    }

    fn stop(self) -> EngineStatistics {
        self.handle.shut_down();
        self.thread.join().unwrap();
        self.handle.statistics()
    }
}

type Answered = (Vec<u32>, Result<EndReport, GenerateError>);

/// All tokens of a request, and its end.
fn tokens_of(receiver: &Receiver<Event>) -> Answered {
    const PATIENCE: Duration = Duration::from_secs(120);
    let mut tokens = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE).expect("every request is answered") {
            Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Token(event) => tokens.push(event.token),
            Event::End(end) => return (tokens, Ok(end)),
            Event::Failed(error) => return (tokens, Err(error)),
        }
    }
}
