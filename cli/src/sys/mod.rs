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

// `include/uapi/linux/kexec.h`
const KEXEC_ON_CRASH: libc::c_ulong = 1;
const KEXEC_UPDATE_ELFCOREHDR: libc::c_ulong = 4;
const KEXEC_ARCH_X86_64: libc::c_ulong = 62 << 16;
const KEXEC_SEGMENT_MAX: usize = 16;

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
/// that segment by its first bytes. It may be said only where /sys/kernel/crash_elfcorehdr_size exists (Linux 6.5 and
/// later, CONFIG_CRASH_HOTPLUG). The newer KEXEC_CRASH_HOTPLUG_SUPPORT (8, Linux 6.10) means the same on x86
/// (`arch_crash_hotplug_support` in `arch/x86/kernel/crash.c`), and 6.5 to 6.9 refuse it.
///
/// # Errors
/// The kernel's. For [`Place::Crash`] what was armed stays armed on EPERM, EACCES, EBUSY, ENOSYS, and on EINVAL for
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

/// Random bytes, when the kernel has some ready.
#[must_use]
pub fn random_bytes() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    // SAFETY: the kernel writes at most `bytes.len()` bytes at the pointer, which is exclusively ours.
    let len = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    (usize::try_from(len) == Ok(bytes.len())).then_some(bytes)
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

// `include/uapi/linux/ipmi.h`
const IPMICTL_RECEIVE_MSG_TRUNC: libc::c_ulong = 0xc030_690b;
const IPMICTL_SEND_COMMAND: libc::c_ulong = 0x8028_690d;
const IPMI_SYSTEM_INTERFACE_ADDR_TYPE: libc::c_int = 0x0c;
const IPMI_BMC_CHANNEL: libc::c_short = 0xf;
const IPMI_RESPONSE_RECV_TYPE: libc::c_int = 1;

/// `struct ipmi_system_interface_addr`; the driver may write back any `struct ipmi_addr`, of 40 bytes.
#[repr(C)]
struct IpmiAddr {
    addr_type: libc::c_int,
    channel: libc::c_short,
    data: [u8; 34],
}

const _: () = assert!(size_of::<IpmiAddr>() == 40);

/// `struct ipmi_msg`.
#[repr(C)]
struct IpmiMsg {
    netfn: u8,
    cmd: u8,
    data_len: u16,
    data: *mut u8,
}

/// `struct ipmi_req`.
#[repr(C)]
struct IpmiReq {
    addr: *mut IpmiAddr,
    addr_len: libc::c_uint,
    msgid: libc::c_long,
    msg: IpmiMsg,
}

/// `struct ipmi_recv`.
#[repr(C)]
struct IpmiRecv {
    recv_type: libc::c_int,
    addr: *mut IpmiAddr,
    addr_len: libc::c_uint,
    msgid: libc::c_long,
    msg: IpmiMsg,
}

// The size is in the numbers' bits 29:16.
const _: () = assert!(size_of::<IpmiReq>() == (IPMICTL_SEND_COMMAND >> 16 & 0x3fff) as usize);
const _: () = assert!(size_of::<IpmiRecv>() == (IPMICTL_RECEIVE_MSG_TRUNC >> 16 & 0x3fff) as usize);

/// Gives the IPMI driver a command for the BMC itself, LUN 0. Its answer comes back with `msgid`.
///
/// # Errors
/// The driver's.
pub fn ipmi_send(device: &File, msgid: i64, netfn: u8, cmd: u8, data: &[u8]) -> io::Result<()> {
    let mut addr = IpmiAddr {
        addr_type: IPMI_SYSTEM_INTERFACE_ADDR_TYPE,
        channel: IPMI_BMC_CHANNEL,
        data: [0; 34], // the LUN and nothing
    };
    let data_len = u16::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let request = IpmiReq {
        addr: &raw mut addr,
        // `struct ipmi_system_interface_addr` alone.
        addr_len: 8,
        msgid,
        msg: IpmiMsg { netfn, cmd, data_len, data: data.as_ptr().cast_mut() },
    };
    // SAFETY: the driver reads `request`, `addr_len` bytes at `addr` and `data_len` at `data`, all alive through the
    // call; it writes nothing. Any other device refuses the number.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), IPMICTL_SEND_COMMAND, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a message that waits in the IPMI driver into `data`: returns its `msgid` when it is an answer, and its
/// length, completion code included.
///
/// # Errors
/// The driver's: EAGAIN when none waits, EMSGSIZE when it is longer than `data` (it is lost then).
pub fn ipmi_receive(device: &File, data: &mut [u8]) -> io::Result<(Option<i64>, usize)> {
    let mut addr = IpmiAddr { addr_type: 0, channel: 0, data: [0; 34] };
    let mut message = IpmiRecv {
        recv_type: 0,
        addr: &raw mut addr,
        addr_len: size_of::<IpmiAddr>() as libc::c_uint,
        msgid: 0,
        msg: IpmiMsg {
            netfn: 0,
            cmd: 0,
            data_len: u16::try_from(data.len()).unwrap_or(u16::MAX),
            data: data.as_mut_ptr(),
        },
    };
    // SAFETY: the driver writes `message`, at most `addr_len` bytes at `addr` and at most `data_len` at `data`, which
    // are exclusively ours. Any other device refuses the number.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), IPMICTL_RECEIVE_MSG_TRUNC, &raw mut message) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let answer = (message.recv_type == IPMI_RESPONSE_RECV_TYPE).then_some(message.msgid);
    Ok((answer, usize::from(message.msg.data_len).min(data.len())))
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
