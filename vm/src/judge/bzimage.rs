//! Which kernel a bzImage is (Linux `Documentation/arch/x86/boot.rst`): its header names its version, wrapped or not.

use anyhow::{Context, Result, ensure};

const MAGIC: usize = 0x202;
const KERNEL_VERSION: usize = 0x20e;

/// What `uname -r` prints of this kernel.
///
/// # Errors
/// When it is none.
pub fn release(image: &[u8]) -> Result<String> {
    ensure!(image.get(MAGIC..MAGIC + 4) == Some(b"HdrS"), "no bzImage");
    let pointer: [u8; 2] = image[KERNEL_VERSION..].first_chunk().copied().context("a bzImage that ends")?;
    let text = image.get(usize::from(u16::from_le_bytes(pointer)) + 0x200..).context("no version")?;
    Ok(text.iter().take_while(|byte| **byte > b' ').map(|byte| *byte as char).collect())
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn the_header_points_to_the_version() {
        let mut image = vec![0; 0x1000];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x700_u16.to_le_bytes());
        image[0x900..][..22].copy_from_slice(b"6.1.0-50-amd64 (debian");
        assert_eq!(release(&image).unwrap(), "6.1.0-50-amd64");
        assert!(release(&image[..0x204]).is_err());
    }
}
