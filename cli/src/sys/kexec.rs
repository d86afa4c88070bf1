//! kexec_load(2) and kexec_file_load(2), and what may be asked of them without loading anything.

use std::{ffi::CStr, fs::File, io, os::fd::AsRawFd};

// `include/uapi/linux/kexec.h`
const KEXEC_FILE_UNLOAD: libc::c_ulong = 1;
const KEXEC_FILE_ON_CRASH: libc::c_ulong = 2;
const KEXEC_FILE_NO_INITRAMFS: libc::c_ulong = 4;
const KEXEC_ON_CRASH: libc::c_ulong = 1;
const KEXEC_UPDATE_ELFCOREHDR: libc::c_ulong = 4;
const KEXEC_ARCH_X86_64: libc::c_ulong = 62 << 16;
const KEXEC_SEGMENT_MAX: usize = 16;

/// Which of the kernel's two places for a loaded kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The one that starts when this kernel panics.
    Crash,
    /// The one that `kexec -e` starts.
    Reboot,
}

impl Place {
    fn flags(self) -> libc::c_ulong {
        match self {
            Self::Crash => KEXEC_FILE_ON_CRASH,
            Self::Reboot => 0,
        }
    }
}

/// kexec_file_load(2).
///
/// # Errors
/// The kernel's. For [`Place::Crash`] only EPERM (but for lockdown), EBUSY and ENOSYS leave loaded what was loaded:
/// the kernel frees the old image before it reads the new one (`kernel/kexec_file.c`, the same in 5.10 and today).
pub fn kexec_file_load(place: Place, kernel: &File, initrd: Option<&File>, cmdline: &CStr) -> io::Result<()> {
    let no_initramfs = if initrd.is_none() { KEXEC_FILE_NO_INITRAMFS } else { 0 };
    let initrd = initrd.map_or(-1, File::as_raw_fd);
    let cmdline = cmdline.to_bytes_with_nul();
    // SAFETY: the kernel reads the two files, open for as long as they are borrowed, and `cmdline.len()` bytes at
    // `cmdline`, the NUL included as it demands; it writes nothing to our memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd,
            cmdline.len(),
            cmdline.as_ptr(),
            place.flags() | no_initramfs,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes away what kexec_file_load(2) or kexec_load(2) has loaded, if anything.
///
/// # Errors
/// The kernel's.
pub fn kexec_file_unload(place: Place) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: with KEXEC_FILE_UNLOAD the kernel reads neither the files nor the command line.
    let result = unsafe {
        libc::syscall(libc::SYS_kexec_file_load, -1, -1, 0usize, nothing, place.flags() | KEXEC_FILE_UNLOAD)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A segment for [`kexec_load`].
#[derive(Clone, Copy, Debug)]
pub struct KexecSegment<'a> {
    /// Its bytes; those of memory behind them are zeroed.
    pub data: &'a [u8],
    /// Physical address, a multiple of the page size.
    pub addr: u64,
    /// Bytes of memory, likewise.
    pub memory_size: u64,
}

/// `struct kexec_segment`.
#[repr(C)]
struct RawSegment {
    buf: *const u8,
    bufsz: usize,
    mem: u64,
    memsz: usize,
}

/// kexec_load(2). With `hotplug` the kernel keeps the ELF core header up to date on CPU and memory hotplug; it knows
/// that segment by its first bytes. It may be set only where /sys/kernel/crash_elfcorehdr_size exists (Linux 6.5 and
/// later, CONFIG_CRASH_HOTPLUG). The newer KEXEC_CRASH_HOTPLUG_SUPPORT (8, Linux 6.10) means the same on x86
/// (`arch_crash_hotplug_support` in `arch/x86/kernel/crash.c`), and 6.5 to 6.9 refuse it.
///
/// # Errors
/// The kernel's. For [`Place::Crash`] what was loaded stays loaded on EPERM, EACCES, EBUSY, ENOSYS, and on EINVAL for
/// the flags; the kernel frees it before it looks at the segments (`do_kexec_load` in `kernel/kexec.c`).
pub fn kexec_load(place: Place, entry: u64, segments: &[KexecSegment], hotplug: bool) -> io::Result<()> {
    let segments: Vec<_> = segments
        .iter()
        .map(|segment| RawSegment {
            buf: segment.data.as_ptr(),
            bufsz: segment.data.len(),
            mem: segment.addr,
            memsz: segment.memory_size as usize,
        })
        .collect();
    let on_crash = if place == Place::Crash { KEXEC_ON_CRASH } else { 0 };
    let hotplug = if hotplug { KEXEC_UPDATE_ELFCOREHDR } else { 0 };
    // SAFETY: the kernel reads `segments.len()` segments at the pointer, and `bufsz` bytes at each one's `buf`, all
    // borrowed until it returns; it writes nothing to our memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_load,
            entry,
            segments.len(),
            segments.as_ptr(),
            on_crash | hotplug | KEXEC_ARCH_X86_64,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes away what is loaded, with kexec_load(2).
///
/// # Errors
/// The kernel's.
pub fn kexec_unload(place: Place) -> io::Result<()> {
    kexec_load(place, 0, &[], false)
}

/// Would kexec_load(2) be allowed to load a dump kernel? Asks with more segments than the kernel takes, which it
/// refuses as EINVAL after it has checked whether we may call, and before it does anything (`kexec_load_check` in
/// `kernel/kexec.c`). It costs one of kernel.kexec_load_limit_panic, so do not ask where that is set.
///
/// # Errors
/// EPERM, EACCES (IMA) or ENOSYS.
pub fn kexec_load_is_allowed() -> io::Result<()> {
    let none = KexecSegment { data: &[], addr: 0, memory_size: 0 };
    match kexec_load(Place::Crash, 0, &[none; KEXEC_SEGMENT_MAX + 1], false) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}
