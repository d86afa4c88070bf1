//! Is the dump kernel still what was loaded? Checked after the report, so that a machine whose reserved memory was
//! overwritten sends it too.

use crate::arch::machine;
use lastwords_core::abi::{Handoff, Segment};
use sha2::{Digest, Sha256};

/// The name of the first segment that is not what it was.
pub fn corrupt(handoff: &Handoff) -> Option<&[u8]> {
    let used = usize::try_from(handoff.segment_count).unwrap_or(usize::MAX);
    handoff.segments.iter().take(used).find(|segment| !is_intact(segment)).map(name)
}

fn is_intact(segment: &Segment) -> bool {
    let digest: [u8; 32] = Sha256::digest(machine::memory(segment.addr, segment.len)).into();
    digest == segment.sha256
}

fn name(segment: &Segment) -> &[u8] {
    segment.name.split(|byte| *byte == 0).next().unwrap_or(&[])
}
