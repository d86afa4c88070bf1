//! Is the dump kernel still what was loaded? Checked after the report, so that a machine whose reserved memory was
//! overwritten sends it too; but for boot_params, which the report goes by.

use crate::arch::machine;
use lastwords_core::abi::{self, Handoff, Segment};
use lastwords_core::digest;
use sha2::{Digest, Sha256};

/// The name of the first segment that is not what it was.
pub fn corrupt(handoff: &Handoff) -> Option<&[u8]> {
    let used = usize::try_from(handoff.segment_count).unwrap_or(usize::MAX);
    let is_corrupt = |segment: &&Segment| !is_intact(handoff, segment, segment.addr);
    handoff.segments.iter().take(used).find(is_corrupt).map(Segment::name)
}

/// Puts the copy of boot_params and the command line in their place, where it is what they were and they are not.
pub fn restore(handoff: &Handoff) -> Option<&[u8]> {
    let segment = handoff.segments.get(usize::try_from(handoff.boot_params).ok()?)?;
    let copy = handoff.boot_params_copy;
    if copy == 0 || is_intact(handoff, segment, segment.addr) || !is_intact(handoff, segment, copy) {
        return None;
    }
    machine::copy(copy, segment.addr, segment.len);
    Some(segment.name())
}

/// Are the bytes at this address those of the segment?
fn is_intact(handoff: &Handoff, segment: &Segment, addr: u64) -> bool {
    let bytes = machine::memory(addr, segment.len);
    let digest: [u8; 32] =
        if handoff.digest == abi::SHA256 { Sha256::digest(bytes).into() } else { digest::lanes(bytes) };
    digest == segment.digest
}
