//! Patterns for the lines of a log: the kernel's format strings, with what their values may look like.
//!
//! That is strict: the name of a process, which its user chooses, may stand where other lines have the kernel's words.

use crate::text::{Buffer, Text};

/// Longest name of a process, the same with its number, and the longest value that may be anything. The line of a process
/// that ends by a signal names a file, but further behind.
const COMM: usize = 15;
const TASK: usize = 23;
const ANYTHING: usize = 40;
/// Longest number and longest words: a line that is none costs little then.
const DIGITS: usize = 20;
const WORDS: usize = 48;

/// What stands behind the name of a process in a backtrace.
static BEHIND_COMM: [u8; 32] = *b" Kdump: \n Not tainted\n Tainted: ";

/// What a line tells by its values.
#[derive(Clone, Copy, Default)]
pub struct Told {
    pub report: Text<48>,
    pub location: Text<64>,
    pub process: Text<15>,
    /// What the report's text begins with.
    short: &'static [u8],
}

/// Puts a pattern into the table at `at`, as [`matches`] reads it: the letters that it begins with, with their number before
/// them; and each value's kind with the letters that follow it, likewise. Returns where it ends, too.
#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
pub const fn build<const LEN: usize>(mut table: [u8; LEN], at: usize, text: &[u8]) -> ([u8; LEN], usize) {
    let (mut end, mut letter, mut count) = (at + 1, 0, at);
    while letter < text.len() {
        if text[letter] == b'%' {
            letter += 1;
            table[end] = text[letter];
            count = end + 1;
            end += 2;
        } else {
            table[end] = text[letter];
            table[count] += 1;
            end += 1;
        }
        letter += 1;
    }
    (table, end)
}

/// Does the line begin as the pattern says? Then what stands behind. `begin`: how far [`words`] goes in the line, where it
/// is known and the pattern begins with a value. `told`: where it is put what the line tells, if it tells something.
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
/// | `%K` | a process, and the words that come behind it | as process |
/// | `%c` | anything short | |
pub fn matches<'a>(
    pattern: &[u8],
    line: &'a [u8],
    begin: Option<usize>,
    short: &'static [u8],
    mut told: Option<&mut Told>,
) -> Option<&'a [u8]> {
    let (len, pattern) = pattern.split_first()?;
    let (literal, values) = pattern.split_at_checked(usize::from(*len))?;
    let line = if literal.is_empty() { line } else { line.strip_prefix(literal)? };
    let (mut behind, mut to) = (line, None::<&mut Told>);
    // Most lines do not fit in the end: only of one that does it is taken what it tells.
    for _ in 0..2 {
        let (mut values, mut begin) = (values, begin);
        behind = line;
        while let [kind, len, rest @ ..] = values {
            let literal;
            (literal, values) = rest.split_at_checked(usize::from(*len))?;
            let len = value(*kind, literal, behind, begin.take())?;
            let (value, rest) = behind.split_at_checked(len)?;
            behind = rest.get(literal.len()..)?;
            // The small ones tell nothing.
            if let Some(to) = to.as_mut().filter(|_| kind.is_ascii_uppercase()) {
                to.put(*kind, value);
            }
        }
        let Some(told) = told.take() else { break };
        told.begin(short);
        to = Some(told);
    }
    if let Some(to) = to {
        to.end();
    }
    Some(behind)
}

/// How long a value of this kind is at the line's beginning, with these letters behind it; `None` where there is none.
///
/// At a pattern's end a number or words go as far as they go. All else goes up to the text's end: a name may have a
/// newline. Only behind a panic of Rust code there is a second line.
fn value(kind: u8, literal: &[u8], line: &[u8], begin: Option<usize>) -> Option<usize> {
    let near = |most: usize| line.get(..most + literal.len()).unwrap_or(line);
    let len = match kind {
        b'x' | b'X' | b'w' | b'W' => {
            let (set, most) = if kind & 0x5f == b'W' { (WORD, WORDS) } else { (DIGIT, DIGITS) };
            let run = |most| begin.filter(|_| set == WORD).unwrap_or_else(|| run(set, line, most));
            // A letter that the value cannot have stands where it ends. Otherwise what follows may be part of the run, and
            // most lines do not have that.
            let inside = literal.first().is_some_and(|letter| is_in(set, *letter));
            let len = if inside {
                let len = find(line.get(..most).unwrap_or(line), literal)?;
                if run(len) < len {
                    return None;
                }
                len
            } else {
                run(most)
            };
            return (line.get(len..)?.starts_with(literal) && (len != 0 || matches!(kind, b'X' | b'w')))
                .then_some(len);
        }
        b'o' => return is_build(line).then_some(line.len()),
        b'c' => find(near(ANYTHING), literal)?,
        b'C' => find(near(COMM), literal)?,
        b'T' => find(near(TASK), literal)?,
        b'K' => {
            let find = |words: &[u8]| find(line.get(..TASK + words.len()).unwrap_or(line), words);
            BEHIND_COMM.split(|letter| *letter == b'\n').find_map(find)?
        }
        b'F' if literal.is_empty() => cut(line, b'\n').0.len(),
        _ if literal.is_empty() => line.len(),
        _ => find(line, literal)?,
    };
    let value = line.get(..len)?;
    let fits = match kind {
        b'S' => find(cut(value, b' ').0, b"0x").is_some(),
        b'F' | b'L' => {
            cut(value, b' ').0.len() == value.len() && cut(name(value), b':').1.first()?.is_ascii_digit()
        }
        _ => true,
    };
    fits.then_some(len)
}

/// A file's name without folders.
fn name(file: &[u8]) -> &[u8] {
    file.rsplit(|byte| *byte == b'/').next().unwrap_or(file)
}

/// How far the line's first words go.
pub fn words(line: &[u8]) -> usize {
    run(WORD, line, WORDS)
}

/// How many bytes the line begins with that are in a set; no more than `most`.
#[inline(never)]
fn run(set: u8, line: &[u8], most: usize) -> usize {
    let line = line.get(..most).unwrap_or(line);
    line.iter().position(|byte| !is_in(set, *byte)).unwrap_or(line.len())
}

/// Is it how a kernel was built?
fn is_build(text: &[u8]) -> bool {
    let mut before = b' ';
    text.iter().all(|byte| {
        let begins = core::mem::replace(&mut before, *byte) == b' ';
        is_in(OPTION, *byte) && (!begins || matches!(byte, b' ' | b'A'..=b'Z'))
    })
}

/// What stands before the first such byte, and what behind it.
#[must_use]
#[inline(never)]
pub fn cut(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == at).unwrap_or(text.len());
    let (before, behind) = text.split_at_checked(end).unwrap_or((text, &[]));
    (before, behind.get(1..).unwrap_or(&[]))
}

/// Does the text begin as one in a list, of which each has its length before it? A length of 0 ends it, too.
#[inline(never)]
pub fn begins(text: &[u8], mut list: &[u8]) -> bool {
    while let [len @ 1..=u8::MAX, rest @ ..] = list {
        let begin;
        (begin, list) = rest.split_at_checked(usize::from(*len)).unwrap_or_default();
        // Most are not even compared.
        if begin.first() == text.first() && text.starts_with(begin) {
            return true;
        }
    }
    false
}

/// A list with blanks between as [`begins`] reads it. The first letter is a blank, too.
#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
pub const fn list<const LEN: usize>(text: &[u8; LEN]) -> [u8; LEN] {
    let (mut list, mut letter, mut count) = (*text, 0, 0);
    while letter < LEN {
        if text[letter] == b' ' {
            count = letter;
            list[count] = 0;
        } else {
            list[count] += 1;
        }
        letter += 1;
    }
    list
}

/// Sets of bytes.
const DIGIT: u8 = 1;
const WORD: u8 = 2;
const OPTION: u8 = 4;

/// Which sets each byte is in. All of them have a place: looking one up is all that most lines cost.
static SETS: [u8; 256] = sets();

#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
const fn sets() -> [u8; 256] {
    let (mut sets, mut byte) = ([0; 256], 0);
    while byte < 256 {
        let letter = byte as u8;
        let members = [
            (DIGIT, letter.is_ascii_hexdigit()),
            (
                WORD,
                letter.is_ascii_alphanumeric()
                    || matches!(letter, b' ' | b'-' | b'_' | b'(' | b')' | b'#' | b'/' | b'.'),
            ),
            (
                OPTION,
                letter.is_ascii_alphabetic()
                    || matches!(letter, b' ' | b'_' | b'(' | b')' | b'{' | b'}' | b','),
            ),
        ];
        let mut set = 0;
        while set < members.len() {
            if members[set].1 {
                sets[byte] |= members[set].0;
            }
            set += 1;
        }
        byte += 1;
    }
    sets
}

/// May a number have it?
pub fn is_digit(byte: u8) -> bool {
    is_in(DIGIT, byte)
}

fn is_in(set: u8, byte: u8) -> bool {
    SETS.get(usize::from(byte)).is_some_and(|sets| sets & set != 0)
}

impl Told {
    /// Forgets what was told. The report's text begins with `short`.
    pub fn begin(&mut self, short: &'static [u8]) {
        self.report.clear();
        self.location.clear();
        self.process.clear();
        self.short = short;
    }

    /// Nothing more is told.
    fn end(&mut self) {
        if self.report.is_empty() && !self.short.is_empty() {
            self.report.bytes(self.short);
        }
    }

    /// Takes a value.
    #[inline(never)]
    fn put(&mut self, kind: u8, value: &[u8]) {
        let mut value = if matches!(kind, b'F' | b'L') { name(value) } else { value };
        if kind == b'X' {
            value = value.get(value.iter().take_while(|byte| **byte == b'0').count()..).unwrap_or(value);
        }
        if kind == b'T' || value.ends_with(b":") {
            value = value.get(..value.iter().rposition(|byte| *byte == b':').unwrap_or(0)).unwrap_or(value);
        }
        match kind {
            b'X' | b'W' | b'F' => {
                self.end();
                // A second one.
                if self.report.as_bytes().last().is_some_and(u8::is_ascii_alphanumeric) {
                    self.report.byte(b' ');
                }
                self.report.bytes(if value.is_empty() { b"0" } else { value });
            }
            b'C' | b'K' | b'T' => {
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

/// Where `what` begins in `text`. Eight places are looked at together for its first two letters: for one alone, a text of
/// nothing else would cost much.
#[inline(never)]
pub fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    let (first, second) = (what.first()?, what.get(1));
    let firsts = ONES * u64::from(*first);
    // All bits are as they should be where there is no second one.
    let (seconds, known) = second.map_or((0, 0), |second| (ONES * u64::from(*second), u64::MAX));
    let mut rest = text;
    while rest.len() >= what.len() {
        let mut skip = 0;
        if let Some(here) = rest.first_chunk::<9>() {
            let ([word @ .., _], [_, next @ ..]) = (here, here);
            let differ = u64::from_le_bytes(*word) ^ firsts | (u64::from_le_bytes(*next) ^ seconds) & known;
            // The lowest byte that is 0, 8 for none.
            skip = (differ.wrapping_sub(ONES) & !differ & (ONES << 7)).trailing_zeros() as usize / 8;
        }
        rest = rest.get(skip..)?;
        if skip < 8 {
            if rest.starts_with(what) {
                return Some(text.len() - rest.len());
            }
            rest = rest.get(1..)?;
        }
    }
    None
}
