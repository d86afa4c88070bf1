//! CPUs counted by where they were: on a big machine nearly all of them are idle in one place.

use super::{Line, Location};
use core::cmp::Reverse;

/// Most different locations that are counted. CPUs in more locations than these are left out.
pub const GROUPS: usize = 512;

/// CPUs counted by where they were.
pub struct Groups {
    locations: [(Location, u32); GROUPS],
    used: usize,
    beyond: u32,
}

impl Default for Groups {
    fn default() -> Self {
        Self::new()
    }
}

impl Groups {
    /// No CPU yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { locations: [(Location::NotResponding, 0); GROUPS], used: 0, beyond: 0 }
    }

    /// Counts a CPU.
    pub fn add(&mut self, location: Location) {
        let used = self.locations.iter_mut().take(self.used);
        if let Some((_, count)) = used.into_iter().find(|(known, _)| *known == location) {
            *count += 1;
        } else if let Some(slot) = self.locations.get_mut(self.used) {
            *slot = (location, 1);
            self.used += 1;
        } else {
            self.beyond += 1;
        }
    }

    /// Takes the biggest group out, the one that may be off last; the one that did not respond first among equals, then by
    /// location.
    fn take_biggest(&mut self) -> Option<(u32, Location)> {
        let groups = self.locations.iter_mut().take(self.used).filter(|(_, count)| *count > 0);
        let (location, count) =
            groups.max_by_key(|(location, count)| (!location.may_be_off(), *count, Reverse(*location)))?;
        Some((core::mem::take(count), *location))
    }

    /// CPUs that are still in.
    fn left(&self) -> u32 {
        self.locations.iter().take(self.used).map(|(_, count)| *count).fold(self.beyond, u32::saturating_add)
    }

    /// Hands on the groups' lines, biggest first and those that may be off last, as many as `limit` has room for by `cost`; the last line says how many
    /// CPUs were left out, if any. Empties the groups. Stops early when `line` says so by returning false.
    #[inline(never)]
    pub fn lines(&mut self, limit: u32, cost: impl Fn(Line) -> u32, line: &mut dyn FnMut(Line) -> bool) {
        let mut used = 0;
        while let Some((count, location)) = self.take_biggest() {
            let group = Line::Group { count, location };
            let left = self.left();
            // Room for the last line is kept until it is certain that there is nothing to say in it.
            let kept = if left == 0 { 0 } else { cost(Line::Omitted(left)) };
            let costs = cost(group);
            if used + costs + kept > limit {
                line(Line::Omitted(left.saturating_add(count)));
                return;
            }
            used += costs;
            if !line(group) {
                return;
            }
        }
        if self.left() > 0 {
            line(Line::Omitted(self.left()));
        }
    }
}
