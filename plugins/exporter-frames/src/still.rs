//! The format `png`: one picture.

use std::fs::File;
use std::io::Write as _;

use deskreel_sdk::prelude::*;

use crate::job::sync;
use crate::picture::{Facts, Picture, flatten};

/// One picture under way.
#[derive(Debug)]
pub struct StillJob {
    file: File,
    path: PathBuf,
    facts: Facts,
    picture: Option<Picture>,
}

impl StillJob {
    pub(crate) fn new(video: &VideoParams, output: &Output) -> Result<Self> {
        Ok(Self {
            file: output.create()?,
            path: output.path().to_owned(),
            facts: Facts::new(video),
            picture: None,
        })
    }

    /// The engine shows one moment; of more the last one counts.
    pub(crate) fn show(&mut self, frame: &Frame<'_>) {
        self.picture = Some(Picture {
            width: frame.width,
            height: frame.height,
            rgb: flatten(frame),
            png: Vec::new(),
        });
    }

    pub(crate) fn finish(mut self) -> Result<Summary> {
        let Some(picture) = &self.picture else {
            return Err(Error::invalid_input(
                "nothing to export: the recording has no picture at this moment",
            ));
        };
        let png = picture.encode(&self.facts)?;
        self.file
            .write_all(&png)
            .with_context(|| self.path.display().to_string())?;
        drop(self.file);
        sync(&self.path)?;
        let mut summary = Summary::default();
        (summary.frames, summary.files, summary.bytes) = (1, 1, png.len() as u64);
        Ok(summary)
    }
}
