//! deskreel_storage_local
