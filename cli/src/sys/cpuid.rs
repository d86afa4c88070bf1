//! What the CPU says of encrypted memory.

use std::arch::x86_64::{__cpuid, __get_cpuid_max};

/// EAX of CPUID leaf 0x8000001f (AMD64 APM 3, "Encrypted Memory Capabilities"): bit 0 SME, 1 SEV, 3 SEV-ES, 4 SEV-SNP.
/// 0 where the CPU has no such leaf. In a virtual machine these are the machine's own (QEMU sets them for such a guest
/// alone), elsewhere they are what guests could have.
#[must_use]
pub fn encrypted_virtualization() -> u32 {
    const LEAF: u32 = 0x8000_001f;
    #[allow(unused_unsafe, reason = "safe from Rust 1.94 on, and unsafe in ours")]
    // SAFETY: every x86_64 CPU has the instruction, with both leaves that are asked for.
    unsafe {
        if __get_cpuid_max(0x8000_0000).0 < LEAF { 0 } else { __cpuid(LEAF).eax }
    }
}
