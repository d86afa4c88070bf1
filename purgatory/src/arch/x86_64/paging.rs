//! Memory-mapped registers, and memory that firmware keeps for itself.
//!
//! The crashed kernel's last page tables map RAM one to one and nothing else (Linux
//! `arch/x86/kernel/machine_kexec_64.c`, `init_pgtable`): both need entries of our own. They hang on a
//! copy of the topmost table, in a slot of the upper half that nobody uses, so that the tables that are there stay as
//! they are; the way out (`entry`) loads those again. Without either in the plan nothing here is touched.

use core::arch::asm;
use core::ptr::{addr_of, addr_of_mut};

const ENTRIES: usize = 512;
/// Entry: present, writable.
const TABLE: u64 = 1 << 0 | 1 << 1;
/// Entry: the same, uncached (PCD and PWT: Intel SDM volume 3, 11.12, PAT entry 3 is UC at reset and in Linux).
const DEVICE: u64 = TABLE | 1 << 3 | 1 << 4;
/// Where an entry's address is.
const ADDRESS: u64 = ((1 << 52) - 1) & !0xfff;
/// CR4.LA57: five levels.
const LA57: u64 = 1 << 12;

#[repr(C, align(4096))]
struct Tables([[u64; ENTRIES]; 5]);

/// The copy of the topmost table, and one of each level below.
static mut TABLES: Tables = Tables([[0; ENTRIES]; 5]);
/// Virtual address of the first page of ours; 0 as long as there is none.
static mut WINDOW: u64 = 0;

unsafe extern "C" {
    /// What the way out loads into CR3, 0 for nothing.
    static mut saved_cr3: u64;
}

/// Where the page that holds this physical address is mapped, uncached, with the address's offset in it. `None` when no more
/// pages can be mapped.
pub fn map(addr: u64) -> Option<*mut u8> {
    enter(addr, DEVICE)
}

/// The same, write-back (as the MTRRs have it), up to the next call.
pub fn map_memory(addr: u64) -> Option<*mut u8> {
    enter(addr, TABLE)
}

#[inline(never)]
fn enter(addr: u64, kind: u64) -> Option<*mut u8> {
    // SAFETY: one CPU, no interrupts: nobody else has these statics, and no reference to them outlives this function.
    let (tables, window) = unsafe { (&mut (*addr_of_mut!(TABLES)).0, &mut *addr_of_mut!(WINDOW)) };
    if *window == 0 {
        *window = open(tables)?;
    }
    let page = addr & ADDRESS;
    let (memory, leaf) = tables.last_mut()?.split_first_mut()?;
    let (entry, slot) = if kind == DEVICE {
        // Once there, an entry stays.
        let slot = leaf.iter().position(|entry| *entry == 0 || *entry & ADDRESS == page)?;
        (leaf.get_mut(slot)?, slot as u64 + 1)
    } else {
        (memory, 0)
    };
    *entry = page | kind;
    let at = *window + slot * 4096;
    // SAFETY: what the CPU keeps of this page, it reads again.
    unsafe { asm!("invlpg [{}]", in(reg) at, options(nostack, preserves_flags)) };
    Some((at + (addr & 0xfff)) as *mut u8)
}

/// Hangs our tables on a copy of the topmost one and loads it; returns the first virtual address that they map.
fn open(tables: &mut [[u64; ENTRIES]; 5]) -> Option<u64> {
    let (cr3, cr4): (u64, u64);
    // SAFETY: reading them changes nothing.
    unsafe {
        asm!("mov {}, cr3", "mov {}, cr4", out(reg) cr3, out(reg) cr4, options(nomem, nostack, preserves_flags));
    }
    let levels = if cr4 & LA57 == 0 { 4 } else { 5 };
    let base = addr_of!(*tables) as u64;
    let at = |table: usize| base + 4096 * table as u64;
    let top = (cr3 & ADDRESS) as *const [u64; ENTRIES];
    let (copy, below) = tables.split_first_mut()?;
    // SAFETY: the tables that the CPU walks lie in RAM, which they map one to one; if not, the page fault ends the step.
    unsafe { copy.copy_from_slice(&*top) };
    let slot = copy.iter().rposition(|entry| *entry == 0).filter(|slot| *slot >= ENTRIES / 2)?;
    // From the topmost one straight to as many levels as there are below.
    let first = below.len() + 1 - (levels - 1);
    *copy.get_mut(slot)? = at(first) | TABLE;
    for (index, table) in below.iter_mut().enumerate() {
        let next = index + 2;
        if next > first && next <= 4 {
            *table.first_mut()? = at(next) | TABLE;
        }
    }
    // SAFETY: the new topmost table maps all that the old one does, this code, its data and its stack among it.
    unsafe {
        *addr_of_mut!(saved_cr3) = cr3;
        asm!("mov cr3, {}", in(reg) base | cr3 & 0xfff, options(nostack, preserves_flags));
    }
    // Canonical: the upper half's addresses have all bits set above.
    let shift = 12 + 9 * (levels as u32 - 1);
    Some(u64::MAX << (shift + 9) | (slot as u64) << shift)
}
