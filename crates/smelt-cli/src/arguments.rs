//! The command line as types: one struct per command, one enum over them.
//!
//! Each command's arguments stand beside the command, under `commands`.

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::{
    BackendsArgs, BenchArgs, ChatArgs, CompletionsArgs, ConvertArgs, DataArgs, DoctorArgs, EstimateArgs,
    FuseArgs, GenerateArgs, InfoArgs, LogitsArgs, ReportArgs, ServeArgs, TokenizerArgs, TrainArgs,
    VerifyArgs,
};

const EXAMPLES: &str = "\
Examples:
  smelt train                                   the quick start: a small model in about two minutes
  smelt train --data /usr/share/doc             train on your own text
  smelt generate --model runs/quickstart --prompt '#!/usr/bin/env bash'
  smelt backends                                what this machine can compute on";

/// Trains, runs and inspects transformer language models on whatever accelerator the machine has.
#[derive(Debug, Parser)]
#[command(name = "smelt", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalOptions {
    /// Where to compute; `auto` takes the best one that works here
    #[arg(long, global = true, value_name = "NAME", value_parser = ["auto", "cpu", "ndarray", "candle", "metal", "wgpu", "cuda"], hide_possible_values = false)]
    pub backend: Option<String>,
    /// CPU threads [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Results as JSON lines on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// No notes, no progress
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Ask no hub: what was downloaded before has to do
    #[arg(long, global = true)]
    pub offline: bool,
    /// More about what happens; twice for details
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model; without arguments, the quick start
    Train(Box<TrainArgs>),
    /// Download or prepare what to train on, and look into what was prepared
    Data(DataArgs),
    /// Complete a prompt, a file of prompts, or what is typed
    Generate(Box<GenerateArgs>),
    /// Talk with a model
    Chat(Box<ChatArgs>),
    /// Serve models over HTTP as OpenAI does, with a page to chat on
    Serve(Box<ServeArgs>),
    /// Learn a tokenizer; turn text into token ids and back
    Tokenizer(TokenizerArgs),
    /// Write a model or an adapter in another format
    Convert(ConvertArgs),
    /// Make an adapter part of its base
    Fuse(FuseArgs),
    /// Check a model against reference outputs
    Verify(VerifyArgs),
    /// Write a model's logits to a file
    Logits(LogitsArgs),
    /// Write a page about a run, or about several side by side
    Report(ReportArgs),
    /// Estimate the memory that a config needs
    Estimate(Box<EstimateArgs>),
    /// List the backends: in this build, on this machine, working
    Backends(BackendsArgs),
    /// Describe a model folder
    Info(InfoArgs),
    /// Measure training, decoding, matmul and memory
    Bench(BenchArgs),
    /// One page to paste into a bug report
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

impl Command {
    /// Whether what it does is to be told line by line, as servers do.
    pub fn logs(&self) -> bool {
        matches!(self, Self::Serve(_))
    }

    /// Whether the time that it takes is to be measured.
    pub fn is_profiled(&self) -> bool {
        matches!(self, Self::Train(args) if args.profile)
    }
}
