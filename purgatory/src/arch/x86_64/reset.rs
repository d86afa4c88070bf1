//! The CPU's own ways not to go on: what is left when no device resets the machine, or when it is to stay as it is.

use core::arch::asm;

/// Resets the CPU by a triple fault: an exception with no table to go by. What is left when nothing else resets.
pub fn triple_fault() -> ! {
    let nothing = [0u8; 10];
    loop {
        // SAFETY: nothing runs after this.
        unsafe { asm!("lidt [{}]", "ud2", in(reg) nothing.as_ptr()) };
    }
}

/// Halts the CPU for ever.
pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off; an NMI is returned from.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}
