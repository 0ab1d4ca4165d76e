//! Integration tests with real peers.
