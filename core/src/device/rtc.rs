//! The CMOS real-time clock (MC146818 and what chipsets build after it): the one clock that every PC has.
//!
//! It counts whole seconds, in BCD or binary, in 12 or 24 hours, and must not be read while it updates itself.

use crate::hw::{Register, Registers, Second};

/// Index port. Bit 7 would mask NMIs; it is written as 0, as the kernel leaves it.
pub const INDEX: Register = Register::Port(0x70);
/// Data port.
pub const DATA: Register = Register::Port(0x71);

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;

/// Register A: update in progress.
const UIP: u8 = 0x80;
/// Register B: the registers are binary, not BCD.
const DM_BINARY: u8 = 0x04;
/// Register B: hours count to 24, not to 12.
const HOURS_24: u8 = 0x02;
/// Hours register in 12-hour mode: after noon.
const PM: u8 = 0x80;

/// What the clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Seconds since midnight, below [`DAY`](crate::hw::DAY).
    Time(u32),
    /// An update is in progress or came in between: ask again.
    Updating,
    /// No clock answers, or it shows no time of day.
    Absent,
}

fn register<R: Registers>(registers: &mut R, index: u8) -> u8 {
    registers.put(INDEX, index);
    registers.get(DATA)
}

/// The clock, with what it showed last.
#[derive(Clone, Copy, Debug, Default)]
pub struct CmosRtc {
    /// The seconds register, raw, and the second of the day.
    last: Option<(u8, u32)>,
}

/// Register accesses of one look at register A and the seconds, and of a whole reading behind it.
const LOOK: u64 = 4;
const READ: u64 = 14;

impl CmosRtc {
    /// Looks at the clock. What it showed last is taken as long as the seconds register has not moved: that costs
    /// little.
    pub fn second<R: Registers>(&mut self, registers: &mut R) -> Second {
        match (raw_seconds(registers), self.last) {
            (Err(_), _) => Second { shows: None, accesses: LOOK / 2 },
            (Ok(raw), Some((last, second))) if raw == last => Second { shows: Some(second), accesses: LOOK },
            (Ok(raw), _) => {
                let shows = match read(registers) {
                    Reading::Time(second) => Some(second),
                    Reading::Updating | Reading::Absent => None,
                };
                if let Some(second) = shows {
                    self.last = Some((raw, second));
                }
                Second { shows, accesses: LOOK + READ }
            }
        }
    }
}

/// The seconds register as it stands, or what keeps it from being read: a cheap look that tells whether a full
/// [`read`] is worth it.
///
/// # Errors
/// [`Reading::Absent`] or [`Reading::Updating`], never a time.
pub fn raw_seconds<R: Registers>(registers: &mut R) -> Result<u8, Reading> {
    match register(registers, REGISTER_A) {
        0xff => Err(Reading::Absent),
        a if a & UIP != 0 => Err(Reading::Updating),
        _ => Ok(register(registers, SECONDS)),
    }
}

/// Reads the time of day once, without waiting.
pub fn read<R: Registers>(registers: &mut R) -> Reading {
    let seconds = match raw_seconds(registers) {
        Ok(seconds) => seconds,
        Err(reading) => return reading,
    };
    let minutes = register(registers, MINUTES);
    let hours = register(registers, HOURS);
    let mode = register(registers, REGISTER_B);
    if raw_seconds(registers) != Ok(seconds) {
        return Reading::Updating;
    }
    time_of_day(seconds, minutes, hours, mode).map_or(Reading::Absent, Reading::Time)
}

/// Seconds since midnight from the registers. `None` when they show no time of day.
fn time_of_day(seconds: u8, minutes: u8, hours: u8, mode: u8) -> Option<u32> {
    let value = |register: u8| {
        if mode & DM_BINARY != 0 {
            return Some(u32::from(register));
        }
        let (tens, ones) = (register >> 4, register & 0xf);
        (tens <= 9 && ones <= 9).then(|| u32::from(tens) * 10 + u32::from(ones))
    };
    let hour = if mode & HOURS_24 != 0 {
        value(hours)?
    } else {
        let hour = value(hours & !PM)?;
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour % 12 + if hours & PM != 0 { 12 } else { 0 }
    };
    let (minute, second) = (value(minutes)?, value(seconds)?);
    (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_that_are_no_time_of_day() {
        for (seconds, minutes, hours, mode) in [
            (0x60, 0, 0, HOURS_24),
            (0x0a, 0, 0, HOURS_24),
            (0, 0x60, 0, HOURS_24),
            (0, 0, 0x24, HOURS_24),
            (0, 0, 0, 0),
            (0, 0, 0x13, 0),
        ] {
            assert_eq!(time_of_day(seconds, minutes, hours, mode), None);
        }
    }
}
