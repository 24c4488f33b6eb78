//! Data of smelt: from files to token shards to batches, on the host alone.
