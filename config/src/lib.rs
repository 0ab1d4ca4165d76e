//! deskreel-config
