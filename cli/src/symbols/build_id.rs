//! The running kernel's build id, by which saved symbols and crashes find each other.

use std::{fmt::Write as _, fs, path::Path};

/// The running kernel's build id in hex, where it shows one.
#[must_use]
pub fn running_build_id(root: &Path) -> Option<String> {
    find(&fs::read(root.join("sys/kernel/notes")).ok()?).map(hex)
}

/// The build id in /sys/kernel/notes: ELF notes, each padded to four bytes.
pub fn find(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let number = |at: usize| Some(u32::from_ne_bytes(*head.get(at..)?.first_chunk()?));
        let (name_size, size, kind) = (number(0)? as usize, number(4)? as usize, number(8)?);
        let (name, rest) = rest.split_at_checked(name_size.next_multiple_of(4))?;
        if kind == NT_GNU_BUILD_ID && name.starts_with(b"GNU\0") {
            return rest.get(..size).filter(|id| !id.is_empty());
        }
        notes = rest.get(size.next_multiple_of(4)..)?;
    }
}

/// As a file's name has it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_among_other_notes() {
        assert_eq!(find(&[]), None);
        let note =
            |size: u32| [[4, size, 3].map(u32::to_ne_bytes).concat(), b"GNU\0\x01\x02\x03".to_vec()].concat();
        assert_eq!(find(&note(3)), Some(&[1, 2, 3][..]));
        for size in [0, 4, u32::MAX] {
            assert_eq!(find(&note(size)), None, "{size}");
        }
    }
}
