//! A record as Linux's own pstore writes it and lists it after the reset (UEFI 2.10, appendix N.2; Linux
//! `drivers/acpi/apei/erst.c`): a header, one section descriptor, and the text.
//!
//! Linux does not look at most of it, firmware does: these are exactly its bytes.

/// Bytes before the text.
pub const HEADER_LEN: usize = 200;

/// The header, as far as it is the same in all records.
pub static HEADER: [u8; HEADER_LEN] = header_of_all();

const fn header_of_all() -> [u8; HEADER_LEN] {
    /// Creator: pstore. Linux silently passes over records of another one.
    const CREATOR: [u8; 16] =
        [0xe3, 0x74, 0xa5, 0x75, 0x52, 0x50, 0x29, 0x4b, 0x8a, 0x8e, 0xbe, 0x2c, 0x64, 0x90, 0xb8, 0x9d];
    /// Notification type: machine check.
    const MCE: [u8; 16] =
        [0xfe, 0x6f, 0xf5, 0xe8, 0x9c, 0x91, 0xc5, 0x4c, 0xba, 0x88, 0x65, 0xab, 0xe1, 0x49, 0x13, 0xbb];
    /// Section type: a kernel's log, not packed.
    const DMESG: [u8; 16] =
        [0x4e, 0xe0, 0x97, 0xc1, 0x45, 0xd5, 0x70, 0x4a, 0x9c, 0x17, 0xa5, 0x54, 0x94, 0x19, 0xeb, 0x12];
    let fields: [(usize, &[u8]); 11] = [
        // Signature, revision 1.0, the signature's end, one section; severity fatal; the time stamp is valid.
        (0, b"CPER\x00\x01\xff\xff\xff\xff\x01\x00"),
        (12, &[1, 0, 0, 0]),
        (16, &[2, 0, 0, 0]),
        (64, &CREATOR),
        (80, &MCE),
        // Of a boot before; persistence information.
        (104, &[2, 0, 0, 0]),
        (108, b"ER"),
        // The section: where its text is, primary, type, severity.
        (128, &[HEADER_LEN as u8, 0, 0, 0]),
        (140, &[1, 0, 0, 0]),
        (144, &DMESG),
        (176, &[1, 0, 0, 0]),
    ];
    put(put_all([0; HEADER_LEN], &fields), 0, b"CPER")
}

const fn put_all(mut header: [u8; HEADER_LEN], mut fields: &[(usize, &[u8])]) -> [u8; HEADER_LEN] {
    while let [(at, bytes), rest @ ..] = fields {
        header = put(header, *at, bytes);
        fields = rest;
    }
    header
}

#[expect(clippy::indexing_slicing, reason = "it is computed by the compiler")]
const fn put(mut header: [u8; HEADER_LEN], at: usize, bytes: &[u8]) -> [u8; HEADER_LEN] {
    let mut done = 0;
    while done < bytes.len() {
        header[at + done] = bytes[done];
        done += 1;
    }
    header
}

/// Makes it the header of a record with this id, of this second since 1970, of `len` bytes with its text.
#[inline]
pub fn fill(header: &mut [u8; HEADER_LEN], id: u64, seconds: u64, len: u64) {
    /// What stands behind the text's length: the section's revision.
    const REVISION: u64 = 0x0100 << 32;
    // The record's length has four bytes; the next one overwrites the others.
    set::<20>(header, len);
    // UEFI says BCD, Linux writes and reads seconds.
    set::<24>(header, seconds);
    set::<96>(header, id);
    set::<132>(header, len.wrapping_sub(HEADER_LEN as u64) | REVISION);
}

#[inline]
fn set<const AT: usize>(header: &mut [u8; HEADER_LEN], number: u64) {
    if let Some(place) = header.get_mut(AT..).and_then(|rest| rest.first_chunk_mut()) {
        *place = number.to_le_bytes();
    }
}

/// The id of a crash's first record: the second of the crash above, as Linux's own, and below what Linux, which counts from
/// 0 on, does not reach.
#[must_use]
pub fn first_id(seconds: u64) -> u64 {
    seconds << 32 | 0x8000_0001
}
