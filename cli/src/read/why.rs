//! Why a dump failed, as `lastwords mark failed --why` records it (docs/sel-format.md). Byte 3 of its records is not that
//! of the panic's text, so that readers that do not know them skip them.

use super::text::Text;
use lastwords_core::{
    report::Stage,
    store::sel::{self, TEXT_LEN},
};

/// Records that it takes at most.
pub const MOST: usize = 3;
/// What it begins with, for those who read the records as they are.
pub const BEGINS: &str = "why ";
/// Byte 3 of its records.
const WHY: u8 = 0x21;
/// In byte 4: the first record.
const STARTS: u8 = 0x80;
/// The mark of a text that is cut.
const CUT: &str = "..";

/// The records for a reason, which is cut where it is too long.
#[must_use]
pub fn records(reason: &str) -> Vec<[u8; 16]> {
    let printable = |letter: char| if matches!(letter, ' '..='~') { letter } else { '?' };
    let mut text: String = BEGINS.chars().chain(reason.trim().chars().map(printable)).collect();
    if text.len() > MOST * TEXT_LEN {
        text.truncate(MOST * TEXT_LEN - CUT.len());
        text.push_str(CUT);
    } else if text.len() < MOST * TEXT_LEN && text.len().is_multiple_of(TEXT_LEN) {
        // Behind a full record more may have been lost.
        text.push(' ');
    }
    let parts = text.as_bytes().chunks(TEXT_LEN).enumerate();
    parts.map(|(number, part)| record(number as u8, part)).collect()
}

/// The record with this part of it.
#[must_use]
pub fn record(number: u8, part: &[u8]) -> [u8; 16] {
    let mut record = sel::mark(Stage::Failed);
    record[3] = WHY;
    record[4] = number | if number == 0 { STARTS } else { 0 };
    record[5..].fill(0);
    record[5..].iter_mut().zip(part).for_each(|(slot, byte)| *slot = *byte);
    record
}

/// Which part of it a record has, if any.
fn part(record: &[u8; 16]) -> Option<(u8, Vec<u8>)> {
    let number = record[4] & !STARTS;
    let ours = record[2] == sel::mark(Stage::Failed)[2] && record[3] == WHY && usize::from(number) < MOST;
    let starts = record[4] & STARTS != 0;
    let text = record[5..].split(|byte| *byte == 0).next().unwrap_or_default();
    (ours && starts == (number == 0) && (!starts || text.starts_with(BEGINS.as_bytes())))
        .then(|| (number, text.to_vec()))
}

/// Is it a part of it?
pub fn is_part(record: &[u8; 16]) -> bool {
    part(record).is_some()
}

/// The parts that have been found so far.
#[derive(Clone, Debug, Default)]
pub struct Parts([Option<Vec<u8>>; MOST]);

impl Parts {
    /// Takes a record; false when it is none of these.
    pub fn take(&mut self, record: &[u8; 16]) -> bool {
        let Some((number, text)) = part(record) else { return false };
        if let Some(place) = self.0.get_mut(usize::from(number)) {
            *place = Some(text);
        }
        true
    }

    /// The text, and of how many records it is.
    pub fn end(&mut self) -> Option<(Text, u32)> {
        let parts = std::mem::take(&mut self.0);
        let (first, last) =
            (parts.iter().position(Option::is_some)?, parts.iter().rposition(Option::is_some)?);
        let records = parts.iter().flatten().count();
        let is_open = last + 1 < MOST && parts[last].as_ref().is_some_and(|part| part.len() >= TEXT_LEN);
        let text = parts.into_iter().flatten().collect::<Vec<_>>().concat();
        let text = Text::new(text.strip_prefix(BEGINS.as_bytes()).unwrap_or(&text));
        let (value, marked) = match text.value.strip_suffix(CUT) {
            Some(value) => (value.to_owned(), true),
            None => (text.value, false),
        };
        let cut = marked || is_open || last - first + 1 != records;
        Some((Text { value, headless: first != 0, cut }, records as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_as_it_was_written_and_marked_where_it_is_cut() {
        let read = |records: &[[u8; 16]]| {
            let mut parts = Parts::default();
            assert!(records.iter().all(|record| parts.take(record)));
            parts.end().map(|(text, count)| (text.to_string(), count))
        };
        let found = |text: &str, count| Some((text.to_owned(), count));
        assert_eq!(read(&records("no space")), found("no space", 2));
        assert_eq!(read(&records("No space left on device")), found("No space left on device", 3));
        let long = records("makedumpfile: can't open /var/crash: read-only file system");
        assert_eq!(read(&long), found("makedumpfile: can't open /v...", 3));
        assert_eq!(read(&records("a\nb\u{e9}")), found("a?b?", 1));
        // Behind a full record comes another, or it is lost.
        assert_eq!(read(&records("no disk")), found("no disk", 2));
        assert_eq!(read(&records("no disk")[..1]), found("no disk...", 1));
        assert_eq!(read(&records("No space left on device")[..2]), found("No space left on d...", 2));
        // A BMC that answered too late, one that lost a record.
        assert_eq!(read(&[long[0], long[0], long[2]]), found("makedumt open /v...", 2));
        assert_eq!(read(&long[1..]), found("...pfile: can't open /v...", 2));
        assert_eq!(read(&[]), None);
        let mut parts = Parts::default();
        assert!(!parts.take(&sel::mark(Stage::Failed)) && !parts.take(&[0xff; 16]));
    }
}
