//! The kernel's command line: its words, and the two that are the kernel's own and matter to us.

/// The words of a command line, as the kernel splits them (`lib/cmdline.c`: white space, except within double
/// quotes), up to `--`, behind which all is for init.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    Words { rest: line }.take_while(|word| *word != "--")
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_ascii_start();
        if self.rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = self.rest.bytes().position(|byte| {
            quoted ^= byte == b'"';
            byte.is_ascii_whitespace() && !quoted
        });
        let (word, rest) = end.and_then(|end| self.rest.split_at_checked(end)).unwrap_or((self.rest, ""));
        self.rest = rest;
        Some(word)
    }
}

/// The value of the last `name=value` on the line.
#[must_use]
pub fn last_value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    words(line).filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')).last()
}

/// Physical address of the ELF core header, from `elfcorehdr=[size[KMG]@]offset[KMG]`
/// (`Documentation/admin-guide/kernel-parameters.txt`). `None` when there is none or it is no address: no crash
/// boot then.
#[must_use]
pub fn elfcorehdr(line: &str) -> Option<u64> {
    let value = last_value(line, "elfcorehdr")?;
    let offset = cut(value, b'@').map_or(value, |(_size, offset)| offset);
    size(offset).filter(|address| *address != 0)
}

/// What stands before and behind the first `separator`, an ASCII character. As `str::split_once`, whose searcher
/// brings a panic with it.
#[must_use]
pub fn cut(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == separator)?;
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.split_at_checked(1)?.1))
}

/// The fields of a list with commas.
pub fn fields(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    core::iter::from_fn(move || {
        let (field, behind) = match cut(rest?, b',') {
            Some((field, behind)) => (field, Some(behind)),
            None => (rest?, None),
        };
        rest = behind;
        Some(field)
    })
}

/// A number as the kernel's `memparse` takes it: hexadecimal with `0x`, else decimal, then K, M or G.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let shift = match text.as_bytes().last()? {
        b'k' | b'K' => 10,
        b'm' | b'M' => 20,
        b'g' | b'G' => 30,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { text.split_at_checked(text.len() - 1)?.0 };
    number(digits)?.checked_mul(1 << shift)
}

/// An unsigned number: hexadecimal with `0x` in front, else decimal. Nothing else may stand in the text.
#[must_use]
pub fn number<T: AsRef<[u8]> + ?Sized>(text: &T) -> Option<u64> {
    digits(text.as_ref())
}

fn digits(text: &[u8]) -> Option<u64> {
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16),
        _ => (text, 10),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = (*byte as char).to_digit(radix)?;
        value.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

/// A whole number from 1 to `most`.
#[must_use]
pub fn up_to(text: &str, most: u16) -> Option<u16> {
    number(text).and_then(|value| u16::try_from(value).ok()).filter(|value| (1..=most).contains(value))
}

/// What has this name in a table of names.
#[must_use]
pub fn named<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

/// The name that this has in a table of names; empty where it has none.
#[must_use]
pub fn name_of<T: Copy + PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, one)| *one == value).map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn words_are_split_as_the_kernel_does() {
        let line = " root=/dev/sda1  dyndbg=\"file a.c +p\" quiet\n-- init=no";
        assert_eq!(words(line).collect::<Vec<_>>(), ["root=/dev/sda1", "dyndbg=\"file a.c +p\"", "quiet"]);
    }

    #[test]
    fn elfcorehdr_in_every_spelling() {
        for (line, address) in [
            ("elfcorehdr=0x32f00000 quiet", Some(0x32f0_0000)),
            ("quiet elfcorehdr=834932K", Some(834_932 << 10)),
            ("elfcorehdr=1M@3G", Some(3 << 30)),
            ("elfcorehdr=0x1000 elfcorehdr=0x2000", Some(0x2000)),
            ("noelfcorehdr=0x1000", None),
            ("elfcorehdr=", None),
            ("elfcorehdr=0", None),
            ("elfcorehdr=12x", None),
            ("elfcorehdr=0xffffffffffffffffK", None),
            ("quiet -- elfcorehdr=0x1000", None),
        ] {
            assert_eq!(elfcorehdr(line), address, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "\\PC{0,200}") {
            let _ = elfcorehdr(&line);
            prop_assert!(words(&line).all(|word| !word.is_empty()));
        }
    }
}
