//! Real peers for the integration tests and benchmarks.
