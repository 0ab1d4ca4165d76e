//! deskreel-rdp
