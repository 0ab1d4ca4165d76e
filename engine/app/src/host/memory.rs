//! The memory that the engine and its plugins share.
#![expect(unsafe_code, reason = "no safe binding of mallopt is among the dependencies")]

#[cfg(target_env = "gnu")]
use std::ffi::c_int;

/// From this size on, what is freed goes back to the system at once.
#[cfg(target_env = "gnu")]
const RETURNED_FROM_BYTES: c_int = 1 << 20;
/// `M_MMAP_THRESHOLD` of glibc's malloc.h.
#[cfg(target_env = "gnu")]
const M_MMAP_THRESHOLD: c_int = -3;

/// Lets go of large buffers when they are freed. glibc by itself soon keeps them, in a heap for each thread that ever read a
/// segment: 64 MiB of segments under way then stay 110 and more.
#[cfg(target_env = "gnu")]
pub(crate) fn return_large_buffers() {
    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
    // SAFETY: glibc's own function, which may be called at any time and takes any numbers.
    unsafe { mallopt(M_MMAP_THRESHOLD, RETURNED_FROM_BYTES) };
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

    /// Segments of many sizes, and a little that stays between them.
    #[test]
    fn freed_segments_go_back() {
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
        // Other tests run at the same time.
        assert!(after < before + 200, "{before} MB, {full} MB, then {after} MB");
    }
}
