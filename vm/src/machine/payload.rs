//! The dump kernel `guest/payload.s`: a few KB that print a line and switch the machine off, for tests of the way there.

use crate::machine::process;
use anyhow::{Context, Result};
use std::fs;
use std::process::Command;

/// The line that it prints when it is entered.
pub const LINE: &str = "payload: the dump kernel is entered";

/// The bzImage.
///
/// # Errors
/// When the assembler is missing.
pub fn build() -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let [source, object, image] = ["payload.s", "payload.o", "payload"].map(|name| folder.path().join(name));
    fs::write(&source, include_str!("../../guest/payload.s"))?;
    process::output(Command::new("as").arg("-o").arg(&object).arg(&source))?;
    process::output(Command::new("objcopy").args(["-O", "binary", "-j", ".text"]).arg(&object).arg(&image))?;
    fs::read(image).context("objcopy has made nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_bzimage_and_has_the_line() {
        let image = build().unwrap();
        assert_eq!((&image[0x1fe..0x200], &image[0x202..0x206]), (&[0x55, 0xaa][..], &b"HdrS"[..]));
        let syssize = u32::from_le_bytes(*image[0x1f4..].first_chunk().unwrap()) as usize;
        assert_eq!(image.len(), 1024 + syssize * 16);
        assert!(image.windows(LINE.len()).any(|window| window == LINE.as_bytes()));
    }
}
