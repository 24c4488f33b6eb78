//! Text of smelt: tokenizers, their training, and streaming decoding.
