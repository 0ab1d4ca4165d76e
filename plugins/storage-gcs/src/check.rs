//! A round trip with a small object, which finds every missing permission at once.

use std::time::SystemTime;

use deskreel_sdk::prelude::*;

use crate::client::Bucket;
use crate::error::{Action, Failure};

/// What the names of these objects start with.
const NAME: &str = "deskreel-check";
const TEXT: &[u8] = b"deskreel";

/// See [`Storage::check`].
pub(crate) async fn check(bucket: &Bucket) -> Result<()> {
    let place = format!("bucket `{}`", bucket.name);
    let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    let name = bucket.object(format!("{NAME}-{}-{nanos:x}", std::process::id()));
    let mut denied = Vec::new();
    let mut tolerate = |outcome: Result<(), Failure>, action: Action| match outcome {
        Ok(()) => Ok(true),
        // Noted, so that the next ones are found too.
        Err(failure) if failure.is_denied() => {
            denied.push(action.permission());
            Ok(false)
        }
        Err(failure) => Err(failure.into_error(bucket, action)),
    };
    let written = tolerate(write(bucket, &name).await, Action::Create).context(&place)?;
    let looked = if written {
        tolerate(read(bucket, &name).await, Action::Get).map(drop)
    } else {
        Ok(())
    };
    let listed = tolerate(bucket.json.list(&name, None, None, 1).await.map(drop), Action::List).map(drop);
    let removed = if written {
        tolerate(bucket.json.delete(&name).await, Action::Delete).map(drop)
    } else {
        Ok(())
    };
    looked.and(listed).and(removed).context(&place)?;
    if denied.is_empty() {
        return Ok(());
    }
    let text = format!("{place}: these permissions are missing: {}", denied.join(", "));
    Err(Error::new(ErrorKind::PermissionDenied, text))
}

async fn write(bucket: &Bucket, name: &str) -> Result<(), Failure> {
    let request = bucket
        .library
        .write_object(bucket.path(), name, Bytes::from_static(TEXT))
        .set_if_generation_match(0)
        .with_known_crc32c(crc32c::crc32c(TEXT));
    bucket.within(0, Box::pin(request.send_unbuffered())).await.map(drop)
}

async fn read(bucket: &Bucket, name: &str) -> Result<(), Failure> {
    let request = bucket.library.read_object(bucket.path(), name);
    let whole = async {
        let mut answer = Box::pin(request.send()).await?;
        let mut bytes = Vec::new();
        while let Some(part) = answer.next().await {
            bytes.extend_from_slice(&part?);
        }
        Ok::<_, Failure>(bytes)
    };
    let bytes = match bucket.within(0, Box::pin(whole)).await {
        Err(failure) if failure.is_bare() && !bucket.is_google => {
            bucket.json.media(name, 0..TEXT.len() as u64).await?.to_vec()
        }
        read => read?,
    };
    if bytes == TEXT {
        return Ok(());
    }
    let text = "what was written comes back changed";
    Err(Failure::silence(Error::new(ErrorKind::Corrupt, text)))
}
