//! Patterns for the lines of a log: the kernel's format strings, with what their values may look like.
//!
//! That is strict: the name of a process, which its user chooses, may stand where other lines have the kernel's words.

use crate::text::{Buffer, Text};

/// Longest name of a process with its number; and the longest value that may be anything. The line of a process that
/// ends by a signal names a file, but further behind.
const TASK: usize = 23;
const ANYTHING: usize = 40;
/// So far a value other than a file or a location goes, with what follows: a line that is none costs little then.
const NEAR: usize = 80;

/// What a line tells by its values.
#[derive(Clone, Copy, Default)]
pub struct Told {
    pub report: Text<48>,
    pub location: Text<64>,
    pub process: Text<15>,
}

/// Does the line begin as the pattern says? Then what stands behind.
///
/// | in the pattern | in the line | what it tells |
/// | --- | --- | --- |
/// | `%x` | a number, decimal or hexadecimal | |
/// | `%X` | the same, or none | behind the report's name, without zeros before it |
/// | `%w` `%W` | words: letters, digits, ` -_()#/.`; `w`: or nothing | `W`: behind the name |
/// | `%o` | up to the text's end: words of letters and `_(){},` with a capital in front, which is how the kernel was built | |
/// | `%F` `%L` | a file and a line | `F`: behind the name, `L`: as location |
/// | `%S` | a symbol with an offset or an address, and whatever follows | as location |
/// | `%C` | a process | as process |
/// | `%T` | the same with its number | as process |
/// | `%c` | anything short | |
pub fn matches<'a>(pattern: &[u8], line: &'a [u8], told: &mut Told) -> Option<&'a [u8]> {
    let (literal, mut pattern) = cut(pattern, b'%');
    let mut line = line.strip_prefix(literal)?;
    while let Some((&kind, behind)) = pattern.split_first() {
        let literal;
        (literal, pattern) = cut(behind, b'%');
        // At a pattern's end a number or words go as far as they go. All else goes up to the text's end: a name may have
        // a newline. Only behind a panic of Rust code there is a second line.
        let near = if matches!(kind, b'F' | b'L' | b'S') { line } else { line.get(..NEAR).unwrap_or(line) };
        let len = if !literal.is_empty() {
            find(near, literal)?
        } else if matches!(kind, b'X' | b'W') {
            line.iter().take_while(|byte| may_have(kind, **byte)).count()
        } else if kind == b'F' {
            cut(line, b'\n').0.len()
        } else {
            line.len()
        };
        let (mut value, rest) = line.split_at_checked(len)?;
        line = rest.get(literal.len()..)?;
        let fits = match kind {
            b'c' => len <= ANYTHING,
            b'C' | b'T' => len <= TASK,
            b'o' => {
                let is_option = |word: &[u8]| word.first().is_none_or(u8::is_ascii_uppercase);
                value.iter().all(|byte| may_have(kind, *byte))
                    && value.split(|byte| *byte == b' ').all(is_option)
            }
            b'S' => find(cut(value, b' ').0, b"0x").is_some(),
            b'F' | b'L' => {
                let is_file = !value.contains(&b' ');
                // Without folders.
                value = value.rsplit(|byte| *byte == b'/').next()?;
                is_file && cut(value, b':').1.first()?.is_ascii_digit()
            }
            _ => value.iter().all(|byte| may_have(kind, *byte)) && (len != 0 || matches!(kind, b'X' | b'w')),
        };
        if !fits {
            return None;
        }
        told.put(kind, value);
    }
    Some(line)
}

/// What stands before the first such byte, and what behind it.
#[inline(never)]
pub fn cut(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == at).unwrap_or(text.len());
    let (before, behind) = text.split_at_checked(end).unwrap_or((text, &[]));
    (before, behind.get(1..).unwrap_or(&[]))
}

/// Does the text begin as one in a list?
#[inline(never)]
pub fn begins(text: &[u8], mut list: &[u8]) -> bool {
    while !list.is_empty() {
        let begin;
        (begin, list) = cut(list, b' ');
        if text.starts_with(begin) {
            return true;
        }
    }
    false
}

/// May a value of this kind have this byte?
fn may_have(kind: u8, byte: u8) -> bool {
    match kind {
        b'w' | b'W' => byte.is_ascii_alphanumeric() || b" -_()#/.".contains(&byte),
        b'o' => byte.is_ascii_alphabetic() || b" _(){},".contains(&byte),
        _ => byte.is_ascii_hexdigit(),
    }
}

impl Told {
    /// Forgets it.
    pub fn clear(&mut self) {
        self.report.clear();
        self.location.clear();
        self.process.clear();
    }

    /// Takes a value.
    #[inline(never)]
    fn put(&mut self, kind: u8, value: &[u8]) {
        let mut value = value;
        if kind == b'X' {
            value = value.get(value.iter().take_while(|byte| **byte == b'0').count()..).unwrap_or(value);
        }
        if kind == b'T' || value.ends_with(b":") {
            value = value.get(..value.iter().rposition(|byte| *byte == b':').unwrap_or(0)).unwrap_or(value);
        }
        match kind {
            b'X' | b'W' | b'F' => {
                // A second one.
                if self.report.as_bytes().last().is_some_and(u8::is_ascii_alphanumeric) {
                    self.report.byte(b' ');
                }
                self.report.bytes(if value.is_empty() { b"0" } else { value });
            }
            b'C' | b'T' => {
                self.process.bytes(value.trim_ascii_end());
            }
            b'L' | b'S' => location(&mut self.location, value),
            _ => {}
        }
    }
}

/// Puts `symbol+0x12/0x34 [module]` as `symbol+12 [module]`.
#[inline(never)]
pub fn location(text: &mut Buffer<[u8]>, value: &[u8]) {
    let (symbol, size) = cut(value, b'/');
    let (name, offset) = cut(symbol, b'+');
    text.bytes(name);
    if let [_, _, offset @ ..] = offset {
        text.byte(b'+').bytes(offset);
    }
    if let (_, [b'[', module @ ..]) = cut(size, b' ') {
        text.bytes(b" [").bytes(cut(cut(module, b']').0, b' ').0).byte(b']');
    }
}

/// Where `what` begins in `text`.
#[inline(never)]
pub fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let first = what.first()?;
    let starts = |at: &usize| text.get(*at..).is_some_and(|rest| rest.starts_with(what));
    text.iter().enumerate().filter(|(_, byte)| *byte == first).map(|(at, _)| at).find(starts)
}
