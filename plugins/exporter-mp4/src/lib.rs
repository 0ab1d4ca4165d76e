//! deskreel_exporter_mp4
