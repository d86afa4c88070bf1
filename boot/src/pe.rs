//! The kernel's second view of itself, as a PE file for EFI: where its signature is and what its check sum covers.
//! Offsets are those of Microsoft's PE/COFF specification.

use crate::{
    Patched,
    bytes::{field, put, u16_at, u32_at},
    error::{Error, Result},
};
use std::{iter, ops::Range};

/// What is needed of the PE header (CONFIG_EFI_STUB=y). Offsets are from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pe {
    check_sum: usize,
    /// Entry 4 of the data directory, where there are so many.
    security: Option<usize>,
    size_of_headers: usize,
    /// The sections' raw data, in the order of the file.
    sections: Vec<Range<usize>>,
    /// The certificate table that it points to.
    pub certificates: Option<Range<usize>>,
}

impl Pe {
    /// Reads the PE header, when there is one; it must be over at `end`. Only what is used is checked.
    pub fn parse(file: &[u8], end: usize) -> Result<Option<Self>> {
        // Offsets in the optional header of PE32+ (PE format, "Optional Header").
        const SIZE_OF_HEADERS: usize = 60;
        const CHECK_SUM: usize = 64;
        const NUMBER_OF_RVA_AND_SIZES: usize = 108;
        const SECURITY: usize = 112 + 4 * 8;
        const SECTION_LEN: usize = 40;

        if !file.starts_with(b"MZ") {
            return Ok(None);
        }
        let cut = Error::Pe("it ends early");
        let e_lfanew = u32_at(file, 0x3c).ok_or(cut.clone())? as usize;
        if field(file, e_lfanew) != Some(*b"PE\0\0") {
            return Err(Error::Pe("no signature where e_lfanew points"));
        }
        let coff = e_lfanew + 4;
        let optional = coff + 20;
        if u16_at(file, coff) != Some(0x8664) || u16_at(file, optional) != Some(0x20b) {
            return Err(Error::Pe("not PE32+ for x86_64"));
        }
        let number_of_sections = u16_at(file, coff + 2).ok_or(cut.clone())?;
        let size_of_optional_header = usize::from(u16_at(file, coff + 16).ok_or(cut.clone())?);
        let sections = optional + size_of_optional_header;
        let sections_end = sections + usize::from(number_of_sections) * SECTION_LEN;
        if sections_end > end {
            return Err(Error::Pe("it runs into the setup_header"));
        }
        let mut data = Vec::with_capacity(usize::from(number_of_sections));
        for section in (sections..sections_end).step_by(SECTION_LEN) {
            let size_of_raw_data = u32_at(file, section + 16).ok_or(cut.clone())? as usize;
            let pointer_to_raw_data = u32_at(file, section + 20).ok_or(cut.clone())? as usize;
            if size_of_raw_data > 0 {
                data.push(pointer_to_raw_data..pointer_to_raw_data + size_of_raw_data);
            }
        }
        data.sort_by_key(|section| section.start);
        let data_end = data.iter().fold(sections_end, |end, section| end.max(section.end));
        if data_end > file.len() {
            return Err(Error::Truncated { needs: data_end, has: file.len() });
        }

        let directories = u32_at(file, optional + NUMBER_OF_RVA_AND_SIZES).ok_or(cut.clone())?;
        let security =
            (directories > 4 && size_of_optional_header >= SECURITY + 8).then_some(optional + SECURITY);
        let mut certificates = None;
        if let Some(security) = security {
            let start = u32_at(file, security).ok_or(cut.clone())? as usize;
            let size = u32_at(file, security + 4).ok_or(cut.clone())? as usize;
            if size > 0 {
                if start < data_end || start + size != file.len() {
                    return Err(Error::Pe("its certificate table is not at the end of the file"));
                }
                certificates = Some(start..start + size);
            }
        }
        if size_of_optional_header < CHECK_SUM + 4 {
            return Err(Error::Pe("its optional header is too short"));
        }
        let size_of_headers = u32_at(file, optional + SIZE_OF_HEADERS).ok_or(cut)? as usize;
        let check_sum = optional + CHECK_SUM;
        Ok(Some(Self { check_sum, security, size_of_headers, sections: data, certificates }))
    }

    /// What a signature covers, in this order ("Windows Authenticode Portable Executable Signature Format", "Calculating
    /// the PE Image Hash"): the headers without the fields that signing changes, the sections, and what lies behind
    /// them. `None` for a file that no signature can cover.
    pub fn signed_parts<'a>(&self, file: &'a [u8]) -> Option<Vec<&'a [u8]>> {
        let end = self.certificates.as_ref().map_or(file.len(), |table| table.start);
        let security = self.security?;
        // What signing changes cannot be covered.
        let changed = self.check_sum.min(security)..security + 8;
        if self.sections.iter().any(|section| section.start < changed.end && changed.start < section.end) {
            return None;
        }
        let headers = [0..self.check_sum, self.check_sum + 4..security, security + 8..self.size_of_headers];
        // Counted, as the specification and Linux do it, and not measured: sections need not follow each other.
        let counted =
            self.sections.iter().map(Range::len).sum::<usize>().checked_add(self.size_of_headers)?;
        let ranges = headers.into_iter().chain(self.sections.iter().cloned()).chain(iter::once(counted..end));
        ranges.map(|range| file.get(..end)?.get(range)).collect()
    }

    /// Makes the header true of a file that `certificates`, a certificate table, is put behind.
    pub fn sign(&self, file: &mut Vec<u8>, certificates: &[u8]) -> Option<()> {
        let table = [file.len() as u32, certificates.len() as u32].map(u32::to_le_bytes);
        put(file, self.security?, table.as_flattened());
        file.extend(certificates);
        put(file, self.check_sum, &[0; 4]);
        let sum = check_sum(&[file]);
        put(file, self.check_sum, &sum.to_le_bytes());
        Some(())
    }

    /// Makes the header true of a file that has been changed: no certificate table, the right check sum.
    pub fn mend(&self, file: &mut Patched) {
        if let Some(security) = self.security {
            file.put(security, &[0; 8]);
        }
        file.put(self.check_sum, &[0; 4]);
        let sum = check_sum(&file.parts());
        file.put(self.check_sum, &sum.to_le_bytes());
    }
}

/// The PE check sum of a file, in parts, whose CheckSum field is zero: the one's complement sum of its 16-bit words, plus
/// its length.
fn check_sum(parts: &[&[u8]]) -> u32 {
    let (mut sum, mut len) = (0u64, 0usize);
    for part in parts {
        // The word that the part before has begun.
        let (high, rest) = part.split_at(usize::from(len % 2 != 0).min(part.len()));
        sum += high.iter().map(|high| u64::from(*high) << 8).sum::<u64>();
        let (words, low) = rest.as_chunks::<2>();
        sum += words.iter().map(|word| u64::from(u16::from_le_bytes(*word))).sum::<u64>();
        sum += low.iter().map(|low| u64::from(*low)).sum::<u64>();
        len += part.len();
    }
    // Folding at the end gives the same as adding each carry at once.
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum as u32).wrapping_add(len as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BzImage, synthetic::Kernel};

    #[test]
    fn the_check_sum_of_parts_is_that_of_the_whole() {
        let bytes: Vec<u8> = (0..2001u32).map(|at| (at * at) as u8).collect();
        for (one, other) in [(0, 0), (0, 1), (1, 2), (2, 3), (7, 2000), (8, 2001)] {
            let parts = [&bytes[..one], &bytes[one..other], &bytes[other..]];
            assert_eq!(check_sum(&parts), check_sum(&[&bytes]), "{one} {other}");
        }
    }

    #[test]
    fn a_damaged_pe_header_is_refused() {
        let kernel = Kernel { certificates: 0x100, ..Kernel::default() }.build();
        for (at, value) in [
            (0x3c, 0xffff_fff0),      // e_lfanew
            (0x3c, 0x180),            // e_lfanew, so that it runs into the setup_header
            (0x44, 0x14c),            // Machine: i386
            (0x40 + 24 + 144, 0x200), // certificate table before the sections' end
            (0x40 + 24 + 148, 0x101), // certificate table beyond the file
        ] {
            let mut kernel = kernel.clone();
            put(&mut kernel, at, &u32::to_le_bytes(value));
            if value == 0x180 {
                let header = kernel[0x40..0x130].to_vec();
                put(&mut kernel, 0x100, &header);
                put(&mut kernel, 0x3c, &[0x00, 0x01]);
                put(&mut kernel, 0x1fe, &[0x55, 0xaa, 0, 0, b'H', b'd', b'r', b'S', 0x0f, 0x02]);
            }
            let result = BzImage::parse(&kernel);
            assert!(matches!(result, Err(Error::Pe(_))), "{at:#x}: {result:?}");
        }
    }
}
