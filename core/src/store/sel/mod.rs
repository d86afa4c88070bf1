//! The System Event Log as a store: lines of text in records of the type that Linux's own IPMI driver uses for panic
//! text, so that every tool shows them; and three characters at a time in system event records, for a BMC that
//! accepts no others. docs/sel-format.md describes the format for people.

mod decode;
mod encode;

pub use decode::{Decoded, Decoder, Source, parse};
pub use encode::{
    LINE_LEN, Records, SHORT, TEXT_LEN, event_record, mark, mark_events, records, short, stream, text,
};

use crate::budget::Timer;
use crate::hw::Clock;
use crate::ipmi::commands::GetSelInfo;
use crate::ipmi::sel_writer::{SelType, SelWriter};
use crate::ipmi::{Bmc, CommandError, Transport};
use crate::report::{self, Content, Line, Stage};
use crate::store::Store;
use crate::text::Text;

/// Records that are tried even when the BMC tells of no space for them.
const FEW: u32 = 4;

/// A BMC's SEL that is written to.
pub struct Sel<'a, T> {
    /// The BMC.
    pub bmc: &'a mut Bmc<T>,
    /// How it is written to.
    pub writer: &'a mut SelWriter,
    /// Most records that a report takes.
    pub limit: u32,
}

impl<M: Clock, T: Transport<M>> Store<M> for Sel<'_, T> {
    type Error = CommandError;

    fn report(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        content: &mut Content,
    ) -> Result<(), CommandError> {
        let mut limit = self.limit;
        match self.bmc.send(machine, timer, &GetSelInfo) {
            // One that tells of no space at all may overwrite its oldest.
            Ok(info) => {
                if let Some(records) = info.free_records() {
                    limit = limit.min(u32::from(records).max(FEW));
                }
            }
            // A BMC that forbids to write may well forbid to ask.
            Err(CommandError::Refused(_) | CommandError::Garbled) => {}
            Err(error) => return Err(error),
        }
        let mut sent = Ok(());
        if self.writer.sel_type == SelType::Oem {
            report::lines::<Records>(limit, content, &mut |line| {
                sent = self.records(machine, timer, line);
                sent.is_ok()
            });
        }
        if self.writer.sel_type != SelType::Oem {
            let characters = short(Records::events_text(limit), content);
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
