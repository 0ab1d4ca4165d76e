//! Listing in the order of the keys' bytes, whatever order the server has.
//!
//! Amazon lists by bytes. Servers that keep keys as folders list `a/b` before `a-b`, although `-` sorts before `/`. Most pages are
//! right all the same; those that may not be are put together from a walk through all keys of the prefix.

use std::collections::BTreeMap;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use deskreel_sdk::prelude::*;

use crate::client::Bucket;
use crate::error::{Action, Failure};

/// Keys of one page; S3 gives no more.
const PAGE_KEYS: usize = 1000;
/// What sorts before a slash and may be in a key.
const BEFORE_SLASH: [char; 2] = ['-', '.'];

/// See [`Storage::list`].
pub(crate) async fn page(bucket: &Bucket, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
    let found = from(bucket, prefix, after).await?;
    if bucket.byte_order.get().is_none() && Box::pin(may_be_out_of_order(bucket, prefix, after, &found)).await? {
        return walk(bucket, prefix, after).await;
    }
    Ok(Page::new(found.objects, found.more))
}

/// Some keys in the server's order.
struct Found {
    objects: Vec<ObjectInfo>,
    more: bool,
}

/// The keys that follow `after` in the server's order; empty only where there are none.
async fn from(bucket: &Bucket, prefix: &Prefix, after: Option<&Key>) -> Result<Found> {
    let mut objects = Vec::new();
    let mut token = None;
    loop {
        let answer = ask(bucket, prefix.as_str(), after, token, PAGE_KEYS).await?;
        token = next(&answer);
        objects.extend(of(bucket, &answer));
        if token.is_none() || !objects.is_empty() {
            break;
        }
    }
    Ok(Found {
        objects,
        more: token.is_some(),
    })
}

async fn ask(
    bucket: &Bucket,
    prefix: &str,
    after: Option<&Key>,
    token: Option<String>,
    keys: usize,
) -> Result<ListObjectsV2Output> {
    bucket
        .client
        .list_objects_v2()
        .bucket(&bucket.name)
        .prefix(bucket.object(prefix))
        .set_start_after(after.map(|after| bucket.object(after)))
        .set_continuation_token(token)
        .max_keys(i32::try_from(keys).unwrap_or(i32::MAX))
        .send()
        .await
        .map_err(|error| Failure::from(error).into_error(bucket, Action::List))
}

fn next(answer: &ListObjectsV2Output) -> Option<String> {
    let more = answer.is_truncated().unwrap_or(false);
    answer.next_continuation_token().filter(|_| more).map(str::to_owned)
}

/// The objects that have a key. Others aren't ours.
fn of<'a>(bucket: &'a Bucket, answer: &'a ListObjectsV2Output) -> impl Iterator<Item = ObjectInfo> + 'a {
    answer.contents().iter().filter_map(|object| {
        let key = Key::new(object.key()?.strip_prefix(&bucket.prefix)?).ok()?;
        let mut info = ObjectInfo::new(key, u64::try_from(object.size()?).ok()?);
        info.modified_unix_ms = object
            .last_modified()
            .and_then(|at| at.to_millis().ok())
            .and_then(|ms| u64::try_from(ms).ok());
        Some(info)
    })
}

/// Whether a server with the order of folders would have put a key elsewhere than into or behind this page.
async fn may_be_out_of_order(bucket: &Bucket, prefix: &Prefix, after: Option<&Key>, found: &Found) -> Result<bool> {
    let keys = || found.objects.iter().map(|object| &object.key);
    if !keys().is_sorted() || after.is_some_and(|after| keys().any(|key| key <= after)) {
        return Ok(true);
    }
    let mut suspects = Vec::new();
    // Before the page: a folder `a/` where we are behind `a-b`.
    if let Some(after) = after {
        let after = after.as_str();
        let places = after.char_indices().filter(|(_, c)| BEFORE_SLASH.contains(c));
        suspects.extend(places.map(|(place, _)| format!("{}/", &after[..place])));
        // Or the folder `a/` where we are behind `a`: such servers take it for a part of that.
        let within = format!("{after}/");
        if !keys().next().is_some_and(|first| first.as_str().starts_with(&within)) {
            suspects.push(within);
        }
    }
    // Behind the page: `a-b` where it ends within a folder `a/`.
    if found.more
        && let Some(last) = keys().next_back()
    {
        for (place, _) in last.as_str().match_indices('/') {
            suspects.extend(BEFORE_SLASH.map(|c| format!("{}{c}", &last.as_str()[..place])));
        }
    }
    for suspect in suspects {
        // Outside of what is listed nobody minds; an empty part or one of dots is no key's.
        if !suspect.starts_with(prefix.as_str()) || Prefix::new(suspect.as_str()).is_err() {
            continue;
        }
        if !ask(bucket, &suspect, None, None, 1).await?.contents().is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first keys after `after` of all that there are, whatever order they come in.
async fn walk(bucket: &Bucket, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
    let mut first: BTreeMap<Key, ObjectInfo> = BTreeMap::new();
    let mut more = false;
    let mut token = None;
    loop {
        let answer = ask(bucket, prefix.as_str(), None, token, PAGE_KEYS).await?;
        for object in of(bucket, &answer).filter(|object| after.is_none_or(|after| object.key > *after)) {
            first.insert(object.key.clone(), object);
            if first.len() > PAGE_KEYS {
                first.pop_last();
                more = true;
            }
        }
        token = next(&answer);
        if token.is_none() {
            return Ok(Page::new(first.into_values().collect(), more));
        }
    }
}
