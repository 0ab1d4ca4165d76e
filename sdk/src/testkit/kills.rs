//! Puts of a process that is killed: what they leave is whole or not there.
//!
//! One process runs [`put_until_killed`], another kills it, a third runs [`look`]: `deskreel plugins check` does.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::storage::bytes;
use crate::testkit::{Check, Subject};
use crate::{ErrorKind, Key, PutOptions};

/// The check that these functions make.
pub const CHECK: Check = Check {
    name: "killed_puts",
    about: "a put whose process is killed leaves an object whole or not at all",
};

/// Objects that are put, over and over.
const OBJECTS: u8 = 16;
/// Size of each, should the profile allow it.
const BYTES: u64 = 1_000_000;

fn object(subject: &impl Subject, n: u8) -> (Key, Bytes) {
    let size = subject.max_object_bytes().map_or(BYTES, |limit| limit.min(BYTES));
    let key = Key::new(format!("killed/{n}")).expect("a key of the test kit");
    (key, bytes(n, usize::try_from(size).unwrap_or(usize::MAX)))
}

/// Puts and deletes objects, four at a time, and never ends. `begun` is called before the first put.
///
/// # Panics
/// When a put or a deletion fails.
pub async fn put_until_killed<S: Subject>(subject: Arc<S>, begun: impl FnOnce()) {
    begun();
    let mut tasks = JoinSet::new();
    for lane in 0..4 {
        let subject = Arc::clone(&subject);
        tasks.spawn(async move {
            loop {
                for n in (lane..OBJECTS).step_by(4) {
                    let (key, bytes) = object(&*subject, n);
                    subject.put(&key, bytes, &PutOptions::default()).await.expect("put");
                }
                for n in (lane..OBJECTS).step_by(4) {
                    subject.delete(&object(&*subject, n).0).await.expect("delete");
                }
            }
        });
    }
    tasks.join_all().await;
}

/// Looks at what is left, and puts all of it anew.
///
/// # Panics
/// When an object is there in part, is listed otherwise than it is, or can't be put again.
pub async fn look<S: Subject>(subject: Arc<S>) {
    for n in 0..OBJECTS {
        let (key, bytes) = object(&*subject, n);
        match subject.get(&key, 0..u64::MAX).await {
            Ok(there) => assert!(
                there == bytes,
                "after a kill `{key}` is there with {} bytes, which are not the {} that were put",
                there.len(),
                bytes.len()
            ),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "get of `{key}`: {error}"),
        }
        if let Err(error) = subject.put(&key, bytes, &PutOptions::default()).await {
            panic!("after a kill `{key}` can't be put again: {error}");
        }
    }
    super::storage::sweep(&*subject).await.expect("delete");
}
