//! A round trip with a small object, which finds every missing permission at once.

use std::time::SystemTime;

use aws_sdk_s3::primitives::ByteStream;
use deskreel_sdk::prelude::*;
use deskreel_sdk::tracing;

use crate::client::Bucket;
use crate::error::{Action, Failure};
use crate::read::facts;
use crate::settings::CreateOnly;

/// What the names of these objects start with.
const NAME: &str = "deskreel-check";
const TEXT: &[u8] = b"deskreel";

/// See [`Storage::check`].
pub(crate) async fn check(bucket: &Bucket) -> Result<()> {
    let place = format!("bucket `{}`", bucket.name);
    let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    let key = Key::new(format!("{NAME}-{}-{nanos:x}", std::process::id()))?;
    let mut trip = Trip {
        bucket,
        name: bucket.object(&key),
        denied: Vec::new(),
    };
    let written = trip.write().await.context(&place)?;
    let mut outcome = trip.look(&key, written).await;
    if outcome.is_ok() {
        outcome = trip.lock().await;
    }
    let removed = if written { trip.remove().await } else { Ok(()) };
    outcome.and(removed).context(&place)?;
    if trip.denied.is_empty() {
        return Ok(());
    }
    let text = format!("{place}: these permissions are missing: {}", trip.denied.join(", "));
    Err(Error::new(ErrorKind::PermissionDenied, text))
}

struct Trip<'a> {
    bucket: &'a Bucket,
    name: String,
    denied: Vec<&'static str>,
}

impl Trip<'_> {
    /// Whether an object was written.
    async fn write(&mut self) -> Result<bool> {
        let conditional = self.bucket.create_only != CreateOnly::CheckFirst;
        if let Err(failure) = self.put(conditional).await {
            let failure = if failure.is_not_implemented() && conditional && self.bucket.create_only == CreateOnly::Auto
            {
                match self.put(false).await {
                    Ok(()) => {
                        self.bucket.learn_conditions(false);
                        return Ok(true);
                    }
                    // Refused all the same: it was not for the condition.
                    Err(failure) => failure,
                }
            } else {
                failure
            };
            return self.tolerate(failure, Action::Put).map(|()| false);
        }
        if !conditional {
            return Ok(true);
        }
        match self.put(true).await {
            Ok(()) if self.bucket.create_only == CreateOnly::IfNoneMatch => {
                // What was written is removed all the same.
                self.remove().await?;
                let text = "create_only: the server ignores If-None-Match: choose `auto` or `check_first`";
                Err(Error::invalid_settings(text))
            }
            Ok(()) => {
                self.bucket.learn_conditions(false);
                Ok(true)
            }
            Err(failure) => {
                if failure.is_conflict() {
                    self.bucket.learn_conditions(true);
                }
                Ok(true)
            }
        }
    }

    async fn put(&self, conditional: bool) -> Result<(), Failure> {
        let request = self
            .bucket
            .client
            .put_object()
            .bucket(&self.bucket.name)
            .key(&self.name);
        let request = request
            .body(ByteStream::from_static(TEXT))
            .set_if_none_match(conditional.then(|| "*".to_owned()));
        request.send().await?;
        Ok(())
    }

    async fn look(&mut self, key: &Key, written: bool) -> Result<()> {
        if written {
            match self
                .bucket
                .client
                .get_object()
                .bucket(&self.bucket.name)
                .key(&self.name)
                .send()
                .await
                .map_err(Failure::from)
            {
                Ok(answer) => {
                    let bytes = answer
                        .body
                        .collect()
                        .await
                        .map_err(|error| crate::error::broken_body(&error))?;
                    if bytes.into_bytes() != TEXT {
                        return Err(Error::new(ErrorKind::Corrupt, "what was written comes back changed"));
                    }
                }
                Err(failure) => self.tolerate(failure, Action::Get)?,
            }
        }
        let list = self
            .bucket
            .client
            .list_objects_v2()
            .bucket(&self.bucket.name)
            .prefix(&self.name)
            .send()
            .await;
        match list.map_err(Failure::from) {
            Ok(answer) if written && answer.contents().is_empty() => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{key} was written and is not listed"),
            )),
            Ok(_) => Ok(()),
            Err(failure) => self.tolerate(failure, Action::List),
        }
    }

    /// Whether the bucket can keep what the settings want it to keep. Who may not ask, or asks a server that can't tell, finds out
    /// with the first object that is retained.
    async fn lock(&self) -> Result<()> {
        if self.bucket.object_lock.is_none() {
            return Ok(());
        }
        let asked = self
            .bucket
            .client
            .get_object_lock_configuration()
            .bucket(&self.bucket.name);
        let without = |failure: &Failure| failure.is_without_lock();
        if asked
            .send()
            .await
            .map_err(Failure::from)
            .is_err_and(|failure| without(&failure))
        {
            let text = "object_lock: the bucket has no object lock; it is switched on when a bucket is made";
            return Err(Error::invalid_settings(text));
        }
        Ok(())
    }

    async fn remove(&mut self) -> Result<()> {
        let mut version = None;
        if self.bucket.object_lock.is_some() {
            version = facts(self.bucket, &self.name)
                .await
                .ok()
                .and_then(|facts| facts.version);
        }
        let delete = || {
            self.bucket
                .client
                .delete_object()
                .bucket(&self.bucket.name)
                .key(&self.name)
        };
        if version.is_some() {
            match delete().set_version_id(version).send().await {
                Ok(_) => return Ok(()),
                // The bucket locks everything by default: then it is hidden, which is all that can be done.
                Err(error) => {
                    tracing::debug!(error = ?Failure::from(error), "the object of the check stays as a hidden version");
                }
            }
        }
        match delete().send().await.map_err(Failure::from) {
            Err(failure) if !failure.is_missing() => self.tolerate(failure, Action::Delete),
            _ => Ok(()),
        }
    }

    /// A denial is noted, so that the next ones are found too.
    fn tolerate(&mut self, failure: Failure, action: Action) -> Result<()> {
        if failure.is_denied() {
            self.denied.push(action.permission());
            return Ok(());
        }
        Err(failure.into_error(self.bucket, action))
    }
}
