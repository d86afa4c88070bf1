//! A file's bytes where the kernel has them: mapped, not copied.
//!
//! Where a mapped page is gone (the file is shorter now) or cannot be read (the disk), whoever reads it gets SIGBUS, of which
//! a process dies. Here it gets zeros, and the mapping knows afterwards that it is not whole.

use std::{
    fs::File,
    io, mem,
    ops::Deref,
    os::fd::AsRawFd,
    ptr, slice,
    sync::{
        Once,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

const PAGE: usize = 4096;

/// A mapping as the signal's handler sees it.
struct Slot {
    /// 0 where there is none.
    start: AtomicUsize,
    end: AtomicUsize,
    failed: AtomicBool,
}

/// More at a time than the tool ever has.
static SLOTS: [Slot; 32] =
    [const { Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), failed: AtomicBool::new(false) } };
        32];

/// A file's bytes, mapped for reading. What others write to the file may show in them.
#[derive(Debug)]
pub struct Mapping {
    start: *mut u8,
    len: usize,
    slot: usize,
}

impl Mapping {
    /// Maps the first `len` bytes of a file, at least one.
    ///
    /// # Errors
    /// The kernel's; EINVAL for no bytes.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(handle_sigbus);
        // SAFETY: a new mapping at an address of the kernel's choice, which nobody else has.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let free = |slot: &Slot| slot.start.compare_exchange(0, start as usize, SeqCst, SeqCst).is_ok();
        let Some(slot) = SLOTS.iter().position(free) else {
            // SAFETY: this is what was just mapped, and nothing points into it.
            unsafe { libc::munmap(start, len) };
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        SLOTS[slot].failed.store(false, SeqCst);
        SLOTS[slot].end.store(start as usize + len.next_multiple_of(PAGE), SeqCst);
        Ok(Self { start: start.cast(), len, slot })
    }

    /// Was everything there that has been read?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !SLOTS[self.slot].failed.load(SeqCst)
    }

    /// Reads all of it, and keeps it in memory for as long as it is mapped: as long as the file is not cut short, the kernel
    /// finds every byte.
    ///
    /// # Errors
    /// Where a page cannot be read, there is too little memory, or we may lock none.
    pub fn pin(&self) -> io::Result<()> {
        // Page by page where each is first read, so that one that cannot be read is a signal: mlock(2) would try it for ever.
        // SAFETY: the call changes no byte of this mapping, which is ours.
        let result = unsafe { libc::mlock2(self.start.cast(), self.len, libc::MLOCK_ONFAULT) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        for page in self.chunks(PAGE) {
            std::hint::black_box(page.first().copied());
            if !self.is_whole() {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
        }
        Ok(())
    }

    /// Puts these bytes in the place of those at `at`, for us alone: the file stays as it is, and only the pages written to
    /// take memory.
    ///
    /// # Errors
    /// The kernel's; EINVAL where they lie beyond the end.
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let end = at.checked_add(bytes.len()).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::InvalidInput)?;
        let first = at / PAGE * PAGE;
        let write = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: whole pages of this mapping, which is ours alone: we have the only reference. Private ones are written to
        // as copies. Where one is gone, the handler puts a page there that can be written to.
        unsafe {
            if libc::mprotect(self.start.add(first).cast(), end - first, write) != 0 {
                return Err(io::Error::last_os_error());
            }
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(at), bytes.len());
        }
        Ok(())
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped there until this is dropped, and can be read: where a page of the file is gone,
        // the handler puts one of zeros there. Nobody in this process writes to them while they are borrowed. Another
        // process could, through the file; whoever decides anything by these bytes maps a file that has a lease, so that
        // nobody can (`lease`), and where he cannot have one, copies it.
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        SLOTS[self.slot].end.store(0, SeqCst);
        // SAFETY: this is what was mapped, and whoever borrowed of it is done.
        unsafe { libc::munmap(self.start.cast(), self.len) };
        SLOTS[self.slot].start.store(0, SeqCst);
    }
}

/// From here on a page of a mapping that is not there reads as zeros, and so do all behind it.
fn handle_sigbus() {
    // SAFETY: a sigaction of zeros is one without flags and with no signal blocked; all of it that counts is filled in.
    // The handler has the signature that SA_SIGINFO demands, and does nothing but what a handler may do.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = put_zeros as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
    }
}

extern "C" fn put_zeros(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel gives a whole siginfo_t, and SIGBUS has an address in it.
    let address = unsafe { (*info).si_addr() } as usize;
    let holds = |slot: &&Slot| (slot.start.load(SeqCst)..slot.end.load(SeqCst)).contains(&address);
    if let Some(slot) = SLOTS.iter().find(holds) {
        slot.failed.store(true, SeqCst);
        let (page, access) = (address / PAGE * PAGE, libc::PROT_READ | libc::PROT_WRITE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: the rest of a mapping of ours, from the page on that cannot be read. Nothing but system calls are made.
        let zeros = unsafe {
            libc::mmap(page as *mut libc::c_void, slot.end.load(SeqCst) - page, access, flags, -1, 0)
        };
        if zeros != libc::MAP_FAILED {
            return;
        }
    }
    // Not ours: the same access once more, now deadly as it always was.
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

/// Asks the kernel to let nobody open this file for writing or cut it short, for as long as it is open here (fcntl(2),
/// "Leases"): whoever tries waits until then, at most for /proc/sys/fs/lease-break-time, 45 s. The file is open for reading
/// alone.
///
/// Where others than this kernel write to a file, on a server, a hypervisor's host or in a process of FUSE, the call may well
/// succeed and mean nothing (9p). So it is asked for only on file systems that are this kernel's own.
///
/// # Errors
/// EAGAIN when it is open for writing somewhere; the kernel's, where we or the file system cannot have that; EOPNOTSUPP on a
/// file system that is not known.
pub fn lease(file: &File) -> io::Result<()> {
    /// `include/uapi/linux/magic.h`, but for the last three: ext2 to ext4, XFS, btrfs, F2FS, tmpfs, ramfs, overlayfs,
    /// SquashFS, EROFS, FAT, exFAT, ISO 9660; bcachefs, ZFS.
    const OWN: [u32; 14] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0xf2f5_2010,
        0x0102_1994,
        0x8584_58f6,
        0x794c_7630,
        0x7371_7368,
        0xe0f5_e1e2,
        0x4d44,
        0x2011_bab0,
        0x9660,
        0xca45_1a4e,
        0x2fc1_2fc1,
    ];
    /// `include/uapi/asm-generic/fcntl.h`: the signal that comes when somebody waits.
    const F_SETSIG: libc::c_int = 10;
    // SAFETY: a statfs of zeros is one; the call fills it in, and the file is open for as long as it is borrowed.
    let (result, known) = unsafe {
        let mut known: libc::statfs = mem::zeroed();
        (libc::fstatfs(file.as_raw_fd(), &raw mut known), known)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if !OWN.iter().any(|own| i64::from(*own) == known.f_type) {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    // One that is ignored, unlike SIGIO.
    for (command, argument) in [(F_SETSIG, libc::SIGURG), (libc::F_SETLEASE, libc::F_RDLCK)] {
        // SAFETY: the calls take numbers and touch no memory; the file is open for as long as it is borrowed.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Is the lease as it was? No longer so as soon as somebody waits for its end.
#[must_use]
pub fn has_lease(file: &File) -> bool {
    // SAFETY: the call takes numbers and touches no memory; the file is open for as long as it is borrowed.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) == libc::F_RDLCK }
}

/// For tests: opens a file that nobody else has open, and has the kernel give it back when somebody else wants it.
#[cfg(test)]
pub fn lent(path: &std::path::Path) -> File {
    const F_SETSIG: libc::c_int = 10;
    loop {
        let file = File::options().read(true).write(true).open(path).unwrap();
        // SAFETY: the calls take numbers and touch no memory.
        let lent = unsafe {
            libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) == 0
                && libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0
        };
        // Forked processes of other tests may have it open for a moment.
        if lent {
            return file;
        }
        std::thread::yield_now();
    }
}

/// For tests: does somebody wait for what [`lent`] has?
#[cfg(test)]
pub fn is_asked_for(file: &File) -> bool {
    // SAFETY: the call takes numbers and touches no memory.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) != libc::F_WRLCK }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Forked, end, fork_and_wait};
    use std::{fs, io::Write, os::unix::fs::FileExt, process, thread};

    /// A file of so many pages, each with its number in it.
    fn file(pages: usize) -> (tempfile::NamedTempFile, File) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for page in 0..pages {
            file.write_all(&[page as u8 + 1; PAGE]).unwrap();
        }
        let open = File::open(file.path()).unwrap();
        (file, open)
    }

    #[test]
    fn a_file_system_whose_files_others_change_lends_nothing() {
        let error = lease(&File::open("/proc/version").unwrap()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    }

    #[test]
    fn what_is_cut_off_a_mapped_file_reads_as_zeros_and_is_known() {
        let (path, file) = file(5);
        let mapping = Mapping::new(&file, 5 * PAGE - 7).unwrap();
        let other = Mapping::new(&file, 5 * PAGE).unwrap();
        assert!(mapping.iter().all(|byte| *byte != 0) && mapping.len() == 5 * PAGE - 7 && mapping.is_whole());
        fs::OpenOptions::new().write(true).open(path.path()).unwrap().set_len(2 * PAGE as u64 + 9).unwrap();
        // The rest of the last page is zeros without any signal.
        let sum =
            |range: std::ops::Range<usize>| mapping[range].iter().map(|byte| u64::from(*byte)).sum::<u64>();
        assert_eq!((sum(0..2 * PAGE), sum(2 * PAGE..3 * PAGE)), (3 * PAGE as u64, 27));
        assert!(mapping.is_whole());
        assert_eq!(sum(3 * PAGE..5 * PAGE - 7), 0);
        assert!(!mapping.is_whole() && other.is_whole());
        drop(mapping);
        // Its place in the table is free again, and so is what was known.
        assert!(Mapping::new(&file, PAGE).unwrap().is_whole());
    }

    #[test]
    fn a_process_that_came_of_a_fork_does_not_die_of_it_either() {
        let (path, file) = file(3);
        let mapping = Mapping::new(&file, 3 * PAGE).unwrap();
        path.as_file().set_len(0).unwrap();
        match fork_and_wait(false).unwrap() {
            Forked::Child => {
                let zeros = mapping.iter().all(|byte| *byte == 0) && !mapping.is_whole();
                process::exit(i32::from(!zeros))
            }
            Forked::Parent(status) => assert!(status.success(), "{}", end(status)),
        }
        assert!(mapping.is_whole());
    }

    #[test]
    fn what_is_not_there_cannot_be_kept_in_memory() {
        let (path, file) = file(3);
        let mapping = Mapping::new(&file, 3 * PAGE).unwrap();
        mapping.pin().unwrap();
        let mapping = Mapping::new(&file, 3 * PAGE).unwrap();
        path.as_file().set_len(PAGE as u64).unwrap();
        assert_eq!(mapping.pin().unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(!mapping.is_whole());
    }

    #[test]
    fn any_other_sigbus_is_deadly_as_ever() {
        let (path, file) = file(1);
        let _handled = Mapping::new(&file, PAGE).unwrap();
        path.as_file().set_len(0).unwrap();
        match fork_and_wait(false).unwrap() {
            Forked::Child => {
                // SAFETY: a mapping of the child's own, of which nothing is there; the child ends here.
                unsafe {
                    let start = libc::mmap(
                        ptr::null_mut(),
                        PAGE,
                        libc::PROT_READ,
                        libc::MAP_PRIVATE,
                        file.as_raw_fd(),
                        0,
                    );
                    ptr::read_volatile(start.cast::<u8>());
                    libc::_exit(0)
                }
            }
            Forked::Parent(status) => assert_eq!(end(status), format!("signal {}", libc::SIGBUS)),
        }
    }

    #[test]
    fn a_file_that_has_grown_or_another_one_in_its_place_changes_nothing() {
        let (path, file) = file(2);
        let mapping = Mapping::new(&file, 2 * PAGE).unwrap();
        path.as_file().write_all_at(&[9; PAGE], 2 * PAGE as u64).unwrap();
        let (other, _) = self::file(1);
        fs::rename(other.path(), path.path()).unwrap();
        assert!(
            mapping[..PAGE].iter().all(|byte| *byte == 1) && mapping[PAGE..].iter().all(|byte| *byte == 2)
        );
        mapping.pin().unwrap();
        assert!(mapping.is_whole());
    }

    #[test]
    fn what_is_put_in_its_place_is_seen_here_alone() {
        let (path, file) = file(3);
        let mut mapping = Mapping::new(&file, 3 * PAGE).unwrap();
        mapping.overwrite(PAGE - 1, &[7; 3]).unwrap();
        assert_eq!(mapping[PAGE - 2..PAGE + 3], [1, 7, 7, 7, 2]);
        assert_eq!(fs::read(path.path()).unwrap()[PAGE - 2..PAGE + 3], [1, 1, 2, 2, 2]);
        assert!(mapping.overwrite(3 * PAGE - 2, &[7; 3]).is_err());
        // Also where nothing is left of the file.
        path.as_file().set_len(0).unwrap();
        mapping.overwrite(2 * PAGE, &[8; 2]).unwrap();
        assert!(mapping[2 * PAGE] == 8 && !mapping.is_whole());
    }

    #[test]
    fn who_wants_to_write_to_a_file_with_a_lease_waits_until_it_ends() {
        let (path, file) = file(1);
        // As long as somebody has it open for writing, there is none.
        assert_eq!(lease(&file).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        let path = path.into_temp_path();
        // Forked processes of other tests may have it open for a moment.
        while lease(&file).is_err() {
            thread::yield_now();
        }
        assert!(has_lease(&file));
        let mut options = fs::OpenOptions::new();
        let options = std::os::unix::fs::OpenOptionsExt::custom_flags(options.write(true), libc::O_NONBLOCK);
        let busy = options.truncate(true).open(&path).unwrap_err();
        assert_eq!(busy.raw_os_error(), Some(libc::EWOULDBLOCK));
        assert!(!has_lease(&file));
        assert_eq!(fs::metadata(&path).unwrap().len(), PAGE as u64);
        thread::scope(|scope| {
            let writer = scope.spawn(|| fs::write(&path, "new").unwrap());
            drop(file);
            writer.join().unwrap();
        });
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
