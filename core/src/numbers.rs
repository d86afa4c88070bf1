//! Lists of numbers as parameters have them: `ID`, `FIRST-LAST` and `FIRST-LAST/STEP` with commas between.

use crate::cmdline;
use core::fmt;

/// A list of numbers in an order that counts. `0-14/2,1-15/2` are 16 numbers, the even ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers<'a>(&'a str);

/// Numbers with equal steps between.
#[derive(Clone, Copy)]
struct Run {
    first: u32,
    last: u32,
    step: u32,
}

impl Run {
    fn parse(text: &str) -> Option<Self> {
        let number = |text| u32::try_from(cmdline::number(text)?).ok();
        let (range, step) = match cmdline::cut(text, b'/') {
            Some((range, step)) => (range, number(step)?),
            None => (text, 1),
        };
        let (first, last) = cmdline::cut(range, b'-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last && step > 0).then_some(Self { first, last, step })
    }

    /// How many steps it has: one less than numbers.
    fn steps(self) -> u32 {
        (self.last - self.first).checked_div(self.step).unwrap_or(0)
    }
}

impl<'a> Numbers<'a> {
    /// Reads the list; `None` when it is none.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        cmdline::fields(text).all(|run| Run::parse(run).is_some()).then_some(Self(text))
    }

    fn runs(self) -> impl Iterator<Item = Run> {
        cmdline::fields(self.0).filter_map(Run::parse)
    }

    /// The number that so many others stand before.
    #[must_use]
    pub fn get(self, place: u32) -> Option<u32> {
        let mut left = place;
        for run in self.runs() {
            match left.checked_sub(run.steps()) {
                None | Some(0) => return Some(run.first + left * run.step),
                Some(behind) => left = behind - 1,
            }
        }
        None
    }

    /// How many others stand before this number.
    #[must_use]
    pub fn position(self, number: u32) -> Option<u32> {
        let mut before = 0u32;
        for run in self.runs() {
            let within = number.checked_sub(run.first).filter(|_| number <= run.last);
            match within.map(|distance| (distance.checked_div(run.step), distance.checked_rem(run.step))) {
                Some((Some(steps), Some(0))) => return before.checked_add(steps),
                _ => before = before.checked_add(run.steps())?.checked_add(1)?,
            }
        }
        None
    }
}

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::{string::String, vec::Vec};

    #[test]
    fn numbers_and_their_places() {
        let ids = Numbers::parse("0-14/2,1-15/2,0x40").unwrap();
        let places: Vec<_> = [0, 2, 14, 1, 15, 64, 16].iter().map(|id| ids.position(*id)).collect();
        assert_eq!(places, [Some(0), Some(1), Some(7), Some(8), Some(15), Some(16), None]);
        assert_eq!(Numbers::parse("0-4294967295,7").unwrap().position(7), Some(7));
        assert_eq!([8, 16, 17].map(|place| ids.get(place)), [Some(1), Some(64), None]);
        let all = Numbers::parse("0-4294967295,7").unwrap();
        assert_eq!((all.get(u32::MAX), all.get(7)), (Some(u32::MAX), Some(7)));
    }

    proptest! {
        #[test]
        fn each_number_is_at_its_place(list in "[0-9]{1,2}(,[0-9]-[1-9][0-9](/[1-9])?){0,3}") {
            let numbers = Numbers::parse(&list).unwrap();
            let all: Vec<_> = (0..).map_while(|place| numbers.get(place)).collect();
            for number in 0..100 {
                let place = all.iter().position(|one| *one == number);
                prop_assert_eq!(numbers.position(number), place.map(|place| place as u32));
            }
        }

        #[test]
        fn any_text_is_read(list in "[0-9,/x-]{0,40}", place: u32, number: u32) {
            let list: String = list;
            if let Some(numbers) = Numbers::parse(&list) {
                let _ = (numbers.get(place), numbers.position(number));
            }
        }
    }
}
