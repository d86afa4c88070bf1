//! A System Event Log from a file: what ipmitool and FreeIPMI write, distinguished by content, as records of 16 bytes.
//!
//! Their listings leave things out. What they show is put back where it stands in a record, so that one decoder reads
//! them all; what they do not show a note names. `docs/reading.md` lists the forms.
//!
//! Which host a line is of (`hosts`), what a line shows (`listing`) and the numbers that no listing shows (`numbers`) are one
//! module each.

mod hosts;
mod listing;
mod numbers;

use super::why;
use crate::bmc::redfish::Maker;
use std::fmt;

/// A System Event Log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Its records, in its order.
    pub entries: Vec<Entry>,
    /// What it leaves out.
    pub notes: Notes,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As in the SEL (IPMI 2.0 section 32), as far as it is known.
    pub record: [u8; 16],
    /// Its time as a listing shows it. Without one it is the record's.
    pub time: Option<String>,
}

impl From<[u8; 16]> for Entry {
    fn from(record: [u8; 16]) -> Self {
        Self { record, time: None }
    }
}

impl FromIterator<[u8; 16]> for Log {
    fn from_iter<I: IntoIterator<Item = [u8; 16]>>(records: I) -> Self {
        Self { entries: records.into_iter().map(Entry::from).collect(), notes: Notes::default() }
    }
}

/// What is not known of a log, or of the names for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// The sequence byte of the text records.
    NoSequence,
    /// Event data 2 and 3, where two of three characters of a text in system event records are.
    NoEventData,
    /// Bytes after the last whole record.
    PartOfRecord,
    /// Lines of a listing that have lost their ends.
    CutLines,
    /// The last line of a listing, which has no end.
    OpenEnd,
    /// The tool that wrote a listing says in it that it came no further.
    Failed,
    /// There was nothing in the file.
    Empty,
    /// Times of a listing, where only crashes since then are wanted.
    SinceUnknown,
    /// Of which kernel the symbols are, where there are crashes of several kernels.
    SymbolsOfAnyKernel,
    /// The bytes of entries in Redfish, which may be a panic's.
    NoRawData(Maker),
    /// Whose log it is: nobody has checked the certificate.
    CertificateNotChecked,
}

/// The notes of a log, each once, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(Vec<Note>);

impl Notes {
    /// Adds one.
    pub fn insert(&mut self, note: Note) {
        if let Err(at) = self.0.binary_search(&note) {
            self.0.insert(at, note);
        }
    }

    /// Is it one of them?
    pub fn contains(&self, note: Note) -> bool {
        self.0.contains(&note)
    }

    /// Does one of them say that records are missing, whichever?
    pub fn is_cut(&self) -> bool {
        self.ends_early() || self.contains(Note::CutLines) || self.contains(Note::Empty)
    }

    /// Does one of them say that the newest records are missing?
    pub fn ends_early(&self) -> bool {
        [Note::PartOfRecord, Note::OpenEnd, Note::Failed].into_iter().any(|note| self.contains(note))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.0.iter()
    }
}

impl Note {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSequence => "no-sequence",
            Self::NoEventData => "no-event-data",
            Self::PartOfRecord => "part-of-record",
            Self::CutLines => "cut-lines",
            Self::OpenEnd => "open-end",
            Self::Failed => "tool-failed",
            Self::Empty => "empty",
            Self::SinceUnknown => "since-unknown",
            Self::SymbolsOfAnyKernel => "symbols-of-any-kernel",
            Self::NoRawData(_) => "no-raw-data",
            Self::CertificateNotChecked => "certificate-not-checked",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::NoRawData(maker) = self {
            return write!(
                f,
                "{maker}. Records of a panic are missing here. IPMI has all of them: lastwords read --host, or on the server."
            );
        }
        f.write_str(match self {
            Self::NoRawData(_) => "",
            Self::CertificateNotChecked => "--insecure: nobody has checked that this is the BMC's own log.",
            Self::NoSequence => {
                "this listing leaves out the number that each record has within its report. Texts were joined by their looks, \
                 and missing records do not show. ipmitool sel writeraw FILE keeps the numbers."
            }
            Self::NoEventData => {
                "this listing leaves out event data 2 and 3. Texts with three characters in a record were left out. \
                 ipmitool sel writeraw FILE keeps them."
            }
            Self::PartOfRecord => "the file ends within a record.",
            Self::CutLines => "lines of this listing have lost their ends. Records of a panic may be missing.",
            Self::OpenEnd => "the last line of this listing has no end. Newer records may be missing.",
            Self::Failed => "the tool that wrote this listing reports an error in it. Newer records may be missing.",
            Self::Empty => {
                "there is nothing in it. The SEL has no entries, or the command that was to read it has failed."
            }
            Self::SinceUnknown => {
                "--since does not know a listing's times. All of its crashes are shown. ipmitool sel writeraw FILE keeps the times."
            }
            Self::SymbolsOfAnyKernel => {
                "these crashes are of several kernels, and the symbols file does not name its own. The names of the \
                 other kernels' locations are wrong."
            }
        })
    }
}

/// Most bytes of a file: a SEL has at most 65,534 records, and no listing takes 1 KB for one.
pub const MOST: u64 = 64 << 20;

/// A file that is no SEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// `ipmitool sel save`.
    #[error(
        "ipmitool sel save leaves out more than half of each record\n\
         hint: ipmitool sel writeraw FILE"
    )]
    Save,
    /// Packed in a form that is not unpacked here, and what unpacks it.
    #[error("not a SEL: compressed\nhint: {0} FILE | lastwords read --file -")]
    Packed(&'static str),
    /// Longer than the longest.
    #[error("not a SEL: more than {} MiB\nhint: ipmitool sel writeraw FILE", MOST >> 20)]
    TooLong,
    /// What a tool says in place of a SEL.
    #[error("not a SEL: a tool's error\nhint: mend what it says, or read the BMC itself with lastwords read")]
    Failed,
    /// Something else.
    #[error(
        "not a SEL in a known form: these are ipmitool sel writeraw, sel list, elist, -v and -c, FreeIPMI's ipmi-sel, \
         and lines of 16 bytes in hex\nhint: ipmitool sel writeraw FILE"
    )]
    Unknown,
}

/// What other files begin with.
const FOREIGN: [(&[u8], LogError); 7] = [
    (b"\x1f\x8b", LogError::Packed("gunzip -c")),
    (b"\xfd7zXZ\0", LogError::Packed("xz -dc")),
    (b"\x28\xb5\x2f\xfd", LogError::Packed("zstd -dc")),
    (b"BZh", LogError::Packed("bunzip2 -c")),
    (b"PK\x03\x04", LogError::Packed("unzip -p")),
    (b"\x7fELF", LogError::Unknown),
    (b"MZ", LogError::Unknown),
];

impl Log {
    /// Takes apart what a file holds of one host.
    ///
    /// # Errors
    /// [`LogError::Save`], [`LogError::Packed`], [`LogError::Unknown`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LogError> {
        // What is written of a SEL without entries.
        if bytes.trim_ascii().is_empty() {
            let mut log = Self::default();
            log.notes.insert(Note::Empty);
            return Ok(log);
        }
        let foreign = FOREIGN.iter().find(|(begin, _)| bytes.starts_with(begin));
        let is_record = foreign.is_some() && begins_with_id(bytes);
        if let Some((_, error)) = foreign.filter(|_| !is_record) {
            return Err(*error);
        }
        if is_record || is_raw(bytes) {
            let (records, rest) = bytes.as_chunks();
            let mut log: Self = records.iter().copied().collect();
            if !rest.is_empty() {
                log.notes.insert(Note::PartOfRecord);
            }
            return Ok(log);
        }
        listing::parse(&text(bytes))
    }

    /// The same, of one host after the other, where each line has its host in front (`pdsh`, `ipmi-sel -h a,b`) or each host
    /// a title (`dshbak`, `ipmi-sel -B`). The hosts that have no SEL are handed to `refused`.
    ///
    /// # Errors
    /// Where none has.
    pub fn hosts(
        bytes: &[u8],
        refused: &mut dyn FnMut(&str, LogError),
    ) -> Result<Vec<(Option<String>, Self)>, LogError> {
        let (mut logs, mut others) = (Vec::new(), Vec::new());
        for (host, text) in hosts::by_host(&text(bytes)).unwrap_or_default() {
            match Self::parse(text.as_bytes()) {
                Ok(log) => logs.push((Some(host), log)),
                Err(error) => others.push((host, error)),
            }
        }
        if logs.is_empty() {
            return Ok(vec![(None, Self::parse(bytes)?)]);
        }
        for (host, error) in &others {
            refused(host, *error);
        }
        Ok(logs)
    }
}

/// The text of a file, also of one in 16-bit characters, as PowerShell redirects output; without the NULs behind it.
pub fn text(bytes: &[u8]) -> String {
    let wide = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<_> = bytes.as_chunks().0.iter().map(|pair| unit(*pair)).collect();
        String::from_utf16_lossy(&units)
    };
    let is_ascii = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let begins = |low: usize| {
        let pairs = bytes.as_chunks::<2>().0.iter().take(8);
        pairs.len() == 8 && pairs.into_iter().all(|pair| is_ascii(pair[low]) && pair[1 - low] == 0)
    };
    let text = if bytes.starts_with(b"\xff\xfe") || begins(0) {
        wide(u16::from_le_bytes)
    } else if bytes.starts_with(b"\xfe\xff") || begins(1) {
        wide(u16::from_be_bytes)
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    };
    text.trim_start_matches('\u{feff}').trim_end_matches('\0').to_owned()
}

/// Record type of the text records (`docs/sel-format.md`), and byte 3 of their records.
const RECORD_TYPE: u8 = 0xf0;
const LINUX: u8 = 0x20;

/// One line of a listing, or one paragraph.
enum Row {
    /// A record, as far as it is known.
    Record(Entry),
    /// The text of a text record, without its number.
    Text(String),
    /// A record that is shown, but not so that anything of it can be read.
    Unreadable,
}

/// The record of a text, with its number and whether it starts a line.
fn text_record(number: u8, text: &[u8]) -> [u8; 16] {
    let mut record = [0, 0, RECORD_TYPE, LINUX, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    record.iter_mut().skip(5).zip(text).for_each(|(slot, byte)| *slot = *byte);
    record
}

/// Is what another kind of file begins with the id of a record? None of those kinds has a record's type behind it.
pub fn begins_with_id(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|kind| matches!(*kind, 0x02 | 0xc0..)) && are_records(bytes.as_chunks().0)
}

/// Are these the bytes of records?
fn is_raw(bytes: &[u8]) -> bool {
    let control = |byte: &u8| *byte < b' ' && !b"\t\n\r\x1b".contains(byte);
    bytes.iter().any(control) && are_records(bytes.as_chunks().0)
}

/// Are most of them records that there are (IPMI 2.0 sections 32.1 to 32.3)? Some BMCs have a few of others; and some have
/// events of another type than 2, which the revision of their message shows.
fn are_records(records: &[[u8; 16]]) -> bool {
    let is_known = |record: &&[u8; 16]| match record[2] {
        0x02 | 0xc0..=0xff => true,
        _ => matches!(record[9], 3 | 4),
    };
    let known = records.iter().filter(is_known).count();
    !records.is_empty() && known * 2 >= records.len()
}

#[cfg(test)]
mod tests;
