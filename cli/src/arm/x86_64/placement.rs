//! Where in the reserved memory each segment goes: a pure function over ranges.
//!
//! From the top down, as kexec-tools does it: below the segments the dump kernel then has its free memory in one
//! piece, and the running kernel finds there, counting from the bottom, the pages for the jump's page tables.

use crate::arm::{kdump::amount, ranges::without};
use std::ops::Range;
use thiserror::Error;

/// What is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is, for people.
    pub name: &'static str,
    /// Bytes.
    pub size: u64,
    /// The address is a multiple of this, a power of two.
    pub align: u64,
    /// The lowest address it may have.
    pub min: u64,
}

/// There is no place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "no place for the {name} ({} KiB) in the {} of reserved memory; all parts need {}\nhint: {advice}",
    .size.div_ceil(1024), amount(*.reserved), amount(*.needed)
)]
pub struct PlacementError {
    /// What has no place.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of reserved memory.
    pub reserved: u64,
    /// Bytes that everything takes.
    pub needed: u64,
    /// What to do.
    pub advice: Advice,
}

/// What to do about it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Advice {
    /// Reserve this many MiB.
    #[error("boot with crashkernel={0}M or more, since the dump kernel needs memory to run in, too")]
    Reserve(u64),
    /// Reserve this many MiB: there is no dump kernel.
    #[error("boot with crashkernel={0}M")]
    ReserveAlone(u64),
    /// Use all that is reserved.
    #[error("leave --mem-min and --mem-max out")]
    Limits,
}

/// MiB that a dump kernel should find free: what is left for it of 256 MiB, the usual reservation, where a usual
/// kernel and initrd are loaded.
pub const TO_RUN_IN: u64 = 128;

/// Gives each request its address, in the same order, within `reserved` and within `limits`. Each gets the highest
/// place that is left: the first ones should be those that are hard to place. `to_run_in` is what else is to be free, in MiB.
///
/// # Errors
/// When one has no place.
pub fn place(
    reserved: &Range<u64>,
    limits: &Range<u64>,
    to_run_in: u64,
    requests: &[Request],
) -> Result<Vec<u64>, PlacementError> {
    const MIB: u64 = 1 << 20;
    let usable = reserved.start.max(limits.start)..reserved.end.min(limits.end);
    let mut free = vec![usable.clone()];
    let mut take = |request: &Request| {
        let highest = |range: &Range<u64>| {
            let start = range.end.checked_sub(request.size)? & !(request.align - 1);
            (start >= range.start && start >= request.min).then_some(start)
        };
        let start = free.iter().filter_map(highest).max()?;
        free = without(std::mem::take(&mut free), &(start..start + request.size));
        Some(start)
    };
    requests
        .iter()
        .map(|request| {
            take(request).ok_or_else(|| {
                let needed = requests.iter().map(|request| request.size).sum::<u64>();
                let mib = needed.div_ceil(MIB) + to_run_in;
                let advice = match to_run_in {
                    _ if usable != *reserved => Advice::Limits,
                    0 => Advice::ReserveAlone(mib),
                    _ => Advice::Reserve(mib.next_multiple_of(64)),
                };
                let reserved = reserved.end - reserved.start;
                PlacementError { name: request.name, size: request.size, reserved, needed, advice }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Range<u64> = 0..u64::MAX;

    fn request(size: u64, align: u64, min: u64) -> Request {
        Request { name: "kernel", size, align, min }
    }

    #[test]
    fn places() {
        let kernel = request(0x300_0000, 0x20_0000, 0x100_0000);
        let page = request(0x1000, 0x1000, 0);
        for (reserved, limits, requests, places) in [
            // One above the other; small ones fill what the kernel's alignment leaves at the top.
            (
                0x1000_0000..0x2000_0000,
                ALL,
                vec![kernel, page],
                Some(vec![0x1d00_0000 & !0x1f_ffff, 0x1cff_f000]),
            ),
            (
                0x1000_0000..0x2010_0000,
                ALL,
                vec![kernel, page, request(0x10_0000, 0x1000, 0)],
                Some(vec![0x1d00_0000, 0x200f_f000, 0x1cf0_0000]),
            ),
            // Above 4 GiB.
            (0x1_1000_0000..0x1_2000_0000, ALL, vec![kernel], Some(vec![0x1_1d00_0000])),
            // A tight fit, and one page less.
            (0x1000_0000..0x1300_1000, ALL, vec![kernel, page], Some(vec![0x1000_0000, 0x1300_0000])),
            (0x1000_0000..0x1300_0000, ALL, vec![kernel, page], None),
            // Not below the kernel's preferred address: there it would move itself out of the reserved memory.
            (0x80_0000..0x390_0000, ALL, vec![kernel], None),
            (0x80_0000..0x400_0000, ALL, vec![kernel], Some(vec![0x100_0000])),
            // --mem-min and --mem-max.
            (0x1000_0000..0x2000_0000, 0..0x1800_0000, vec![kernel], Some(vec![0x1500_0000])),
            (0x1000_0000..0x2000_0000, 0x1e00_0000..u64::MAX, vec![kernel], None),
            (0x1000_0000..0x2000_0000, 0x3000_0000..u64::MAX, vec![page], None),
        ] {
            assert_eq!(
                place(&reserved, &limits, TO_RUN_IN, &requests).ok(),
                places,
                "{reserved:x?} {limits:x?}"
            );
        }
    }

    #[test]
    fn too_small_has_how_much_is_needed() {
        let requests =
            [request(48 << 20, 0x20_0000, 0), Request { name: "initrd", ..request(100 << 20, 0x1000, 0) }];
        let error = place(&(0x1000_0000..0x1800_0000), &ALL, TO_RUN_IN, &requests).unwrap_err().to_string();
        assert!(error.contains("initrd (102400 KiB) in the 128 MiB"), "{error}");
        assert!(error.contains("need 148 MiB") && error.contains("crashkernel=320M"), "{error}");
        let error = place(&(0x1000_0000..0x4000_0000), &(0..0x1100_0000), TO_RUN_IN, &requests)
            .unwrap_err()
            .to_string();
        assert!(error.contains("--mem-max"), "{error}");
    }

    proptest! {
        #[test]
        fn places_are_within_aligned_and_apart(
            start in 0u64..64, len in 0u64..64,
            requests in prop::collection::vec((1u64..16, 0u32..4, 0u64..64), 1..6),
        ) {
            let requests: Vec<_> =
                requests.iter().map(|(size, align, min)| request(*size, 1 << align, *min)).collect();
            let reserved = start..start + len;
            if let Ok(places) = place(&reserved, &ALL, TO_RUN_IN, &requests) {
                let mut ranges: Vec<_> =
                    places.iter().zip(&requests).map(|(at, request)| *at..at + request.size).collect();
                for (range, request) in ranges.iter().zip(&requests) {
                    prop_assert!(range.start >= reserved.start && range.end <= reserved.end);
                    prop_assert!(range.start % request.align == 0 && range.start >= request.min);
                }
                ranges.sort_by_key(|range| range.start);
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
            } else {
                // One request alone fails only where no address would do.
                let one = requests[0];
                let fits = (0..200).any(|at| at % one.align == 0 && at >= one.min.max(reserved.start)
                    && at + one.size <= reserved.end);
                prop_assert_eq!(place(&reserved, &ALL, TO_RUN_IN, &[one]).is_ok(), fits);
            }
        }
    }
}
