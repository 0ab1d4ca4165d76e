//! Whether a storage can be worked with: everything that the engine asks of one, once, with an object that is removed again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_sdk::{Error, ErrorKind, Key, Prefix, PutOptions};
use serde::Serialize;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::host::StorageHandle;

/// First part of the keys that checks and benchmarks use.
pub(crate) const FOLDER: &str = "deskreel-check";
/// Bytes of the object.
const SIZE: usize = 64 << 10;

/// One step.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    /// What was asked.
    pub(crate) step: &'static str,
    /// Whether the storage did it.
    pub(crate) ok: bool,
    /// How long it took.
    pub(crate) micros: u64,
    /// What is wrong, in plain words, and what the plugin said.
    pub(crate) problem: Option<String>,
}

/// Runs all steps that make sense after those before them.
pub(crate) fn check(handle: &Handle, storage: &StorageHandle) -> Vec<Step> {
    let mut run = Run {
        handle,
        steps: Vec::new(),
    };
    let bytes = Bytes::from((0..SIZE).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
    let text = format!("{FOLDER}/{}/object", Uuid::now_v7());
    let (Ok(key), Ok(prefix)) = (Key::new(text.clone()), Prefix::new(text)) else {
        return run.steps;
    };
    let options = PutOptions::default();
    if !run.reach(storage) {
        return run.steps;
    }
    let put = storage.put(&key, bytes.clone(), &options);
    if run
        .step("put", "writing objects is not allowed or does not work", put)
        .is_none()
    {
        return run.steps;
    }
    let again = storage.put(&key, bytes.clone(), &options);
    run.step(
        "put again",
        "putting the same bytes twice must be a success: deliveries are repeated",
        again,
    );
    let other = async {
        let other = Bytes::from_static(b"other bytes");
        match storage.put(&key, other, &PutOptions::default()).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(Error::new(ErrorKind::Internal, "an object was replaced by other bytes")),
        }
    };
    run.step("create only", "stored objects are not safe from being replaced", other);
    let stat = async {
        let info = storage.stat(&key).await?;
        expect(info.size == SIZE as u64, format!("the size is told as {}", info.size))
    };
    run.step(
        "stat",
        "asking for an object's size is not allowed or does not work",
        stat,
    );
    let get = async {
        let found = storage.get(&key).await?;
        expect(found == bytes, "other bytes were read than were written".to_owned())
    };
    run.step(
        "get",
        "reading objects is not allowed or does not work: recordings could not be played",
        get,
    );
    let range = async {
        let found = storage.get_range(&key, 1000..3000).await?;
        expect(
            found == bytes.slice(1000..3000),
            "other bytes were read than were asked for".to_owned(),
        )
    };
    run.step(
        "get a range",
        "reading parts of objects does not work: seeking would be slow",
        range,
    );
    let list = async {
        let listed = storage.list(&prefix).await?;
        let there = listed.iter().any(|object| object.key == key);
        expect(there, "the object is not listed after it was written".to_owned())
    };
    run.step(
        "list",
        "listing objects is not allowed or does not work: recovery, catalog sync and deletion need it",
        list,
    );
    let delete = storage.delete(&key);
    if run
        .step(
            "delete",
            "deleting objects is not allowed: retention can delete nothing here",
            delete,
        )
        .is_some()
    {
        let gone = async {
            match storage.stat(&key).await {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Err(Error::new(ErrorKind::Internal, "the object is still there")),
            }
        };
        run.step("be gone", "what was deleted is still there", gone);
    }
    run.steps
}

fn expect(holds: bool, otherwise: String) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Corrupt, otherwise))
    }
}

struct Run<'a> {
    handle: &'a Handle,
    steps: Vec<Step>,
}

impl Run<'_> {
    /// The plugin's own check; whether it makes sense to ask for more. Of a lacking right the steps tell what it means.
    fn reach(&mut self, storage: &StorageHandle) -> bool {
        let begun = Instant::now();
        let outcome = self.handle.block_on(storage.check());
        let goes_on = outcome
            .as_ref()
            .err()
            .is_none_or(|error| error.kind() == ErrorKind::PermissionDenied);
        self.done("reach", begun, outcome, "");
        goes_on
    }

    fn step(&mut self, step: &'static str, meaning: &str, work: impl Future<Output = Result<(), Error>>) -> Option<()> {
        let begun = Instant::now();
        let outcome = self.handle.block_on(work);
        let ok = outcome.is_ok();
        self.done(step, begun, outcome, &format!("{meaning}: "));
        ok.then_some(())
    }

    fn done(&mut self, step: &'static str, begun: Instant, outcome: Result<(), Error>, meaning: &str) {
        self.steps.push(Step {
            step,
            ok: outcome.is_ok(),
            micros: micros(begun.elapsed()),
            problem: outcome
                .err()
                .map(|error| format!("{meaning}{error}{}", advice(error.kind()))),
        });
    }
}

/// What to do.
fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::PermissionDenied => "; grant the account what is missing (docs/operations.md, Buckets)",
        ErrorKind::Unauthenticated => "; correct the credentials in the storage's settings",
        ErrorKind::NoSpace => "; make room, or raise the quota",
        ErrorKind::InvalidSettings => "; correct the storage's settings",
        ErrorKind::Timeout | ErrorKind::Unavailable => {
            "; look whether its server runs or its disk is mounted, and at address and network"
        }
        ErrorKind::RateLimited => "; the service limits requests: try later, or set storages[].puts_per_second_max",
        ErrorKind::Corrupt => "; don't record to it before that is understood",
        _ => "",
    }
}

/// Microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
