//! The files that are loaded, and those that are written: nothing that can hang or never end is read, and at no time half of
//! a file is seen.

use crate::sys;
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

/// No kernel and no initial RAM disk is as large as this.
const MOST: u64 = 4 << 30;

/// Opens a regular file that is not empty, and returns its length in bytes.
///
/// # Errors
/// When it cannot be opened, or is something else: a FIFO would hang, a device may never end or do something.
pub fn open(path: &Path) -> Result<(File, u64)> {
    let check = |metadata: &Metadata| {
        ensure!(metadata.is_file(), "not a regular file\nhint: give the path of a file, as those in /boot");
        ensure!(metadata.len() > 0, "empty file");
        ensure!(metadata.len() <= MOST, "{} MiB are too many for a file to load", metadata.len() >> 20);
        Ok(metadata.len())
    };
    let open = || -> Result<_> {
        // Opening a device can be too much already.
        check(&fs::metadata(path)?)?;
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        let len = check(&file.metadata()?)?;
        Ok((file, len))
    };
    open().with_context(|| path.display().to_string())
}

/// The text of a regular file: a FIFO would hang.
///
/// # Errors
/// When it cannot be read, or is something else.
pub fn read_text(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Is its first page what the question asks for?
pub fn begins(file: &File, question: impl FnOnce(&[u8]) -> bool) -> bool {
    let mut head = [0; 4096];
    file.read_at(&mut head, 0).is_ok_and(|len| question(&head[..len]))
}

/// The bytes of a file that [`open`] has opened.
///
/// # Errors
/// When it cannot be read, or is written to meanwhile.
pub fn read(file: &File, path: &Path) -> Result<Vec<u8>> {
    let read = || {
        let version = |metadata: Metadata| {
            (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
        };
        let before = version(file.metadata()?);
        let mut bytes = Vec::with_capacity(usize::try_from(before.0)?);
        file.take(before.0).read_to_end(&mut bytes)?;
        ensure!(
            bytes.len() as u64 == before.0 && version(file.metadata()?) == before,
            "the file was changed while it was read\nhint: retry when it is complete"
        );
        Ok(bytes)
    };
    read().with_context(|| path.display().to_string())
}

/// Writes a file that takes the place of what is there, completely or not at all. It keeps the owner and the permission
/// bits of what it replaces; a new one gets `permissions`.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, bytes: &[u8], permissions: &Permissions) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let before = fs::metadata(path).ok();
    let fill = |mut file: &File| {
        file.write_all(bytes)?;
        if let Some(before) = &before {
            // Only root may give a file away. Before the permissions, since it takes some of them away.
            let _ = fchown(file, Some(before.uid()), Some(before.gid()));
        }
        let mode = before.as_ref().map_or(permissions.mode(), MetadataExt::mode);
        file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
        file.sync_all()
    };
    let names = tempfile::Builder::new();
    // Nothing is left behind by one that has no name yet, whenever we are killed. Not every file system can do that.
    let nameless = OpenOptions::new().write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(folder);
    let temporary = nameless.and_then(|file| {
        fill(&file)?;
        Ok(names.make_in(folder, |name| sys::give_name(&file, name))?.into_temp_path())
    });
    let temporary = match temporary {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
        Err(_) => {
            let file = names.tempfile_in(folder)?;
            fill(file.as_file())?;
            file.into_temp_path()
        }
    };
    temporary.persist(path).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_keeps_its_permissions_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        replace(&path, b"one", &Permissions::from_mode(0o640)).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode()), (&b"one"[..], 0o640));
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        replace(&path, b"two", &Permissions::from_mode(0o644)).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode()), (&b"two"[..], 0o400));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("none/out"), b"", &Permissions::from_mode(0o600)).is_err());
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (path, what) in
            [(Path::new("/dev/zero"), "not a regular file"), (folder.path(), "not a regular file")]
        {
            let error = format!("{:#}", open(path).unwrap_err());
            assert!(error.contains(what), "{error}");
        }
        fs::write(&path, "").unwrap();
        assert!(format!("{:#}", open(&path).unwrap_err()).contains("empty"));
        // One that has a hole and no end.
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(format!("{:#}", open(&path).unwrap_err()).contains("too many"));
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "whole").unwrap();
        let (file, len) = open(&path).unwrap();
        assert_eq!((len, read(&file, &path).unwrap().as_slice()), (5, &b"whole"[..]));
        // The rest of it is gone.
        assert!(format!("{:#}", read(&file, &path).unwrap_err()).contains("changed"));
    }
}
