//! Loads at the same time. The kernel lets one program at a time load, and answers EBUSY to all others, also to those that
//! only read /sys/kernel/kexec_crash_size (`kexec_trylock` in `kernel/kexec_internal.h`). Of ourselves one at a time gets
//! as far as that, by a lock; whoever else loads is waited for.

use crate::{message, sys::Lock};
use anyhow::anyhow;
use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::Duration,
};

/// The lock.
const FILE: &str = "run/lastwords/lock";
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// For a kernel that another program loads: 10 s. The kernel copies a few hundred MiB in that time.
const TRIES: u32 = 100;
/// For another lastwords, which reads files and measures: 60 s.
const TRIES_FOR_LOCK: u32 = 600;

/// Waits until no other lastwords loads, but not for ever, and keeps others from loading until the lock is dropped. Where
/// there can be no lock it goes on without.
#[must_use = "others load as soon as it is dropped"]
pub fn lock(root: &Path) -> Option<Lock> {
    let path = root.join(FILE);
    match retry(libc::EAGAIN, TRIES_FOR_LOCK, || open(&path), || thread::sleep(PAUSE)) {
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
            let error = anyhow!("another lastwords has not finished loading: {}", message::system(&error));
            message::warning(&error.context(path.display().to_string()));
            None
        }
        lock => lock.ok(),
    }
}

/// A file of this name, locked. That it exists means nothing.
///
/// # Errors
/// EAGAIN when another process has locked it; what keeps the file from being made.
pub fn open(path: &Path) -> io::Result<Lock> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    // Root's: nobody else can open it, and so nobody else can lock it. Not a pipe that nobody reads, and no link.
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    Lock::new(options.open(path)?)
}

/// Makes a call until the kernel is no longer busy with another program's, but not for ever.
///
/// # Errors
/// The call's.
pub fn patiently<T>(call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retry(libc::EBUSY, TRIES, call, || thread::sleep(PAUSE))
}

fn retry<T>(
    busy: i32,
    tries: u32,
    mut call: impl FnMut() -> io::Result<T>,
    mut pause: impl FnMut(),
) -> io::Result<T> {
    for _ in 1..tries {
        match call() {
            Err(error) if error.raw_os_error() == Some(busy) => pause(),
            result => return result,
        }
    }
    call()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_programs_load_is_waited_for_but_not_for_ever() {
        for (busy, result, pauses) in [(0, Some(7), 0), (3, Some(7), 3), (9, Some(7), 9), (10, None, 9)] {
            let (mut calls, mut paused) = (0, 0);
            let call = || {
                calls += 1;
                if calls > busy { Ok(7) } else { Err(io::Error::from_raw_os_error(libc::EBUSY)) }
            };
            assert_eq!(retry(libc::EBUSY, 10, call, || paused += 1).ok(), result);
            assert_eq!(paused, pauses);
        }
        let refused = || Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM));
        assert!(retry(libc::EBUSY, 10, refused, || panic!("nothing to wait for")).is_err());
    }

    #[test]
    fn one_at_a_time_has_the_lock_and_a_file_that_is_left_is_none() {
        let root = tempfile::tempdir().unwrap();
        let other = || open(&root.path().join(FILE)).is_ok();
        let lock = lock(root.path());
        assert!(!other());
        drop(lock);
        assert!(other());
    }

    #[test]
    fn without_a_folder_for_it_there_is_no_lock() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("run"), "").unwrap();
        drop(lock(root.path()));
    }
}
