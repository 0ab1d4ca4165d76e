//! deskreel-policy
