//! Streams a text from a model folder.
//!
//! `cargo run --release --example generate -- runs/nano '#!/usr/bin/env bash'`

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::io::{self, Write as _};
use std::ops::ControlFlow;

use smelt_cli::config::BackendSection;
use smelt_cli::{Generation, SamplingOptions, TextRequest, select_backend};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let request = TextRequest {
        model: args.next().ok_or("usage: generate FOLDER [PROMPT]")?.into(),
        prompt: args.next(),
        max_tokens: 100,
        sampling: SamplingOptions {
            temperature: 0.8,
            top_p: Some(0.95),
            seed: 1,
            ..SamplingOptions::default()
        },
        ..TextRequest::default()
    };
    let generation = Generation::prepare(&request)?;
    let backend = select_backend(&BackendSection::default(), Some(generation.required_bytes()))?;
    let report = generation.run(backend.name, &mut |text| {
        print!("{text}");
        match io::stdout().flush() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    println!("\n{:.0} tokens/s on {}", report.generation_tokens_per_second, backend.name);
    Ok(())
}
