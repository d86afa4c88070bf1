//! The four functions that the compiler calls, and the one it wants to exist: there is no libc below the image.
//!
//! String instructions, because the compiler would turn a loop back into a call to the function it stands in.

use core::arch::asm;

/// Copies `len` bytes forwards, as much of it as can be eight at a time.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; DF is clear, as the ABI has it.
    unsafe {
        asm!("rep movsq", "mov ecx, {rest:e}", "rep movsb", rest = in(reg) len % 8,
            inout("rcx") len / 8 => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// Copies `len` bytes, of which some may be in both ranges.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: `to` does not begin within the source, so that copying forwards reads each byte before it is
        // overwritten.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: the caller vouches for both ranges; `to` lies behind `from`, so copying backwards is right. `len` is
    // not 0 here. DF is clear again at the end.
    unsafe {
        asm!("std", "rep movsb", "cld",
            inout("rcx") len => _, inout("rdi") to.add(len - 1) => _, inout("rsi") from.add(len - 1) => _,
            options(nostack));
    }
    to
}

/// Fills `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range; DF is clear, as the ABI has it.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte.to_le_bytes()[0],
            options(nostack, preserves_flags));
    }
    to
}

/// Compares `len` bytes.
// Called some 40 times: each call is shorter than the function.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    let (last_one, last_other): (*const u8, *const u8);
    // SAFETY: the caller vouches for both ranges. `cmp ecx, ecx` sets ZF, so that 0 bytes are equal.
    unsafe {
        let differ: u8;
        asm!("cmp ecx, ecx", "repe cmpsb", "setne {differ}", differ = out(reg_byte) differ,
            inout("rcx") len => _, inout("rsi") one => last_one, inout("rdi") other => last_other,
            options(nostack));
        if differ == 0 { 0 } else { i32::from(*last_one.sub(1)) - i32::from(*last_other.sub(1)) }
    }
}

/// Compares `len` bytes for equality.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { memcmp(one, other, len) }
}

/// The prebuilt core library names it; with `panic = "abort"` nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
