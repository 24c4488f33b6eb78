//! Test support of smelt: golden fixtures and the table of tolerances.
