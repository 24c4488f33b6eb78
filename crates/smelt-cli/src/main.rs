//! The binary `smelt`.
fn main() {}
