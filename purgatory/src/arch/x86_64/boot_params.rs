//! What the loader tells the dump kernel, and us: the command line.

use core::ptr::addr_of_mut;
use core::slice;
use lastwords_core::abi::PARAMETERS_LEN;
use lastwords_core::store::erst::Platform;

/// Offsets in `struct boot_params` (Linux `Documentation/arch/x86/zero-page.rst`).
const ACPI_RSDP_ADDR: u64 = 0x070;
const EXT_CMD_LINE_PTR: u64 = 0x0c8;
/// Not 0 where the loader has filled in the setup header alone: the fields before it are to be ignored then
/// (`arch/x86/include/asm/bootparam_utils.h`, `sanitize_boot_params`).
const SENTINEL: u64 = 0x1ef;
const E820_ENTRIES: u64 = 0x1e8;
const CMD_LINE_PTR: u64 = 0x228;
const CMDLINE_SIZE: u64 = 0x238;
const E820_TABLE: u64 = 0x2d0;
/// Most entries of the E820 table.
const E820_MAX: u8 = 128;

/// Longest command line that is read, in bytes. Linux' own limit for x86 is 2048.
const LONGEST: usize = 4096;

/// Copies of the command line and of the embedded parameters, in ASCII.
static mut LINE: [u8; LONGEST] = [0; LONGEST];
static mut EMBEDDED: [u8; PARAMETERS_LEN] = [0; PARAMETERS_LEN];

/// The dump kernel's command line; empty when there is none. Called once, in a step: in a wrapped kernel nothing has said
/// yet that boot_params is what the loader wrote there.
pub fn command_line(boot_params: u64) -> &'static str {
    let ext = early(boot_params, EXT_CMD_LINE_PTR) as u32;
    let address = u64::from(ext) << 32 | u64::from(field(boot_params, CMD_LINE_PTR) as u32);
    let longest = if address == 0 { 0 } else { field(boot_params, CMDLINE_SIZE) as u32 };
    // SAFETY: the loader put a NUL-terminated command line of at most cmdline_size bytes there, and the kernel is
    // about to read it from the same place; no byte behind the NUL is touched. Nobody writes to it while the image
    // runs. Where it is not mapped, the page fault ends the step.
    let byte = |at: u32| unsafe { (address.wrapping_add(u64::from(at)) as *const u8).read_volatile() };
    // SAFETY: called once, so this is the only reference.
    ascii(unsafe { &mut *addr_of_mut!(LINE) }, (0..longest).map(byte))
}

/// What the loader tells of the machine. To be called in a step. `image`: an address in the image.
pub fn platform(boot_params: u64, image: u64) -> Platform<'static> {
    let count = usize::from((field(boot_params, E820_ENTRIES) as u8).min(E820_MAX));
    Platform {
        rsdp: early(boot_params, ACPI_RSDP_ADDR),
        // SAFETY: the table is a part of boot_params, as above, and its entries are bytes.
        e820: unsafe { slice::from_raw_parts((boot_params + E820_TABLE) as *const [u8; 20], count) },
        image,
    }
}

/// What lies at an offset, as a number of eight bytes.
fn field(boot_params: u64, offset: u64) -> u64 {
    // SAFETY: boot_params is what the 64-bit boot protocol has in RSI, and ours to read until the jump. Where it is not
    // mapped, the page fault ends the step.
    unsafe { ((boot_params + offset) as *const u64).read_unaligned() }
}

/// A field before the sentinel; 0 where those are to be ignored.
fn early(boot_params: u64, offset: u64) -> u64 {
    if field(boot_params, SENTINEL) as u8 == 0 { field(boot_params, offset) } else { 0 }
}

/// The parameters embedded in the header. Called once.
pub fn embedded(parameters: &[u8; PARAMETERS_LEN]) -> &'static str {
    // SAFETY: called once, so this is the only reference.
    ascii(unsafe { &mut *addr_of_mut!(EMBEDDED) }, parameters.iter().copied())
}

/// Copies bytes up to the first NUL; `?` stands for what is not ASCII, so that a damaged word takes no other with it.
fn ascii(copy: &'static mut [u8], bytes: impl Iterator<Item = u8>) -> &'static str {
    let mut len = 0;
    for (slot, byte) in copy.iter_mut().zip(bytes.take_while(|byte| *byte != 0)) {
        *slot = if byte.is_ascii() { byte } else { b'?' };
        len += 1;
    }
    let text = copy.get(..len).unwrap_or(&[]);
    // SAFETY: ASCII is UTF-8. Checking it once more would cost half a kilobyte of code.
    unsafe { str::from_utf8_unchecked(text) }
}
