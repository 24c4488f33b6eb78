//! A server with a nano model of random weights, which says anything and never ends by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;
use smelt_backend::{Job, Kernels, dispatch};
use smelt_generate::engine::{
    Engine, EngineHandle, EngineModel, EngineOptions, Inbox, LoadError, LoadedModel, engine_channel,
};
use smelt_model::{Decoder, ModelConfig};
use smelt_serve::{ServeOptions, ServedModel, Server};
use smelt_text::{BpeTraining, ChatTemplate, Tokenizer, train_byte_level_bpe};

/// Tokens that the models hold.
pub const CONTEXT: usize = 1024;

/// Names of the models; the second is larger, and slow enough to be stopped.
pub const NAMES: [&str; 2] = ["nano", "other/nano"];

/// A server, its engine, and their threads.
pub struct Running {
    pub address: SocketAddr,
    pub handle: EngineHandle,
    pub tokenizer: Arc<Tokenizer>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    pub fn start() -> Self {
        Self::with(ServeOptions::default(), EngineOptions::default())
    }

    pub fn with(options: ServeOptions, engine: EngineOptions) -> Self {
        let tokenizer = Arc::new(tokenizer());
        let configs = [(32, 2), (256, 8)]
            .map(|(hidden_size, layers)| Arc::new(config(&tokenizer, hidden_size, layers)));
        let model = |(name, config): (&str, &Arc<ModelConfig>)| EngineModel {
            tokenizer: Some(tokenizer.clone()),
            ..EngineModel::without_text(name, config.clone())
        };
        let (handle, inbox) = engine_channel(NAMES.into_iter().zip(&configs).map(model).collect(), engine);
        let served = ServedModel {
            tokenizer: tokenizer.clone(),
            template: ChatTemplate::default_chat(),
            stop_tokens: tokenizer.end_of_text().into_iter().collect(),
            parent: None,
            created: 0,
        };
        let server =
            Server::bind("127.0.0.1", 0, handle.clone(), vec![served; NAMES.len()], options).unwrap();
        let (address, stop) = (server.address(), Arc::new(AtomicBool::new(false)));
        let stops = stop.clone();
        let threads = vec![
            thread::spawn(move || dispatch("cpu".parse().unwrap(), EngineJob { inbox, configs })),
            thread::spawn(move || server.run(|| stops.load(Ordering::Relaxed))),
        ];
        Self { address, handle, tokenizer, stop, threads }
    }

    /// Begins to shut down, as Ctrl-C does.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until nothing waits or runs any more.
    pub fn is_idle_within(&self, limit: Duration) -> bool {
        let started = Instant::now();
        while started.elapsed() < limit {
            let counts = self.handle.statistics();
            if counts.waiting == 0 && counts.running == 0 {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Waits for the server to end, then for the engine.
    pub fn ended(&mut self) {
        let server = self.threads.pop().unwrap();
        server.join().unwrap();
        self.handle.shut_down();
        self.threads.pop().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if !self.threads.is_empty() && !thread::panicking() {
            self.ended();
        }
    }
}

struct EngineJob {
    inbox: Inbox,
    configs: [Arc<ModelConfig>; NAMES.len()],
}

impl Job for EngineJob {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let Self { inbox, configs } = self;
        let load = |index: usize, device: &B::Device| -> Result<LoadedModel<B>, LoadError> {
            Ok(LoadedModel { decoder: Decoder::init(&configs[index], index as u64, device), draft: None })
        };
        Engine::<B, _>::new(inbox, load, device).run();
    }
}

fn tokenizer() -> Tokenizer {
    let texts = ["for file in *.txt; do echo \"$file\"; done\n", "the moon is a café <|im_start|>user\n"];
    let texts = texts.iter().map(|text| text.repeat(3));
    train_byte_level_bpe(texts, &BpeTraining { vocab_size: 320, ..BpeTraining::default() }).unwrap()
}

fn config(tokenizer: &Tokenizer, hidden_size: usize, layers: usize) -> ModelConfig {
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden_size, "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false, "initializer_range": 0.5,
        "max_position_embeddings": CONTEXT, "vocab_size": tokenizer.vocab_size(),
    });
    ModelConfig::from_json(config).unwrap()
}
