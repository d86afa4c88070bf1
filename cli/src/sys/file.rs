//! Files: one that is in memory only, a name for one that has none, a lock, whose rights we have, and waiting for one that can be read.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Seek, Write},
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::{Duration, Instant},
};

/// A file with these bytes, one part behind the other, that lives in memory only and is gone when it is closed. It is read
/// from its beginning.
///
/// # Errors
/// When there is no memory for it.
pub fn memory_file(name: &CStr, parts: &[&[u8]]) -> io::Result<File> {
    let create = |flags| {
        // SAFETY: `name` is a NUL-terminated string that lives through the call.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) };
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
    };
    // Nobody is going to execute it, and sysctl vm.memfd_noexec may demand that flag; before Linux 6.3 one could not.
    let fd = match create(libc::MFD_NOEXEC_SEAL) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(0)?,
        result => result?,
    };
    // SAFETY: `fd` is open, just made, and owned by nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.rewind()?;
    Ok(file)
}

/// Gives a file that was opened with O_TMPFILE a name. There must be none of that name (open(2)).
///
/// # Errors
/// The kernel's; EEXIST.
pub fn give_name(file: &File, path: &Path) -> io::Result<()> {
    let own = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let (cwd, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    // SAFETY: both are NUL-terminated strings that live through the call.
    let result = unsafe { libc::linkat(cwd, own.as_ptr(), cwd, path.as_ptr(), follow) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A file that is locked for ourselves (flock(2)), until this is dropped: unlocked then, for a process that came of a fork
/// has the file open for longer.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// Whose lock it is. The end of another process that came of it leaves it.
    process: u32,
}

impl Lock {
    /// Locks an open file.
    ///
    /// # Errors
    /// EAGAIN when somebody else has locked it.
    pub fn new(file: File) -> io::Result<Self> {
        flock(&file, libc::LOCK_EX | libc::LOCK_NB)?;
        Ok(Self { file, process: std::process::id() })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // Where that fails, closing the file unlocks it.
            let _ = flock(&self.file, libc::LOCK_UN);
        }
    }
}

fn flock(file: &File, operation: i32) -> io::Result<()> {
    // SAFETY: the call takes two numbers; the file is open for as long as it is borrowed.
    let result = unsafe { libc::flock(file.as_raw_fd(), operation) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a file this extended attribute?
#[must_use]
pub fn has_attribute(file: &File, name: &CStr) -> bool {
    // SAFETY: `name` is a NUL-terminated string that lives through the call; with a size of 0 nothing is written.
    unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}

/// The user id with whose rights we act.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing, changes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Waits until something can be read from `file`, or the time is over: false then.
///
/// # Errors
/// The kernel's.
pub fn readable(file: &File, time: Duration) -> io::Result<bool> {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // Rounded up, so that a rest of a millisecond is not spun away.
        let timeout = libc::c_int::try_from(left.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX);
        let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the kernel reads and writes this one pollfd, which is exclusively ours.
        match unsafe { libc::poll(&raw mut poll, 1, timeout) } {
            0 => return Ok(false),
            result if result > 0 => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_memory_file_holds_its_bytes() {
        let mut file = memory_file(c"test", &[b"ker", b"", b"nel"]).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kernel");
    }

    #[test]
    fn a_lock_ends_where_a_process_that_came_of_it_lives_on() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let lock = || Lock::new(File::open(path.path())?);
        let held = lock().unwrap();
        // What a fork has: the same open file.
        let _copy = held.file.try_clone().unwrap();
        assert_eq!(lock().unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        drop(held);
        lock().unwrap();
    }
}
