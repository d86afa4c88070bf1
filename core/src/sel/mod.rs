//! The words in the System Event Log: lines of text in records of the type that Linux's own IPMI driver uses for
//! panic text, so that every tool shows them; and three characters at a time in system event records, for a BMC that
//! takes no others. `decode` reads them again; `docs/sel-format.md` describes the format for people.

mod decode;
mod script;

pub use decode::{Decoded, Decoder, Speaker};
pub use script::{Known, SHORT, TYPICAL, lines, short};

use crate::text::{Text, hex};

/// Text bytes in one record.
pub const TEXT_LEN: usize = 11;
/// Byte 2, the record type: OEM, without time stamp (IPMI 2.0 section 32.3).
const RECORD_TYPE: u8 = 0xf0;
/// Byte 3, as Linux writes it (`drivers/char/ipmi/ipmi_msghandler.c`): its own slave address.
const LINUX: u8 = 0x20;
/// Byte 4, bit 7: a line starts with this record. Linux never sets it, so its own panic text is told apart; and
/// where records are lost, the lines behind the gap are still found.
const STARTS_LINE: u8 = 0x80;
/// The sequence number of a mark.
const MARK: u8 = 0x7f;
/// Longest line, in bytes. What is longer is cut.
pub const LINE_LEN: usize = 128;

/// The upper 4 GiB of virtual memory, where the kernel's image and its modules lie. Eight digits behind an `@` are an
/// address there.
const UPPER: u64 = 0xffff_ffff_0000_0000;

/// Where a CPU was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It never answered the NMI that stops all CPUs.
    Dead,
    /// In user space.
    User,
    /// In the kernel's image, this many bytes from `_stext` on.
    Kernel(u32),
    /// At this address, which is not in the kernel's image, or it is not known where that lies.
    Address(u64),
}

impl Place {
    fn write<const N: usize>(self, text: &mut Text<N>) {
        match self {
            Self::Dead => text.str("dead"),
            Self::User => text.str("user"),
            Self::Kernel(offset) => text.hex(u64::from(offset)),
            // The kernel's half of the upper 4 GiB goes without saying: an address in a module fits one record.
            Self::Address(address) if address >= UPPER => text.byte(b'@').hex_padded(address - UPPER, 8),
            Self::Address(address) if address >> 28 != 0 && address >> 32 == 0 => {
                text.byte(b'@').hex_padded(address, 9)
            }
            Self::Address(address) => text.byte(b'@').hex(address),
        };
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "dead" => Some(Self::Dead),
            "user" => Some(Self::User),
            _ => match text.strip_prefix('@') {
                Some(address) if address.len() == 8 => Some(Self::Address(UPPER + hex(address.as_bytes())?)),
                Some(address) => Some(Self::Address(hex(address.as_bytes())?)),
                None => Some(Self::Kernel(u32::try_from(hex(text.as_bytes())?).ok()?)),
            },
        }
    }
}

/// What the dump kernel says of the dump (`lastwords mark`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has begun.
    Started,
    /// It is saved.
    Saved,
    /// It could not be saved.
    Failed,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Started, Self::Saved, Self::Failed];

    /// The stage's text in the SEL, one record long.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Started => "dump start",
            Self::Saved => "dump saved",
            Self::Failed => "dump failed",
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.text().as_bytes() == text)
    }
}

/// One line of the words. The texts are printable ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `sysrq triggered crash`: what stands behind "Kernel panic - not syncing: ". Always the first line; ends in
    /// `..` where it was cut.
    Reason(&'a [u8]),
    /// `id 5f3e9a1b`: the first four bytes of the kernel's build id.
    BuildId(u32),
    /// `1=9c2a36`: the CPU that panicked, and where.
    Panicked {
        /// The kernel's number of the CPU.
        cpu: u32,
        /// Where it was.
        place: Place,
    },
    /// `?=?`: nothing tells which CPU panicked; it is among the groups.
    PanickedUnknown,
    /// `NULL deref 0`: what the kernel reported before it panicked.
    Cause(&'a [u8]),
    /// `RIP lkdtm_BUG+12`: where that was, symbol and offset.
    Rip(&'a [u8]),
    /// `Comm bash`: the process that ran.
    Comm(&'a [u8]),
    /// `fe*103f0`: so many other CPUs in one place.
    Group {
        /// How many, at least 1.
        count: u32,
        /// Where they were.
        place: Place,
    },
    /// `+1f`: so many CPUs left out, because the record limit was reached.
    LeftOut(u32),
    /// `< write_sysrq_trigger`: the next function of the call trace.
    Caller(&'a [u8]),
    /// `bad initrd`: this part of the dump kernel is not what was loaded.
    Bad(&'a [u8]),
}

impl<'a> Line<'a> {
    /// The line's text.
    #[must_use]
    pub fn text(self) -> Text<LINE_LEN> {
        let mut text = Text::new();
        let mut said = |prefix: &str, words: &[u8]| {
            text.str(prefix).bytes(words);
        };
        match self {
            Self::Reason(words) | Self::Cause(words) => said("", words),
            Self::Rip(words) => said(RIP, words),
            Self::Comm(words) => said(COMM, words),
            Self::Caller(words) => said(CALLER, words),
            Self::Bad(words) => said(BAD, words),
            Self::PanickedUnknown => said("?=?", b""),
            Self::BuildId(id) => {
                text.str(ID).hex_padded(u64::from(id), 8);
            }
            Self::Panicked { cpu, place } => place.write(text.hex(u64::from(cpu)).byte(b'=')),
            Self::Group { count, place } => place.write(text.hex(u64::from(count)).byte(b'*')),
            Self::LeftOut(count) => {
                text.byte(b'+').hex(u64::from(count));
            }
        }
        text
    }

    /// The line that has this text. Text that is nothing else is the reason where it comes `first`, and a cause
    /// anywhere else.
    #[must_use]
    pub fn parse(text: &'a [u8], first: bool) -> Self {
        let other = if first { Self::Reason(text) } else { Self::Cause(text) };
        // What would be written otherwise is not one of ours, or it is cut.
        Self::parse_marked(text).filter(|line| line.text().as_bytes() == text).unwrap_or(other)
    }

    fn parse_marked(text: &'a [u8]) -> Option<Self> {
        let number = |text| u32::try_from(hex(text)?).ok();
        let behind = |prefix: &str| text.strip_prefix(prefix.as_bytes());
        if let Some(id) = behind(ID) {
            return if id.len() == 8 { Some(Self::BuildId(number(id)?)) } else { None };
        }
        if let Some(words) = behind(RIP) {
            return Some(Self::Rip(words));
        }
        if let Some(words) = behind(COMM) {
            return Some(Self::Comm(words));
        }
        if let Some(words) = behind(CALLER) {
            return Some(Self::Caller(words));
        }
        if let Some(words) = behind(BAD) {
            return Some(Self::Bad(words));
        }
        if text == b"?=?" {
            return Some(Self::PanickedUnknown);
        }
        if let Some(count) = behind("+") {
            return Some(Self::LeftOut(number(count)?));
        }
        let at = text.iter().position(|byte| matches!(byte, b'=' | b'*'))?;
        let (left, right) = text.split_at_checked(at)?;
        let (sign, place) = right.split_first()?;
        let (left, place) = (number(left)?, Place::parse(core::str::from_utf8(place).ok()?)?);
        Some(match sign {
            b'=' => Self::Panicked { cpu: left, place },
            _ => Self::Group { count: left, place },
        })
    }

    /// How many records the line takes.
    #[must_use]
    pub fn records(self) -> u32 {
        self.text().as_bytes().len().div_ceil(TEXT_LEN) as u32
    }
}

/// What stands before the words of a line.
const ID: &str = "id ";
const RIP: &str = "RIP ";
const COMM: &str = "Comm ";
const CALLER: &str = "< ";
const BAD: &str = "bad ";

/// The records of a line of text, the first one with sequence number `first` (modulo 128).
pub fn records(text: &[u8], first: u8) -> impl Iterator<Item = [u8; 16]> {
    text.chunks(TEXT_LEN).enumerate().map(move |(index, chunk)| {
        let sequence = first.wrapping_add(index as u8) & !STARTS_LINE;
        text_record(sequence | if index == 0 { STARTS_LINE } else { 0 }, chunk)
    })
}

/// A mark's record. Its number is that of no other record, so that it says nothing of those.
#[must_use]
pub fn mark(stage: Stage) -> [u8; 16] {
    text_record(STARTS_LINE | MARK, stage.text().as_bytes())
}

fn text_record(number: u8, text: &[u8]) -> [u8; 16] {
    let mut record = [0, 0, RECORD_TYPE, LINUX, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (slot, byte) in record.iter_mut().skip(16 - TEXT_LEN).zip(text) {
        *slot = *byte;
    }
    record
}

/// Characters in a system event record.
pub const EVENT_LEN: usize = 3;
/// The first character of a stream of system event records, and the last one.
const STX: u8 = 2;
const ETX: u8 = 3;

/// The stream of characters that says these lines in system event records: what a BMC gets that does not take or keep
/// the text records. To be sent [`EVENT_LEN`] at a time.
pub fn stream<'a, const N: usize>(lines: impl IntoIterator<Item = &'a [u8]>) -> Text<N> {
    let mut text = Text::new();
    let mut before = STX;
    for line in lines {
        text.byte(before).bytes(line);
        before = b'\n';
    }
    text.byte(ETX);
    text
}

/// A system event record (type 02, IPMI 2.0 section 32.1) as the platform event of a panic leaves it in the SEL, with
/// three characters in the sensor number and event data 2 and 3. The BMC fills in the time.
#[must_use]
pub fn event_record(text: [u8; EVENT_LEN]) -> [u8; 16] {
    let [number, data2, data3] = text;
    let [generator, version, sensor_type, number, event_type, data1, data2, data3] =
        event_message(number, [CRITICAL_STOP_TEXT, data2, data3]);
    [
        0,
        0,
        SYSTEM_EVENT,
        0,
        0,
        0,
        0,
        generator,
        0,
        version,
        sensor_type,
        number,
        event_type,
        data1,
        data2,
        data3,
    ]
}

/// The eight bytes of a Platform Event Message (29.3) that tells of the operating system's last moment.
#[must_use]
pub fn event_message(sensor_number: u8, [data1, data2, data3]: [u8; 3]) -> [u8; 8] {
    [GENERATOR, EVM_REV, OS_STOP, sensor_number, SENSOR_SPECIFIC, data1, data2, data3]
}

/// Event data 1: run-time critical stop, nothing known of event data 2 and 3.
pub const CRITICAL_STOP: u8 = 0x01;
/// Event data 1: run-time critical stop, event data 2 and 3 are the maker's own (table 29-6).
pub const CRITICAL_STOP_TEXT: u8 = 0xa1;
/// System software 0x20, as Linux has it.
const GENERATOR: u8 = 0x41;
/// IPMI 1.5 and later. OpenBMC refuses the 3 that Linux sends.
const EVM_REV: u8 = 0x04;
/// Sensor type OS Stop/Shutdown (table 42-3).
const OS_STOP: u8 = 0x20;
/// Event type: sensor-specific, assertion.
const SENSOR_SPECIFIC: u8 = 0x6f;
/// Record type of a system event.
const SYSTEM_EVENT: u8 = 0x02;

/// Most different places that are counted. CPUs in more places than these are left out.
pub const GROUPS: usize = 512;

/// CPUs counted by where they were.
pub struct Groups {
    places: [(Place, u32); GROUPS],
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
        Self { places: [(Place::Dead, 0); GROUPS], used: 0, beyond: 0 }
    }

    /// Counts a CPU.
    pub fn add(&mut self, place: Place) {
        if let Some((_, count)) = self.places.iter_mut().take(self.used).find(|(known, _)| *known == place) {
            *count += 1;
        } else if let Some(slot) = self.places.get_mut(self.used) {
            *slot = (place, 1);
            self.used += 1;
        } else {
            self.beyond += 1;
        }
    }

    /// Takes the biggest group out; the one that died first among equals.
    fn take_biggest(&mut self) -> Option<Line<'static>> {
        let groups = self.places.iter_mut().take(self.used).filter(|(_, count)| *count > 0);
        let (place, count) = groups.max_by_key(|(place, count)| (*count, core::cmp::Reverse(*place)))?;
        Some(Line::Group { count: core::mem::take(count), place: *place })
    }

    /// CPUs that are still in.
    fn left(&self) -> u32 {
        self.places.iter().take(self.used).map(|(_, count)| *count).fold(self.beyond, u32::saturating_add)
    }

    /// Hands on the groups' lines, biggest first, in at most `limit` records; the last line says how many CPUs
    /// were left out, if any. Empties the groups. Stops early when `line` says so by returning false.
    pub fn lines(&mut self, limit: u32, line: &mut dyn FnMut(Line) -> bool) {
        let mut used = 0;
        while let Some(group) = self.take_biggest() {
            let Line::Group { count, .. } = group else { return };
            let left = self.left();
            // Room for the last line is kept until it is certain that there is nothing to say in it.
            let kept = if left == 0 { 0 } else { Line::LeftOut(left).records() };
            if used + group.records() + kept > limit {
                line(Line::LeftOut(left.saturating_add(count)));
                return;
            }
            used += group.records();
            if !line(group) {
                return;
            }
        }
        if self.left() > 0 {
            line(Line::LeftOut(self.left()));
        }
    }
}
