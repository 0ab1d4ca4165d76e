//! deskreel-sdk
