//! The system calls and the one instruction that need `unsafe`, each with its reason; nothing else is done here.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, FromRawFd},
    time::{Duration, Instant},
};

// `include/uapi/linux/kexec.h`
const KEXEC_FILE_UNLOAD: libc::c_ulong = 1;
const KEXEC_FILE_ON_CRASH: libc::c_ulong = 2;
const KEXEC_FILE_NO_INITRAMFS: libc::c_ulong = 4;

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
/// The kernel's. For [`Place::Crash`] only EPERM (but for lockdown), EBUSY and ENOSYS leave armed what was armed:
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

/// A file with these bytes that lives in memory only and is gone when it is closed.
///
/// # Errors
/// When there is no memory for it.
pub fn memory_file(name: &CStr, bytes: &[u8]) -> io::Result<File> {
    let create = |flags| {
        // SAFETY: `name` is a NUL-terminated string that lives through the call.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) };
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
    };
    // Nobody is going to execute it, and sysctl vm.memfd_noexec may demand to say so; before Linux 6.3 one could not.
    let fd = match create(libc::MFD_NOEXEC_SEAL) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(0)?,
        result => result?,
    };
    // SAFETY: `fd` is open, just made, and owned by nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(bytes)?;
    Ok(file)
}

/// Frequency of the TSC in kHz, measured against the system's clock for 50 ms. Only where the TSC runs at one rate
/// in all power states (`constant_tsc` and `nonstop_tsc`) does the number hold at other times.
#[must_use]
pub fn measure_tsc_khz() -> u32 {
    let (tsc, time) = tsc_and_time();
    std::thread::sleep(Duration::from_millis(50));
    let (later_tsc, later_time) = tsc_and_time();
    let nanoseconds = (later_time - time).as_nanos().max(1);
    let khz = u128::from(later_tsc.wrapping_sub(tsc)) * 1_000_000 / nanoseconds;
    u32::try_from(khz).unwrap_or(u32::MAX)
}

/// The TSC and the time, read as close together as they were in one of ten tries: we may be interrupted in between.
fn tsc_and_time() -> (u64, Instant) {
    // SAFETY: every x86_64 CPU has the instruction; where a kernel forbids it to user space (prctl PR_SET_TSC, never
    // set for a program that did not ask for it) it would end us with a signal and break nothing.
    let rdtsc = || unsafe { std::arch::x86_64::_rdtsc() };
    let tries = std::array::from_fn::<_, 10, _>(|_| {
        let before = rdtsc();
        let time = Instant::now();
        let took = rdtsc().wrapping_sub(before);
        (took, before.wrapping_add(took / 2), time)
    });
    let (_, tsc, time) = tries.into_iter().min_by_key(|(took, ..)| *took).unwrap_or((0, 0, Instant::now()));
    (tsc, time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    #[test]
    fn a_memory_file_holds_its_bytes() {
        let mut file = memory_file(c"test", b"kernel").unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kernel");
    }

    #[test]
    fn the_tsc_measures_the_same_twice() {
        let (one, other) = (f64::from(measure_tsc_khz()), f64::from(measure_tsc_khz()));
        assert!(one > 10_000.0 && (one / other - 1.0).abs() < 0.05, "{one} {other}");
    }
}
