//! Sets of addresses as sorted, disjoint ranges, and /proc/iomem, which is where they come from. Pure.

use lastwords_core::hw::Register;
use std::ops::Range;

/// One line of /proc/iomem.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resource {
    range: Range<u64>,
    name: String,
}

/// /proc/iomem: what lies where in physical memory, as the running kernel sees it (`kernel/resource.c`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoMem(Vec<Resource>);

impl IoMem {
    /// Reads its text; a line that is not `START-END : NAME` is left out.
    pub fn parse(text: &str) -> Self {
        let resource = |line: &str| {
            let (range, name) = line.trim().split_once(" : ")?;
            let (start, last) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            let range = number(start)?..number(last)?.saturating_add(1);
            Some(Resource { range, name: name.to_owned() })
        };
        Self(text.lines().filter_map(resource).collect())
    }

    /// Does it hide the addresses? Without privileges every line reads as 0-0.
    pub fn is_hidden(&self) -> bool {
        self.0.iter().all(|resource| resource.range.end <= 1)
    }

    /// The resources of this name, wherever they are nested.
    pub fn named(&self, name: &str) -> impl Iterator<Item = Range<u64>> {
        self.matching(move |other| other.eq_ignore_ascii_case(name))
    }

    /// Memory of the running kernel: `System RAM`, and the likes of `System RAM (virtio_mem)` below their devices.
    pub fn system_ram(&self) -> impl Iterator<Item = Range<u64>> {
        self.matching(|name| name.starts_with("System RAM"))
    }

    /// The first of these registers that lies in the running kernel's memory: what is written there at the panic would overwrite the
    /// crashed kernel, or the dump kernel.
    pub fn has_in_ram(&self, registers: impl IntoIterator<Item = Register>) -> Option<Register> {
        registers.into_iter().find(|register| match register {
            Register::Memory(address) => self.system_ram().any(|ram| ram.contains(address)),
            Register::Port(_) => false,
        })
    }

    fn matching(&self, is_it: impl Fn(&str) -> bool) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().filter(move |resource| is_it(&resource.name)).map(|resource| resource.range.clone())
    }
}

/// What is left of `ranges` without `hole`, in the same order.
pub fn without(ranges: impl IntoIterator<Item = Range<u64>>, hole: &Range<u64>) -> Vec<Range<u64>> {
    let left = |range: Range<u64>| {
        let below = range.start..range.end.min(hole.start);
        let above = range.start.max(hole.end)..range.end;
        if hole.is_empty() { [range, 0..0] } else { [below, above] }
    };
    ranges.into_iter().flat_map(left).filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn iomem_is_read_at_every_depth() {
        let iomem = IoMem::parse(
            "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n\
             b0000000-bfffffff : PCI Bus 0000:00\n  b8000000-b8ffffff : reserved\n\
             100000000-1ffffffff : 0000:00:02.0\n  100000000-13fffffff : System RAM (virtio_mem)\nrubbish\n",
        );
        assert!(!iomem.is_hidden());
        assert_eq!(iomem.named("Reserved").collect::<Vec<_>>(), [0..0x1000, 0xb800_0000..0xb900_0000]);
        assert_eq!(iomem.system_ram().collect::<Vec<_>>(), [0x1000..0x9_fc00, 0x1_0000_0000..0x1_4000_0000]);
        assert!(IoMem::parse("00000000-00000000 : System RAM\n").is_hidden());
    }

    #[test]
    fn a_hole_cuts_splits_and_swallows() {
        for (hole, left) in [
            (0..10, vec![10..20, 30..40]),
            (5..12, vec![12..20, 30..40]),
            (12..15, vec![10..12, 15..20, 30..40]),
            (15..35, vec![10..15, 35..40]),
            (10..40, vec![]),
            (15..15, vec![10..20, 30..40]),
            (40..50, vec![10..20, 30..40]),
        ] {
            assert_eq!(without([10..20, 30..40], &hole), left, "{hole:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_is_not_in_the_hole(start in 0u64..50, len in 0u64..50, hole_start in 0u64..99, hole_len in 0u64..50) {
            let (range, hole) = (start..start + len, hole_start..hole_start + hole_len);
            let left = without([range.clone()], &hole);
            for at in 0..150 {
                let is_left = left.iter().any(|left| left.contains(&at));
                prop_assert_eq!(is_left, range.contains(&at) && !hole.contains(&at));
            }
        }
    }
}
