//! Storage plugin `s3`.
