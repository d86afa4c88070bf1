//! The kernel's random numbers.

/// Random bytes, when the kernel has some ready.
#[must_use]
pub fn random_bytes() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    // SAFETY: the kernel writes at most `bytes.len()` bytes at the pointer, which is exclusively ours.
    let len = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    (usize::try_from(len) == Ok(bytes.len())).then_some(bytes)
}
