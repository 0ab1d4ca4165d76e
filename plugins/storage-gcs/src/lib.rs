//! Storage plugin `gcs`.
