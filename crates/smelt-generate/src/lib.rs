//! Generation of smelt: samplers and the decode loop.
