//! Listing, in the order of the names' bytes, which is Google's.

use deskreel_sdk::prelude::*;

use crate::client::Bucket;
use crate::error::Action;

/// Keys of one page; Google gives no more.
const PAGE_KEYS: usize = 1000;

/// See [`Storage::list`].
pub(crate) async fn page(bucket: &Bucket, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
    let names = bucket.object(prefix);
    let from = after.map(|after| bucket.object(after));
    let mut token: Option<String> = None;
    let mut objects: Vec<ObjectInfo> = Vec::new();
    loop {
        let listing = bucket
            .json
            .list(&names, from.as_deref(), token.as_deref(), PAGE_KEYS)
            .await
            .map_err(|failure| failure.into_error(bucket, Action::List))?;
        for object in listing.items {
            // Others aren't ours. The start is part of what Google lists.
            let key = object
                .name
                .strip_prefix(&bucket.prefix)
                .and_then(|key| Key::new(key).ok());
            if let Some(key) = key.filter(|key| after.is_none_or(|after| key > after)) {
                let mut info = ObjectInfo::new(key, object.size());
                info.modified_unix_ms = object.modified_unix_ms();
                objects.push(info);
            }
        }
        token = listing.next_page_token.filter(|token| !token.is_empty());
        if token.is_none() || !objects.is_empty() {
            objects.sort_by(|left, right| left.key.cmp(&right.key));
            return Ok(Page::new(objects, token.is_some()));
        }
    }
}
