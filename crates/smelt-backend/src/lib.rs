//! Backends of smelt: detection, selection, dispatch, and the fused kernels that decide speed.
