//! What does this BMC store in its SEL? Adds a record of each type that the report may come in, reads it back, and
//! deletes it. Some BMCs refuse a type, and some accept it and forget it: before a crash is the time to know.
//!
//! The records are made to alarm nobody: the OEM record has "only a test", and the events are "OS Boot: boot
//! completed", which is no trouble in anybody's table. Only a record with exactly our bytes is ever deleted.

use crate::{
    bmc::{self, Connection},
    message,
};
use lastwords_core::ipmi::{
    commands::{AddSelEntry, DeleteSelEntry, Event, ReserveSel},
    message::CompletionCode,
    sel_writer::SelType,
};
use serde::Serialize;
use std::fmt;

/// How often a record is deleted again when somebody else's record has cancelled our reservation.
const DELETIONS: u32 = 5;

/// What came of it, one kind after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WriteTest {
    /// Records of type 0xF0, by Add SEL Entry.
    pub oem: Verdict,
    /// System event records (type 02), by Add SEL Entry.
    pub system: Verdict,
    /// Platform Event Message.
    pub event: Verdict,
}

/// What the BMC did with one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Verdict {
    /// It is there when it is read back.
    Kept {
        /// The record could not be deleted, and stays.
        #[serde(skip_serializing_if = "Option::is_none")]
        left: Option<Left>,
    },
    /// The BMC has accepted it, but it is not there.
    NotKept,
    /// The BMC has refused it.
    Refused {
        /// Completion code.
        code: u8,
    },
    /// It did not answer, or the answer was invalid.
    Failed {
        /// What went wrong.
        error: String,
    },
}

/// A test record that stays in the SEL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Its record id.
    pub id: u16,
    /// Why it could not be deleted.
    pub error: String,
}

impl WriteTest {
    /// How many records are there at once, at worst.
    pub const RECORDS: u16 = 3;

    /// Adds, reads back and deletes.
    pub fn run(bmc: &mut Connection) -> Self {
        let oem = oem_record();
        let (system, event) = (boot_completed(b'A').record(), boot_completed(b'P'));
        let add = |record: [u8; 16]| move |bmc: &mut Connection| bmc.send(&AddSelEntry(&record));
        Self {
            oem: verdict(bmc, &oem, add(oem)),
            system: verdict(bmc, &system, add(system)),
            event: verdict(bmc, &event.record(), |bmc| bmc.send(&event).map(|()| None)),
        }
    }

    /// The records that stay in the SEL.
    pub fn left(&self) -> impl Iterator<Item = &Left> {
        [&self.oem, &self.system, &self.event].into_iter().filter_map(|verdict| match verdict {
            Verdict::Kept { left } => left.as_ref(),
            _ => None,
        })
    }

    /// The type to begin with: the first that this BMC stores. A platform event that is only accepted may still have the
    /// BMC send an alert. `None` when it accepts nothing at all.
    #[must_use]
    pub fn sel_type(&self) -> Option<SelType> {
        match self {
            Self { oem: Verdict::Kept { .. }, .. } => Some(SelType::Oem),
            Self { system: Verdict::Kept { .. }, .. } => Some(SelType::System),
            Self { event: Verdict::Kept { .. } | Verdict::NotKept, .. } => Some(SelType::Event),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept { .. } => f.write_str("stored"),
            Self::NotKept => f.write_str("accepted but not stored"),
            Self::Refused { code } => write!(f, "refused: {}", CompletionCode(*code)),
            Self::Failed { error } => f.write_str(error),
        }
    }
}

/// A record of type 0xF0 (32.3) that is no part of a panic report: those have 0x20 in byte 3.
fn oem_record() -> [u8; 16] {
    *b"\0\0\xf0\0\xffonly a test"
}

/// An event of system software: OS Boot, C: boot completed, with two characters of our own.
fn boot_completed(letter: u8) -> Event {
    /// Sensor type OS Boot (table 42-3).
    const OS_BOOT: u8 = 0x1f;
    Event { sensor_type: OS_BOOT, sensor_number: 0, data: [0xa1, b'L', letter] }
}

fn verdict(
    bmc: &mut Connection,
    record: &[u8; 16],
    add: impl FnOnce(&mut Connection) -> Result<Option<u16>, bmc::BmcError>,
) -> Verdict {
    let id = match add(bmc) {
        Ok(id) => id,
        Err(error) => return failed(&error),
    };
    match bmc.find_sel_entry(record, id, true) {
        Ok(None) => Verdict::NotKept,
        Ok(Some(found)) => {
            let left = delete(bmc, found.id)
                .err()
                .map(|error| Left { id: found.id, error: message::fact(&error.to_string()).to_owned() });
            Verdict::Kept { left }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &bmc::BmcError) -> Verdict {
    match error.code() {
        Some(code) => Verdict::Refused { code: code.0 },
        None => Verdict::Failed { error: message::fact(&error.to_string()).to_owned() },
    }
}

fn delete(bmc: &mut Connection, id: u16) -> Result<(), bmc::BmcError> {
    let mut tries = 0;
    loop {
        let reservation = bmc.send(&ReserveSel)?;
        tries += 1;
        match bmc.send(&DeleteSelEntry { reservation, id }) {
            Err(error) if error.code() == Some(CompletionCode::RESERVATION_CANCELED) && tries < DELETIONS => {
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::Fake;
    use lastwords_core::store::sel::Decoder;

    const KEPT: Verdict = Verdict::Kept { left: None };

    /// The test's result, and what is in the SEL then.
    fn tested(fake: Fake) -> (WriteTest, Vec<[u8; 16]>) {
        let (mut bmc, fake) = fake.start();
        let result = WriteTest::run(&mut bmc);
        let sel = fake.lock().unwrap().sel.clone();
        (result, sel)
    }

    #[test]
    fn a_bmc_that_stores_everything_is_left_as_it_was() {
        let old = *b"\x01\x00\x02time\x20\x00\x04\x04\x30\x01\x09\xff\xff";
        let (result, sel) = tested(Fake { sel: vec![old], slow: 3, ..Fake::default() });
        assert_eq!(result, WriteTest { oem: KEPT, system: KEPT, event: KEPT });
        assert_eq!((result.sel_type(), sel), (Some(SelType::Oem), vec![old]));
    }

    #[test]
    fn each_fallback() {
        let refused = |code| Verdict::Refused { code };
        let no_oem = Fake { refuses: vec![(0xf0, 0xcc)], ..Fake::default() };
        let (result, _) = tested(no_oem);
        assert_eq!((&result.oem, result.sel_type()), (&refused(0xcc), Some(SelType::System)));

        // OpenBMC.
        let (result, sel) = tested(Fake { forgets: vec![0xf0], ..Fake::default() });
        assert_eq!((&result.oem, result.sel_type()), (&Verdict::NotKept, Some(SelType::System)));
        assert_eq!(sel, [[0; 16]; 0]);

        // Intel's "Restricted".
        let no_add = Fake { refuses: vec![(0xf0, 0xd4), (0x02, 0xd4)], ..Fake::default() };
        let (result, _) = tested(no_add.clone());
        let expected = WriteTest { oem: refused(0xd4), system: refused(0xd4), event: KEPT };
        assert_eq!((result.sel_type(), result), (Some(SelType::Event), expected));

        let (result, _) = tested(Fake { event_code: 0xc1, ..no_add });
        assert_eq!((result.sel_type(), &result.event), (None, &refused(0xc1)));
    }

    #[test]
    fn what_cannot_be_deleted_is_reported() {
        let (result, sel) = tested(Fake { delete_code: 0xc1, ..Fake::default() });
        assert_eq!(sel.len(), 3);
        let left: Vec<_> = result.left().map(|left| left.id).collect();
        assert_eq!(left, [1, 2, 3]);
        let why = &result.left().next().unwrap().error;
        assert_eq!(why, "the BMC refused Delete SEL Entry: completion code 0xc1, unknown command");
    }

    #[test]
    fn the_test_records_are_no_panic_report() {
        let mut decoder = Decoder::default();
        let mut found = 0;
        for record in [oem_record(), boot_completed(b'A').record(), boot_completed(b'P').record()] {
            decoder.push(&record, |_| found += 1);
        }
        decoder.finish(|_| found += 1);
        assert_eq!(found, 0);
    }
}
