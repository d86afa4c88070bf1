//! A System Event Log from a file: what ipmitool and FreeIPMI write, distinguished by content, as records of 16 bytes.
//!
//! Their listings leave things out. What they show is put back where it stands in a record, so that one decoder reads
//! them all; what they do not show a note names. `docs/reading.md` lists the forms.

use super::why;
use crate::bmc::redfish::Maker;
use lastwords_core::{
    report::{Line, Stage},
    store::sel::{self, TEXT_LEN},
};
use std::{collections::BTreeSet, fmt};

/// A System Event Log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Its records, in its order.
    pub entries: Vec<Entry>,
    /// What it leaves out.
    pub notes: BTreeSet<Note>,
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
        Self { entries: records.into_iter().map(Entry::from).collect(), notes: BTreeSet::new() }
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
    /// Of which kernel the symbols are, where there are crashes of several kernels.
    SymbolsOfAnyKernel,
    /// The bytes of entries in Redfish, which may be a panic's.
    NoRawData(Maker),
    /// Whose log it is: nobody has checked the certificate.
    CertificateNotChecked,
}

impl Note {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSequence => "no-sequence",
            Self::NoEventData => "no-event-data",
            Self::PartOfRecord => "part-of-record",
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
                "this listing has no record numbers. Texts were joined by their looks, and missing records do not show. \
                 ipmitool sel writeraw FILE keeps the numbers."
            }
            Self::NoEventData => {
                "this listing leaves out event data 2 and 3. Texts with three characters in a record were left out. \
                 ipmitool sel writeraw FILE keeps them."
            }
            Self::PartOfRecord => "the file ends within a record.",
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
    /// Packed, and what unpacks it.
    #[error("not a SEL: compressed\nhint: {0} FILE | lastwords read --file -")]
    Packed(&'static str),
    /// In 16-bit characters, as PowerShell redirects output.
    #[error("not a SEL: UTF-16 text\nhint: iconv -f UTF-16 -t UTF-8 FILE | lastwords read --file -")]
    Utf16,
    /// Longer than the longest.
    #[error("not a SEL: more than {} MiB\nhint: ipmitool sel writeraw FILE", MOST >> 20)]
    TooLong,
    /// Something else.
    #[error(
        "not a SEL in a known form: these are ipmitool sel writeraw, sel list, elist, -v and -c, FreeIPMI's ipmi-sel, \
         and lines of 16 bytes in hex\nhint: ipmitool sel writeraw FILE"
    )]
    Unknown,
}

/// What other files begin with.
const FOREIGN: [(&[u8], LogError); 9] = [
    (b"\x1f\x8b", LogError::Packed("gunzip -c")),
    (b"\xfd7zXZ\0", LogError::Packed("xz -dc")),
    (b"\x28\xb5\x2f\xfd", LogError::Packed("zstd -dc")),
    (b"BZh", LogError::Packed("bunzip2 -c")),
    (b"PK\x03\x04", LogError::Packed("unzip -p")),
    (b"\xff\xfe", LogError::Utf16),
    (b"\xfe\xff", LogError::Utf16),
    (b"\x7fELF", LogError::Unknown),
    (b"MZ", LogError::Unknown),
];

impl Log {
    /// Takes apart what a file holds.
    ///
    /// # Errors
    /// [`LogError::Save`], [`LogError::Packed`], [`LogError::Utf16`], [`LogError::Unknown`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LogError> {
        if let Some((_, error)) = FOREIGN.iter().find(|(begin, _)| bytes.starts_with(begin)) {
            return Err(*error);
        }
        let control = |byte: &u8| *byte < b' ' && !b"\t\n\r\x1b".contains(byte);
        if bytes.iter().any(control) {
            let (records, rest) = bytes.as_chunks();
            if are_records(records) {
                let mut log: Self = records.iter().copied().collect();
                log.notes.extend((!rest.is_empty()).then_some(Note::PartOfRecord));
                return Ok(log);
            }
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        Listing::parse(&String::from_utf8_lossy(text))
    }
}

/// Are most of them of a record type that there is (IPMI 2.0 sections 32.1 to 32.3)? Some BMCs have a few of others.
fn are_records(records: &[[u8; 16]]) -> bool {
    let known = records.iter().filter(|record| matches!(record[2], 0x02 | 0xc0..=0xff)).count();
    !records.is_empty() && known * 2 >= records.len()
}

/// Record type of the text records (`docs/sel-format.md`), byte 3 of their records, and in byte 4: this one starts a line.
const RECORD_TYPE: u8 = 0xf0;
const LINUX: u8 = 0x20;
const STARTS_LINE: u8 = 0x80;
/// The first character of a text in system event records.
const STX: u8 = 2;

/// One line of a listing, or one paragraph.
enum Row {
    /// A record, as far as it is known.
    Record(Entry),
    /// The text of a text record, without its number.
    Text(String),
    /// A record that is shown, but not so that anything of it can be read.
    Unreadable,
}

/// A listing that is being read.
#[derive(Default)]
struct Listing {
    rows: Vec<Row>,
    notes: BTreeSet<Note>,
    /// Is it one of the forms that are known?
    known: bool,
    /// Lines of `ipmitool sel save`.
    saved: bool,
    /// Columns of an ipmi-sel listing.
    columns: Option<usize>,
    /// The paragraph of `ipmitool -v sel list` that is being read.
    paragraph: Option<Paragraph>,
    /// In a stream of system event records of which not all characters are shown.
    in_stream: bool,
}

impl Listing {
    fn parse(text: &str) -> Result<Log, LogError> {
        let mut listing = Self { known: text.trim().is_empty(), ..Self::default() };
        for line in text.lines() {
            listing.line(line.trim_end_matches('\r'));
        }
        listing.end_paragraph();
        if !listing.known {
            return Err(if listing.saved { LogError::Save } else { LogError::Unknown });
        }
        Ok(listing.finish())
    }

    fn line(&mut self, line: &str) {
        if self.paragraph(line) {
            return;
        }
        let row = ipmi_sel_hex(line)
            .or_else(|| hex_dump(line))
            .map(|record| Row::Record(record.into()))
            .or_else(|| self.ipmi_sel(line))
            .or_else(|| self.ipmitool(line));
        if let Some(row) = row {
            self.known = true;
            self.rows.push(row);
        } else if line.trim() == "SEL has no entries" {
            self.known = true;
        } else if is_saved(line) {
            self.saved = true;
        }
    }

    /// A line of `ipmitool sel list`, of `sel elist`, or with `-c` of either:
    /// `   3 | Linux kernel panic: Fatal excep`,
    /// `   2 | 11/23/26 | 00:04:50 UTC | OS Critical Stop #0x46 | Run-time critical stop | Asserted`.
    fn ipmitool(&mut self, line: &str) -> Option<Row> {
        let (id, rest) = line.trim_start().split_once(['|', ','])?;
        u16::from_str_radix(id.trim(), 16).ok()?;
        if let Some((before, text)) = rest.split_once("Linux kernel panic: ") {
            return before.trim_matches([' ', ',']).is_empty().then(|| self.text(text));
        }
        let fields: Vec<_> = rest.split(['|', ',']).map(str::trim).collect();
        if fields.first()?.starts_with("OEM record") {
            return Some(Row::Unreadable);
        }
        let &[date, time, sensor, event, ..] = &fields[..] else { return None };
        let is_date = date.contains(['/', '.', '-']) && date.contains(|letter: char| letter.is_ascii_digit());
        (is_date || date.starts_with("Pre-Init") || date.starts_with("Un")).then_some(())?;
        let number = sensor.split_once("#0x").and_then(|(_, number)| u8::from_str_radix(number, 16).ok());
        Some(self.event(event, number, None, format!("{date} {time}")))
    }

    /// A line of FreeIPMI's `ipmi-sel`:
    /// `3  | N/A         | N/A      | N/A        | N/A              | OEM defined = 20h 00h 46h …`,
    /// `2  | Nov-23-2026 | 00:04:50 | Sensor #70 | OS Critical Stop | Run-time Critical Stop ; OEM Event Data2 code = 61h …`.
    fn ipmi_sel(&mut self, line: &str) -> Option<Row> {
        let separator = if line.contains('|') { '|' } else { ',' };
        let mut fields: Vec<_> = line.split(separator).collect();
        if fields.first()?.trim() == "ID" && fields.last()?.trim() == "Event" {
            self.columns = Some(fields.len());
            self.known = true;
            return None;
        }
        let columns = self.columns?;
        // The text may hold the separator.
        if fields.len() > columns {
            fields = line.splitn(columns, separator).collect();
        }
        let &[id, date, time, name, ref between @ .., event] = &fields[..] else { return None };
        id.trim().parse::<u16>().ok()?;
        let shown = event.strip_prefix(' ').filter(|_| separator == '|').unwrap_or(event);
        if let Some(bytes) = shown.strip_prefix("OEM defined") {
            return Some(oem_record(bytes));
        }
        if date.trim() == "N/A" && name.trim() == "N/A" {
            return Some(self.text(shown));
        }
        let is_critical_stop = between.iter().any(|field| field.trim() == "OS Critical Stop");
        let number = name.split_once('#').and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let data = |code: &str| {
            let (_, rest) = shown.split_once(code)?;
            u8::from_str_radix(rest.split('h').next()?, 16).ok()
        };
        let codes = data("OEM Event Data2 code = ").zip(data("OEM Event Data3 code = "));
        // With --interpret-oem-data, of Linux's own: `Run-time Critical Stop ; Fat`.
        let letters = || {
            let (_, letters) = shown.split_once(" ; ")?;
            <[u8; 3]>::try_from(letters.as_bytes()).ok()
        };
        let data = codes.or_else(|| letters().map(|[_, data2, data3]| (data2, data3)));
        let event = if is_critical_stop { shown.split(" ; ").next()? } else { "" };
        Some(self.event(event, number, data, format!("{} {}", date.trim(), time.trim())))
    }

    /// A system event.
    fn event(&mut self, event: &str, number: Option<u8>, data: Option<(u8, u8)>, time: String) -> Row {
        if !event.trim().eq_ignore_ascii_case("run-time critical stop") {
            self.in_stream = false;
            // Any other record: it stands for itself, and carries nothing.
            return Row::Unreadable;
        }
        let text = match (number, data) {
            (Some(number), Some((data2, data3))) => [number, data2, data3],
            (Some(number), None) => {
                self.in_stream |= number == STX;
                if self.in_stream {
                    self.notes.insert(Note::NoEventData);
                    return Row::Unreadable;
                }
                [number, 0, 0]
            }
            (None, _) => [0; 3],
        };
        Row::Record(Entry { record: sel::event_record(text), time: Some(time) })
    }

    /// A text record that is shown as text.
    fn text(&mut self, text: &str) -> Row {
        self.in_stream = false;
        self.notes.insert(Note::NoSequence);
        Row::Text(text.to_owned())
    }
}

/// One record as `ipmitool -v sel list` shows it.
#[derive(Default)]
struct Paragraph {
    time: String,
    event: String,
    number: Option<u8>,
    data: Option<[u8; 3]>,
    text: Option<String>,
}

impl Listing {
    /// Takes a line of a paragraph: ` Event Data            : a16174`. False when it is none.
    fn paragraph(&mut self, line: &str) -> bool {
        let Some((name, value)) = line.split_once(':') else { return false };
        let value = value.strip_prefix(' ').unwrap_or(value);
        let name = name.trim();
        if !name.chars().all(|letter| letter.is_alphanumeric() || " ()".contains(letter)) {
            return false;
        }
        if name == "SEL Record ID" {
            self.end_paragraph();
            self.paragraph = Some(Paragraph::default());
            return true;
        }
        let Some(paragraph) = &mut self.paragraph else { return false };
        match name {
            "Timestamp" => value.clone_into(&mut paragraph.time),
            "Description" => value.clone_into(&mut paragraph.event),
            "Sensor Number" => paragraph.number = u8::from_str_radix(value.trim(), 16).ok(),
            "Panic string" => paragraph.text = Some(value.to_owned()),
            "Event Data" | "Event Data (RAW)" => {
                let number = u32::from_str_radix(value.trim(), 16).ok();
                paragraph.data = number.and_then(|number| number.to_be_bytes().last_chunk().copied());
            }
            _ => {}
        }
        // Everything that is indented belongs to it.
        line.starts_with(' ')
    }

    fn end_paragraph(&mut self) {
        let Some(paragraph) = self.paragraph.take() else { return };
        self.known = true;
        let row = if let Some(text) = paragraph.text {
            self.text(&text)
        } else {
            // ipmitool 1.8.19 shows the date twice.
            let time = match paragraph.time.trim().split_once(' ') {
                Some((date, again)) if date == again => date.to_owned(),
                _ => paragraph.time.trim().to_owned(),
            };
            let data = paragraph.data.map(|[_, data2, data3]| (data2, data3));
            self.event(&paragraph.event, paragraph.number, data, time)
        };
        self.rows.push(row);
    }
}

impl Listing {
    /// Numbers the text records again.
    fn finish(self) -> Log {
        let whys = self.whys();
        // A crash's texts: those behind a platform event, and within these from one build id to the next.
        let mut crashes: Vec<Vec<usize>> = vec![Vec::new()];
        for (index, row) in self.rows.iter().enumerate() {
            match row {
                Row::Text(text) if mark(text).is_none() && whys[index].is_none() => {
                    let crash = crashes.last_mut().filter(|crash| {
                        !is_build_id(text) || !crash.iter().any(|index| is_build_id(self.text_at(*index)))
                    });
                    match crash {
                        Some(crash) => crash.push(index),
                        None => crashes.push(vec![index]),
                    }
                }
                Row::Record(entry) if entry.time.is_some() => crashes.push(Vec::new()),
                _ => {}
            }
        }
        let mut numbers = vec![0; self.rows.len()];
        for crash in &crashes {
            let texts: Vec<_> = crash.iter().map(|index| self.text_at(*index)).collect();
            for (number, (starts, index)) in line_starts(&texts).into_iter().zip(crash).enumerate() {
                numbers[*index] = number as u8 & !STARTS_LINE | if starts { STARTS_LINE } else { 0 };
            }
        }
        let entry = |((row, number), why)| match (row, why) {
            (Row::Record(entry), _) => entry,
            (Row::Text(text), Some(part)) => why::record(part, text.as_bytes()).into(),
            (Row::Text(text), None) => {
                mark(&text).unwrap_or_else(|| text_record(number, text.as_bytes())).into()
            }
            (Row::Unreadable, _) => [0; 16].into(),
        };
        Log { entries: self.rows.into_iter().zip(numbers).zip(whys).map(entry).collect(), notes: self.notes }
    }

    /// Which rows are why a dump failed, and which part of that: texts behind its mark that begin so, and go on while they
    /// are full.
    fn whys(&self) -> Vec<Option<u8>> {
        let (mut next, mut whys) = (None, Vec::new());
        for row in &self.rows {
            let Row::Text(text) = row else {
                next = None;
                whys.push(None);
                continue;
            };
            let is_part = match next {
                Some(0) => text.starts_with(why::BEGINS),
                Some(part) => part < why::MOST,
                None => false,
            };
            whys.push(next.filter(|_| is_part).map(|part| part as u8));
            next = match next {
                _ if text.trim_end() == Stage::Failed.text() => Some(0),
                Some(part) if is_part && text.len() >= TEXT_LEN => Some(part + 1),
                _ => None,
            };
        }
        whys
    }

    fn text_at(&self, index: usize) -> &str {
        match self.rows.get(index) {
            Some(Row::Text(text)) => text,
            _ => "",
        }
    }
}

/// Which of a crash's records start a line. Where none is one of our lines it is Linux's own text, which starts none.
fn line_starts(texts: &[&str]) -> Vec<bool> {
    let mut line = String::new();
    let starts: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let before = index.checked_sub(1).and_then(|before| texts.get(before));
            let starts = before.is_none_or(|before| before.len() < TEXT_LEN || starts_line(&line, text));
            if starts {
                line.clear();
            }
            line.push_str(text);
            starts
        })
        .collect();
    let is_ours = texts.iter().any(|text| !matches!(sel::parse(text.as_bytes(), false), Line::Cause(_)));
    if is_ours { starts } else { vec![false; texts.len()] }
}

/// Behind a full record: does this one go on with the line, or is it the next?
fn starts_line(line: &str, text: &str) -> bool {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match sel::parse(line.as_bytes(), false) {
        // Never longer.
        Line::BuildId(_) | Line::CrashId(_) | Line::Signature(_) => true,
        // Only digits could follow.
        Line::Panicked { .. } | Line::Group { .. } | Line::Omitted(_) => !is_hex,
        _ => match sel::parse(text.as_bytes(), false) {
            // `+16` goes on with a symbol; how many CPUs were left out comes behind a group.
            Line::Reason(_) | Line::Cause(_) | Line::Omitted(_) => false,
            Line::Restored(part) => part == b"boot_params",
            Line::Corrupt(part) => [&b"initrd"[..], b"kernel", b"boot_params"].contains(&part),
            _ => true,
        },
    }
}

fn is_build_id(text: &str) -> bool {
    matches!(sel::parse(text.as_bytes(), false), Line::BuildId(_))
}

fn mark(text: &str) -> Option<[u8; 16]> {
    Stage::ALL.into_iter().find(|stage| stage.text() == text).map(sel::mark)
}

fn text_record(number: u8, text: &[u8]) -> [u8; 16] {
    let mut record = [0, 0, RECORD_TYPE, LINUX, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    record.iter_mut().skip(16 - TEXT_LEN).zip(text).for_each(|(slot, byte)| *slot = *byte);
    record
}

/// `ipmi-sel --hex-dump`: `RID:[01][00] RT:[02] TS:[22][83][03][6B] … ED1: [59] ED2: [50] ED3: [48]`.
fn ipmi_sel_hex(line: &str) -> Option<[u8; 16]> {
    line.trim_start().strip_prefix("RID:")?;
    let bytes = line.split('[').skip(1).map(|rest| rest.split(']').next().and_then(byte));
    <[u8; 16]>::try_from(bytes.collect::<Option<Vec<_>>>()?).ok()
}

/// Sixteen bytes and nothing else: `01 00 02 22 83 …`, `0x01 0x00 …`.
fn hex_dump(line: &str) -> Option<[u8; 16]> {
    let words = line.split([' ', ',', '\t']).filter(|word| !word.is_empty());
    <[u8; 16]>::try_from(words.map(|word| byte(word.trim_start_matches("0x"))).collect::<Option<Vec<_>>>()?)
        .ok()
}

/// `ipmitool sel save`: `0x04 0x20 0x73 0x6f 0xa1 0x79 0x73 # OS Critical Stop #0x73 Run-time critical stop`.
fn is_saved(line: &str) -> bool {
    let Some((bytes, _)) = line.split_once('#') else { return false };
    let bytes = bytes.split_ascii_whitespace().map(|word| word.strip_prefix("0x").and_then(byte));
    bytes.collect::<Option<Vec<_>>>().is_some_and(|bytes| bytes.len() == 7)
}

fn byte(digits: &str) -> Option<u8> {
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The bytes behind ipmi-sel's `OEM defined`: ` = 20h 00h 46h …`, and with `-vv` ` (Record Type = F0h) = 20h …`.
fn oem_record(shown: &str) -> Row {
    let (kind, bytes) = shown.rsplit_once('=').unwrap_or(("", shown));
    let is_of_another_type = kind.contains("Record Type") && !kind.contains("F0h");
    let bytes = bytes.split_ascii_whitespace().map(|word| word.strip_suffix('h').and_then(byte));
    match bytes.collect::<Option<Vec<_>>>().map(<[u8; 13]>::try_from) {
        Some(Ok(bytes)) if !is_of_another_type => {
            let mut record = [0, 0, RECORD_TYPE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            record[3..].copy_from_slice(&bytes);
            Row::Record(record.into())
        }
        _ => Row::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::crash::{Crash, crashes};
    use lastwords_core::report::Location;
    use proptest::{collection::vec, prelude::*};

    fn crashes_of(text: &str) -> Vec<Crash> {
        crashes(&Log::parse(text.as_bytes()).unwrap())
    }

    /// A listing of `ipmitool sel list`.
    fn list(lines: &[&str]) -> String {
        let event =
            "1 | 11/22/2026 | 16:17:10 | OS Critical Stop #0x73 | Run-time critical stop | Asserted\n";
        let records = lines.iter().flat_map(|line| line.as_bytes().chunks(TEXT_LEN));
        records.fold(event.to_owned(), |list, chunk| {
            format!("{list}   2 | Linux kernel panic: {}\n", String::from_utf8_lossy(chunk))
        })
    }

    #[test]
    fn lines_that_fill_their_records_are_told_apart() {
        let lines = [
            "exactly 11c",
            "id 5f3e9a1b",
            "1=@c0263005",
            "cause of 11",
            "RIP of_22_charact+12ab",
            "Comm kthrea",
            "2*@c0264000",
            "11*@ffffc90000001234",
            "1*@c0265000",
            "+1f",
            "< eleven_ch",
            "< more",
        ];
        let [crash] = &crashes_of(&list(&lines))[..] else { panic!() };
        let text = |text: &Option<crate::read::crash::Text>| text.as_ref().unwrap().to_string();
        assert_eq!(text(&crash.reason), "exactly 11c");
        assert_eq!(crash.build_id, Some(0x5f3e9a1b));
        assert_eq!(text(&crash.cause), "cause of 11");
        assert_eq!(text(&crash.location), "of_22_charact+0x12ab");
        assert_eq!(text(&crash.process), "kthrea");
        assert_eq!(crash.groups.len(), 3);
        assert_eq!(crash.left_out, 0x1f);
        assert_eq!(crash.call_trace.len(), 2);
        assert_eq!((crash.missing, crash.unparsed.len()), (0, 0));
    }

    #[test]
    fn a_second_build_id_is_another_crash() {
        let twice = list(&["id 5f3e9a1b", "1=10", "id 5f3e9a1b", "2=20"]);
        assert_eq!(crashes_of(&twice).len(), 2);
    }

    #[test]
    fn sixteen_bytes_in_hex_are_a_record() {
        let words = "00 00 f0 20 80 69 64 20 35 66 33 65 39 61 31 62\n";
        for text in [words.to_owned(), words.replace(' ', ", 0x"), format!("Record:\r\n {words}")] {
            assert_eq!(crashes_of(&text)[0].build_id, Some(0x5f3e9a1b), "{text}");
        }
        assert_eq!(Log::parse(b"00 00 f0 20 80 69 64 20 35 66 33 65 39 61 31\n"), Err(LogError::Unknown));
    }

    #[test]
    fn a_raw_sel_that_is_cut_says_so() {
        let mut raw = sel::records(b"id 5f3e9a1b", 0).next().unwrap().to_vec();
        raw.extend([0; 7]);
        let log = Log::parse(&raw).unwrap();
        assert_eq!((log.entries.len(), log.notes.contains(&Note::PartOfRecord)), (1, true));
    }

    #[test]
    fn what_is_no_sel_is_refused_with_a_hint() {
        let hint = |bytes: &[u8]| {
            let error = Log::parse(bytes).unwrap_err().to_string();
            error.split_once("\nhint: ").unwrap().1.to_owned()
        };
        assert_eq!(hint(b"\x1f\x8b\x08\x08zZ\x07k"), "gunzip -c FILE | lastwords read --file -");
        assert_eq!(hint(b"\xff\xfe1\0 \0"), "iconv -f UTF-16 -t UTF-8 FILE | lastwords read --file -");
        for foreign in
            [&b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0"[..], &[7; 160], &[0; 64], b"\0", b"hello"]
        {
            assert_eq!(hint(foreign), "ipmitool sel writeraw FILE", "{foreign:?}");
        }
    }

    #[test]
    fn a_listing_with_odd_bytes_is_a_listing() {
        let with_mark = format!("\u{feff}{}\x07\n", list(&["id 5f3e9a1b"]));
        assert_eq!(crashes_of(&with_mark)[0].build_id, Some(0x5f3e9a1b));
    }

    /// Words that look like no other line at any of their records.
    fn text() -> impl Strategy<Value = String> {
        "[g-z]{2,9}( [g-z]{2,9}){0,5}"
    }

    proptest! {
        #[test]
        fn a_listing_is_joined_to_what_was_written(
            reason in text(), cause in text(), name in "[g-z]{1,20}", offset in 0..0x10000u32,
            cpus in vec((1..2000u32, prop_oneof![
                any::<u32>().prop_map(Location::Kernel),
                (0xffff_ffff_c000_0000..0xffff_ffff_ff00_0000u64).prop_map(Location::Address),
            ]), 0..5),
        ) {
            let rip = format!("{name}+{offset:x}");
            let comm = name.chars().take(15).collect::<String>();
            let mut lines = vec![
                Line::Reason(reason.as_bytes()), Line::BuildId(7), Line::Cause(cause.as_bytes()),
                Line::Rip(rip.as_bytes()), Line::Comm(comm.as_bytes()),
            ];
            lines.extend(cpus.iter().map(|(count, location)| Line::Group { count: *count, location: *location }));
            lines.push(Line::Caller(name.as_bytes()));
            let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(sel::text(*line).as_bytes()).into_owned()).collect();
            let from_list = crashes_of(&list(&lines.iter().map(String::as_str).collect::<Vec<_>>()));
            let mut records = vec![sel::event_record([b's', 0, 0])];
            for line in &lines {
                records.extend(sel::records(line.as_bytes(), records.len() as u8 - 1));
            }
            let mut from_records = crashes(&records.into_iter().collect());
            from_records[0].time.clone_from(&from_list[0].time);
            prop_assert_eq!(from_list, from_records);
        }

        #[test]
        fn any_file_is_taken_or_refused(lines in vec(prop_oneof![
            ".{0,60}",
            "( {0,3}[0-9a-f]{1,3} )?[|,] (Linux kernel panic: )?.{0,12}",
            "[0-9a-f]{1,3} \\| 11/22/26 \\| [0-9:]{0,8} UTC \\| OS Critical Stop( #0x[0-9a-f]{2})? \\| Run-time critical stop",
            " ?(SEL Record ID|Panic string|Event Data|Sensor Number|Timestamp|Description) *: ?.{0,12}",
            "RID:(\\[[0-9A-F]{2}\\] ?){0,17}",
            "ID ?[|,] Date [|,] Event", "[0-9]{1,3} ?[|,] (N/A|Nov-23-2026) ?[|,] ?(OEM defined|Run-time Critical Stop).{0,40}",
        ], 0..40), bytes in vec(any::<u8>(), 0..100)) {
            if let Ok(log) = Log::parse(lines.join("\n").as_bytes()) {
                let _ = crashes(&log);
            }
            let _ = Log::parse(&bytes);
        }
    }
}
