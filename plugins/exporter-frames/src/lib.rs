//! deskreel_exporter_frames
