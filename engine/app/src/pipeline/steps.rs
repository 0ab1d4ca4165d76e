//! The steps between which a kill may come. Tests kill the process at each of them; elsewhere they are nothing.

/// A step is reached.
#[cfg(not(test))]
pub(super) fn reached(_: &str) {}

/// A step is reached: the process ends here if `DESKREEL_KILL_AT` says `<step>#<how many times>`.
#[cfg(test)]
pub(super) fn reached(step: &str) {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, PoisonError};

    static KILL_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("DESKREEL_KILL_AT").ok());
    static COUNTS: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);
    let Some(wanted) = KILL_AT.as_deref() else { return };
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(step.to_owned()).or_default();
    *count += 1;
    if wanted == format!("{step}#{count}") {
        println!("\nkilled");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // It takes effect at once, and if not, this thread goes no further.
        loop {
            std::thread::park();
        }
    }
}
