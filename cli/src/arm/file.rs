//! The files that are loaded, and those that are written: nothing that can hang or never end is read, and at no time half of
//! a file is seen.
//!
//! What is loaded may be hundreds of megabytes, so it is mapped and not copied. A mapping shows whatever others write to the
//! file; the dump kernel and its checksum could then be of two versions of the file, and the system call, which gives the
//! loaded dump kernel away first, could find the file cut short. So a file is mapped only with a lease, under which the kernel
//! lets nobody write to it. Where there can be none, as while somebody has it open for writing, it is copied, as kexec does.

use super::memory::cgroup_limit;
use crate::{message, sys};
use anyhow::{Context, Result, anyhow, ensure};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read, Seek, Write},
    ops::Deref,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// No kernel and no initial RAM disk is as large as this.
const MOST: u64 = 4 << 30;

/// So often it is looked whether a file is complete, and how long it is waited in between: 3 s. Most are copied in that time.
const TRIES: u32 = 150;
const PAUSE: Duration = Duration::from_millis(20);

/// Opens a regular file that is not empty, and returns its length in bytes.
///
/// # Errors
/// When it cannot be opened, or is something else: a FIFO would hang, a device may never end or do something.
pub fn open(path: &Path) -> Result<(File, u64)> {
    let open = || -> Result<_> {
        let file = open_regular(path)?;
        let len = check(&file.metadata()?)?;
        Ok((file, len))
    };
    open().with_context(|| path.display().to_string())
}

fn open_regular(path: &Path) -> Result<File> {
    // Opening a device can be too much already.
    check_kind(&fs::metadata(path)?)?;
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags | libc::O_NOCTTY).open(path);
    Ok(match open(libc::O_NONBLOCK) {
        // A file server has lent it to somebody to write to (a lease): the kernel asks for it back, and has us wait.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => open(0)?,
        file => file?,
    })
}

fn check_kind(metadata: &Metadata) -> Result<()> {
    ensure!(metadata.is_file(), "not a regular file\nhint: give the path of a file, as those in /boot");
    Ok(())
}

/// The length of a file that may be one to load.
fn check(metadata: &Metadata) -> Result<u64> {
    check_kind(metadata)?;
    check_len(metadata.len())
}

fn check_len(len: u64) -> Result<u64> {
    ensure!(len > 0, "empty file");
    ensure!(len <= MOST, "{} MiB are too many for a file to load", len >> 20);
    Ok(len)
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
    let read = || -> Result<_> {
        let before = Version::of(file)?;
        let mut bytes = Vec::with_capacity(usize::try_from(before.len)?);
        file.take(before.len).read_to_end(&mut bytes)?;
        ensure!(
            bytes.len() as u64 == before.len && Version::of(file)? == before,
            "the file was changed while it was read\nhint: retry when it is complete"
        );
        Ok(bytes)
    };
    read().with_context(|| path.display().to_string())
}

/// What differs after a file was written to, as far as the file system's clock can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    len: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Version {
    fn of(file: &File) -> io::Result<Self> {
        let file = file.metadata()?;
        Ok(Self {
            len: file.len(),
            mtime: (file.mtime(), file.mtime_nsec()),
            ctime: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// How the bytes of a file are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Where they are, if nobody can change them there; else as a copy.
    Mapped,
    /// As a copy.
    Copied,
}

/// A file to be loaded. For as long as this is there, whoever wants to write to the file waits, where the file system can
/// have that.
#[derive(Debug)]
pub struct Source<'a> {
    path: &'a Path,
    /// Open for reading.
    pub file: File,
    /// Its length in bytes.
    pub len: u64,
    version: Version,
    is_leased: bool,
    /// No later than the lease.
    opened: Instant,
}

/// Where the kernel does not say how long it keeps writers waiting (lease-break-time): any moment may be the last one.
const LEASE_BREAK_TIME: Duration = Duration::from_secs(0);
/// So much of that time the system call may take.
const FOR_THE_CALL: Duration = Duration::from_secs(10);

impl<'a> Source<'a> {
    /// Opens a file as [`open`] does.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(path: &'a Path) -> Result<Self> {
        let (source, _) = Self::lease(path)?;
        source.checked()
    }

    /// Opens a file to be loaded. One that is open for writing is being written, most likely: waits until it is closed, but
    /// not for long, and then says so.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open_complete(path: &'a Path) -> Result<Self> {
        for _ in 1..TRIES {
            let (source, is_written) = Self::lease(path)?;
            if !is_written {
                return source.checked();
            }
            drop(source);
            thread::sleep(PAUSE);
        }
        let (source, is_written) = Self::lease(path)?;
        if is_written {
            message::warning(&anyhow!(
                "{}: somebody has it open for writing; taken as it is\nhint: load again when it is complete",
                path.display()
            ));
        }
        source.checked()
    }

    /// Opens a regular file, with a lease where that can be; and is it open for writing somewhere?
    fn lease(path: &'a Path) -> Result<(Self, bool)> {
        let lease = || -> Result<_> {
            let (file, opened) = (open_regular(path)?, Instant::now());
            let lease = sys::lease(&file);
            let is_written = lease.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EAGAIN));
            // Until the lease it could be cut short.
            let version = Version::of(&file)?;
            let source = Self { path, len: version.len, file, version, is_leased: lease.is_ok(), opened };
            Ok((source, is_written))
        };
        lease().with_context(|| path.display().to_string())
    }

    /// The same, if it can be loaded by its length.
    fn checked(self) -> Result<Self> {
        check_len(self.len).with_context(|| self.path.display().to_string())?;
        Ok(self)
    }

    /// Its bytes. Mapped ones are in memory from here on, and stay there, unless our memory is limited to not much more than
    /// that: the limit counts pages that stay, and the kernel would kill us for it.
    ///
    /// # Errors
    /// When it cannot be read, or is written to meanwhile.
    pub fn bytes(&self, take: Take) -> Result<Bytes> {
        let map = || {
            let mapping = sys::Mapping::new(&self.file, usize::try_from(self.len).ok()?).ok()?;
            // There are two files at most.
            if cgroup_limit(Path::new("/")).is_none_or(|limit| self.len < limit / 4) {
                mapping.pin().ok()?;
            }
            Some(Bytes::Mapped(mapping))
        };
        let mapped = if take == Take::Mapped && self.is_leased { map() } else { None };
        // Its error is that of the file, where there is one.
        mapped.map_or_else(|| Ok(Bytes::Copied(self.copy()?)), Ok)
    }

    /// A copy of its bytes.
    fn copy(&self) -> Result<Vec<u8>> {
        (&self.file).rewind()?;
        read(&self.file, self.path)
    }

    /// Can the file itself be given to the kernel: does nobody wait to write to it, or has he to wait for long enough?
    #[must_use]
    pub fn is_safe(&self, root: &Path) -> bool {
        let text = fs::read_to_string(root.join("proc/sys/fs/lease-break-time")).ok();
        let seconds = text.and_then(|text| text.trim().parse().ok());
        let time = seconds.map_or(LEASE_BREAK_TIME, Duration::from_secs);
        !self.is_leased || sys::has_lease(&self.file) || self.opened.elapsed() + FOR_THE_CALL < time
    }

    /// Has it been written to since it was opened, as far as that shows?
    #[must_use]
    pub fn is_changed(&self) -> bool {
        Version::of(&self.file).ok() != Some(self.version)
    }
}

/// The bytes of a file.
#[derive(Debug)]
pub enum Bytes {
    /// Where the kernel has them.
    Mapped(sys::Mapping),
    /// A copy.
    Copied(Vec<u8>),
}

impl Bytes {
    /// Was all there that has been read? Else there were zeros: the lease was broken, since it held for too long, or the disk
    /// fails.
    #[must_use]
    pub fn are_whole(&self) -> bool {
        match self {
            Self::Mapped(mapping) => mapping.is_whole(),
            Self::Copied(_) => true,
        }
    }

    /// Says so where they are not.
    ///
    /// # Errors
    /// When not all that has been read was there.
    pub fn check(&self, path: &Path) -> Result<()> {
        ensure!(
            self.are_whole(),
            "{}: the file was cut short, or cannot be read\nhint: retry when it is complete; dmesg shows errors of the disk",
            path.display()
        );
        Ok(())
    }

    /// Puts these in the place of the first ones. The file stays as it is.
    ///
    /// # Errors
    /// When there is no memory for that.
    pub fn begin_with(&mut self, head: &[u8]) -> io::Result<()> {
        match self {
            Self::Mapped(mapping) => mapping.overwrite(0, head),
            Self::Copied(bytes) => {
                let begin = bytes.get_mut(..head.len()).ok_or(io::ErrorKind::InvalidInput)?;
                begin.copy_from_slice(head);
                Ok(())
            }
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapping) => mapping,
            Self::Copied(bytes) => bytes,
        }
    }
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

    /// A file with these bytes, which nobody has open for writing.
    fn file(bytes: &[u8]) -> tempfile::TempPath {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file.into_temp_path()
    }

    /// Opened with a lease. Forked processes of other tests may have it open for writing for a moment.
    fn leased(path: &Path) -> Source<'_> {
        loop {
            let source = Source::open(path).unwrap();
            if source.is_leased {
                return source;
            }
        }
    }

    #[test]
    fn a_file_that_is_lent_to_somebody_to_write_to_is_waited_for() {
        let path = file(b"lent");
        let lent = sys::lent(&path);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !sys::is_asked_for(&lent) {
                    thread::yield_now();
                }
                drop(lent);
            });
            let source = Source::open(&path).unwrap();
            assert_eq!(*source.bytes(Take::Copied).unwrap(), *b"lent");
        });
    }

    #[test]
    fn what_nobody_can_write_to_is_mapped_and_all_else_copied() {
        let path = file(&[7; 10_000]);
        let source = leased(&path);
        let mapped = source.bytes(Take::Mapped).unwrap();
        assert!(matches!(mapped, Bytes::Mapped(_)) && *mapped == [7; 10_000] && mapped.are_whole());
        let copied = source.bytes(Take::Copied).unwrap();
        assert!(matches!(copied, Bytes::Copied(_)) && *copied == *mapped);
        // Until both are gone nobody can open it for writing: he would be kept waiting.
        drop((source, mapped));
        // Somebody has it open for writing. What is written now does not reach the copy.
        let writer = File::options().write(true).open(&path).unwrap();
        let source = Source::open(&path).unwrap();
        let bytes = source.bytes(Take::Mapped).unwrap();
        writer.write_all_at(&[8; 10], 0).unwrap();
        assert!(matches!(bytes, Bytes::Copied(_)) && *bytes == [7; 10_000]);
        writer.set_len(9).unwrap();
        assert!(source.is_changed() && bytes.len() == 10_000);
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for_but_not_for_ever() {
        let path = file(b"before");
        // As it begins: with nothing.
        let writer = File::options().write(true).truncate(true).open(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(2 * PAUSE);
                (&writer).write_all(b"half and half").unwrap();
                drop(writer);
            });
            let source = Source::open_complete(&path).unwrap();
            assert_eq!(&*source.bytes(Take::Mapped).unwrap(), b"half and half");
        });
        let _writer = File::options().append(true).open(&path).unwrap();
        assert!(matches!(
            Source::open_complete(&path).unwrap().bytes(Take::Mapped).unwrap(),
            Bytes::Copied(_)
        ));
    }

    #[test]
    fn a_beginning_is_put_in_the_place_of_the_files_own_for_us_alone() {
        let path = file(&[7; 10_000]);
        let source = leased(&path);
        for take in [Take::Mapped, Take::Copied] {
            let mut bytes = source.bytes(take).unwrap();
            bytes.begin_with(&[1, 2, 3]).unwrap();
            assert!(bytes.starts_with(&[1, 2, 3, 7]) && bytes.len() == 10_000);
            assert!(bytes.begin_with(&[0; 10_001]).is_err());
        }
        assert_eq!(fs::read(&path).unwrap(), [7; 10_000]);
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
