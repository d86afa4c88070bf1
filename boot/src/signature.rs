//! A kernel's signature as the file has it: the certificate table of its PE view, and the bytes that are signed. What is in
//! the table (PKCS#7) is the tool's.

use crate::{
    BzImage, Patched,
    bytes::{field, u32_at},
    error::{Error, Result},
};

/// Length of the head of an entry, WIN_CERTIFICATE ("Attribute Certificate Table" of the PE format).
const HEAD_LEN: usize = 8;
/// wRevision and wCertificateType of an entry that has a PKCS#7 SignedData: WIN_CERT_REVISION_2_0,
/// WIN_CERT_TYPE_PKCS_SIGNED_DATA.
const PKCS7: [u8; 4] = [0x00, 0x02, 0x02, 0x00];
/// Entries, and so the table, begin at a multiple of this.
const ALIGNMENT: usize = 8;

/// The bytes that a signature of this kernel covers, in the order in which they are hashed (Authenticode). A file that is
/// to be signed must come from [`unsigned`], which fills it up.
///
/// # Errors
/// When it is not a 64-bit bzImage, or has no PE header.
pub fn signed_parts(kernel: &[u8]) -> Result<Vec<&[u8]>> {
    BzImage::parse(kernel)?.pe.and_then(|pe| pe.signed_parts(kernel)).ok_or(Error::Unsignable)
}

/// The kernel without its signature, filled up as a signature needs it.
///
/// # Errors
/// When it is not a 64-bit bzImage, or has no PE header.
pub fn unsigned(kernel: &[u8]) -> Result<Vec<u8>> {
    let bz_image = BzImage::parse(kernel)?;
    let pe = bz_image.pe.as_ref().ok_or(Error::Unsignable)?;
    let (setup, protected_mode) = bz_image.parts(kernel);
    let mut patched = Patched::new(setup, protected_mode, 0);
    let len = setup.len() + protected_mode.len();
    patched.tail.resize(len.next_multiple_of(ALIGNMENT) - len, 0);
    pe.mend(&mut patched);
    Ok(patched.concat())
}

/// Puts a signature (a PKCS#7 SignedData) behind a kernel, in the place of the one that it has.
///
/// ```
/// use lastwords_boot::{attach, signature, signed_parts, synthetic, unsigned};
///
/// let kernel = unsigned(&synthetic::Kernel::default().build())?;
/// let signed = attach(kernel.clone(), b"signature")?;
/// assert_eq!(signature(&signed)?, Some(&b"signature"[..]));
/// assert_eq!(signed_parts(&signed)?.concat(), signed_parts(&kernel)?.concat());
/// # Ok::<(), lastwords_boot::Error>(())
/// ```
///
/// # Errors
/// When it is not a 64-bit bzImage, or has no PE header.
pub fn attach(kernel: Vec<u8>, signature: &[u8]) -> Result<Vec<u8>> {
    let is_signed = BzImage::parse(&kernel)?.is_signed();
    let mut file = if is_signed { unsigned(&kernel)? } else { kernel };
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    let len = HEAD_LEN + signature.len();
    let mut entry = (len as u32).to_le_bytes().to_vec();
    entry.extend(PKCS7);
    entry.extend(signature);
    entry.resize(len.next_multiple_of(ALIGNMENT), 0);
    let pe = BzImage::parse(&file)?.pe.ok_or(Error::Unsignable)?;
    pe.signed_parts(&file).ok_or(Error::Unsignable)?;
    pe.sign(&mut file, &entry).ok_or(Error::Unsignable)?;
    Ok(file)
}

/// A kernel's signature, a PKCS#7 SignedData: the first one, as Linux looks at no other. What pads it is still there.
///
/// # Errors
/// When it is not a 64-bit bzImage, or its certificate table begins with something else.
pub fn signature(kernel: &[u8]) -> Result<Option<&[u8]>> {
    let other = Error::Pe("its certificate table does not begin with a PKCS#7 signature");
    let Some(table) = BzImage::parse(kernel)?.pe.and_then(|pe| pe.certificates) else { return Ok(None) };
    let table = &kernel[table];
    let len = u32_at(table, 0).ok_or(other.clone())? as usize;
    if field(table, 4) != Some(PKCS7) {
        return Err(other);
    }
    table.get(HEAD_LEN..len).map(Some).ok_or(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bytes::put, synthetic::Kernel, wrap};
    use proptest::prelude::*;

    #[test]
    fn a_signature_covers_everything_but_what_signing_changes() {
        let kernel = unsigned(&Kernel::default().build()).unwrap();
        let covered = |file: &[u8]| signed_parts(file).unwrap().concat();
        let whole = covered(&kernel);
        // CheckSum, and the entry of the data directory.
        assert_eq!(whole.len(), kernel.len() - 4 - 8);
        let signed = attach(kernel.clone(), &[0x30; 1001]).unwrap();
        assert_eq!(signed.len() % ALIGNMENT, 0);
        assert!(BzImage::parse(&signed).unwrap().is_signed());
        assert_eq!(covered(&signed), whole);
        assert_eq!(unsigned(&signed).unwrap(), kernel);
        assert_eq!(attach(signed.clone(), &[0x30; 1001]).unwrap(), signed);
        // A byte of the headers, one of each section, the last one.
        for at in [0x1f, 0x1000, 0x2000, kernel.len() - 1] {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert_ne!(covered(&changed), whole, "{at:#x}");
        }
    }

    #[test]
    fn the_image_behind_a_wrapped_kernels_sections_is_covered() {
        let kernel = Kernel::default().build();
        let wrapped = wrap(&kernel, &crate::synthetic::image(5000, 8192), "").unwrap();
        let parts = signed_parts(&wrapped).unwrap();
        assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), wrapped.len() - 12);
    }

    #[test]
    fn sections_are_covered_in_the_order_of_the_file() {
        let mut kernel = Kernel::default().build();
        let before = signed_parts(&kernel).unwrap().concat();
        // Both entries of the section table, exchanged: the headers differ, and nothing else.
        let table = 0x40 + 24 + 160;
        let (first, second) = (kernel[table..][..40].to_vec(), kernel[table + 40..][..40].to_vec());
        put(&mut kernel, table, &second);
        put(&mut kernel, table + 40, &first);
        let after = signed_parts(&kernel).unwrap().concat();
        assert_eq!(after[0x200 - 12..], before[0x200 - 12..]);
    }

    #[test]
    fn what_no_signature_fits_is_refused() {
        let bios = Kernel { pe: false, ..Kernel::default() }.build();
        assert_eq!(attach(bios.clone(), b"x"), Err(Error::Unsignable));
        assert_eq!(signature(&bios), Ok(None));
        // A section that has the check sum in it: to sign it would change what is signed.
        let mut kernel = Kernel::default().build();
        put(&mut kernel, 0x40 + 24 + 160 + 20, &0x80u32.to_le_bytes());
        assert_eq!(signed_parts(&kernel), Err(Error::Unsignable));
        // SizeOfHeaders beyond the file: nothing can be hashed.
        let mut kernel = Kernel::default().build();
        put(&mut kernel, 0x40 + 24 + 60, &u32::MAX.to_le_bytes());
        assert_eq!(signed_parts(&kernel), Err(Error::Unsignable));
        // An entry that is no PKCS#7, and one that is longer than the table.
        let signed = attach(Kernel::default().build(), b"x").unwrap();
        for (at, value) in [(6, 1), (0, 17)] {
            let mut signed = signed.clone();
            let table = signed.len() - 16;
            signed[table + at] = value;
            assert!(matches!(signature(&signed), Err(Error::Pe(_))), "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_damage_of_the_headers_is_refused_or_signed(at in 0usize..0x1f0, value: u32) {
            let mut kernel = Kernel { certificates: 0x108, ..Kernel::default() }.build();
            put(&mut kernel, at, &value.to_le_bytes());
            let _ = signature(&kernel);
            if let Ok(signed) = attach(kernel.clone(), b"x") {
                prop_assert_eq!(signature(&signed), Ok(Some(&b"x"[..])));
                let parts = signed_parts(&unsigned(&kernel).unwrap()).map(|parts| parts.concat());
                prop_assert_eq!(signed_parts(&signed).map(|parts| parts.concat()), parts);
            }
        }
    }
}
