//! I/O ports by their instructions, where the kernel lets a program use them (ioperm(2)).

use std::{arch::asm, io};

/// May this thread use the port from now on? What holds for a thread does not for others, so each access asks first: that is
/// no slower than /dev/port, which is a system call an access, too.
fn permit(port: u16) -> io::Result<()> {
    // SAFETY: ioperm(2) takes three numbers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioperm, libc::c_ulong::from(port), 1 as libc::c_ulong, 1) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Can ports be used at all?
///
/// # Errors
/// EPERM without privileges and under lockdown, ENOSYS where the kernel has no ioperm(2).
pub fn port_permission() -> io::Result<()> {
    // POST codes: nobody reads or writes it here.
    permit(0x80)
}

/// Reads a port.
///
/// # Errors
/// As [`port_permission`].
pub fn port_get(port: u16) -> io::Result<u8> {
    permit(port)?;
    let value;
    // SAFETY: this thread may use the port, so that the instruction does not fault; it reads no memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    Ok(value)
}

/// Writes a port.
///
/// # Errors
/// As [`port_permission`].
pub fn port_put(port: u16, value: u8) -> io::Result<()> {
    permit(port)?;
    // SAFETY: this thread may use the port, so that the instruction does not fault. What the device does then is the caller's
    // to answer for, as with a byte written to /dev/port.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
    Ok(())
}
