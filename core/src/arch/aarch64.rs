//! aarch64, as far as core goes: the notes' layout and the log's texts are here and checked against Linux' headers.
//!
//! What is missing: the image's entry, exceptions and page tables (purgatory/), the loader's boot protocol (cli/,
//! boot/), a PL011 driver for `ttyAMA0`, SSIF for the BMCs of most such servers, and reset by PSCI, which is no
//! register. Until then no image is built for it; this file keeps core from becoming a PC's again.

use crate::hw::{Register, Registers};

/// ELF machine of its core files (EM_AARCH64).
pub const ELF_MACHINE: u16 = 183;

/// `struct elf_prstatus` (Linux `include/linux/elfcore.h`, `arch/arm64/include/uapi/asm/ptrace.h`): offsets from its
/// start.
pub mod prstatus {
    /// Bytes up to PSTATE, the last that is needed.
    pub const LEN: usize = 384;
    /// `pr_pid`.
    pub const PID: usize = 32;
    /// PC.
    pub const PC: usize = 368;
    /// What tells the CPU's mode: PSTATE.
    pub const MODE: usize = 376;

    /// Was the CPU in user space? PSTATE.M is EL0t.
    #[must_use]
    pub fn is_user(mode: u64) -> bool {
        mode & 0xf == 0
    }
}

/// The code location in a register dump, as a pattern of `crash::cause`.
pub const LOG_PC: &str = "pc : %S";
/// What stands before a call trace in the log.
pub const LOG_TRACE: &str = "Call trace:";

/// No UART has a place of its own on all such machines.
pub const TTY_S: &[Register] = &[];

/// There are no I/O ports.
pub const RESERVED_PORTS: &[(u16, u16)] = &[];

/// Nor one of the firmware's.
pub const FIRMWARE_PORT: Option<u16> = None;

/// There is no text screen.
pub const TEXT_SCREEN: Option<u64> = None;

/// There is no way to reset by a register.
pub fn reset<R: Registers>(_: &mut R, _: usize) -> bool {
    false
}
