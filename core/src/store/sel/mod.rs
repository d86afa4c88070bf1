//! The System Event Log as a store: lines of text in records of the type that Linux's own IPMI driver uses for panic
//! text, so that every tool shows them; and three characters at a time in system event records, for a BMC that
//! accepts no others. docs/sel-format.md describes the format for people.

mod decode;
mod encode;

pub use decode::{Check, Decoded, Decoder, Event, Head, Source, parse};
pub use encode::{
    LINE_LEN, Records, SHORT, TEXT_LEN, end, event_record, mark, mark_events, records, short, stream, text,
};

use encode::may_go_on;

use crate::budget::{Millis, Timer};
use crate::hw::Clock;
use crate::ipmi::commands::{GetSelInfo, SelInfo};
use crate::ipmi::sel_writer::{SelType, SelWriter};
use crate::ipmi::{Bmc, CommandError, Transport};
use crate::report::{self, Content, Line, Stage};
use crate::store::Store;
use crate::text::Text;

/// Records that are tried behind the first line even when the BMC tells of no space for them: it may overwrite its oldest.
const FEW: u32 = 2;

/// Lines such as the first one that there must be time for before the BMC is asked how many there is room for.
const MANY: Millis = 16;

/// A BMC's SEL that is written to.
pub struct Sel<'a, T> {
    /// The BMC.
    pub bmc: &'a mut Bmc<T>,
    /// How it is written to.
    pub writer: &'a mut SelWriter,
    /// Most records that a report takes.
    pub limit: u32,
    /// So much of the budget's end is not for what comes behind the first line.
    pub hold_back: Millis,
}

impl<M: Clock, T: Transport<M>> Store<M> for Sel<'_, T> {
    type Error = CommandError;

    fn report(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        content: &mut Content,
    ) -> Result<(), CommandError> {
        let mut sent = Ok(());
        if self.writer.sel_type == SelType::Oem {
            let began = timer.now(machine);
            let mut first = true;
            let mut is_open = false;
            report::lines::<Records>(self.limit, content, &mut |line, left| {
                if sent.is_ok() {
                    sent = self.records(machine, timer, line);
                }
                is_open = left > 0 && may_go_on(line);
                if sent.is_err() || !core::mem::take(&mut first) {
                    return if sent.is_ok() { left } else { 0 };
                }
                timer.hold_back(self.hold_back);
                let took = timer.now(machine).saturating_sub(began);
                self.room(machine, timer, took).min(left)
            });
            if sent.is_ok() && is_open {
                sent = self.writer.record(self.bmc, machine, timer, &end(self.writer.written as u8));
            }
        }
        if self.writer.sel_type != SelType::Oem {
            let characters = short(Records::events_text(self.limit), content);
            sent = self.writer.events(self.bmc, machine, timer, characters.as_bytes());
        }
        sent
    }

    fn line(&mut self, machine: &mut M, timer: &mut Timer, line: Line) -> Result<(), CommandError> {
        let mut sent = Ok(());
        if self.writer.sel_type == SelType::Oem {
            sent = self.records(machine, timer, line);
        }
        if self.writer.sel_type != SelType::Oem {
            let characters: Text<SHORT> = stream([text(line).as_bytes()]);
            sent = self.writer.events(self.bmc, machine, timer, characters.as_bytes());
        }
        sent
    }
}

impl<T> Sel<'_, T> {
    /// Adds how far the dump came.
    ///
    /// # Errors
    /// When the BMC does not accept it in any form.
    pub fn stage<M: Clock>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        stage: Stage,
    ) -> Result<(), CommandError>
    where
        T: Transport<M>,
    {
        let mut sent = Ok(());
        if self.writer.sel_type == SelType::Oem {
            sent = self.writer.record(self.bmc, machine, timer, &mark(stage));
        }
        if self.writer.sel_type != SelType::Oem {
            sent = self.writer.events(self.bmc, machine, timer, mark_events(stage).as_bytes());
        }
        sent
    }

    /// How many more records there is room for, behind a first line that took `took`. The BMC is asked for that only
    /// while there is time for the question and for many records: time is what a slow one runs out of.
    fn room<M: Clock>(&mut self, machine: &mut M, timer: &mut Timer, took: Millis) -> u32
    where
        T: Transport<M>,
    {
        if timer.left(machine) / MANY < took {
            return u32::MAX;
        }
        // One that forbids to write may well forbid to ask; of what else went wrong the next record hears.
        let info = self.bmc.send(machine, timer, &GetSelInfo).ok();
        info.and_then(SelInfo::free_records).map_or(u32::MAX, |free| u32::from(free).max(FEW))
    }

    /// Adds a line's OEM records.
    fn records<M: Clock>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        line: Line,
    ) -> Result<(), CommandError>
    where
        T: Transport<M>,
    {
        for record in records(text(line).as_bytes(), self.writer.written as u8) {
            self.writer.record(self.bmc, machine, timer, &record)?;
        }
        Ok(())
    }
}
