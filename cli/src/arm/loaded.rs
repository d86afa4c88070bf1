//! What `lastwords load` has loaded, in /run/lastwords/loaded.json, for `lastwords status`. Another program may have
//! loaded something else since: what is written counts only while the kernel still holds the same image (`kimage`).

use super::{kimage, via::Via};
use crate::{
    machine::{boot_id, now},
    message,
};
use anyhow::{Context, Result};
use lastwords_core::{cmdline, plan::PREFIX};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

/// For root alone: the next boot's is empty.
const FILE: &str = "run/lastwords/loaded.json";
/// The schema's version.
const SCHEMA: u32 = 1;

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    schema: u32,
    /// The boot in which it was.
    boot_id: String,
    /// What the kernel held then.
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
    /// The kernel does not show whether it is still ours.
    Hidden,
    /// We have not, or nothing is known of it.
    Other,
}

/// Remembers what has just been loaded, with these lines of parameters. Without that all is as well, but for `status`.
pub fn remember(root: &Path, kernel: &Path, via: Via, lines: [&str; 2]) {
    if let Err(error) = write(root, kernel, via, lines) {
        message::warning(&error.context("lastwords status will not show what is loaded"));
    }
}

/// Nothing is loaded any more.
pub fn forget(root: &Path) {
    // `kimage` would find out.
    let _ = fs::remove_file(root.join(FILE));
}

fn write(root: &Path, kernel: &Path, via: Via, lines: [&str; 2]) -> Result<()> {
    let all = lines.into_iter().flat_map(cmdline::words);
    let parameters = all.filter(|word| word.starts_with(PREFIX) || word.starts_with("console="));
    let loaded = Loaded {
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
    };
    let path = root.join(FILE);
    let write = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(root);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(serde_json::to_string_pretty(&loaded)?.as_bytes())?;
        file.persist(&path)?;
        Ok(())
    };
    write().with_context(|| path.display().to_string())
}

/// What is known of the dump kernel that is loaded now.
pub fn known(root: &Path) -> Known {
    let path = root.join(FILE);
    // Not a pipe that nobody writes to.
    let is_file = fs::metadata(&path).is_ok_and(|file| file.is_file());
    let text = match if is_file { fs::read_to_string(path) } else { Err(io::ErrorKind::NotFound.into()) } {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Known::Hidden,
        Err(_) => return Known::Other,
    };
    let Ok(loaded) = serde_json::from_str::<Loaded>(&text) else { return Known::Other };
    if loaded.schema != SCHEMA || Some(&loaded.boot_id) != boot_id(root).as_ref() {
        return Known::Other;
    }
    match (&loaded.image, kimage::checksum(root)) {
        (Some(then), Some(now)) if *then == now => Known::Ours(loaded),
        (Some(_), Some(_)) => Known::Other,
        _ => Known::Hidden,
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

    #[test]
    fn what_is_remembered_holds_as_long_as_the_kernel_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(known(root), Known::Other);
        boot(root, "one", 1);
        let line = "root=/dev/sda1 console=ttyS0 secret=x lastwords.budget=9 -- lastwords.for_init";
        write(root, Path::new("/boot/vmlinuz"), Via::Wrap, ["lastwords.ipmi_handle_panic", line]).unwrap();
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
