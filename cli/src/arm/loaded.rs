//! What `lastwords load` has loaded, in /run/lastwords/loaded.json, for `lastwords status`. Another program may have
//! loaded something else since: what is written counts only while the kernel still holds the same image (`kimage`).
//!
//! What is about to be loaded is in loading.json, with the image that the kernel held before. One that is left there is of
//! a load that was killed: before the kernel had loaded it, or after, which the kernel's image shows.

use super::{file, kimage, via::Via};
use crate::{
    machine::{boot_id, now},
    message,
};
use anyhow::{Context, Result};
use lastwords_core::{
    cmdline,
    plan::{PREFIX, is_console},
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// For root alone: the next boot's is empty.
const FILE: &str = "run/lastwords/loaded.json";
/// Likewise.
const LOADING: &str = "run/lastwords/loading.json";
/// The schema's version.
const SCHEMA: u32 = 1;

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    schema: u32,
    /// The boot in which it was.
    boot_id: String,
    /// What the kernel held then; while it is about to be loaded, what the kernel held before.
    image: Option<String>,
    /// When, in seconds since 1970.
    pub time: i64,
    /// The dump kernel's file.
    pub kernel: PathBuf,
    /// How: `purgatory` or `wrap`.
    pub method: String,
    /// Our parameters, and the consoles that they may stand for.
    pub parameters: String,
}

/// What is known of the dump kernel that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// We have loaded it.
    Ours(Loaded),
    /// We were about to load this, and something has been loaded since: it, or what another program has loaded later.
    Interrupted(Loaded),
    /// The kernel does not show whether it is still ours.
    Hidden,
    /// We have not, or nothing is known of it.
    Other,
}

/// Writes down what is about to be loaded, with these lines of parameters, calls `load`, and writes down that it is loaded.
/// Where nothing can be written all is as well, but for `status`.
pub fn around(
    root: &Path,
    kernel: &Path,
    via: Via,
    lines: [&str; 2],
    load: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let record = Loaded::new(root, kernel, via, lines);
    let written = record.as_ref().map_or(Ok(()), |record| write(root, LOADING, record));
    let result = load();
    if result.is_ok() {
        let remembered = written.and_then(|()| {
            let mut loaded = record?;
            loaded.image = kimage::checksum(root);
            loaded.time = now();
            write(root, FILE, &loaded)
        });
        if let Err(error) = remembered {
            // What was loaded before is gone. `kimage` would find out.
            let _ = fs::remove_file(root.join(FILE));
            message::warning(&error.context("lastwords status will not show what is loaded"));
        }
    }
    let _ = fs::remove_file(root.join(LOADING));
    result
}

/// Nothing is loaded any more.
pub fn forget(root: &Path) {
    // `kimage` would find out.
    for file in [FILE, LOADING] {
        let _ = fs::remove_file(root.join(file));
    }
}

impl Loaded {
    fn new(root: &Path, kernel: &Path, via: Via, lines: [&str; 2]) -> Result<Self> {
        let all = lines.into_iter().flat_map(cmdline::words);
        let names_console = |word: &str| word.split_once('=').is_some_and(|(name, _)| is_console(name));
        let parameters = all.filter(|word| word.starts_with(PREFIX) || names_console(word));
        Ok(Self {
            schema: SCHEMA,
            boot_id: boot_id(root).context("/proc/sys/kernel/random/boot_id")?,
            image: kimage::checksum(root),
            time: now(),
            kernel: fs::canonicalize(kernel).unwrap_or_else(|_| kernel.to_owned()),
            method: match via {
                Via::Purgatory => "purgatory",
                Via::Wrap => "wrap",
            }
            .to_owned(),
            parameters: parameters.collect::<Vec<_>>().join(" "),
        })
    }

    /// Reads one of this boot.
    ///
    /// # Errors
    /// When there is none to be read.
    fn read(root: &Path, file: &str) -> io::Result<Self> {
        let path = root.join(file);
        // Not a pipe that nobody writes to.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let loaded: Self = serde_json::from_str(&fs::read_to_string(path)?)?;
        let counts = loaded.schema == SCHEMA && Some(&loaded.boot_id) == boot_id(root).as_ref();
        if counts { Ok(loaded) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

fn write(root: &Path, file: &str, loaded: &Loaded) -> Result<()> {
    let path = root.join(file);
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        let text = serde_json::to_string_pretty(loaded)?;
        file::replace(&path, text.as_bytes(), &fs::Permissions::from_mode(0o600))
    };
    write().with_context(|| path.display().to_string())
}

/// What is known of the dump kernel that is loaded now.
pub fn known(root: &Path) -> Known {
    let image = kimage::checksum(root);
    let loaded = Loaded::read(root, FILE);
    if let Ok(loaded) = &loaded
        && image.is_some()
        && loaded.image == image
    {
        return Known::Ours(loaded.clone());
    }
    match (Loaded::read(root, LOADING), loaded) {
        // Something else than before.
        (Ok(loading), _) if image.is_some() && loading.image != image => Known::Interrupted(loading),
        (_, Ok(loaded)) if image.is_none() || loaded.image.is_none() => Known::Hidden,
        (_, Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Known::Hidden,
        _ => Known::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine in this boot, that holds a record like this.
    fn boot(root: &Path, id: &str, record: u8) {
        kimage::tests::hold(root, &[record; 256]);
        fs::create_dir_all(root.join("proc/sys/kernel/random")).unwrap();
        fs::write(root.join("proc/sys/kernel/random/boot_id"), format!("{id}\n")).unwrap();
    }

    fn load(root: &Path, line: &str, load: impl FnOnce() -> Result<()>) -> Result<()> {
        let kernel = Path::new("/boot/vmlinuz");
        around(root, kernel, Via::Wrap, ["lastwords.ipmi_handle_panic", line], load)
    }

    /// Whenever a load is killed, `known` tells the one that was loaded from the one that would have been.
    #[test]
    fn a_load_that_is_killed_is_told_from_one_that_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        boot(root, "one", 1);
        load(root, "lastwords.budget=8", || Ok(())).unwrap();
        let is_the_old_one =
            || matches!(known(root), Known::Ours(loaded) if loaded.parameters.contains("budget=8"));
        assert!(is_the_old_one());
        // A load that fails; one that is killed before the system call, and after it.
        load(root, "", || anyhow::bail!("refused")).unwrap_err();
        assert!(is_the_old_one() && !root.join(LOADING).exists());
        let killed = load(root, "lastwords.budget=9", || {
            let left = fs::read(root.join(LOADING)).unwrap();
            assert!(is_the_old_one());
            boot(root, "one", 2);
            assert!(
                matches!(known(root), Known::Interrupted(loaded) if loaded.parameters.contains("budget=9"))
            );
            fs::write(root.join("left"), left).unwrap();
            Ok(())
        });
        killed.unwrap();
        assert!(matches!(known(root), Known::Ours(loaded) if loaded.parameters.contains("budget=9")));
        fs::rename(root.join("left"), root.join(LOADING)).unwrap();
        boot(root, "two", 3);
        assert_eq!(known(root), Known::Other);
    }

    #[test]
    fn what_is_remembered_holds_as_long_as_the_kernel_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(known(root), Known::Other);
        boot(root, "one", 1);
        let line = "root=/dev/sda1 console=ttyS0 secret=x lastwords.budget=9 -- lastwords.for_init";
        load(root, line, || Ok(())).unwrap();
        let Known::Ours(loaded) = known(root) else { panic!("{:?}", known(root)) };
        assert_eq!(loaded.parameters, "lastwords.ipmi_handle_panic console=ttyS0 lastwords.budget=9");
        assert_eq!((loaded.kernel.to_str(), loaded.method.as_str()), (Some("/boot/vmlinuz"), "wrap"));

        // Somebody else has loaded something; the machine has booted again; it no longer shows what it holds.
        boot(root, "one", 2);
        assert_eq!(known(root), Known::Other);
        boot(root, "two", 1);
        assert_eq!(known(root), Known::Other);
        boot(root, "one", 1);
        assert!(matches!(known(root), Known::Ours(_)));
        fs::remove_file(root.join("proc/kcore")).unwrap();
        assert_eq!(known(root), Known::Hidden);
        forget(root);
        assert_eq!(known(root), Known::Other);
    }

    #[test]
    fn a_broken_file_is_nothing_known() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("run/lastwords")).unwrap();
        for text in ["", "{}", "null", "{\"schema\": 1"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(known(folder.path()), Known::Other);
        }
    }
}
