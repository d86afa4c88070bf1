//! Writing to the SEL as far as the BMC accepts it: OEM records, else system event records, else platform events. One
//! rule says when to fall back, for the image and the tool alike.

use super::commands::{AddSelEntry, Event, SYSTEM_EVENT};
use super::{Bmc, CommandError, Transport};
use crate::budget::Timer;
use crate::cmdline;
use crate::hw::Clock;
use core::fmt;

/// How text is put into the SEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelType {
    /// In OEM records of type 0xF0: the whole report.
    Oem,
    /// In system event records (type 02): the reason and the panicked CPU, three characters a record.
    System,
    /// The same by platform events, for a BMC that forbids Add SEL Entry.
    Event,
}

impl SelType {
    /// All of them, in the order of falling back, with their names in the parameter.
    pub const NAMES: [(&'static str, Self); 3] =
        [("oem", Self::Oem), ("system", Self::System), ("event", Self::Event)];

    /// Reads `oem`, `system` or `event`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        cmdline::named(&Self::NAMES, text).ok_or("takes oem, system or event")
    }
}

impl fmt::Display for SelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(cmdline::name_of(&Self::NAMES, *self))
    }
}

/// Characters that an event carries: sensor number, event data 2 and 3.
pub const EVENT_LEN: usize = 3;

/// Event data 1: run-time critical stop, nothing known of event data 2 and 3.
pub const CRITICAL_STOP: u8 = 0x01;
/// Event data 1: run-time critical stop, event data 2 and 3 are the maker's own (table 29-6).
pub const CRITICAL_STOP_TEXT: u8 = 0xa1;
/// Sensor type OS Stop/Shutdown (table 42-3).
pub const OS_STOP: u8 = 0x20;

/// The event of a panic, with the first characters of `text` as Linux has them; without any where there is no text.
#[must_use]
pub fn critical_stop(text: &[u8]) -> Event {
    let at = |index| text.get(index).copied().unwrap_or(0);
    let (sensor_number, data) = if text.is_empty() {
        (0, [CRITICAL_STOP, 0xff, 0xff])
    } else {
        (at(0), [CRITICAL_STOP_TEXT, at(1), at(2)])
    };
    Event { sensor_type: OS_STOP, sensor_number, data }
}

/// Types below this one are events to every tool (IPMI 2.0 section 32): some BMCs store 0 or 4 for 2.
const FIRST_OEM_TYPE: u8 = 0xc0;

/// What of a record is its content, the same when it is read as when it was added. The BMC sets a record's id; and an event's
/// time, its sender, and the revision of the message it came in: these are 0, and the type of an event is 2. One rule for
/// what is decoded and for what is looked for after it was added.
#[must_use]
pub fn content(record: &[u8; 16]) -> [u8; 16] {
    match *record {
        [_, _, kind, .., s0, s1, s2, s3, s4, s5] if kind < FIRST_OEM_TYPE => {
            [0, 0, SYSTEM_EVENT, 0, 0, 0, 0, 0, 0, 0, s0, s1, s2, s3, s4, s5]
        }
        [_, _, ref rest @ ..] => {
            let mut content = [0; 16];
            content.iter_mut().skip(2).zip(rest).for_each(|(to, from)| *to = *from);
            content
        }
    }
}

/// How the SEL is written to, and what was written.
#[derive(Clone, Copy, Debug)]
pub struct SelWriter {
    /// The present type: what was asked for, or what the BMC leaves of that.
    pub sel_type: SelType,
    /// OEM records that the BMC has accepted; or events, in system event records and by themselves.
    pub written: u32,
}

impl SelWriter {
    /// Begins with this type.
    #[must_use]
    pub fn new(sel_type: SelType) -> Self {
        Self { sel_type, written: 0 }
    }

    /// Adds an OEM record. Where the BMC refuses such records, the next type is taken from here on.
    ///
    /// # Errors
    /// When the BMC does not accept it.
    pub fn record<M: Clock, T: Transport<M>>(
        &mut self,
        bmc: &mut Bmc<T>,
        machine: &mut M,
        timer: &mut Timer,
        record: &[u8; 16],
    ) -> Result<(), CommandError> {
        let added = bmc.send(machine, timer, &AddSelEntry(record)).map(drop);
        self.count(added, SelType::System)
    }

    /// Adds characters in system event records, [`EVENT_LEN`] each, or sends them in platform events where those are
    /// refused.
    ///
    /// # Errors
    /// When the BMC accepts neither.
    pub fn events<M: Clock, T: Transport<M>>(
        &mut self,
        bmc: &mut Bmc<T>,
        machine: &mut M,
        timer: &mut Timer,
        text: &[u8],
    ) -> Result<(), CommandError> {
        for characters in text.chunks(EVENT_LEN) {
            let event = critical_stop(characters);
            if self.sel_type == SelType::System {
                let added = bmc.send(machine, timer, &AddSelEntry(&event.record())).map(drop);
                match self.count(added, SelType::Event) {
                    Err(_) if self.sel_type == SelType::Event => {}
                    Err(error) => return Err(error),
                    Ok(()) => continue,
                }
            }
            let sent = bmc.send(machine, timer, &event);
            self.count(sent, SelType::Event)?;
        }
        Ok(())
    }

    /// Counts what was accepted; or falls back to `next`, where the BMC refuses the request for a reason that is the
    /// request's and not its own state.
    fn count(&mut self, result: Result<(), CommandError>, next: SelType) -> Result<(), CommandError> {
        match result {
            Ok(()) => self.written = self.written.saturating_add(1),
            Err(CommandError::Refused(code)) if !code.is_about_the_bmc() => {
                // The text begins anew, in events.
                if self.sel_type == SelType::Oem {
                    self.written = 0;
                }
                self.sel_type = next;
            }
            Err(_) => {}
        }
        result
    }
}
