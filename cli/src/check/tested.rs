//! What came of the last `lastwords test`, in /var/lib/lastwords/tested.json, for `lastwords status`.

use crate::{
    arm::{file, image},
    machine::now,
    symbols::{build_id::running_build_id, store},
};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

const FILE: &str = "tested.json";
/// The schema's version.
const SCHEMA: u32 = 1;

/// The last test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    schema: u32,
    /// When it ended, in seconds since 1970.
    pub time: i64,
    /// Was the test report read back?
    pub passed: bool,
    /// What went wrong first.
    pub error: Option<String>,
    /// Records that were read back.
    pub records: usize,
    /// The build ID of the kernel that was running.
    pub build_id: Option<String>,
    /// SHA-256 of the image in the tool that tested.
    pub image: String,
}

impl Tested {
    /// One of now, on this machine.
    pub fn new(root: &Path, error: Option<String>, records: usize) -> Self {
        Self {
            schema: SCHEMA,
            time: now(),
            passed: error.is_none(),
            error,
            records,
            build_id: running_build_id(root),
            image: image::CHECKSUM.to_owned(),
        }
    }

    /// Remembers it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(store::FOLDER).join(FILE);
        let write = || {
            fs::create_dir_all(root.join(store::FOLDER))?;
            let text = serde_json::to_string_pretty(self)?;
            file::replace(&path, text.as_bytes(), &Permissions::from_mode(0o644))
        };
        write().with_context(|| path.display().to_string())
    }

    /// The last one, where there was any.
    pub fn read(root: &Path) -> Option<Self> {
        let path = root.join(store::FOLDER).join(FILE);
        // Not a pipe that nobody writes to.
        if !fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let tested: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (tested.schema == SCHEMA).then_some(tested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_test_is_remembered_and_nothing_else_is_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(Tested::read(root), None);
        let failed = Tested::new(root, Some("no answer".to_owned()), 0);
        failed.write(root).unwrap();
        assert_eq!(Tested::read(root), Some(failed));
        let passed = Tested::new(root, None, 14);
        passed.write(root).unwrap();
        assert_eq!(Tested::read(root), Some(passed.clone()));
        assert!(passed.passed && passed.records == 14);
        for text in ["", "{}", "{\"schema\": 2}"] {
            fs::write(root.join(store::FOLDER).join(FILE), text).unwrap();
            assert_eq!(Tested::read(root), None);
        }
    }
}
