//! What does this BMC store in its SEL? Adds a record of each type that the report may come in, reads it back, and
//! deletes it. Some BMCs refuse a type, and some accept it and forget it: before a crash is the time to know.
//!
//! The records are made to alarm nobody: the OEM record has "only a test", and the events are "OS Boot: boot
//! completed", which is no trouble in anybody's table.
//!
//! BMCs differ in how they number their records, and a deletion takes a number. So a record is deleted only under an id of
//! its own under which it was read, read again under a reservation, and deleted under that. Where that cannot be had, it
//! stays, and the report names it.

use crate::{
    bmc::{BmcError, Connection, Entry, SelList, is_same, names_one},
    message,
};
use lastwords_core::ipmi::{
    commands::{AddSelEntry, DeleteSelEntry, Event, GetSelEntry, ReserveSel},
    message::CompletionCode,
    sel_writer::{SelType, content},
};
use serde::Serialize;
use std::fmt;

/// How often a deletion is begun anew when somebody else's record has cancelled our reservation.
const DELETIONS: u32 = 5;
/// How often a record is sent that the BMC does not answer, and that is not there.
const SENDS: u32 = 2;

/// What came of it, one kind after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WriteTest {
    /// Records of type 0xF0, by Add SEL Entry.
    pub oem: Verdict,
    /// System event records (type 02), by Add SEL Entry.
    pub system: Verdict,
    /// Platform Event Message.
    pub event: Verdict,
    /// The records that stay in the SEL.
    pub left: Vec<Left>,
}

/// What the BMC did with one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Verdict {
    /// It is there when it is read back.
    Kept {
        /// A record that could not be deleted, and stays.
        #[serde(skip_serializing_if = "Option::is_none")]
        left: Option<Left>,
    },
    /// It is there, but not as it was sent: so `lastwords read` does not get the text that was written.
    Changed {
        /// The places of the bytes that are others, of 16.
        bytes: Vec<u8>,
        /// A record that could not be deleted, and stays.
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
        let before = match bmc.sel_list().and_then(SelList::whole) {
            Ok(before) => before,
            // What cannot be read before is not deleted afterwards.
            Err(error) if error.code().is_some() => SelList::default(),
            Err(error) => return Self::of([(); 3].map(|()| (failed(&error), Vec::new()))),
        };
        let mut test = Test { bmc, before };
        let oem = oem_record();
        let (system, event) = (boot_completed(*b"LWA").record(), boot_completed(*b"lwP"));
        let mut added = [
            test.add(oem, |bmc| bmc.send_once(&AddSelEntry(&oem))),
            test.add(system, |bmc| bmc.send_once(&AddSelEntry(&system))),
            test.add(event.record(), |bmc| bmc.send_once(&event).map(|()| None)),
        ];
        test.complete(&mut added);
        let left = test.delete_all(&added);
        let [oem, system, event] = added.map(Added::verdict);
        let [of_oem, of_system, of_event] = left;
        Self::of([(oem, of_oem), (system, of_system), (event, of_event)])
    }

    /// Of a verdict for each kind, and those of its records that stay.
    fn of(kinds: [(Verdict, Vec<Left>); 3]) -> Self {
        let all = kinds.iter().flat_map(|(_, left)| left.clone()).collect();
        let [oem, system, event] = kinds.map(|(verdict, left)| match verdict {
            Verdict::Kept { .. } => Verdict::Kept { left: left.into_iter().next() },
            Verdict::Changed { bytes, .. } => Verdict::Changed { bytes, left: left.into_iter().next() },
            verdict => verdict,
        });
        Self { oem, system, event, left: all }
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
            Self::Changed { bytes, .. } => {
                let places: Vec<_> = bytes.iter().map(u8::to_string).collect();
                let s = if bytes.len() == 1 { "" } else { "s" };
                write!(f, "stored, but not as sent: byte{s} {} changed", places.join(", "))
            }
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

/// An event of system software: OS Boot, C: boot completed, with three characters of our own. Two that are to be told apart
/// have none in common.
fn boot_completed([number, one, other]: [u8; 3]) -> Event {
    /// Sensor type OS Boot (table 42-3).
    const OS_BOOT: u8 = 0x1f;
    // A letter in each place where the report has one.
    Event { sensor_type: OS_BOOT, sensor_number: number, data: [0xa1, one, other] }
}

/// A test that runs.
struct Test<'a> {
    bmc: &'a mut Connection,
    /// What was in the SEL before it.
    before: SelList,
}

/// What came of adding one record.
struct Added {
    record: [u8; 16],
    /// Has the BMC accepted it?
    result: Result<(), BmcError>,
    sends: u32,
    /// Where it is. A BMC that answered nothing may have it twice.
    entries: Vec<Entry>,
}

impl Added {
    fn verdict(self) -> Verdict {
        let is_here = self.entries.iter().any(|entry| is_same(&entry.record, &self.record));
        match (self.result, self.entries.first()) {
            _ if is_here => Verdict::Kept { left: None },
            (_, Some(entry)) => Verdict::Changed { bytes: changed(&entry.record, &self.record), left: None },
            (Ok(()), None) => Verdict::NotKept,
            (Err(error), None) => failed(&error),
        }
    }

    /// Was it found, and once only?
    fn is_clear(&self) -> bool {
        match &self.result {
            Ok(()) => self.entries.len() == 1 && self.sends == 1,
            Err(error) => error.code().is_some(),
        }
    }
}

impl Test<'_> {
    /// Adds a record. One that is not answered is looked for before it is sent again.
    fn add(
        &mut self,
        record: [u8; 16],
        mut send: impl FnMut(&mut Connection) -> Result<Option<u16>, BmcError>,
    ) -> Added {
        let mut added = Added { record, result: Ok(()), sends: 0, entries: Vec::new() };
        while added.sends < SENDS {
            added.sends += 1;
            let sent = send(self.bmc);
            let id = sent.as_ref().ok().copied().flatten();
            added.result = sent.map(drop);
            if added.result.as_ref().is_err_and(|error| error.code().is_some()) {
                break;
            }
            match self.look(&record, id) {
                Ok(Some(entry)) => {
                    added.result = Ok(());
                    added.entries.push(entry);
                    break;
                }
                Ok(None) if added.result.is_ok() => break,
                Ok(None) => {}
                Err(error) => {
                    added.result = Err(error);
                    break;
                }
            }
        }
        added
    }

    /// Looks for a record under the id that the BMC has answered, and under the one of the last record.
    fn look(&mut self, record: &[u8; 16], answered: Option<u16>) -> Result<Option<Entry>, BmcError> {
        let before = &self.before;
        self.bmc.look(true, |bmc| {
            for id in [answered, bmc.last_sel_id()?].into_iter().flatten().filter(|id| names_one(*id)) {
                let entry = bmc.sel_entry(id)?.map(|record| Entry { id, record });
                if let Some(entry) = entry.filter(|entry| is_new(before, entry, record)) {
                    return Ok(Some(entry));
                }
            }
            Ok(None)
        })
    }

    /// Looks through the whole SEL for what is not where it should be.
    fn complete(&mut self, added: &mut [Added]) {
        if added.iter().all(Added::is_clear) {
            return;
        }
        // One that cannot be read shows no more than is known.
        let Ok(now) = self.bmc.sel_list().and_then(SelList::whole) else { return };
        for added in added {
            for entry in now.entries.iter().filter(|entry| is_new(&self.before, entry, &added.record)) {
                if !added.entries.contains(entry) {
                    added.entries.push(*entry);
                }
            }
        }
    }

    /// Deletes what was added, the newest first: a BMC that numbers its records anew then moves none of ours. Returns
    /// what stays of each. Where one cannot be deleted, this BMC's ways are not those that we rely on: the others stay, too.
    fn delete_all(&mut self, added: &[Added; 3]) -> [Vec<Left>; 3] {
        let mut left = [const { Vec::new() }; 3];
        let mut error = None;
        for (added, left) in added.iter().zip(&mut left).rev() {
            for entry in added.entries.iter().rev() {
                if error.is_none() {
                    error = self.delete(entry).err();
                }
                let error = error.iter().map(|error: &String| Left { id: entry.id, error: error.clone() });
                left.extend(error);
            }
            left.reverse();
        }
        left
    }

    /// Deletes a record, under a reservation under which it was read once more.
    ///
    /// # Errors
    /// The reason why it stays.
    fn delete(&mut self, entry: &Entry) -> Result<(), String> {
        let &Entry { id, record } = entry;
        if !names_one(id) {
            return Err("the BMC does not show its record ID".to_owned());
        }
        if !self.before.is_distinct || self.before.entries.iter().any(|before| before.id == id) {
            return Err("the BMC's record IDs are not unique".to_owned());
        }
        let fact = |error: BmcError| message::fact(&error.to_string()).to_owned();
        let mut deleted = Ok(());
        for _ in 0..DELETIONS {
            let reservation = self.bmc.send(&ReserveSel).map_err(fact)?;
            match self.bmc.send(&GetSelEntry { reservation, id }) {
                Ok((_, found)) if found == record => {}
                Ok(_) => return Err("another record has its ID now".to_owned()),
                Err(error) if is_cancelled(&error) => {
                    deleted = Err(fact(error));
                    continue;
                }
                Err(error) => return Err(fact(error)),
            }
            match self.bmc.send_once(&DeleteSelEntry { reservation, id }) {
                Err(error) if is_cancelled(&error) => deleted = Err(fact(error)),
                Err(error) if error.code().is_some() => return Err(fact(error)),
                result => {
                    deleted = result.map_err(fact);
                    break;
                }
            }
        }
        // Neither an answer nor none shows what was done.
        match self.bmc.sel_entry(id).map_err(fact)? {
            Some(found) if found == record => {
                deleted.and(Err("the BMC reported it as deleted, and it is still there".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// Is it a record like the one that was added, and was not there before?
fn is_new(before: &SelList, entry: &Entry, record: &[u8; 16]) -> bool {
    is_like(&entry.record, record) && !before.entries.contains(entry)
}

/// Bytes of a record that a BMC may change, and it is known for ours.
const FEW_CHANGED: usize = 2;

/// Is it the record that was added, but for a few bytes? Some BMCs have no room for all 16.
fn is_like(found: &[u8; 16], added: &[u8; 16]) -> bool {
    changed(found, added).len() <= FEW_CHANGED
}

/// Where a record is another than the one that was added, by the rule of those who read it.
fn changed(found: &[u8; 16], added: &[u8; 16]) -> Vec<u8> {
    let (found, added) = (content(found), content(added));
    (0..16).filter(|at| found[usize::from(*at)] != added[usize::from(*at)]).collect()
}

fn is_cancelled(error: &BmcError) -> bool {
    error.code() == Some(CompletionCode::RESERVATION_CANCELED)
}

fn failed(error: &BmcError) -> Verdict {
    match error.code() {
        Some(code) => Verdict::Refused { code: code.0 },
        None => Verdict::Failed { error: message::fact(&error.to_string()).to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::Fake;
    use lastwords_core::{
        report::Line,
        store::sel::{self, Decoded, Decoder},
        text::Text,
    };

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
        assert_eq!(result, WriteTest { oem: KEPT, system: KEPT, event: KEPT, left: Vec::new() });
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
        let expected = WriteTest { oem: refused(0xd4), system: refused(0xd4), event: KEPT, left: Vec::new() };
        assert_eq!((result.sel_type(), result), (Some(SelType::Event), expected));

        let (result, _) = tested(Fake { event_code: 0xc1, ..no_add });
        assert_eq!((result.sel_type(), &result.event), (None, &refused(0xc1)));
    }

    #[test]
    fn what_cannot_be_deleted_is_reported() {
        let (result, sel) = tested(Fake { delete_code: 0xc1, ..Fake::default() });
        assert_eq!(sel.len(), 3);
        let left: Vec<_> = result.left.iter().map(|left| left.id).collect();
        assert_eq!(left, [1, 2, 3]);
        let why = &result.left[0].error;
        assert_eq!(why, "the BMC refused Delete SEL Entry: completion code 0xc1, Invalid Command");
    }

    /// A record that is not ours.
    fn foreign(id: u16) -> [u8; 16] {
        let mut record = *b"\0\0\x02time\x20\x00\x04\x04\x30\x01\x09\xff\xff";
        record[..2].copy_from_slice(&id.to_le_bytes());
        record
    }

    /// Two records of others, as a BMC has them that leaves the sender's id bytes (0) in a record.
    fn keeps_ids() -> Fake {
        let sel = vec![foreign(0), foreign(0)];
        Fake { sel, keeps_ids: true, numbers: vec![Some(1), Some(2)], ..Fake::default() }
    }

    #[test]
    fn a_bmc_that_keeps_the_senders_id_bytes_loses_no_other_record() {
        let (result, sel) = tested(keeps_ids());
        assert_eq!(sel, keeps_ids().sel);
        assert_eq!(result, WriteTest { oem: KEPT, system: KEPT, event: KEPT, left: Vec::new() });
    }

    #[test]
    fn record_zero_is_deleted_by_no_number_even_where_it_is_the_only_one() {
        // Nothing shows under which number the first record is known.
        let empty = Fake { keeps_ids: true, answers_id: Some(0), ..Fake::default() };
        let (mut bmc, fake) = empty.start();
        let result = WriteTest::run(&mut bmc);
        let fake = fake.lock().unwrap();
        let deleted: Vec<_> = fake.asked.iter().filter(|(_, cmd, _)| *cmd == 0x46).collect();
        assert!(
            deleted.iter().all(|(_, _, data)| !matches!(data[2..], [0, 0] | [0xff, 0xff])),
            "{deleted:?}"
        );
        assert_eq!(result.left.len(), fake.sel.len());
    }

    #[test]
    fn a_record_whose_answer_names_a_wrong_id_is_found_and_deleted() {
        for answers_id in [0, 1, 2, 77, 0xffff] {
            let fake =
                Fake { sel: vec![foreign(1), foreign(2)], answers_id: Some(answers_id), ..Fake::default() };
            let before = fake.sel.clone();
            let (result, sel) = tested(fake);
            assert_eq!(sel, before, "{answers_id}");
            assert_eq!(result, WriteTest { oem: KEPT, system: KEPT, event: KEPT, left: Vec::new() });
        }
    }

    #[test]
    fn a_record_is_found_though_others_came_after_it() {
        /// Somebody adds a record as soon as ours is there.
        fn busy(fake: &mut Fake, cmd: u8) {
            let ours = |record: &[u8; 16]| record[2] == 0xf0 || record[10] == 0x1f;
            if cmd == 0x43 && fake.sel.last().is_some_and(ours) {
                fake.add(foreign(0));
            }
        }
        let fake = Fake { answers_id: Some(0), meddles: Some(busy), ..Fake::default() };
        let (result, sel) = tested(fake);
        assert_eq!(result, WriteTest { oem: KEPT, system: KEPT, event: KEPT, left: Vec::new() });
        assert!(sel.len() == 3 && sel.iter().all(|record| record[7..] == foreign(0)[7..]), "{sel:?}");
    }

    #[test]
    fn a_number_that_two_records_have_is_deleted_by_nobody() {
        let sel = vec![foreign(1), foreign(1)];
        let fake = Fake { sel: sel.clone(), same_number: true, ..Fake::default() };
        let (_, after) = tested(fake);
        assert_eq!(after[..2], sel);

        let sel = vec![foreign(1), foreign(2)];
        let fake = Fake { sel: sel.clone(), same_number: true, ..Fake::default() };
        let (_, after) = tested(fake);
        assert_eq!(after[..2], sel);
    }

    /// Somebody else's record comes behind ours before the first deletion.
    fn behind(fake: &mut Fake, cmd: u8) {
        if cmd == 0x42 && fake.sel.last().is_some_and(|last| last[15] == b'P') {
            fake.add(foreign(0));
        }
    }

    #[test]
    fn a_bmc_that_numbers_anew_after_a_deletion_loses_no_other_record() {
        let sel = vec![foreign(1), foreign(2)];
        let (result, after) = tested(Fake { sel: sel.clone(), renumbers: true, ..Fake::default() });
        assert_eq!((after, result.left.len()), (sel.clone(), 0));

        let fake = Fake { sel: sel.clone(), renumbers: true, meddles: Some(behind), ..Fake::default() };
        let (_, after) = tested(fake);
        let others = after.iter().filter(|record| record[7..] == foreign(0)[7..]).count();
        assert_eq!(others, 3, "{after:?}");
    }

    #[test]
    fn a_record_that_has_another_under_its_number_when_it_is_to_be_deleted_is_left() {
        /// Somebody clears the SEL, and new records get the numbers of the old ones.
        fn cleared(fake: &mut Fake, cmd: u8) {
            if cmd == 0x42 {
                (fake.sel, fake.numbers) = ((1..=5).map(foreign).collect(), Vec::new());
            }
        }
        let (result, sel) = tested(Fake { meddles: Some(cleared), ..Fake::default() });
        assert_eq!(sel, (1..=5).map(foreign).collect::<Vec<_>>());
        assert!(result.left[0].error.contains("another record"), "{result:?}");
    }

    #[test]
    fn without_a_reservation_nothing_is_deleted() {
        let (result, sel) = tested(Fake { reserve_code: 0xc1, ..Fake::default() });
        assert_eq!((sel.len(), result.left.len()), (3, 3));
        assert!(result.left[0].error.contains("Reserve SEL"), "{result:?}");
    }

    #[test]
    fn a_cancelled_reservation_is_made_again_and_not_for_ever() {
        let (result, sel) = tested(Fake { cancels: 3, ..Fake::default() });
        assert_eq!((sel.len(), result.left.len()), (0, 0));
        let (result, sel) = tested(Fake { cancels: 1000, ..Fake::default() });
        assert_eq!((sel.len(), result.left.len()), (3, 3));
    }

    #[test]
    fn a_deletion_that_deletes_nothing_is_no_success_and_the_last() {
        let (mut bmc, fake) = Fake { deletes_nothing: true, ..Fake::default() }.start();
        let result = WriteTest::run(&mut bmc);
        assert_eq!(result.left.len(), 3);
        assert!(result.left[0].error.contains("still there"), "{result:?}");
        assert_eq!(fake.lock().unwrap().asked.iter().filter(|(_, cmd, _)| *cmd == 0x46).count(), 1);
    }

    #[test]
    fn a_deletion_whose_answer_is_lost_is_not_sent_again() {
        // Under the number of the record that is gone there is another one by then.
        let sel = vec![foreign(1), foreign(2)];
        let fake =
            Fake { sel, renumbers: true, loses: vec![0x46; 5], meddles: Some(behind), ..Fake::default() };
        let (_, after) = tested(fake);
        let others = after.iter().filter(|record| record[7..] == foreign(0)[7..]).count();
        assert_eq!(others, 3, "{after:?}");
    }

    #[test]
    fn a_record_whose_answer_is_lost_is_not_added_twice_and_not_left() {
        for loses in [vec![0x44], vec![0x02], vec![0x44, 0x44, 0x44, 0x44], vec![0x02; 4]] {
            let (mut bmc, fake) = Fake { sel: vec![foreign(1)], loses, ..Fake::default() }.start();
            let result = WriteTest::run(&mut bmc);
            let fake = fake.lock().unwrap();
            assert_eq!(result, WriteTest { oem: KEPT, system: KEPT, event: KEPT, left: Vec::new() });
            assert_eq!(fake.sel, [foreign(1)]);
            let added = fake.asked.iter().filter(|(_, cmd, _)| matches!(cmd, 0x44 | 0x02)).count();
            assert_eq!(added, 3);
        }
    }

    #[test]
    fn what_an_earlier_test_has_left_is_no_result_of_this_one() {
        let mut old = oem_record();
        old[0] = 1;
        let fake = Fake { sel: vec![old], forgets: vec![0xf0], ..Fake::default() };
        let (result, sel) = tested(fake);
        assert_eq!((result.oem, sel), (Verdict::NotKept, vec![old]));
    }

    /// What a BMC makes of the records that it has stored, when they are asked for.
    fn changed_by(change: fn(&mut Fake, u8)) -> (WriteTest, Vec<[u8; 16]>) {
        tested(Fake { meddles: Some(change), ..Fake::default() })
    }

    #[test]
    fn a_bmc_that_cuts_a_byte_of_each_record_is_found_out() {
        let (result, sel) = changed_by(|fake, _| fake.sel.iter_mut().for_each(|record| record[15] = 0));
        let changed = Verdict::Changed { bytes: vec![15], left: None };
        assert_eq!([&result.oem, &result.system, &result.event], [&changed; 3]);
        assert_eq!(changed.to_string(), "stored, but not as sent: byte 15 changed");
        assert_eq!((result.sel_type(), sel), (None, Vec::new()));

        let (result, sel) = changed_by(|fake, _| fake.sel.iter_mut().for_each(|record| record[11] = 0));
        assert_eq!((result.system, sel.len()), (Verdict::Changed { bytes: vec![11], left: None }, 0));
    }

    #[test]
    fn what_is_said_to_be_stored_is_what_is_read() {
        /// Is the whole text read of a stream that went through this BMC?
        fn is_read(change: fn(&mut Fake, u8)) -> bool {
            let text: Text<48> = sel::stream([&b"Out of memory"[..]]);
            let event = |piece: &[u8]| sel::event_record(piece.try_into().unwrap());
            let sel = text.as_bytes().chunks(3).map(event).collect();
            let mut fake = Fake { sel, ..Fake::default() };
            change(&mut fake, 0x43);
            let (mut decoder, mut read) = (Decoder::default(), false);
            let mut found = |decoded: Decoded| {
                read |= matches!(decoded, Decoded::Line(Line::Reason(b"Out of memory")));
            };
            fake.sel.iter().for_each(|record| decoder.push(record, &mut found));
            decoder.finish(&mut found);
            read
        }
        /// Changes all system events.
        fn each(fake: &mut Fake, change: impl Fn(&mut [u8; 16])) {
            fake.sel.iter_mut().filter(|record| record[2] < 0xc0).for_each(change);
        }
        type Change = fn(&mut Fake, u8);
        let changes: [(Change, bool); 6] = [
            (|fake, _| each(fake, |record| record[7] = 0x20), true),
            (|fake, _| each(fake, |record| record[7..9].copy_from_slice(&[0x21, 0x60])), true),
            (|fake, _| each(fake, |record| record[2] = 0), true),
            (|fake, _| each(fake, |record| record[2] = 4), true),
            (|fake, _| each(fake, |record| record[9] = 3), true),
            (|fake, _| each(fake, |record| record[14] = 0xff), false),
        ];
        for (index, (change, is_kept)) in changes.into_iter().enumerate() {
            let (result, _) = changed_by(change);
            assert_eq!(result.system == KEPT, is_kept, "{index}: {result:?}");
            assert_eq!(result.event == KEPT, is_kept, "{index}: {result:?}");
            assert_eq!(is_read(change), is_kept, "{index}");
        }
    }

    #[test]
    fn the_test_records_are_no_panic_report() {
        let mut decoder = Decoder::default();
        let mut found = 0;
        for record in [oem_record(), boot_completed(*b"LWA").record(), boot_completed(*b"lwP").record()] {
            decoder.push(&record, |_| found += 1);
        }
        decoder.finish(|_| found += 1);
        assert_eq!(found, 0);
    }
}
