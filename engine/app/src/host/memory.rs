//! The memory that the engine and its plugins share.
#![expect(unsafe_code, reason = "no safe binding of mallopt is among the dependencies")]

#[cfg(target_env = "gnu")]
use std::ffi::c_int;

/// From this size on, what is freed goes back to the system at once.
#[cfg(target_env = "gnu")]
const RETURNED_FROM_BYTES: c_int = 1 << 20;
/// What the end of a heap may keep: what a relay reads into is freed by a recorder, a few MiB at once, and soon needed again.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: c_int = 4 << 20;
/// `M_TRIM_THRESHOLD` of glibc's malloc.h.
#[cfg(target_env = "gnu")]
const M_TRIM_THRESHOLD: c_int = -1;
/// `M_MMAP_THRESHOLD` of the same.
#[cfg(target_env = "gnu")]
const M_MMAP_THRESHOLD: c_int = -3;

/// Lets go of large buffers when they are freed. glibc by itself soon keeps them, in a heap for each thread that ever read a
/// segment: 64 MiB of segments under way then stay 110 and more. Of small ones it keeps more than it would: a page that comes
/// back from the system costs as much as decrypting what is read into it.
#[cfg(target_env = "gnu")]
pub(crate) fn return_large_buffers() {
    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
    for (parameter, value) in [(M_MMAP_THRESHOLD, RETURNED_FROM_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES)] {
        // SAFETY: glibc's own function, which may be called at any time and takes any numbers.
        unsafe { mallopt(parameter, value) };
    }
}

/// Other allocators do as they do.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn return_large_buffers() {}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    fn resident_mb() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// Set in the process that measures, which does nothing else.
    const ALONE: &str = "DESKREEL_TEST_MEMORY_ALONE";

    /// Segments of many sizes, and a little that stays between them. In a process of its own: other tests of this one would
    /// take and free memory meanwhile.
    #[test]
    fn freed_segments_go_back() {
        if std::env::var_os(ALONE).is_some() {
            return measure();
        }
        let (_, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::freed_segments_go_back");
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{name}: {said}");
    }

    fn measure() {
        super::return_large_buffers();
        // From now on glibc by itself would keep what is smaller.
        drop(std::hint::black_box(vec![1_u8; 9 << 20]));
        let before = resident_mb();
        let (mut segments, mut kept) = (Vec::new(), Vec::new());
        for number in 1..=64_u8 {
            segments.push(std::hint::black_box(vec![number; 8 << 20]));
            kept.push(vec![number; 1000]);
        }
        let full = resident_mb();
        drop(segments);
        let after = resident_mb();
        assert!(kept.len() == 64 && full > before + 400, "{before} MB, then {full} MB");
        assert!(after < before + 100, "{before} MB, {full} MB, then {after} MB");
    }
}
