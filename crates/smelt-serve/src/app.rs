//! What all requests share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use smelt_generate::GrammarCompiler;
use smelt_generate::engine::{EngineHandle, EngineModel};
use smelt_text::{ChatTemplate, Tokenizer};

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::options::ServeOptions;
use crate::spelling::Spelling;
use crate::tool_calls::CallFormat;

/// What the server knows of a model beyond what the engine does; in the engine's order.
#[derive(Debug, Clone)]
pub struct ServedModel {
    /// Turns text into its tokens, and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Turns conversations into prompts.
    pub template: ChatTemplate,
    /// Tokens that end an answer.
    pub stop_tokens: Vec<u32>,
    /// Name of the model that this one is an adapter of.
    pub parent: Option<String>,
    /// When its files were written, in seconds since 1970.
    pub created: u64,
}

/// The state of a server.
#[derive(Debug)]
pub struct App {
    pub handle: EngineHandle,
    pub models: Vec<ServedModel>,
    pub options: ServeOptions,
    /// Requests must call the server by an address, or `localhost`.
    pub only_own_names: bool,
    pub metrics: Metrics,
    /// By model, once somebody asked for log-probabilities.
    spellings: Vec<OnceLock<Spelling>>,
    /// By model, once somebody asked for an answer of a shape.
    compilers: Vec<OnceLock<GrammarCompiler>>,
    closing: AtomicBool,
}

pub type SharedApp = Arc<App>;

/// A model that a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// Its place in the engine's list.
    pub index: usize,
    /// What the engine knows.
    pub engine: &'a EngineModel,
    /// What the server knows.
    pub served: &'a ServedModel,
}

impl App {
    /// The state of a server that listens at `address`.
    pub fn new(
        handle: EngineHandle,
        models: Vec<ServedModel>,
        options: ServeOptions,
        address: SocketAddr,
    ) -> Self {
        assert_eq!(handle.models().len(), models.len(), "the engine and the server have the same models");
        let metrics = Metrics::new(handle.clone());
        let spellings = models.iter().map(|_| OnceLock::new()).collect();
        let compilers = models.iter().map(|_| OnceLock::new()).collect();
        let only_own_names = address.ip().is_loopback() && options.api_keys.is_empty();
        let closing = AtomicBool::new(false);
        Self { handle, models, options, only_own_names, metrics, spellings, compilers, closing }
    }

    /// The model called `name`; the first where none is asked for.
    ///
    /// # Errors
    /// [`ApiError::no_model`].
    pub fn model(&self, name: Option<&str>) -> Result<Model<'_>, ApiError> {
        let all = self.handle.models();
        let found = match name {
            None => Some(0),
            Some(name) => all.iter().position(|model| model.name == name),
        };
        let found = found.and_then(|index| {
            Some(Model { index, engine: all.get(index)?, served: self.models.get(index)? })
        });
        found.ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|model| model.name.as_str()).collect();
            ApiError::no_model(name.unwrap_or_default(), &names)
        })
    }

    /// How the tokens of the model `index` are spelled.
    pub fn spelling(&self, index: usize) -> &Spelling {
        self.spellings[index].get_or_init(|| Spelling::new(self.models[index].tokenizer.clone()))
    }

    /// What turns shapes into constraints of the model `index`.
    ///
    /// # Errors
    /// [`ApiError`] for a vocabulary with which no shape can be kept to.
    pub fn compiler(&self, index: usize) -> Result<&GrammarCompiler, ApiError> {
        let (place, served) = (&self.compilers[index], &self.models[index]);
        if let Some(compiler) = place.get() {
            return Ok(compiler);
        }
        let compiler = GrammarCompiler::new(&served.tokenizer, &served.stop_tokens)?;
        // Of two that were made at the same time, one is enough.
        Ok(place.get_or_init(|| compiler))
    }

    /// Takes no more requests.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

impl Model<'_> {
    /// Checks that `prompt`, which came in the field `param`, fits the context and the vocabulary.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn check(&self, prompt: &[u32], param: &str) -> Result<(), ApiError> {
        let context = self.engine.context_length();
        if prompt.is_empty() {
            return Err(ApiError::invalid(param, format!("`{param}` has no tokens")));
        }
        if prompt.len() >= context {
            return Err(ApiError::too_long(param, prompt.len(), context));
        }
        let known = self.engine.config.decoder.check_token_ids(prompt);
        known.map_err(|error| ApiError::invalid(param, format!("`{param}`: {error}")))
    }

    /// How the model writes tool calls, if its template knows tools at all.
    pub fn call_format(&self) -> Option<CallFormat> {
        CallFormat::of_template(self.served.template.source())
    }
}
