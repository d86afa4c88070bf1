//! What the loader tells the dump kernel, and us: the command line.

use core::slice;

/// Offsets in `struct boot_params` (Linux `Documentation/arch/x86/zero-page.rst`).
const EXT_CMD_LINE_PTR: u64 = 0x0c8;
const CMD_LINE_PTR: u64 = 0x228;
const CMDLINE_SIZE: u64 = 0x238;

/// Longest command line that is read, in bytes. Linux' own limit for x86 is 2048.
const LONGEST: u32 = 4096;

/// The dump kernel's command line; empty when there is none.
pub fn command_line(boot_params: u64) -> &'static str {
    let field = |offset: u64| {
        // SAFETY: boot_params is what the 64-bit boot protocol has in RSI: mapped, and ours to read until the jump.
        unsafe { ((boot_params + offset) as *const u32).read_unaligned() }
    };
    let address = u64::from(field(EXT_CMD_LINE_PTR)) << 32 | u64::from(field(CMD_LINE_PTR));
    if address == 0 {
        return "";
    }
    let longest = u64::from(field(CMDLINE_SIZE).min(LONGEST));
    // SAFETY: the loader put a NUL-terminated command line of at most cmdline_size bytes there, and the kernel is
    // about to read it from the same place; no byte behind the NUL is touched. Nobody writes to it while the image
    // runs.
    unsafe {
        let len = (0..longest).take_while(|at| *((address + at) as *const u8) != 0).count();
        text(slice::from_raw_parts(address as *const u8, len))
    }
}

/// The text up to the first NUL, as far as it is UTF-8.
pub fn text(bytes: &[u8]) -> &str {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or(&[]);
    match str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            text.get(..error.valid_up_to()).and_then(|text| str::from_utf8(text).ok()).unwrap_or("")
        }
    }
}
