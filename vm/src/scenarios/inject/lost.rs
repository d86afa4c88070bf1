//! Where the dump is lost: the list that is known (`vm/lost.txt`), and what a run has found beside it.

use super::bench::End;
use super::plan::Case;
use super::state::Way;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lost.txt");
const HEAD: &str = "\
# Where the dump is lost: loading method, event, place in the image, bytes. `make inject INJECT=--write` makes this
# list; `make inject` fails when there is more of a symbol than is listed here. docs/reliability.md has the sums.
";

/// A range of the image in which this event loses the dump.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// Loading method, and the event.
    pub what: String,
    /// The function.
    pub symbol: String,
    /// Its first byte from there.
    pub start: u64,
    /// The first byte behind it.
    pub end: u64,
}

impl Lost {
    /// The ranges in what a run has found: lost places between which no other one was tried.
    #[must_use]
    pub fn find(way: Way, results: &[(Case, End)]) -> Vec<Self> {
        let mut sorted: Vec<&(Case, End)> = results.iter().collect();
        sorted.sort_by(|(one, _), (other, _)| (&one.what, &one.place).cmp(&(&other.what, &other.place)));
        let mut ranges: Vec<Self> = Vec::new();
        let mut goes_on = false;
        for (case, end) in sorted {
            let what = format!("{way} | {}", case.what);
            let behind = case.place.offset + case.len;
            if matches!(end, End::Dump { .. } | End::Missed) {
                goes_on = false;
                continue;
            }
            match ranges.last_mut() {
                Some(last) if goes_on && last.what == what && last.symbol == case.place.symbol => {
                    last.end = behind;
                }
                _ => ranges.push(Self {
                    what,
                    symbol: case.place.symbol.clone(),
                    start: case.place.offset,
                    end: behind,
                }),
            }
            goes_on = true;
        }
        ranges
    }

    /// The list that is known.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn known() -> Result<Vec<Self>> {
        let text = fs::read_to_string(LIST)?;
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines
            .map(|line| Self::read(line).with_context(|| format!("in the list of what is lost: {line}")))
            .collect()
    }

    /// Writes the list.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(ranges: &[Self]) -> Result<()> {
        let lines: Vec<String> = ranges.iter().map(|range| format!("{range}\n")).collect();
        Ok(fs::write(LIST, format!("{HEAD}{}", lines.concat()))?)
    }

    /// The range of a line of the list.
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.rsplitn(3, " | ");
        let (_bytes, place, what) = (fields.next()?, fields.next()?, fields.next()?);
        let (symbol, range) = place.rsplit_once('+')?;
        let (start, end) = range.split_once("..")?;
        let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        Some(Self {
            what: what.to_owned(),
            symbol: symbol.to_owned(),
            start: number(start)?,
            end: number(end)?,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// What is lost of each symbol by each event, beyond what is known: for people.
    #[must_use]
    pub fn more_than(found: &[Self], known: &[Self]) -> Vec<String> {
        let (found, known) = (sums(found), sums(known));
        let more = found.into_iter().filter_map(|(key, bytes)| {
            let listed = known.get(&key).copied().unwrap_or(0);
            (bytes > listed).then(|| format!("{} | {}: {bytes} bytes, {listed} are listed", key.0, key.1))
        });
        more.collect()
    }

    /// What is in no range that is known: for people. To be used where only some places were tried. Of Rust's functions not
    /// every instruction was tried when the list was made: there a range stands for its function.
    #[must_use]
    pub fn unknown(found: &[Self], known: &[Self]) -> Vec<String> {
        let is_known = |lost: &&Self| {
            let same = known.iter().filter(|one| one.what == lost.what && one.symbol == lost.symbol);
            let is_rust = lost.symbol.contains("::");
            let start = same.clone().map(|one| if is_rust { 0 } else { one.start }).min().unwrap_or(u64::MAX);
            let end = same.map(|one| one.end).max().unwrap_or(0);
            start <= lost.start && (lost.end <= end || is_rust)
        };
        found.iter().filter(|lost| !is_known(lost)).map(ToString::to_string).collect()
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, symbol, start, end } = self;
        write!(f, "{what} | {symbol}+{start:#x}..{end:#x} | {}", self.bytes())
    }
}

/// Bytes by event and symbol.
fn sums(ranges: &[Lost]) -> BTreeMap<(String, String), u64> {
    let mut sums = BTreeMap::new();
    for range in ranges {
        *sums.entry((range.what.clone(), range.symbol.clone())).or_default() += range.bytes();
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::inject::Place;

    fn case(what: &str, symbol: &str, offset: u64, end: End) -> (Case, End) {
        let place = Place { symbol: symbol.to_owned(), offset };
        (Case { what: what.to_owned(), place, len: 4, acts: Vec::new() }, end)
    }

    #[test]
    fn lost_places_with_no_good_one_between_are_one_range() {
        let (lost, good) = (End::Reset { told: false }, End::Dump { reported: true });
        let results = [
            case("nmi", "a", 8, lost),
            case("nmi", "a", 0, lost),
            case("nmi", "a", 4, End::Hang),
            case("nmi", "a", 12, good),
            case("nmi", "a", 16, lost),
            case("nmi", "b", 0, lost),
            case("flip", "b", 4, lost),
        ];
        let found = Lost::find(Way::Wrap, &results);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        let expected = [
            "wrap | flip | b+0x4..0x8 | 4",
            "wrap | nmi | a+0x0..0xc | 12",
            "wrap | nmi | a+0x10..0x14 | 4",
            "wrap | nmi | b+0x0..0x4 | 4",
        ];
        assert_eq!(shown, expected);
        assert_eq!(shown.iter().filter_map(|line| Lost::read(line)).collect::<Vec<_>>(), found);
    }

    #[test]
    fn more_of_a_symbol_is_noticed_and_another_place_in_it_is_not() {
        let lost =
            |symbol: &str, start, end| Lost { what: "w".to_owned(), symbol: symbol.to_owned(), start, end };
        let known = [lost("a", 0, 8), lost("a", 16, 24)];
        assert!(Lost::more_than(&[lost("a", 4, 20)], &known).is_empty());
        assert_eq!(Lost::more_than(&[lost("a", 0, 17)], &known), ["w | a: 17 bytes, 16 are listed"]);
        assert_eq!(Lost::more_than(&[lost("b", 0, 1)], &known), ["w | b: 1 bytes, 0 are listed"]);
        assert!(Lost::unknown(&[lost("a", 4, 8)], &known).is_empty());
        assert_eq!(Lost::unknown(&[lost("a", 24, 28), lost("b", 0, 4)], &known).len(), 2);
    }
}
