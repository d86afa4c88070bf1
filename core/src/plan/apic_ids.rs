//! Which CPU has which local APIC id, where the kernel did not number the CPUs in the order of their ids.

use crate::cmdline;
use core::fmt;

/// Local APIC ids in the order of the kernel's CPU numbers: a list of `ID`, `FIRST-LAST` and `FIRST-LAST/STEP`.
/// `0-14/2,1-15/2` are 16 CPUs, of which the kernel counts the second thread of each core last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicIds<'a>(&'a str);

impl<'a> ApicIds<'a> {
    /// Reads the list.
    ///
    /// # Errors
    /// When it is not such a list.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        if cmdline::fields(text).all(|run| Self::run(run).is_some()) {
            Ok(Self(text))
        } else {
            Err("takes APIC ids in the order of the CPUs, such as 0-14/2,1-15/2")
        }
    }

    /// First id, last id and step of one entry.
    fn run(text: &str) -> Option<(u32, u32, u32)> {
        let id = |text| u32::try_from(cmdline::number(text)?).ok();
        let (range, step) = match cmdline::cut(text, b'/') {
            Some((range, step)) => (range, id(step)?),
            None => (text, 1),
        };
        let (first, last) = cmdline::cut(range, b'-').unwrap_or((range, range));
        let (first, last) = (id(first)?, id(last)?);
        (first <= last && step > 0).then_some((first, last, step))
    }

    /// The number of the CPU with this local APIC id.
    #[must_use]
    pub fn cpu(self, apic_id: u32) -> Option<u32> {
        let mut before = 0u32;
        for (first, last, step) in cmdline::fields(self.0).filter_map(Self::run) {
            let within = apic_id.checked_sub(first).filter(|_| apic_id <= last);
            match within.map(|distance| (distance.checked_div(step), distance.checked_rem(step))) {
                Some((Some(steps), Some(0))) => return before.checked_add(steps),
                _ => before = before.checked_add((last - first).checked_div(step)?)?.checked_add(1)?,
            }
        }
        None
    }
}

impl fmt::Display for ApicIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
