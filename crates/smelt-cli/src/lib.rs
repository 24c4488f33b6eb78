//! The command line of smelt: train, generate and inspect transformer language models on any backend.
