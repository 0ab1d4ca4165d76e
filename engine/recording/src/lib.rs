//! deskreel-recording
