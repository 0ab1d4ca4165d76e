#![expect(clippy::unwrap_used, reason = "tests")]

mod bed;
mod moving;
mod purging;
mod syncing;
