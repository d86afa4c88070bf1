//! What a crash and its cause are known by: an id that no other crash has, and a signature that the same cause has on
//! every machine. docs/sel-format.md says how other programs compute them.

use super::Cause;
use crate::text::{Buffer, Text};

/// FNV-1a of 64 bits (RFC 9923), folded to the length that is needed: a few lines in any language, and a few bytes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Fnv {
    /// Of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes these bytes, too.
    #[must_use]
    #[inline(never)]
    pub const fn bytes(mut self, mut bytes: &[u8]) -> Self {
        while let [byte, rest @ ..] = bytes {
            self.0 = (self.0 ^ *byte as u64).wrapping_mul(0x0100_0000_01b3);
            bytes = rest;
        }
        self
    }

    /// So many bits of it, 32 to 63.
    #[must_use]
    pub const fn fold(self, bits: usize) -> u64 {
        (self.0 ^ self.0 >> bits) & ((1 << bits) - 1)
    }
}

/// Bits of an id. Of a million crashes two have the same one with a probability of 0.04 %.
const ID_BITS: usize = 50;
/// Its characters: Crockford's base 32, which has no `i`, `l` and `o` to be taken for digits.
const ID_LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Bits in each of them.
const LETTER_BITS: usize = 5;
/// How many there are.
pub const ID_LEN: usize = ID_BITS / LETTER_BITS;

/// What a crash is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CrashId(u64);

impl CrashId {
    /// The id with this hash.
    #[must_use]
    pub fn new(hash: Fnv) -> Self {
        Self(hash.fold(ID_BITS))
    }

    /// Appends its characters.
    pub fn put(self, text: &mut Buffer<[u8]>) {
        for left in (0..ID_LEN).rev() {
            let letter = (self.0 >> (left * LETTER_BITS)) as usize % ID_LETTERS.len();
            text.byte(ID_LETTERS.get(letter).copied().unwrap_or(0));
        }
    }

    /// The id that has these characters.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let letter = |byte: &u8| ID_LETTERS.iter().position(|letter| letter == byte);
        let id = text.iter().try_fold(0, |id, byte| Some(id << LETTER_BITS | letter(byte)? as u64))?;
        (text.len() == ID_LEN).then_some(Self(id))
    }
}

/// So much of a report counts: what is longer may be cut.
const REPORT_LEN: usize = 44;
/// The longest text that a signature is of.
pub const SIGNATURE_TEXT_LEN: usize = 256;

/// The signature of a cause; `None` where nothing is known of it.
#[must_use]
pub fn signature(cause: &Cause) -> Option<u32> {
    let mut hash = Fnv::default();
    parts(cause, &mut |part| hash = hash.bytes(part));
    (hash != Fnv::default()).then(|| hash.fold(32) as u32)
}

/// What the signature is a hash of, for people: `NULL deref at < null_pointer [crash] < do_one_initcall`.
#[must_use]
pub fn signature_text(cause: &Cause) -> Text<SIGNATURE_TEXT_LEN> {
    let mut text = Text::new();
    parts(cause, &mut |part| {
        text.bytes(part);
    });
    text
}

/// Hands on what of a cause is the same on every machine: the report's kind (the reason's where there was none), the
/// function and its module, the functions that called it.
fn parts(cause: &Cause, part: &mut dyn FnMut(&[u8])) {
    let report = if cause.report.is_empty() { cause.reason.as_bytes() } else { cause.report.as_bytes() };
    part(kind(report));
    function(cause.rip.as_bytes(), part);
    for caller in &cause.callers {
        function(caller.as_bytes(), part);
    }
}

/// A report's first words, up to one that differs from crash to crash. The very first one always counts.
fn kind(report: &[u8]) -> &[u8] {
    let mut end = 0;
    for (at, word) in report.split(|byte| *byte == b' ').enumerate() {
        let behind = end + word.len() + usize::from(at > 0);
        if at > 0 && (behind >= REPORT_LEN || differs(word)) {
            break;
        }
        end = behind;
        // A process's name follows.
        if matches!(word, b"task" | b"process") {
            break;
        }
    }
    report.get(..end).unwrap_or(report)
}

/// Is it a number, an address, a CPU, a line of a file, or a process with its id? All of them have digits, but for an
/// address of letters alone.
fn differs(word: &[u8]) -> bool {
    let mut is_word = false;
    for byte in word {
        match byte {
            b'0'..=b'9' => return true,
            b'g'..=b'z' | b'A'..=b'Z' => is_word = true,
            _ => {}
        }
    }
    !is_word
}

/// Hands on a function's name and its module, without the offset and without what the compiler says behind a full stop
/// (`.isra.0`, `.cold`).
fn function(place: &[u8], part: &mut dyn FnMut(&[u8])) {
    // An address begins with a digit.
    let mut is_name = place.first().is_some_and(|byte| !byte.is_ascii_digit());
    if is_name {
        part(b" < ");
    }
    for byte in place.chunks(1) {
        match byte {
            b"+" | b"." => is_name = false,
            // Without the bracket at its end, the module's name is cut.
            b" " => is_name = place.ends_with(b"]"),
            _ => {}
        }
        if is_name {
            part(byte);
        }
    }
}
