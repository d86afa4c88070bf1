//! A line of text in a fixed buffer: what `core::fmt` would do, without its panics and its size.

use core::ops::{Deref, DerefMut};

/// Text of at most `N` bytes. What does not fit is cut off.
pub type Text<const N: usize> = Buffer<[u8; N]>;

/// The text and its room. All that is done to it is a method of the unsized `Buffer<[u8]>`, so that the image has each
/// method once and not once a length.
pub struct Buffer<B: ?Sized> {
    len: usize,
    bytes: B,
}

// Derived, it would ask that the unsized `Buffer<[u8]>` be cloned, too.
#[expect(clippy::expl_impl_clone_on_copy)]
impl<const N: usize> Clone for Text<N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<const N: usize> Copy for Text<N> {}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Text<N> {
    /// No text yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { len: 0, bytes: [0; N] }
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = Buffer<[u8]>;

    fn deref(&self) -> &Buffer<[u8]> {
        self
    }
}

impl<const N: usize> DerefMut for Text<N> {
    fn deref_mut(&mut self) -> &mut Buffer<[u8]> {
        self
    }
}

impl Buffer<[u8]> {
    /// The text so far.
    // The check of the length, at each of a hundred calls, is 300 bytes of the image.
    #[must_use]
    #[inline(never)]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Is there no text yet?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes fit behind it.
    #[must_use]
    pub fn room(&self) -> usize {
        self.bytes.len().saturating_sub(self.len)
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends one byte as it is.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
        self
    }

    /// Appends a string.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Appends bytes from elsewhere; whatever is not printable ASCII becomes `?`.
    pub fn bytes(&mut self, text: &[u8]) -> &mut Self {
        for &byte in text {
            self.byte(if matches!(byte, 0x20..=0x7e) { byte } else { b'?' });
        }
        self
    }

    /// Appends a number in lower-case hexadecimal, without prefix or leading zeros.
    pub fn hex(&mut self, value: u64) -> &mut Self {
        self.hex_padded(value, 1)
    }

    /// Appends a number in lower-case hexadecimal with at least `digits` digits (at most 16).
    pub fn hex_padded(&mut self, value: u64, digits: u32) -> &mut Self {
        let significant = (64 - value.leading_zeros()).div_ceil(4);
        let mut left = significant.max(digits).min(16);
        while left > 0 {
            left -= 1;
            let digit = (value >> (4 * left)) as u8 & 0xf;
            self.byte(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
        self
    }

    /// Appends a number in decimal.
    #[inline(never)]
    pub fn dec(&mut self, value: u64) -> &mut Self {
        self.dec_padded(value, 1, b'0')
    }

    /// Appends a number in decimal, filled up with `pad` from the left to `digits` digits (at most 20).
    pub fn dec_padded(&mut self, value: u64, digits: usize, pad: u8) -> &mut Self {
        let mut text = [pad; 20];
        let mut rest = value;
        let mut used = 0;
        for slot in text.iter_mut().rev() {
            *slot = b'0' + (rest % 10) as u8;
            rest /= 10;
            used += 1;
            if rest == 0 {
                break;
            }
        }
        for &digit in text.iter().skip(20 - used.max(digits).min(20)) {
            self.byte(digit);
        }
        self
    }
}

/// The number that 1 to 16 hexadecimal digits, and nothing else, make.
#[must_use]
pub fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |value: u64, byte| Some(value << 4 | u64::from((*byte as char).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::format;

    proptest! {
        #[test]
        fn numbers_read_as_core_fmt_writes_them(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut text = Text::<64>::new();
            text.hex(value).byte(b' ').dec(value).byte(b' ').hex_padded(value, 16);
            let expected = format!("{value:x} {value} {value:016x}");
            prop_assert_eq!(text.as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let mut text = Text::<5>::new();
        text.str("panic: why").dec(7);
        assert_eq!(text.as_bytes(), b"panic");
    }

    #[test]
    fn control_characters_never_reach_a_terminal() {
        assert_eq!(Text::<8>::new().bytes(b"a\x1b[0m\n").as_bytes(), b"a?[0m?");
    }
}
