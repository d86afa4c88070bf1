//! x86_64: a PC, with I/O ports, ttyS0 at 0x3f8, a VGA text screen and a reset control register.

use crate::hw::{Register, Registers};

/// ELF machine of its core files (EM_X86_64).
pub const ELF_MACHINE: u16 = 62;

/// `struct elf_prstatus` (Linux `include/linux/elfcore.h`, `arch/x86/include/asm/user_64.h`): offsets from its start.
pub mod prstatus {
    /// Bytes up to RSP and SS, the last that is needed.
    pub const LEN: usize = 280;
    /// `pr_pid`.
    pub const PID: usize = 32;
    /// RIP.
    pub const PC: usize = 240;
    /// What tells the CPU's mode: the code segment's selector.
    pub const MODE: usize = 248;

    /// Was the CPU in user space? The selector's requested privilege level is 3.
    #[must_use]
    pub fn is_user(mode: u64) -> bool {
        mode & 3 == 3
    }
}

/// The code location in a register dump, behind the kernel's code segment, as a pattern of `crash::cause`.
pub const LOG_PC: &str = "RIP: 0010:%S";
/// What stands before a call trace in the log.
pub const LOG_TRACE: &str = "Call Trace:";

/// The I/O ports of ttyS0 to ttyS3 on a PC.
pub const TTY_S: &[Register] =
    &[Register::Port(0x3f8), Register::Port(0x2f8), Register::Port(0x3e8), Register::Port(0x2e8)];

/// I/O ports that no parameter may name, first and last: what is written there wrecks or resets a PC. DMA and interrupt
/// controllers, Super I/O, timer, keyboard and embedded controller, NMI status and mask, CMOS clock, A20 gate and fast reset, SMI
/// command and status, up to where boards have room for others (BT is at 0xe4 by the IPMI specification); PCI
/// configuration and reset control.
pub const RESERVED_PORTS: &[(u16, u16)] = &[(0x00, 0xdf), (0xcf8, 0xcff)];

/// Of these the one that is the firmware's: it says itself what is to be written there for an SMI (Intel PCH, APM_CNT).
pub const FIRMWARE_PORT: Option<u16> = Some(0xb2);

/// The VGA text screen's buffer, at its address since the first PC.
pub const TEXT_SCREEN: Option<u64> = Some(0xb8000);

/// Tries to reset the machine by the way of this number; false when there is none of it.
pub fn reset<R: Registers>(registers: &mut R, way: usize) -> bool {
    match way {
        // Port 0xcf9 (Intel PCH, "Reset Control Register"): system reset, then CPU reset with it.
        0 => {
            const CONTROL: Register = Register::Port(0xcf9);
            let control = registers.get(CONTROL) & !0x0e;
            registers.put(CONTROL, control | 0x02);
            registers.put(CONTROL, control | 0x06);
        }
        // The keyboard controller's output port, pulsed low on the reset line.
        1 => registers.put(Register::Port(0x64), 0xfe),
        _ => return false,
    }
    true
}
