//! A System Event Log from a file: what ipmitool and FreeIPMI write, distinguished by content, as records of 16 bytes.
//!
//! Their listings leave things out. What they show is put back where it stands in a record, so that one decoder reads
//! them all; what they do not show a note names. `docs/reading.md` lists the forms.

use super::why;
use crate::bmc::redfish::Maker;
use lastwords_core::{
    report::{Line, Stage},
    store::sel::{self, LINE_LEN, TEXT_LEN},
};
use std::{collections::BTreeMap, fmt};

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

/// Longest line of a listing. Those that there are take a few hundred bytes.
const LINE: usize = 4096;

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
            return Ok(Self::default());
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
        Listing::parse(&text(bytes))
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
        for (host, text) in by_host(&text(bytes)).unwrap_or_default() {
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

/// The lines of each host, without its name in front.
fn by_host(text: &str) -> Option<Vec<(String, String)>> {
    let mut hosts: Vec<(String, String)> = Vec::new();
    let mut places = BTreeMap::new();
    let mut add = |host: &str, line: &str| {
        let at = *places.entry(host.to_owned()).or_insert_with(|| {
            hosts.push((host.to_owned(), String::new()));
            hosts.len() - 1
        });
        let (_, lines) = &mut hosts[at];
        lines.push_str(line);
        lines.push('\n');
    };
    let is_rule = |line: &&str| line.len() >= 8 && line.bytes().all(|byte| byte == b'-');
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let mut title = None;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        if is_rule(line)
            && let (Some(host), Some(true)) = (lines.get(at), lines.get(at + 1).map(is_rule))
        {
            title = Some(*host);
            at += 2;
        } else if let Some(host) = title {
            add(host, line);
        } else if !line.is_empty() {
            let (host, rest) = line.split_once(':')?;
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[],".contains(&byte);
            // `ipmi-raw` has `rcvd:` in front of each answer.
            let is_host = !host.is_empty() && host.bytes().all(is_name) && host != "rcvd";
            if !is_host || !(rest.is_empty() || rest.starts_with(' ')) {
                return None;
            }
            add(host, rest.strip_prefix(' ').unwrap_or(rest));
        }
    }
    (!hosts.is_empty()).then_some(hosts)
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
    notes: Notes,
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
    /// The bytes of the line before, where it was sixteen in hex.
    bytes: Option<[u8; 16]>,
    /// The last date that was shown, and how many were before.
    date: (String, u32),
}

impl Listing {
    fn parse(text: &str) -> Result<Log, LogError> {
        let mut listing = Self::default();
        // A longer one would be taken apart into more than it takes itself.
        for line in text.lines().filter(|line| line.len() <= LINE) {
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
        let before = self.bytes.take();
        let bytes = hex_bytes(line);
        // An answer of 18 bytes, as ipmitool raw breaks it.
        if let (Some(&[one, other]), Some(before)) = (bytes.as_deref(), before) {
            let mut record = before;
            record.rotate_left(2);
            record[14..].copy_from_slice(&[one, other]);
            self.rows.pop();
            self.rows.push(Row::Record(record.into()));
            return;
        }
        let bytes = bytes.as_deref().and_then(record_in);
        self.bytes = bytes;
        let row = ipmi_sel_hex(line)
            .or(bytes)
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
        // In Japan `2026年11月23日`.
        let is_mark = |letter: char| !letter.is_ascii_alphanumeric() && letter != ' ';
        let is_date = date.contains(is_mark) && date.contains(|letter: char| letter.is_ascii_digit());
        (is_date || date.starts_with("Pre-Init") || date.starts_with("Un")).then_some(())?;
        let number = sensor.split_once("#0x").and_then(|(_, number)| u8::from_str_radix(number, 16).ok());
        Some(self.event(event, number, None, &format!("{date} {time}")))
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
        // With --no-header-output.
        let columns = self.columns.or_else(|| columns_of(&fields))?;
        self.columns = Some(columns);
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
        Some(self.event(event, number, data, &format!("{} {}", date.trim(), time.trim())))
    }

    /// A system event.
    fn event(&mut self, event: &str, number: Option<u8>, data: Option<(u8, u8)>, time: &str) -> Row {
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
        // Japan's marks in the middle of a date and a time are dashes and colons elsewhere.
        let time: String =
            time.replace(['年', '月'], "-").replace(['時', '分'], ":").replace(['日', '秒'], "");
        let mut record = sel::event_record(text);
        record[3..7].copy_from_slice(&self.seconds(&time).unwrap_or(0).to_le_bytes());
        Row::Record(Entry { record, time: Some(time) })
    }

    /// A number of seconds for a time as it is shown, so that those of one day have their distance and those of two are far
    /// from each other. Which day it is only people know, who write it in many ways.
    fn seconds(&mut self, time: &str) -> Option<u32> {
        const DAY: u32 = 24 * 60 * 60;
        let (date, clock) = time.split_once(' ')?;
        let numbers =
            clock.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let &[hours, minutes, seconds] =
            &numbers.map_while(|digits| digits.parse().ok()).collect::<Vec<u32>>()[..]
        else {
            return None;
        };
        let afternoon = if clock.contains("PM") && hours < 12 { 12 } else { 0 };
        if self.date.0 != date {
            self.date = (date.to_owned(), self.date.1.wrapping_add(1));
        }
        let day = self.date.1;
        (hours < 24 && minutes < 60 && seconds <= 60)
            .then(|| (1 + 2 * (day % 0x2000)) * DAY + (hours + afternoon) * 3600 + minutes * 60 + seconds)
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
            self.event(&paragraph.event, paragraph.number, data, &time)
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
            // What is longer is no other line for that.
            if line.len() < LINE_LEN {
                line.push_str(text);
            }
            starts
        })
        .collect();
    let is_ours = texts.iter().any(|text| !matches!(sel::parse(text.as_bytes(), false), Line::Cause(_)));
    if is_ours { starts } else { vec![false; texts.len()] }
}

#[cfg(test)]
thread_local! {
    /// Bytes that were looked at to tell lines apart.
    static LOOKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Behind a full record: does this one go on with the line, or is it the next?
fn starts_line(line: &str, text: &str) -> bool {
    #[cfg(test)]
    LOOKED.set(LOOKED.get() + line.len() + text.len());
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

/// Bytes and nothing else: `01 00 02 22 83 …`, `0x01 0x00 …`. `ipmi-raw` has `rcvd:` before them.
fn hex_bytes(line: &str) -> Option<Vec<u8>> {
    let line = line.trim().strip_prefix("rcvd:").unwrap_or(line);
    let words = line.split([' ', ',', '\t']).filter(|word| !word.is_empty());
    words.map(|word| byte(word.trim_start_matches("0x"))).collect()
}

/// The record in sixteen bytes; or in the answer to Get SEL Entry (`ipmitool raw 0x0a 0x43 …`), where the next one's id
/// comes before it, or (`ipmi-raw`) the command and its completion code before that.
fn record_in(bytes: &[u8]) -> Option<[u8; 16]> {
    match *bytes {
        [0x43, 0, _, _, ref record @ ..] if bytes.len() == 20 => record.try_into().ok(),
        [_, _, ref record @ ..] if bytes.len() == 18 => record.try_into().ok(),
        ref record => record.try_into().ok(),
    }
}

/// How many columns has this line of an ipmi-sel listing, if it is one? They tell it from ipmitool's:
/// `7  | N/A         | N/A      | …`, `1  | Nov-22-2026 | 23:26:40 | …`.
fn columns_of(fields: &[&str]) -> Option<usize> {
    let &[id, date, time, _, _, ..] = fields else { return None };
    let is_date = |date: &str| {
        let [month, day, year] = date.split('-').collect::<Vec<_>>()[..] else { return false };
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        month.len() == 3 && !is_number(month) && is_number(day) && is_number(year)
    };
    let (date, time) = (date.trim(), time.trim());
    let is_known =
        (date == "N/A" && time == "N/A") || ((is_date(date) || date == "PostInit") && time.contains(':'));
    id.trim().parse::<u16>().ok()?;
    is_known.then_some(fields.len().min(7))
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
        let letter = lines[0].as_bytes()[0];
        let event = format!(
            "1 | 11/22/2026 | 16:17:10 | OS Critical Stop #0x{letter:02x} | Run-time critical stop | Asserted\n"
        );
        let records = lines.iter().flat_map(|line| line.as_bytes().chunks(TEXT_LEN));
        records.fold(event, |list, chunk| {
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
        assert_eq!((log.entries.len(), log.notes.contains(Note::PartOfRecord)), (1, true));
    }

    #[test]
    fn what_is_no_sel_is_refused_with_a_hint() {
        let hint = |bytes: &[u8]| {
            let error = Log::parse(bytes).unwrap_err().to_string();
            error.split_once("\nhint: ").unwrap().1.to_owned()
        };
        assert_eq!(hint(b"\x1f\x8b\x08\x08zZ\x07k"), "gunzip -c FILE | lastwords read --file -");
        for foreign in [
            &b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0"[..],
            &[7; 160],
            &[0; 64],
            b"\0",
            b"hello",
            b"Get SEL Info command failed\n",
            b"bmc1: Error: Unable to establish IPMI v2 / RMCP+ session\n",
            b"\x26\x10\0\x38\x01\x15\x20\xff\xa8\x0c\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(hint(foreign), "ipmitool sel writeraw FILE", "{foreign:?}");
        }
        let saved = b"0x04 0x20 0x73 0x6f 0xa1 0x79 0x73 # OS Critical Stop #0x73 Run-time critical stop\n";
        assert_eq!(Log::parse(saved), Err(LogError::Save));
    }

    /// The crash's build id, where the text is that of one crash.
    fn build_id(bytes: &[u8]) -> Option<u32> {
        let [crash] = &crashes(&Log::parse(bytes).unwrap())[..] else { panic!() };
        crash.build_id
    }

    #[test]
    fn a_listing_is_read_in_any_encoding_and_with_nuls_behind_it() {
        let list = list(&["id 5f3e9a1b"]);
        let units: Vec<_> = list.encode_utf16().collect();
        let wide =
            |to_bytes: fn(u16) -> [u8; 2]| units.iter().flat_map(|unit| to_bytes(*unit)).collect::<Vec<_>>();
        let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
        let with_mark = |mark: &[u8], text: &[u8]| [mark, text].concat();
        for bytes in [
            with_mark(b"\xff\xfe", &little),
            with_mark(b"\xfe\xff", &big),
            little,
            big,
            with_mark(list.as_bytes(), &[0; 100]),
        ] {
            assert_eq!(build_id(&bytes), Some(0x5f3e_9a1b), "{bytes:?}");
        }
    }

    #[test]
    fn a_japanese_date_is_a_date() {
        let list = list(&["id 5f3e9a1b"]).replace("11/22/2026 | 16:17:10", "2026年11月22日 | 16時17分10秒");
        let [crash] = &crashes_of(&list)[..] else { panic!() };
        assert_eq!(crash.time.as_ref().unwrap().to_string(), "2026-11-22 16:17:10");
    }

    #[test]
    fn an_ipmi_sel_listing_needs_no_header() {
        let rows = "\
1  | Nov-22-2026 | 23:26:40 | Sensor #48       | Temperature              | Upper Non-critical - going high
7  | N/A         | N/A      | N/A              | N/A                      | OEM defined = 20h 80h 69h 64h 20h 35h 66h 33h 65h 39h 61h 31h 62h
";
        assert_eq!(build_id(rows.as_bytes()), Some(0x5f3e_9a1b));
        assert_eq!(build_id(rows.replace(" | ", ",").as_bytes()), Some(0x5f3e_9a1b));
    }

    #[test]
    fn answers_to_get_sel_entry_are_records() {
        let in_one = " 02 00 01 00 f0 20 80 69 64 20 35 66 33 65 39 61 31 62\n";
        let broken = " 02 00 01 00 f0 20 80 69 64 20 35 66 33 65 39 61\n 31 62\n";
        let freeipmi = "rcvd: 43 00 02 00 01 00 F0 20 80 69 64 20 35 66 33 65 39 61 31 62\n";
        for text in [in_one, broken, freeipmi] {
            assert_eq!(build_id(text.as_bytes()), Some(0x5f3e_9a1b), "{text}");
        }
        // Its prefix is no host.
        let logs = Log::hosts(freeipmi.as_bytes(), &mut |host, _| panic!("{host}")).unwrap();
        assert_eq!((logs.len(), &logs[0].0, logs[0].1.entries.len()), (1, &None, 1));
    }

    #[test]
    fn a_first_records_id_may_be_what_another_kind_of_file_begins_with() {
        for id in [*b"MZ", *b"\x1f\x8b"] {
            let mut record = sel::records(b"id 5f3e9a1b", 0).next().unwrap();
            record[..2].copy_from_slice(&id);
            assert!(begins_with_id(&record));
            assert_eq!(Log::parse(&record).unwrap().entries.len(), 1, "{id:x?}");
        }
    }

    #[test]
    fn several_hosts_in_one_stream_are_told_apart() {
        let list = |id: &str| list(&[id]);
        let (one, other) = (list("id 5f3e9a1b"), list("id 00c0ffee"));
        let prefixed = |host: &str, text: &str| -> Vec<String> {
            text.lines().map(|line| format!("{host}: {line}")).collect()
        };
        // pdsh hands lines on as they come.
        let (ones, others) = (prefixed("bmc1", &one), prefixed("bmc2.example", &other));
        let mixed = ones.iter().zip(&others).flat_map(|(one, other)| [one, other]);
        let mixed: String =
            mixed.chain([&"bmc3: connection timeout".to_owned()]).flat_map(|line| [line, "\n"]).collect();
        let rule = "-".repeat(16);
        let titled = format!("{rule}\nbmc1\n{rule}\n{one}{rule}\nbmc2.example\n{rule}\n{other}");
        for text in [mixed, titled] {
            let logs = Log::hosts(text.as_bytes(), &mut |host, _| assert_eq!(host, "bmc3")).unwrap();
            let ids = logs
                .iter()
                .map(|(host, log)| (host.as_deref(), crashes(log)[0].build_id))
                .collect::<Vec<_>>();
            assert_eq!(ids, [(Some("bmc1"), Some(0x5f3e_9a1b)), (Some("bmc2.example"), Some(0x00c0_ffee))]);
        }
        let alone = Log::hosts(one.as_bytes(), &mut |_, _| panic!()).unwrap();
        assert!(matches!(&alone[..], [(None, _)]));
        assert_eq!(Log::hosts(b"a: b\n", &mut |_, _| {}), Err(LogError::Unknown));
    }

    #[test]
    fn a_line_that_is_longer_than_any_of_a_listing_is_passed_over() {
        let with = |len: usize| {
            let line = list(&["id 5f3e9a1b"]);
            let long = format!("3 | {}", "|".repeat(len));
            Log::parse(format!("{line}{long}\n").as_bytes()).unwrap().entries.len()
        };
        assert_eq!((with(40), with(1 << 20)), (2, 2));
        let only = format!("1 | 11/22/26 | 10:00:00 | Fan #0x30 | {}\n", " ".repeat(LINE));
        assert_eq!(Log::parse(only.as_bytes()), Err(LogError::Unknown));
    }

    #[test]
    fn lines_of_one_crash_cost_what_they_are_many() {
        let looked = |lines: usize| {
            LOOKED.set(0);
            let log = Log::parse("2 | Linux kernel panic: aaaaaaaaaaa\n".repeat(lines).as_bytes()).unwrap();
            assert_eq!(log.entries.len(), lines);
            LOOKED.get()
        };
        let (once, four_times) = (looked(1000), looked(4000));
        assert!(
            once > 0 && four_times * 10 <= once * 44,
            "{once} bytes, for four times as much {four_times}"
        );
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
            let mut records = vec![sel::event_record([reason.as_bytes()[0], 0, 0])];
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
