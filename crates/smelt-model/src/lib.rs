//! Models of smelt: configurations, building blocks, families, and weights in and out.
