//! Where the running kernel has a variable, as its distance from `_stext`: the same in every boot of this kernel, as KASLR
//! moves its whole image. The saved symbols are those of code alone.

use super::{build_id::running_build_id, store, stream::CPU_ONLINE_MASK};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

/// Bytes from `_stext` to the variable; `None` where /proc/kallsyms does not show both.
fn offset(kallsyms: impl BufRead, variable: &str) -> Option<u32> {
    let (mut stext, mut found) = (None, None);
    for line in kallsyms.lines() {
        let line = line.ok()?;
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(_), Some(name), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let address = || u64::from_str_radix(address, 16).ok().filter(|address| *address != 0);
        if name == "_stext" {
            stext = address();
        } else if name == variable {
            found = address();
        }
        if let (Some(stext), Some(found)) = (stext, found) {
            return u32::try_from(found.checked_sub(stext)?).ok();
        }
    }
    None
}

/// The value of `lastwords.cpu_online_mask=`: where the mask lies, and the beginning of the build id by which the image knows
/// the kernel that it is of.
#[must_use]
pub fn online_mask(root: &Path) -> Option<String> {
    let saved = || {
        let [stext, mask] = store::variable(root, CPU_ONLINE_MASK)?;
        u32::try_from(mask.checked_sub(stext)?).ok()
    };
    let printed = || {
        let kallsyms = File::open(root.join("proc/kallsyms")).ok()?;
        offset(BufReader::with_capacity(64 << 10, kallsyms), CPU_ONLINE_MASK)
    };
    let offset = saved().or_else(printed)?;
    let id = running_build_id(root)?;
    Some(format!("{offset:#x},0x{}", id.get(..8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_found_by_its_distance_from_the_kernels_text() {
        let text =
            "ffffffffb7200000 T _stext\nffffffffb7200000 T _text\nffffffffb8e2f5a0 D __cpu_online_mask\n";
        let find = |text: &str| offset(text.as_bytes(), "__cpu_online_mask");
        assert_eq!(find(text), Some(0x1c2_f5a0));
        // Before or behind, but nowhere else: a module's, hidden, missing, before the text.
        let lines: Vec<_> = text.lines().rev().collect();
        assert_eq!(find(&lines.join("\n")), Some(0x1c2_f5a0));
        assert_eq!(find(&text.replace("mask\n", "mask\t[evil]\n")), None);
        assert_eq!(find(&text.replace("ffffffffb", "000000000").replace("7200000", "0000000")), None);
        assert_eq!(find("ffffffffb7200000 T _stext\n"), None);
        assert_eq!(find("ffffffffb7200000 T _stext\nffffffffb7100000 D __cpu_online_mask\n"), None);
    }
}
