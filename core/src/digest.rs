//! Has memory changed? Sums against stray writes, at the speed of memory: whoever loads the dump kernel also writes
//! the sums, so there is nothing to be kept from anybody's malice.
//!
//! The round is XXH64's (Yann Collet, "xxHash fast digest algorithm", doc/xxhash_spec.md, step 2): a word times an odd
//! number is added, the sum rotated, and multiplied by another odd number. Each of these is a permutation of the 64-bit
//! words, of the word as of what came before. So a lane that met one changed word, whatever the change, ends in another
//! state, and no word can be blind to another as where two of them are multiplied. XXH64 merges its four lanes into 64
//! bits at the end; they are kept apart here, so that this holds for the whole: of up to four neighbouring words any
//! damage is found, and of all others all but one in 2^64.

/// The primes of XXH64's round.
pub const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
/// The one that a word is multiplied by.
pub const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
/// The rotation between.
pub const ROTATION: u32 = 31;
/// Where [`sum`] starts. Not 0, which a word of zeros would leave as it is.
pub const SUM_START: u64 = PRIME_2;

/// A word for each lane is taken at a time.
const LANES: usize = 4;
const WORD: usize = 8;

#[inline]
fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2)).rotate_left(ROTATION).wrapping_mul(PRIME_1)
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// Sum of whole 8-byte words in one lane, as the image's entry code makes it of the image and of what leads out of it,
/// before it trusts either.
#[must_use]
pub fn sum(words: &[u8]) -> u64 {
    words.chunks_exact(WORD).fold(SUM_START, |lane, bytes| round(lane, word(bytes)))
}

/// The state of the four lanes after all bytes, little-endian; the lanes begin as XXH64's with the length as its seed.
/// What is missing to the last word counts as zeros.
#[must_use]
pub fn lanes(bytes: &[u8]) -> [u8; LANES * WORD] {
    let seed = bytes.len() as u64;
    let [mut a, mut b, mut c, mut d] = [
        seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
        seed.wrapping_add(PRIME_2),
        seed,
        seed.wrapping_sub(PRIME_1),
    ];
    let (blocks, rest) = bytes.as_chunks::<{ LANES * WORD }>();
    for block in blocks {
        if let [one, two, three, four] = block.as_chunks::<WORD>().0 {
            a = round(a, u64::from_le_bytes(*one));
            b = round(b, u64::from_le_bytes(*two));
            c = round(c, u64::from_le_bytes(*three));
            d = round(d, u64::from_le_bytes(*four));
        }
    }
    let mut lanes = [a, b, c, d];
    for (lane, bytes) in lanes.iter_mut().zip(rest.chunks(WORD)) {
        *lane = round(*lane, word(bytes));
    }
    let mut state = [0; LANES * WORD];
    for (to, lane) in state.as_chunks_mut::<WORD>().0.iter_mut().zip(lanes) {
        *to = lane.to_le_bytes();
    }
    state
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::{collections::HashMap, vec::Vec};

    const PAGE: usize = 4096;

    /// A page like any other, every time the same.
    fn page() -> Vec<u8> {
        let mut state = 0x1234_5678_9abc_def1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..PAGE / 8).flat_map(|at| if at % 8 == 7 { [0; 8] } else { next().to_le_bytes() }).collect()
    }

    /// XXH64's end: the lanes merged, and avalanche (xxhash_spec.md, steps 3, 4 and 6), for whole blocks.
    fn xxh64(bytes: &[u8]) -> u64 {
        const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
        const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
        let state = lanes(bytes);
        let lanes: Vec<_> = state.chunks(8).map(word).collect();
        let mut sum = 0u64;
        for (lane, rotation) in lanes.iter().zip([1, 7, 12, 18]) {
            sum = sum.wrapping_add(lane.rotate_left(rotation));
        }
        for lane in &lanes {
            sum = (sum ^ round(0, *lane)).wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
        }
        sum = sum.wrapping_add(bytes.len() as u64);
        sum = (sum ^ sum >> 33).wrapping_mul(PRIME_2);
        sum = (sum ^ sum >> 29).wrapping_mul(PRIME_3);
        sum ^ sum >> 32
    }

    #[test]
    fn the_lanes_are_those_of_xxh64() {
        let page = page();
        for len in [32, 64, 320, PAGE] {
            assert_eq!(xxh64(&page[..len]), twox_hash::XxHash64::oneshot(len as u64, &page[..len]), "{len}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mut bytes = page();
        // With a last word that is not whole.
        bytes.truncate(PAGE - 3);
        let (whole, one) = (lanes(&bytes), sum(&bytes[..PAGE - 8]));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(lanes(&bytes), whole, "bit {bit}");
            assert!(bit / 8 >= PAGE - 8 || sum(&bytes[..PAGE - 8]) != one, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// Two flipped bits in two lanes, or in one word, are one changed word to a lane, and found by construction. In two
    /// words of one lane, the second one would have to bring back the state that the first one has changed: the
    /// difference of the states there is compared with what any flipped bit adds.
    #[test]
    fn every_pair_of_flipped_bits_in_a_page_is_found() {
        let page = page();
        let words: Vec<u64> = page.chunks(8).map(word).collect();
        // Lane by lane, and all words in one as `sum` takes them.
        let lanes = (0..4).map(|lane| (lane, 4)).chain([(0, 1)]);
        for (first, step) in lanes {
            let lane: Vec<u64> = words.iter().skip(first).step_by(step).copied().collect();
            let added: Vec<HashMap<u64, u32>> = lane
                .iter()
                .map(|word| {
                    (0..64)
                        .map(|bit| ((*word ^ 1 << bit).wrapping_sub(*word).wrapping_mul(PRIME_2), bit))
                        .collect()
                })
                .collect();
            let mut state = SUM_START;
            for at in 0..lane.len() {
                for bit in 0..64 {
                    let (mut good, mut bad) = (round(state, lane[at]), round(state, lane[at] ^ 1 << bit));
                    for (later, word) in lane.iter().enumerate().skip(at + 1) {
                        // What the flip has to add to the bad state for it to be the good one.
                        let found = added[later].get(&good.wrapping_sub(bad));
                        assert_eq!(found, None, "lane {first}: bit {bit} of word {at}, and a bit of {later}");
                        (good, bad) = (round(good, *word), round(bad, *word));
                    }
                }
                state = round(state, lane[at]);
            }
        }
    }

    #[test]
    fn the_uppermost_bits_of_two_words_do_not_cancel() {
        let mut bytes = page();
        let whole = (lanes(&bytes), sum(&bytes));
        for (one, other) in [(0, 8), (0, 32), (8, 16), (64, 4064)] {
            bytes[one + 7] ^= 0x80;
            bytes[other + 7] ^= 0x80;
            assert!(lanes(&bytes) != whole.0 && sum(&bytes) != whole.1, "{one} and {other}");
            bytes[one + 7] ^= 0x80;
            bytes[other + 7] ^= 0x80;
        }
    }

    #[test]
    fn zeros_are_counted() {
        let zeros = [0; PAGE];
        let sums: std::collections::HashSet<_> = (0..=PAGE).map(|len| lanes(&zeros[..len])).collect();
        assert_eq!(sums.len(), PAGE + 1);
        let sums: std::collections::HashSet<_> =
            (0..=PAGE / 8).map(|words| sum(&zeros[..words * 8])).collect();
        assert_eq!(sums.len(), PAGE / 8 + 1);
    }

    #[test]
    fn moved_and_exchanged_parts_are_found() {
        let pages = [page(), page().into_iter().rev().collect(), std::vec![0; PAGE]].concat();
        let (whole, one) = (lanes(&pages), sum(&pages));
        let found = |bytes: &[u8], what: &str, at: usize| {
            assert!(bytes == pages || (lanes(bytes) != whole && sum(bytes) != one), "{what} at {at}");
        };
        for len in [1, 2, 4, 8, 16, 32, 64, 512, PAGE] {
            for at in (0..pages.len() - 2 * len).step_by(len.max(8)) {
                let mut bytes = pages.clone();
                bytes[at..at + len].fill(0);
                found(&bytes, "zeros", at);
                bytes.clone_from(&pages);
                bytes[at..at + 2 * len].rotate_left(len);
                found(&bytes, "exchanged", at);
                bytes.clone_from(&pages);
                bytes.copy_within(at..at + len, at + len);
                found(&bytes, "repeated", at);
                bytes.clone_from(&pages);
                bytes[at..].rotate_left(len);
                found(&bytes, "moved", at);
            }
        }
    }

    proptest! {
        #[test]
        fn lanes_of_any_bytes_differ_after_any_change(
            bytes in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), by in 1u8..,
        ) {
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= by;
            prop_assert_ne!(lanes(&changed), lanes(&bytes));
        }
    }

    /// 10^8 with `make test-all`, a million otherwise.
    fn random_damages(count: u64) {
        let mut bytes: Vec<u8> = page()[..128].to_vec();
        let (whole, one) = (lanes(&bytes), sum(&bytes));
        let mut state = 0x9e37_79b9_u64;
        for _ in 0..count {
            let kept = bytes.clone();
            // Two to five words that are changed in any way.
            for _ in 0..2 + state % 4 {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let at = (state >> 60) as usize * 8;
                let value = word(&bytes[at..]) ^ (state >> 20) << (state >> 8 & 31);
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            assert!(bytes == kept || (lanes(&bytes) != whole && sum(&bytes) != one), "{bytes:x?}");
            bytes.copy_from_slice(&kept);
        }
    }

    #[test]
    fn a_million_random_damages_are_found() {
        random_damages(1_000_000);
    }

    #[test]
    #[ignore = "make test-all: a hundred times a_million_random_damages_are_found"]
    fn a_hundred_million_random_damages_are_found() {
        random_damages(100_000_000);
    }
}
