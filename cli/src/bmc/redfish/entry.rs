//! A LogEntry as a SEL record, as far as the BMC's maker shows it (docs/reading.md has a row for each).
//!
//! OpenBMC with Intel's IPMI gives all bytes of a record. The Redfish schema (DSP8010, LogEntry) has fields for all of a
//! system event, and so for the platform event and for texts with three characters a record. What else there is has no bytes: then
//! it is known at most that the operating system stopped.

use crate::utc;
use lastwords_core::store::sel::event_record;
use serde_json::Value;

/// A LogEntry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it stands for.
    pub kind: Kind,
    /// When, in seconds since 1970, by the BMC's clock.
    pub created: Option<i64>,
    /// Its number in the log, where its id has one: 65536 times it, and what is added to tell those of one second apart
    /// (OpenBMC: `1763827030_2`).
    pub number: Option<i64>,
}

/// What a LogEntry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This record.
    Record([u8; 16]),
    /// Something else than a record of a panic.
    Other,
    /// It cannot be told from what is shown: it may be a record of a panic.
    Unknown,
}

/// A SEL record (IPMI 2.0 table 32-1): record type, the place of its time, and where an event's own bytes begin.
const SYSTEM_EVENT: u8 = 0x02;
const TIME: std::ops::Range<usize> = 3..7;
const EVENT: usize = 7;
/// Event data 1: a critical stop at run time (table 42-3, 20h), with two bytes of its own.
const CRITICAL_STOP: u8 = 0x01;
const CRITICAL_STOP_WITH_TEXT: u8 = 0xa1;
/// Event type: specific to the sensor.
const SENSOR_SPECIFIC: u8 = 0x6f;
/// Times up to this one count from the BMC's start (section 37.1), and this one is none.
pub const LAST_UPTIME: i64 = 0x2000_0000;
const NO_TIME: u32 = u32::MAX;

impl Entry {
    /// It as a record. What is no record of a panic, or cannot be told, has a time and nothing else.
    pub fn record(&self) -> [u8; 16] {
        match self.kind {
            Kind::Record(record) => record,
            Kind::Other | Kind::Unknown => {
                let mut record = [0; 16];
                record[TIME].copy_from_slice(&time_of(self.created).to_le_bytes());
                record
            }
        }
    }

    /// Reads one.
    pub fn new(json: &Value) -> Self {
        let created =
            [&json["Created"], &json["EventTimestamp"]].into_iter().find_map(|time| seconds(time.as_str()?));
        let kind = match kind(json) {
            Kind::Record(record) => Kind::Record(with_time(record, created)),
            kind => kind,
        };
        Self { kind, created, number: json["Id"].as_str().and_then(number) }
    }
}

fn number(id: &str) -> Option<i64> {
    let digits = id.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let (first, second) = digits.split_once(|letter: char| !letter.is_ascii_digit()).unwrap_or((digits, "0"));
    first.parse::<i64>().ok()?.checked_mul(1 << 16)?.checked_add(second.parse::<u16>().ok()?.into())
}

/// An event that its sender gave no time has that of its entry.
fn with_time(mut record: [u8; 16], created: Option<i64>) -> [u8; 16] {
    let time = u32::from_le_bytes([record[3], record[4], record[5], record[6]]);
    if record[2] == SYSTEM_EVENT && (i64::from(time) <= LAST_UPTIME || time == NO_TIME) {
        record[TIME].copy_from_slice(&time_of(created).to_le_bytes());
    }
    record
}

/// As a record has it.
fn time_of(created: Option<i64>) -> u32 {
    let time = created.filter(|time| *time > LAST_UPTIME);
    time.and_then(|time| u32::try_from(time).ok()).unwrap_or(NO_TIME)
}

fn kind(json: &Value) -> Kind {
    let text = |name: &str| json[name].as_str().unwrap_or_default();
    let (id, message) = (text("MessageId"), text("Message"));
    if id.starts_with("OpenBMC.") {
        if !id.ends_with(".SELEntryAdded") {
            return Kind::Other;
        }
        let shown = json["MessageArgs"][0].as_str().or_else(|| message.strip_prefix("SEL Entry Added: "));
        return shown.and_then(record).map_or(Kind::Unknown, Kind::Record);
    }
    // "SEL-specific message, following the format specified in Table 32-1".
    if let Some(record) = record(message).or_else(|| raw(&json["Oem"], 3)) {
        return Kind::Record(record);
    }
    let stopped = |letters| Kind::Record(event_record(letters));
    // iDRAC 7 and 8 have a list where others have a text.
    let one =
        |name: &str| json[name].as_str().or_else(|| json[name][0]["Member"].as_str()).unwrap_or_default();
    match one("SensorType") {
        "OS Stop/Shutdown" => match event_data(id) {
            Some([CRITICAL_STOP_WITH_TEXT, second, third]) => {
                let number = json["SensorNumber"].as_u64().and_then(|number| u8::try_from(number).ok());
                number.map_or(Kind::Unknown, |first| stopped([first, second, third]))
            }
            Some([CRITICAL_STOP, ..]) => stopped([0; 3]),
            Some(_) => Kind::Other,
            None if message == RUNTIME_STOP => stopped([0; 3]),
            None => Kind::Unknown,
        },
        "" | "OEM" if message == RUNTIME_STOP => stopped([0; 3]),
        "" | "OEM" if is_stop_of_xcc(json) => stopped([0; 3]),
        "" | "OEM" => Kind::Unknown,
        _ => Kind::Other,
    }
}

/// Dell's text for a critical stop at run time.
const RUNTIME_STOP: &str = "A runtime critical stop occurred.";

/// XCC's event ID: 80h when it came, event type, offset, sensor type, and what has no meaning for us.
fn is_stop_of_xcc(json: &Value) -> bool {
    let ids = [&json["EventId"], &json["Oem"]["Lenovo"]["EventID"]];
    ids.into_iter().filter_map(Value::as_str).any(|id| id.len() == 18 && id.starts_with("0x806f0120"))
}

/// A record in hex, with `0x` or not, in one word or in bytes; or the event that is sent with Platform Event Message, from the
/// sender on (OpenBMC).
fn record(text: &str) -> Option<[u8; 16]> {
    if !text.is_ascii() || text.len() > 5 * 16 {
        return None;
    }
    let digits: String = text.split([' ', ',']).map(|word| word.strip_prefix("0x").unwrap_or(word)).collect();
    let bytes = digits.as_bytes().chunks(2).map(|two| byte(std::str::from_utf8(two).ok()?));
    let bytes = bytes.collect::<Option<Vec<_>>>()?;
    match bytes.len() {
        // Of a type that there is (sections 32.1 to 32.3).
        16 if matches!(bytes[2], SYSTEM_EVENT | 0xc0..) => bytes.try_into().ok(),
        9 => {
            let mut record = [0; 16];
            record[2] = SYSTEM_EVENT;
            record[EVENT..].copy_from_slice(&bytes);
            Some(record)
        }
        _ => None,
    }
}

/// A record in what a maker adds.
fn raw(oem: &Value, depth: usize) -> Option<[u8; 16]> {
    match oem {
        Value::String(text) => record(text).filter(|_| text.len() >= 32),
        Value::Object(fields) if depth > 0 => fields.values().find_map(|field| raw(field, depth - 1)),
        _ => None,
    }
}

/// The three bytes of event data in an entry's MessageId: `0xNNaabbcc` with the event type (LogEntry's schema), `0xaabbcc`
/// (its older examples), or the bytes in hex without leading zeros, as iDRAC has them.
fn event_data(id: &str) -> Option<[u8; 3]> {
    if let Some(digits) = id.strip_prefix("0x").or_else(|| id.strip_prefix("0X")) {
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| digits.is_ascii())?;
        let [event_type, data @ ..] = number.to_be_bytes();
        return match digits.len() {
            6 => Some(data),
            8 if event_type == SENSOR_SPECIFIC => Some(data),
            // It has gone again, or is something else.
            8 => Some([0; 3]),
            _ => None,
        };
    }
    if !id.is_ascii() || !(3..=6).contains(&id.len()) {
        return None;
    }
    // Of several the one that our own events or those without text can have; nothing where there are two of these.
    let (mut ours, mut others, mut is_stop) = (None, None, false);
    for one in 1..3 {
        for two in one + 1..one + 3 {
            let part = |from: usize, to| id.get(from..to).and_then(shortest);
            let (Some(first), Some(second), Some(third)) =
                (part(0, one), part(one, two), part(two, id.len()))
            else {
                continue;
            };
            let is_ours = match first {
                CRITICAL_STOP_WITH_TEXT => is_of_text(second) && is_of_text(third),
                CRITICAL_STOP => matches!((second, third), (0, 0) | (0xff, 0xff)),
                _ => false,
            };
            if is_ours && ours.replace([first, second, third]).is_some() {
                return None;
            }
            others = Some([first, second, third]);
            is_stop |= first & 0xf == CRITICAL_STOP;
        }
    }
    ours.or(others.filter(|_| !is_stop))
}

/// May this character stand in an event's text (docs/sel-format.md)?
fn is_of_text(letter: u8) -> bool {
    matches!(letter, 0 | 2 | 3 | b'\n' | b' '..=b'~')
}

/// A byte in one or two digits, without a leading zero.
fn shortest(digits: &str) -> Option<u8> {
    match digits.as_bytes() {
        [_] | [b'1'..=b'9' | b'a'..=b'f' | b'A'..=b'F', _] => u8::from_str_radix(digits, 16).ok(),
        _ => None,
    }
}

fn byte(digits: &str) -> Option<u8> {
    (digits.len() == 2 && !digits.starts_with('+')).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// `2019-10-16T02:32:02-05:00`, `2021-09-29T09:01:47.462Z`; without an offset it is UTC.
pub fn seconds(text: &str) -> Option<i64> {
    let number = |from: usize, len: usize| {
        let digits = text.get(from..from + len)?;
        if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse::<u16>().ok() } else { None }
    };
    let part = |from| number(from, 2).and_then(|part| u8::try_from(part).ok());
    let local = utc::seconds(number(0, 4)?.into(), [part(5)?, part(8)?, part(11)?, part(14)?, part(17)?])?;
    let zone = text.get(19..)?;
    let Some(at) = zone.find(['+', '-']) else { return Some(local) };
    let offset = i64::from(part(20 + at)?) * 3600 + i64::from(part(23 + at)?) * 60;
    Some(if zone[at..].starts_with('-') { local + offset } else { local - offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn kind_of(json: &Value) -> Kind {
        Entry::new(json).kind
    }

    fn sel(sensor: &Value, number: u64, id: &str, message: &str) -> Value {
        json!({"EntryType": "SEL", "SensorType": sensor, "SensorNumber": number, "MessageId": id, "Message": message})
    }

    #[test]
    fn times_have_an_offset_or_none() {
        for (text, expected) in [
            ("2019-10-16T02:32:02-05:00", Some(1_571_211_122)),
            ("2019-10-16T07:32:02Z", Some(1_571_211_122)),
            ("2019-10-16T07:32:02.462+00:00", Some(1_571_211_122)),
            ("2019-10-16 07:32:02", Some(1_571_211_122)),
            ("2019-10-16T13:02:02+05:30", Some(1_571_211_122)),
            ("2019-10-16T07:32:02+5", None),
            ("2019-13-16T07:32:02Z", None),
            ("+019-10-16T07:32:02Z", None),
            ("0000-00-00", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn openbmc_gives_all_bytes_of_a_record_or_an_event_from_its_sender_on() {
        let entry = |hex: &str| {
            json!({"EntryType": "Event", "MessageId": "OpenBMC.0.1.SELEntryAdded", "MessageArgs": [hex],
                "Message": format!("SEL Entry Added: {hex}"), "Created": "2026-11-23T02:13:20+00:00"})
        };
        let text = *b"\0\0\xf0\x20\x80Fatal excep";
        assert_eq!(kind_of(&entry("0000F0208046617461 6C206578636570")), Kind::Record(text));
        // Neither has a time; that of the entry is 0x6b03a140.
        let mut event = event_record(*b"Fat");
        event[3..7].copy_from_slice(&[0x40, 0xa1, 0x03, 0x6b]);
        let Kind::Record(found) = kind_of(&entry("410004 20466FA16174".replace(' ', "").as_str())) else {
            panic!()
        };
        assert_eq!(found[2..], event[2..]);
        assert_eq!(
            kind_of(&entry("00000200000000410004 20466FA16174".replace(' ', "").as_str())),
            Kind::Record(found)
        );
        for broken in ["", "0000F0", "zz00F020804661746C2065786365700000"] {
            assert_eq!(kind_of(&entry(broken)), Kind::Unknown, "{broken}");
        }
        assert_eq!(kind_of(&json!({"MessageId": "OpenBMC.0.1.PowerButtonPressed"})), Kind::Other);
    }

    #[test]
    fn the_schemas_fields_are_a_system_event() {
        let stop = json!("OS Stop/Shutdown");
        let letters = |kind| match kind {
            Kind::Record(record) => [record[11], record[14], record[15]],
            kind => panic!("{kind:?}"),
        };
        for id in ["0x6FA16174", "0xa16174", "a16174"] {
            assert_eq!(letters(kind_of(&sel(&stop, 0x46, id, ""))), *b"Fat", "{id}");
        }
        // iDRAC 7 and 8.
        let list = json!([{"Member": "OS Stop/Shutdown"}]);
        assert_eq!(letters(kind_of(&sel(&list, 0x46, "a16174", ""))), *b"Fat");
        // NULs, and what is in a stream: STX, LF, ETX.
        for (id, two) in
            [("a100", [0, 0]), ("a1610", [b'a', 0]), ("a1a31", [b'\n', b'1']), ("a1613", [b'a', 3])]
        {
            assert_eq!(letters(kind_of(&sel(&stop, 2, id, "")))[1..], two, "{id}");
        }
        // `#` and NUL, or STX and `0`: it cannot be told.
        assert_eq!(kind_of(&sel(&stop, 0x46, "a1230", "")), Kind::Unknown);
        for id in ["1ffff", "100", "0x6f01ffff"] {
            assert_eq!(letters(kind_of(&sel(&stop, 0, id, ""))), [0; 3], "{id}");
        }
        // A graceful stop; one that has gone again.
        for id in ["3ffff", "0x6f03ffff", "0xefa16174"] {
            assert_eq!(kind_of(&sel(&stop, 0x46, id, "")), Kind::Other, "{id}");
        }
        assert_eq!(letters(kind_of(&sel(&stop, 0x46, "SEL9901", RUNTIME_STOP))), [0; 3]);
        assert_eq!(kind_of(&sel(&stop, 0x146, "0xa16174", "")), Kind::Unknown);
        assert_eq!(kind_of(&sel(&json!("Temperature"), 1, "0x592A28", "")), Kind::Other);
        assert_eq!(
            kind_of(&sel(&json!(null), 1, "fffff", "An OEM diagnostic event occurred.")),
            Kind::Unknown
        );
    }

    #[test]
    fn a_message_or_an_oem_field_of_sixteen_bytes_is_a_record() {
        let hex = "08 00 F0 20 80 46 61 74 61 6C 20 65 78 63 65 70";
        let expected = Kind::Record(*b"\x08\0\xf0\x20\x80Fatal excep");
        assert_eq!(kind_of(&json!({"EntryType": "SEL", "Message": hex})), expected);
        assert_eq!(
            kind_of(&json!({"Oem": {"Maker": {"Raw": format!("0x{}", hex.replace(' ', ""))}}})),
            expected
        );
        assert_eq!(
            kind_of(&json!({"Message": "00 00 07 20 80 46 61 74 61 6C 20 65 78 63 65 70"})),
            Kind::Unknown
        );
    }

    proptest! {
        #[test]
        fn any_three_bytes_of_idrac_are_these_or_unknown(letters: [u8; 3]) {
            let [_, second, third] = letters;
            let id = format!("a1{second:x}{third:x}");
            if is_of_text(second) && is_of_text(third) {
                prop_assert!([None, Some([0xa1, second, third])].contains(&event_data(&id)), "{}", id);
            }
            let _ = event_data(&format!("{:x}{second:x}{third:x}", letters[0]));
        }

        #[test]
        fn any_entry_is_taken(text in ".{0,40}", number: i64, kind in 0..6) {
            let value = match kind { 0 => json!(text), 1 => json!(number), 2 => json!([text]), 3 => json!({"Member": text}), 4 => json!(null), _ => json!([{"Member": text}]) };
            let _ = Entry::new(&value);
            let _ = Entry::new(&json!({"MessageId": value, "Message": value, "SensorType": value, "SensorNumber": value,
                "Created": value, "Oem": value, "EventId": value, "MessageArgs": value}));
            let _ = Entry::new(&json!({"SensorType": "OS Stop/Shutdown", "MessageId": text, "SensorNumber": number, "Created": text}));
        }
    }
}
