//! The steps between which a kill may come, and of some objects when they took them. Tests kill the process at each of them, and
//! measure; elsewhere they are nothing.

use super::delivery::ObjectId;

/// A step is reached.
#[cfg(not(test))]
pub(super) fn reached(_: &str) {}

/// An object has reached a step.
#[cfg(not(test))]
pub(super) fn taken(_: &str, _: ObjectId) {}

/// An object has reached a step, which is noted if anybody asked for that.
#[cfg(test)]
pub(super) fn taken(step: &'static str, id: ObjectId) {
    let mut noted = NOTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(noted) = noted.as_mut() {
        noted.push((step, id, std::time::Instant::now()));
    }
}

/// A step, what took it, and when.
#[cfg(test)]
pub(super) type Noted = (&'static str, ObjectId, std::time::Instant);

#[cfg(test)]
static NOTED: std::sync::Mutex<Option<Vec<Noted>>> = std::sync::Mutex::new(None);

/// What was noted since the last call; from the first call on everything is.
#[cfg(test)]
pub(super) fn noted() -> Vec<Noted> {
    let mut noted = NOTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    noted.replace(Vec::new()).unwrap_or_default()
}

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
