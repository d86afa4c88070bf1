//! The machine behind core's traits: registers, physical memory, the time stamp counter, and which CPU this is.

use super::paging;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count, __rdtscp, _rdtsc};
use lastwords_core::arch;
use lastwords_core::budget::PLAUSIBLE_KHZ;
use lastwords_core::device::rtc::CmosRtc;
use lastwords_core::hw::{Clock, Memory, Register, Registers, Reset, Second, Wide};
use lastwords_core::sequence::ThisCpu;

/// The real machine. Whoever runs has it alone: the other CPUs are halted.
#[derive(Default)]
pub struct X86 {
    cmos: CmosRtc,
}

impl Registers for X86 {
    fn get(&mut self, register: Register) -> u8 {
        match register {
            Register::Port(port) => {
                let value;
                // SAFETY: reading a port touches no memory; the plan says which ports are ours.
                unsafe {
                    asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags));
                };
                value
            }
            Register::Memory(addr) => match paging::map(addr) {
                // SAFETY: the page was just mapped, and no Rust value lies in it: the plan names a device's register
                // there. Where none is, the bus reads as 0xff or the CPU faults, which ends the step.
                Some(register) => unsafe { register.read_volatile() },
                None => 0xff,
            },
        }
    }

    fn put(&mut self, register: Register, value: u8) {
        match register {
            // SAFETY: as above; none of the devices that are written to (KCS, RTC index, UART, reset control) reaches
            // into memory.
            Register::Port(port) => unsafe {
                asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
            },
            Register::Memory(addr) => {
                if let Some(register) = paging::map(addr) {
                    // SAFETY: as above. What the plan names as a register and is RAM would be overwritten: the tool
                    // takes addresses from the machine's tables, or from who loads it.
                    unsafe { register.write_volatile(value) };
                }
            }
        }
    }

    fn get_wide(&mut self, register: &Wide) -> u64 {
        access(register, None)
    }

    fn put_wide(&mut self, register: &Wide, value: u64) {
        access(register, Some(value));
    }
}

/// One access to a register. It may do anything to the machine, but not to what Rust has.
macro_rules! access {
    ($instruction:literal, $($operand:tt)*) => {
        asm!($instruction, $($operand)*, options(nostack, preserves_flags))
    };
}

/// Reads one of the firmware's registers, or writes this to it.
#[inline(never)]
fn access(register: &Wide, value: Option<u64>) -> u64 {
    // What lies above is not the register's.
    let mut read = 0u64;
    if register.is_port {
        let port = register.addr as u16;
        // SAFETY: core has checked which ports the firmware may name. An SMI that this causes keeps the CPU's registers.
        unsafe {
            match (value, register.bytes) {
                (Some(value), 1) => access!("out dx, al", in("dx") port, in("rax") value),
                (Some(value), 2) => access!("out dx, ax", in("dx") port, in("rax") value),
                (Some(value), _) => access!("out dx, eax", in("dx") port, in("rax") value),
                (None, 1) => access!("in al, dx", in("dx") port, inout("rax") read),
                (None, 2) => access!("in ax, dx", in("dx") port, inout("rax") read),
                (None, _) => access!("in eax, dx", in("dx") port, inout("rax") read),
            }
        }
    } else if let Some(at) = paging::map(register.addr) {
        // SAFETY: as above, and within one page; core has checked that nobody else's memory is there. A register may lie at
        // any address, where a reference may not.
        unsafe {
            match (value, register.bytes) {
                (Some(value), 1) => access!("mov [{}], {:l}", in(reg) at, in(reg) value),
                (Some(value), 2) => access!("mov [{}], {:x}", in(reg) at, in(reg) value),
                (Some(value), 4) => access!("mov [{}], {:e}", in(reg) at, in(reg) value),
                (Some(value), _) => access!("mov [{}], {:r}", in(reg) at, in(reg) value),
                (None, 1) => access!("mov {:l}, [{}]", inout(reg) read, in(reg) at),
                (None, 2) => access!("mov {:x}, [{}]", inout(reg) read, in(reg) at),
                (None, 4) => access!("mov {:e}, [{}]", inout(reg) read, in(reg) at),
                (None, _) => access!("mov {:r}, [{}]", inout(reg) read, in(reg) at),
            }
        }
    }
    read
}

/// Copies between memory of ours and memory that firmware keeps, page by page; false where it cannot be mapped.
#[inline(never)]
fn copy_firmware(addr: u64, ours: *mut u8, len: usize, writes: bool) -> bool {
    let mut done = 0;
    while done < len {
        let at = addr.wrapping_add(done as u64);
        let count = (4096 - (at & 0xfff) as usize).min(len - done);
        let Some(theirs) = paging::map_memory(at) else { return false };
        let here = ours.wrapping_add(done);
        let (from, to) = if writes { (here, theirs) } else { (theirs, here) };
        // SAFETY: `ours` has `len` bytes. The page was just mapped, and no Rust value lies in it: core has checked that it is
        // neither the crashed kernel's RAM nor reserved for the dump kernel where it writes. Where none is, the bus reads as
        // 0xff or the CPU faults, which ends the step.
        unsafe {
            asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
        done += count;
    }
    true
}

impl Memory for X86 {
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        // SAFETY: `buf` is ours. What lies at `addr` is read through the identity map, by a copy that the compiler
        // does not see through; where it is not mapped, the page fault ends the step that asked
        // (`interrupts::guard`), and no Rust value has been touched.
        unsafe {
            asm!("rep movsq", "mov ecx, {rest:e}", "rep movsb", rest = in(reg) buf.len() % 8,
                inout("rcx") buf.len() / 8 => _, inout("rdi") buf.as_mut_ptr() => _, inout("rsi") addr => _,
                options(nostack, preserves_flags));
        }
        true
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) {
        // SAFETY: core writes to the VGA text screen alone, which no Rust value lies in.
        unsafe {
            asm!("rep movsb", inout("rcx") bytes.len() => _, inout("rdi") addr => _,
                inout("rsi") bytes.as_ptr() => _, options(nostack, preserves_flags));
        }
    }

    fn read_firmware(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        copy_firmware(addr, buf.as_mut_ptr(), buf.len(), false)
    }

    fn write_firmware(&mut self, addr: u64, bytes: &[u8]) {
        copy_firmware(addr, bytes.as_ptr().cast_mut(), bytes.len(), true);
    }
}

impl Clock for X86 {
    fn ticks(&mut self) -> u64 {
        // SAFETY: every x86_64 CPU has it, and CR4.TSD does not bind ring 0.
        unsafe { _rdtsc() }
    }

    fn second(&mut self) -> Second {
        let mut cmos = self.cmos;
        let second = cmos.second(self);
        self.cmos = cmos;
        second
    }

    fn relax(&mut self) {
        core::hint::spin_loop();
    }
}

impl Reset for X86 {
    fn reset(&mut self, way: usize) -> bool {
        arch::reset(self, way)
    }
}

/// A segment that the loader put into memory.
pub fn memory(addr: u64, len: u64) -> &'static [u8] {
    // SAFETY: the loader's segments lie in reserved memory, which the identity map covers and nobody but this image
    // writes to; where it is not mapped after all, the page fault ends the step that reads it.
    unsafe { core::slice::from_raw_parts(addr as *const u8, len as usize) }
}

/// Copies `len` bytes of one segment over another one.
pub fn copy(from: u64, to: u64, len: u64) {
    // SAFETY: two of the loader's segments, as above, which do not overlap; no Rust value lies in the one that is
    // written to.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
}

/// CPUID leaf 0x80000001, EDX: RDTSCP and IA32_TSC_AUX.
const RDTSCP: u32 = 1 << 27;

/// The CPU that this runs on (Intel SDM volume 2, CPUID).
pub fn this_cpu() -> ThisCpu {
    let highest = __cpuid(0).eax;
    let topology = if highest >= 0xb { __cpuid_count(0xb, 0) } else { __cpuid_count(0, 0) };
    let apic_id = if highest >= 0xb && topology.ebx != 0 { topology.edx } else { __cpuid(1).ebx >> 24 };
    let has_rdtscp = __cpuid(0x8000_0000).eax >= 0x8000_0001 && __cpuid(0x8000_0001).edx & RDTSCP != 0;
    let tsc_aux = has_rdtscp.then(|| {
        let mut aux = 0;
        // SAFETY: the CPU says that it has the instruction; `aux` is ours.
        unsafe { __rdtscp(&raw mut aux) };
        aux
    });
    ThisCpu { apic_id, tsc_aux }
}

/// CPUID leaf 1, ECX: a hypervisor is there.
const HYPERVISOR: u32 = 1 << 31;

/// The TSC's frequency in kHz, where CPUID tells: leaf 0x15 (crystal and ratio), else the base frequency of leaf 0x16
/// (Intel SDM volume 2, CPUID), else the hypervisor's leaf 0x40000010, which VMware began and KVM and QEMU took over.
pub fn tsc_khz() -> Option<u32> {
    let highest = __cpuid(0).eax;
    if highest >= 0x15 {
        let ratio = __cpuid(0x15);
        let crystal = u64::from(ratio.ecx / 1000);
        let khz = (crystal * u64::from(ratio.ebx)).checked_div(u64::from(ratio.eax)).unwrap_or(0);
        if let Some(khz) = plausible(khz) {
            return Some(khz);
        }
    }
    if highest >= 0x16
        && let Some(khz) = plausible(u64::from(__cpuid(0x16).eax & 0xffff) * 1000)
    {
        return Some(khz);
    }
    let hypervisor = __cpuid(1).ecx & HYPERVISOR != 0 && __cpuid(0x4000_0000).eax >= 0x4000_0010;
    if hypervisor { plausible(u64::from(__cpuid(0x4000_0010).eax)) } else { None }
}

fn plausible(khz: u64) -> Option<u32> {
    u32::try_from(khz).ok().filter(|khz| PLAUSIBLE_KHZ.contains(khz))
}
