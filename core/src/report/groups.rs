//! CPUs counted by where they were: on a big machine nearly all of them are idle in one place.

use super::{Line, Location};

/// Most different locations that are counted. CPUs in more locations than these are left out.
pub const GROUPS: usize = 512;

/// Bits of a location's hash, and so many places where its group can be noted: twice as many as groups, so that a search
/// is short.
const HASH_BITS: u32 = 10;
const PLACES: usize = 1 << HASH_BITS;

/// CPUs counted by where they were.
pub struct Groups {
    locations: [Group; GROUPS],
    used: usize,
    /// All CPUs, in a group or not.
    cpus: u32,
    /// One more than the group's place among the locations, 0 for none; at the location's hash or behind it.
    places: [u16; PLACES],
}

impl Default for Groups {
    fn default() -> Self {
        Self::new()
    }
}

/// A location's kind and value, in the order of locations.
fn numbers(location: Location) -> (u64, u64) {
    match location {
        Location::NotResponding => (0, 0),
        Location::Unread => (1, 0),
        Location::User => (2, 0),
        Location::Kernel(offset) => (3, offset.into()),
        Location::Address(addr) => (4, addr),
        Location::OffOrNotResponding => (5, 0),
        Location::Off => (6, 0),
    }
}

/// A location, and how many CPUs were there.
pub type Group = (Location, u32);

/// In which order groups are told, the highest first: the biggest, those that may be off last; among equals by location.
fn rank((location, count): &Group) -> u128 {
    let (kind, value) = numbers(*location);
    let is_on = u64::from(!location.may_be_off());
    u128::from(is_on << 63 | u64::from(*count) << 3 | (7 - kind)) << 64 | u128::from(!value)
}

impl Groups {
    /// No CPU yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { locations: [(Location::NotResponding, 0); GROUPS], used: 0, cpus: 0, places: [0; PLACES] }
    }

    /// Counts a CPU.
    pub fn add(&mut self, location: Location) {
        self.cpus += 1;
        let hash = numbers(location).1.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let begin = (hash >> (u64::BITS - HASH_BITS)) as usize;
        for place in begin..begin + PLACES {
            let Some(group) = self.places.get_mut(place % PLACES) else { break };
            if *group == 0 {
                let Some(new) = self.locations.get_mut(self.used) else { break };
                *new = (location, 0);
                self.used += 1;
                *group = self.used as u16;
            }
            let known = self.locations.get_mut(usize::from(*group).wrapping_sub(1));
            if let Some((_, count)) = known.filter(|(known, _)| *known == location) {
                *count += 1;
                break;
            }
        }
    }

    /// The group that is told behind this one, or first.
    #[must_use]
    #[inline(never)]
    pub fn next(&self, last: Option<Group>) -> Option<Group> {
        let end = last.as_ref().map_or(u128::MAX, rank);
        let (mut highest, mut next) = (0, None);
        for group in self.locations.iter().take(self.used) {
            let rank = rank(group);
            if (highest..end).contains(&rank) {
                (highest, next) = (rank, Some(group));
            }
        }
        next.copied()
    }

    /// Hands on the groups' lines, biggest first and those that may be off last, as many as `limit` has room for by `cost`;
    /// the last line says how many CPUs were left out, if any. Stops early when `line` says so by returning false.
    #[inline(never)]
    pub fn lines(&self, limit: u32, cost: impl Fn(Line) -> u32, line: &mut dyn FnMut(Line) -> bool) {
        let (mut used, mut left, mut last) = (0, self.cpus, None);
        while let Some((location, count)) = self.next(last) {
            let group = Line::Group { count, location };
            // Room for the last line is kept until it is certain that there is nothing to say in it.
            let others = left.saturating_sub(count);
            let kept = if others == 0 { 0 } else { cost(Line::Omitted(others)) };
            let costs = cost(group);
            if used + costs + kept > limit {
                break;
            }
            (used, left, last) = (used + costs, others, Some((location, count)));
            if !line(group) {
                return;
            }
        }
        if left > 0 {
            line(Line::Omitted(left));
        }
    }
}
