//! Room: the spool's limits and the disks below it.

use std::path::Path;

use deskreel_config::Config;

use super::Report;

/// Share of `spool.max_bytes` above which an operator is warned, in percent.
const SPOOL_WARN_PERCENT: u64 = 80;
/// Folders inside each other that are added up.
const DEPTH_MAX: usize = 8;

/// Looks at spool and disks.
pub(super) fn examine(config: &Config, report: &mut Report) {
    let spool = &config.spool;
    let used = bytes_in(&spool.path, DEPTH_MAX);
    let path = spool.path.display();
    let most = spool.max_bytes;
    let remedy =
        "see `deskreel recordings ls` for what is not delivered, and the storages below; or raise spool.max_bytes";
    if used >= most {
        report.error(
            "spool",
            format!("{path} is full: {used} of {most} bytes (spool.max_bytes)"),
            remedy,
        );
    } else if used >= most / 100 * SPOOL_WARN_PERCENT {
        report.warn(
            "spool",
            format!("{path} fills up: {used} of {most} bytes (spool.max_bytes)"),
            remedy,
        );
    } else {
        report.ok("spool", format!("{path}: {used} of {most} bytes are used"));
    }
    let mut seen = Vec::new();
    for (key, folder) in [("spool.path", &spool.path), ("data_dir", &config.data_dir)] {
        // one that is not there yet will be made on the disk of the folder above it
        let Some(there) = folder.ancestors().find(|folder| folder.exists()) else {
            continue;
        };
        disk(key, there, spool.min_free_bytes, &mut seen, report);
    }
}

fn disk(key: &str, folder: &Path, least: u64, seen: &mut Vec<u64>, report: &mut Report) {
    let disk = match rustix::fs::statvfs(folder) {
        Ok(disk) => disk,
        Err(error) => {
            return report.error(
                "disk",
                format!("{key} {}: {error}", folder.display()),
                "make the folder readable to the gateway's account",
            );
        }
    };
    if seen.contains(&disk.f_fsid) {
        return;
    }
    seen.push(disk.f_fsid);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let here = folder.display();
    if free < least {
        report.error(
            "disk",
            format!(
                "{key} {here}: {free} bytes are free, fewer than spool.min_free_bytes ({least}): sessions are refused"
            ),
            "free some space on that disk, or lower spool.min_free_bytes",
        );
    } else if free < least.saturating_mul(2) {
        report.warn(
            "disk",
            format!("{key} {here}: {free} bytes are free; below {least} (spool.min_free_bytes) sessions are refused"),
            "free some space on that disk",
        );
    } else {
        report.ok("disk", format!("{key} {here}: {free} bytes are free"));
    }
    if disk.f_files > 0 && disk.f_favail == 0 {
        report.error(
            "disk",
            format!("{key} {here}: no inodes are left"),
            "remove files from that disk",
        );
    }
}

/// Bytes of all files below a folder; what can't be read counts for nothing.
fn bytes_in(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && depth > 0 => bytes_in(&entry.path(), depth - 1),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    };
    entries.filter_map(Result::ok).map(bytes).sum()
}
