//! Listings of ipmitool and FreeIPMI, line by line: what each shows of a record is put where it stands in one.

use super::{Entry, Log, LogError, Note, Notes, RECORD_TYPE, Row, numbers};
use lastwords_core::store::sel::{self, TEXT_LEN};

/// Longest line of a listing. Those that there are take a few hundred bytes.
pub const LINE: usize = 4096;
/// The first character of a text in system event records.
const STX: u8 = 2;
/// What stands in front of a panic's text.
const PANIC: &str = "Linux kernel panic:";
/// The type of a panic's event, the event, and so many of its letters that no other has them.
const STOP: &str = "OS Critical Stop";
const CRITICAL_STOP: &str = "run-time critical stop";
const UNIQUE: usize = 4;
/// What stands in front of the bytes of an OEM record.
const OEM: &str = "OEM defined";
/// What a panic's texts, and why a dump failed, begin with.
const PANICS: [u8; 2] = [0x20, 0x21];
/// What the lines begin with that say that a tool came no further. Others, such as `Unable to Get Channel Cipher Suites`, are
/// said where all went well.
const FAILURES: &str = "Get SEL Entry|Get SEL Info|Error: |Unable to establish|Could not open|SEL Entry|ipmi-sel:|ipmi_|ipmitool:|ssh|\
                        Connection |Killed|Terminated|Read SEL";

/// A listing that is being read.
#[derive(Default)]
struct Listing {
    rows: Vec<Row>,
    /// The number of each, 0 where none is shown.
    ids: Vec<u16>,
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
    /// Some line ends with a blank: nobody has taken them away.
    has_blanks: bool,
    /// The line that is being read is the last, and has no end.
    is_open: bool,
    /// Nothing of it can be missing all the same.
    is_whole: bool,
}

/// Takes a listing apart.
///
/// # Errors
/// [`LogError::Save`], [`LogError::Failed`], [`LogError::Unknown`].
pub fn parse(text: &str) -> Result<Log, LogError> {
    let mut listing = Listing::default();
    // A longer one would be taken apart into more than it takes itself.
    for line in text.split_inclusive('\n').filter(|line| line.len() <= LINE) {
        listing.is_open = !line.ends_with('\n') && !line.trim().is_empty();
        let line = line.trim_end_matches(['\r', '\n']);
        listing.has_blanks |= line.ends_with(' ');
        if line.contains(['\t', '\u{a0}']) {
            listing.line(&line.replace(['\t', '\u{a0}'], " "));
        } else {
            listing.line(line);
        }
    }
    listing.end_paragraph();
    if !listing.known {
        let is_failure = listing.notes.contains(Note::Failed);
        return Err(match listing.saved {
            true => LogError::Save,
            false if is_failure => LogError::Failed,
            false => LogError::Unknown,
        });
    }
    if listing.is_open && !listing.is_whole {
        listing.notes.insert(Note::OpenEnd);
    }
    if listing.is_newest_first() {
        listing.rows.reverse();
        listing.ids.reverse();
    }
    let entries = numbers::entries(listing.rows, &listing.ids, !listing.has_blanks);
    Ok(Log { entries, notes: listing.notes })
}

impl Listing {
    fn push(&mut self, id: u16, row: Row) {
        self.known = true;
        self.ids.push(id);
        self.rows.push(row);
    }

    /// Do the numbers fall? A log whose numbers begin anew has one step back, and BMCs that number oddly have a few.
    fn is_newest_first(&self) -> bool {
        let steps = |is: fn(&u16, &u16) -> bool| {
            self.ids.windows(2).filter(|pair| matches!(pair, [one, other] if is(one, other))).count()
        };
        let (down, up) = (steps(|one, other| one > other), steps(|one, other| one < other));
        down >= 2 && up * 8 <= down
    }

    fn line(&mut self, line: &str) {
        if self.paragraph(line) || line.trim().is_empty() {
            return;
        }
        let before = self.bytes.take();
        let bytes = hex_bytes(line);
        self.is_whole = false;
        // An answer of 18 bytes, as ipmitool raw breaks it.
        if let (Some(&[one, other]), Some(before)) = (bytes.as_deref(), before) {
            let mut record = before;
            record.rotate_left(2);
            record[14..].copy_from_slice(&[one, other]);
            self.rows.pop();
            self.ids.pop();
            self.record(record);
            return;
        }
        // Several records in a line.
        if let Some(bytes) = bytes.as_deref().filter(|bytes| bytes.len() > 16)
            && let (records, []) = bytes.as_chunks()
        {
            for record in records {
                self.record(*record);
            }
            return;
        }
        let bytes = bytes.as_deref().and_then(record_in);
        self.bytes = bytes;
        if let Some(record) = ipmi_sel_hex(line).or(bytes) {
            self.record(record);
        } else if let Some((id, row)) = self.ipmi_sel(line).or_else(|| self.ipmitool(line)) {
            self.is_whole = matches!(row, Row::Unreadable) && line.trim_end().ends_with("sserted");
            let row = if self.is_open { self.without_end(row) } else { row };
            self.push(id, row);
        } else if line.trim() == "SEL has no entries" {
            (self.known, self.is_whole) = (true, true);
        } else if is_saved(line) {
            self.saved = true;
        } else if FAILURES.split('|').any(|failure| line.starts_with(failure)) {
            self.notes.insert(Note::Failed);
        } else if !self.is_open && self.is_begun(line) {
            self.notes.insert(Note::CutLines);
        }
    }

    /// A row of which too little is left.
    fn cut(&mut self) -> Row {
        self.notes.insert(Note::CutLines);
        Row::Unreadable
    }

    fn record(&mut self, record: [u8; 16]) {
        self.is_whole = true;
        self.push(u16::from_le_bytes([record[0], record[1]]), Row::Record(record.into()));
    }

    /// Is it the beginning of a row, whose rest is missing?
    fn is_begun(&self, line: &str) -> bool {
        let id = line.split(['|', ',']).next().unwrap_or_default().trim();
        self.known
            && !id.is_empty()
            && id.bytes().all(|byte| byte.is_ascii_hexdigit())
            && line.contains(['|', ','])
    }

    /// The last row, whose line may have lost its end. A text is filled up, as one is that goes on.
    fn without_end(&mut self, row: Row) -> Row {
        let Row::Text(mut text) = row else {
            self.is_whole |= matches!(row, Row::Record(_));
            return row;
        };
        if numbers::mark(&text).is_some() {
            self.is_whole = true;
            return Row::Text(text);
        }
        // Nothing shows whether what is left goes on with a full record before it.
        let is_behind_full = matches!(self.rows.last(), Some(Row::Text(before)) if before.len() >= TEXT_LEN);
        if text.len() < TEXT_LEN && (is_behind_full || numbers::is_begun_mark(&text)) {
            return Row::Unreadable;
        }
        while text.len() < TEXT_LEN {
            text.push(' ');
        }
        Row::Text(text)
    }

    /// A line of `ipmitool sel list`, of `sel elist`, or with `-c` of either:
    /// `   3 | Linux kernel panic: Fatal excep`,
    /// `   2 | 11/23/26 | 00:04:50 UTC | OS Critical Stop #0x46 | Run-time critical stop | Asserted`.
    fn ipmitool(&mut self, line: &str) -> Option<(u16, Row)> {
        let (id, rest) = line.trim_start().split_once(['|', ','])?;
        let id = u16::from_str_radix(id.trim(), 16).ok()?;
        if let Some((before, text)) = rest.split_once(PANIC) {
            let text = text.strip_prefix(' ').unwrap_or(text);
            return before.trim_matches([' ', ',']).is_empty().then(|| (id, self.text(text)));
        }
        let fields: Vec<_> = rest.split(['|', ',']).map(str::trim).collect();
        if fields.iter().any(|field| field.starts_with("OEM record")) {
            return Some((id, Row::Unreadable));
        }
        let &[date, time, sensor, event, ..] = &fields[..] else { return None };
        // In Japan `2026年11月23日`.
        let is_mark = |letter: char| !letter.is_ascii_alphanumeric() && letter != ' ';
        let is_date = date.contains(is_mark) && date.contains(|letter: char| letter.is_ascii_digit());
        (is_date || date.starts_with("Pre-Init") || date.starts_with("Un")).then_some(())?;
        let number = sensor.split_once("#0x").and_then(|(_, number)| u8::from_str_radix(number, 16).ok());
        let is_stop = sensor.starts_with(STOP);
        Some((id, self.event(event, is_stop, number, None, &format!("{date} {time}"))))
    }

    /// A line of FreeIPMI's `ipmi-sel`:
    /// `3  | N/A         | N/A      | N/A        | N/A              | OEM defined = 20h 00h 46h …`,
    /// `2  | Nov-23-2026 | 00:04:50 | Sensor #70 | OS Critical Stop | Run-time Critical Stop ; OEM Event Data2 code = 61h …`.
    fn ipmi_sel(&mut self, line: &str) -> Option<(u16, Row)> {
        let separator = if line.contains('|') { '|' } else { ',' };
        let mut fields: Vec<_> = line.split(separator).collect();
        if let [id, date, .., last] = &fields[..]
            && id.trim() == "ID"
            && date.trim() == "Date"
        {
            // Where its end is lost, each row's is.
            self.columns = Some(if last.trim() == "Event" { fields.len() } else { usize::MAX });
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
        let id = fields.first()?.trim().parse::<u16>().ok()?;
        let &[_, date, time, name, ref between @ .., event] = &fields[..] else { return None };
        if fields.len() < columns {
            return Some((id, self.cut()));
        }
        let shown = event.strip_prefix(' ').filter(|_| separator == '|').unwrap_or(event);
        if let Some(bytes) = shown.strip_prefix(OEM) {
            return Some((id, self.oem_record(bytes)));
        }
        if date.trim() == "N/A" && name.trim() == "N/A" {
            let is_begun = !shown.is_empty() && OEM.starts_with(shown) || shown.trim() == "N/A";
            return Some((id, if is_begun { self.cut() } else { self.text(shown) }));
        }
        let is_critical_stop = between.iter().any(|field| field.trim() == STOP);
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
        let time = format!("{} {}", date.trim(), time.trim());
        Some((id, self.event(event, is_critical_stop, number, data, &time)))
    }

    /// A system event.
    fn event(
        &mut self,
        event: &str,
        is_stop: bool,
        number: Option<u8>,
        data: Option<(u8, u8)>,
        time: &str,
    ) -> Row {
        let event = event.trim().to_ascii_lowercase();
        if event.len() < UNIQUE || !CRITICAL_STOP.starts_with(&event) {
            if CRITICAL_STOP.starts_with(&event) && is_stop {
                self.notes.insert(Note::CutLines);
            }
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
        let hours = match hours {
            12 if clock.contains("AM") => 0,
            1..12 if clock.contains("PM") => hours + 12,
            hours => hours,
        };
        if self.date.0 != date {
            self.date = (date.to_owned(), self.date.1.wrapping_add(1));
        }
        let day = self.date.1;
        (hours < 24 && minutes < 60 && seconds <= 60)
            .then(|| (1 + 2 * (day % 0x2000)) * DAY + hours * 3600 + minutes * 60 + seconds)
    }

    /// A text record that is shown as text.
    fn text(&mut self, text: &str) -> Row {
        self.in_stream = false;
        self.notes.insert(Note::NoSequence);
        Row::Text(text.to_owned())
    }

    /// The bytes behind ipmi-sel's `OEM defined`: ` = 20h 00h 46h …`, and with `-vv` ` (Record Type = F0h) = 20h …`.
    fn oem_record(&mut self, shown: &str) -> Row {
        let (kind, bytes) = shown.rsplit_once('=').unwrap_or(("", shown));
        if kind.contains("Record Type") && !kind.contains("F0h") {
            return Row::Unreadable;
        }
        let mut words = bytes.split_ascii_whitespace().map(|word| word.strip_suffix('h').and_then(byte));
        let bytes: Vec<_> = words.by_ref().map_while(|byte| byte).take(14).collect();
        let mut record = [0, 0, RECORD_TYPE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        match <[u8; 13]>::try_from(bytes) {
            Ok(bytes) => {
                record[3..].copy_from_slice(&bytes);
                Row::Record(record.into())
            }
            // A panic's would have them all.
            Err(bytes) if bytes.first().is_none_or(|first| PANICS.contains(first)) => self.cut(),
            Err(_) => Row::Unreadable,
        }
    }
}

/// One record as `ipmitool -v sel list` shows it.
#[derive(Default)]
struct Paragraph {
    id: u16,
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
            let id = u16::from_str_radix(value.trim(), 16).unwrap_or(0);
            self.paragraph = Some(Paragraph { id, ..Paragraph::default() });
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
        let row = if let Some(text) = paragraph.text {
            self.text(&text)
        } else {
            // ipmitool 1.8.19 shows the date twice.
            let time = match paragraph.time.trim().split_once(' ') {
                Some((date, again)) if date == again => date.to_owned(),
                _ => paragraph.time.trim().to_owned(),
            };
            let data = paragraph.data.map(|[_, data2, data3]| (data2, data3));
            self.event(&paragraph.event, false, paragraph.number, data, &time)
        };
        self.push(paragraph.id, row);
    }
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
