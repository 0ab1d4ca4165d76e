//! What the keys of a storage mean, and a walk over a storage recording by recording.

use std::collections::BTreeMap;

use deskreel_sdk::{Key, ObjectInfo, Prefix};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::catalog::Object;
use crate::host::StorageHandle;

/// What an object of a recording is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// A segment.
    Segment(u32),
    /// What an exporter made, or anything else below the recording's prefix.
    Other(String),
    /// Nobody may delete the recording.
    Hold,
    /// The manifest; sorts last, as it is written last.
    Manifest,
}

impl Name {
    /// As the catalog lists it; `None`: it lists no such objects.
    pub(crate) fn listed(&self) -> Option<Object> {
        match self {
            Self::Segment(number) => Some(Object::Segment(*number)),
            Self::Manifest => Some(Object::Manifest),
            Self::Hold | Self::Other(_) => None,
        }
    }
}

/// The recording that a key belongs to, and what of it; `None`: no recording's.
pub(crate) fn parse(key: &str) -> Option<(Uuid, Name)> {
    let (id, name) = key.split_once('/')?;
    // Only the one spelling that keys are written in.
    let recording = id.parse::<Uuid>().ok().filter(|parsed| parsed.to_string() == id)?;
    let segment = name
        .strip_suffix(".mcap")
        .filter(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok());
    let name = match (name, segment) {
        (_, Some(number)) => Name::Segment(number),
        ("manifest.json", _) => Name::Manifest,
        (super::hold::NAME, _) => Name::Hold,
        (other, None) => Name::Other(other.to_owned()),
    };
    Some((recording, name))
}

/// The objects of one recording at a storage.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// The recording.
    pub(crate) recording: Uuid,
    /// Its objects, the manifest last.
    pub(crate) objects: BTreeMap<Name, ObjectInfo>,
}

impl Group {
    /// Those that the catalog lists.
    pub(crate) fn listed(&self) -> Vec<Object> {
        self.objects.keys().filter_map(Name::listed).collect()
    }

    /// When the youngest of them was stored, in milliseconds since 1970, if the storage knows.
    pub(crate) fn youngest_ms(&self) -> Option<u64> {
        self.objects.values().filter_map(|object| object.modified_unix_ms).max()
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.objects.values().map(|object| object.size).sum()
    }
}

/// What a walk comes across.
#[derive(Debug)]
pub(crate) enum Met {
    /// All objects of a recording.
    Recording(Group),
    /// An object that belongs to none.
    Stranger(ObjectInfo),
}

/// Walks over a storage in the order of keys, one page in memory at a time, from behind `after` on. `meet` says whether to go
/// on.
///
/// # Errors
/// What the storage says when a page can't be listed, and what `meet` says.
pub(crate) fn walk(
    handle: &Handle,
    storage: &StorageHandle,
    after: Option<Key>,
    mut meet: impl FnMut(Met) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut after = after;
    let mut group: Option<Group> = None;
    loop {
        let page = handle.block_on(storage.list_page(&Prefix::all(), after.as_ref()))?;
        after = page.objects.last().map(|object| object.key.clone()).or(after);
        for object in page.objects {
            let Some((recording, name)) = parse(object.key.as_str()) else {
                if !meet(Met::Stranger(object))? {
                    return Ok(());
                }
                continue;
            };
            // Keys come in order, so all of a recording's come together.
            if let Some(done) = group.take_if(|group| group.recording != recording)
                && !meet(Met::Recording(done))?
            {
                return Ok(());
            }
            let group = group.get_or_insert_with(|| Group {
                recording,
                objects: BTreeMap::new(),
            });
            group.objects.insert(name, object);
        }
        if !page.more {
            break;
        }
    }
    if let Some(done) = group {
        meet(Met::Recording(done))?;
    }
    Ok(())
}

/// The objects of one recording at a storage.
///
/// # Errors
/// What the storage says.
pub(crate) fn of_recording(handle: &Handle, storage: &StorageHandle, recording: Uuid) -> anyhow::Result<Group> {
    let prefix = Prefix::new(format!("{recording}/"))?;
    let listed = handle.block_on(storage.list(&prefix))?;
    let objects = listed.into_iter().filter_map(|object| {
        let (_, name) = parse(object.key.as_str())?;
        Some((name, object))
    });
    Ok(Group {
        recording,
        objects: objects.collect(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn keys_say_what_they_are() {
        let id = "01902b6e-7c3a-7000-8000-000000000001";
        let name = |name: &str| parse(&format!("{id}/{name}")).map(|(_, name)| name);
        assert_eq!(name("00000012.mcap"), Some(Name::Segment(12)));
        assert_eq!(name("manifest.json"), Some(Name::Manifest));
        assert_eq!(name("hold.json"), Some(Name::Hold));
        for other in ["exports/a.mp4", "12.mcap", "0000001x.mcap"] {
            assert_eq!(name(other), Some(Name::Other(other.to_owned())));
        }
        for stranger in [
            "",
            "a",
            "deskreel-check/x",
            "01902B6E-7C3A-7000-8000-000000000001/manifest.json",
        ] {
            assert_eq!(parse(stranger), None, "{stranger}");
        }
        let mut names = [
            Name::Manifest,
            Name::Hold,
            Name::Other("exports/a".into()),
            Name::Segment(9),
        ];
        names.sort();
        assert_eq!(names.last().unwrap(), &Name::Manifest);
    }
}
