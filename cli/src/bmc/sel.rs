//! What takes several commands of the SEL: reading all of it while it changes, and finding a record that was added.

use super::{BmcError, Connection};
use lastwords_core::ipmi::{
    commands::{FIRST_RECORD, GetSelEntry, LAST_RECORD, ReserveSel},
    message::CompletionCode,
    sel_writer::content,
};
use std::{collections::BTreeSet, thread, time::Duration};

/// How often a SEL that somebody clears or that drops its oldest records is read again from the beginning.
const RESTARTS: usize = 5;

/// How often a record that was added is looked for, and how long between: some BMCs write their log in the
/// background.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// One SEL record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id under which the BMC gives it. Of the first, which is asked for by 0, it is the one in the record.
    pub id: u16,
    /// Its 16 bytes (table 32-1), its id among them where the BMC fills that in.
    pub record: [u8; 16],
}

/// A SEL's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelList {
    /// In the log's order.
    pub entries: Vec<Entry>,
    /// Does each id stand for one record? The list came to its end, and not back to itself.
    pub is_distinct: bool,
}

/// The id in a record.
fn own_id(record: &[u8; 16]) -> u16 {
    u16::from_le_bytes([record[0], record[1]])
}

/// Does an id name one record? 0 is the first, 0xffff the last, whichever they are.
pub fn names_one(id: u16) -> bool {
    !matches!(id, FIRST_RECORD | LAST_RECORD)
}

/// Is a record that was `found` the one that was `added`? By what the BMC sets they may differ.
pub fn is_same(found: &[u8; 16], added: &[u8; 16]) -> bool {
    content(found) == content(added)
}

impl Connection {
    /// All records of the SEL in the log's order. Records that come while it is read are in it or not; when some that
    /// have been read go away meanwhile, it is read again.
    ///
    /// # Errors
    /// When the BMC refuses, does not answer, or its SEL changes all the time.
    pub fn sel_entries(&mut self) -> Result<Vec<Entry>, BmcError> {
        Ok(self.sel_list()?.entries)
    }

    /// The same, and whether their ids can be trusted.
    ///
    /// # Errors
    /// As [`Connection::sel_entries`].
    pub fn sel_list(&mut self) -> Result<SelList, BmcError> {
        let mut reservation = 0;
        let mut tries = 0;
        'again: loop {
            tries += 1;
            let mut entries = Vec::new();
            let mut seen = BTreeSet::new();
            let mut id = FIRST_RECORD;
            // A list of ids that comes back to itself ends there.
            while seen.insert(id) && id != LAST_RECORD {
                match self.send(&GetSelEntry { reservation, id }) {
                    Ok((next, record)) => {
                        // The first record is asked for by 0, and may be pointed to by its own id.
                        let known = if id == FIRST_RECORD { own_id(&record) } else { id };
                        seen.insert(own_id(&record));
                        entries.push(Entry { id: known, record });
                        id = next;
                    }
                    Err(error) => match error.code() {
                        Some(CompletionCode::NOT_PRESENT) if id == FIRST_RECORD => {
                            return Ok(SelList { entries, is_distinct: true });
                        }
                        Some(CompletionCode::NOT_PRESENT) if tries <= RESTARTS => continue 'again,
                        // Some BMCs want a reservation even for reading a whole record.
                        Some(CompletionCode::RESERVATION_CANCELED) if tries <= RESTARTS => {
                            reservation = self.send(&ReserveSel)?;
                            continue 'again;
                        }
                        _ => return Err(error),
                    },
                }
            }
            return Ok(SelList { entries, is_distinct: id == LAST_RECORD });
        }
    }

    /// The record that the BMC gives for this id. `None` when there is none, or the BMC cannot show it.
    ///
    /// # Errors
    /// When the BMC does not answer.
    pub fn sel_entry(&mut self, id: u16) -> Result<Option<[u8; 16]>, BmcError> {
        let mut result = self.send(&GetSelEntry { reservation: 0, id });
        if result.as_ref().is_err_and(|error| error.code() == Some(CompletionCode::RESERVATION_CANCELED)) {
            result =
                self.send(&ReserveSel).and_then(|reservation| self.send(&GetSelEntry { reservation, id }));
        }
        match result {
            Ok((_, record)) => Ok(Some(record)),
            Err(error) if error.code().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks again for a second for what some BMCs are slow to show.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn look<T>(
        &mut self,
        patience: bool,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>, BmcError>,
    ) -> Result<Option<T>, BmcError> {
        for turn in 0..if patience { LOOKS } else { 1 } {
            if turn > 0 {
                thread::sleep(PAUSE);
            }
            if let Some(found) = look(self)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Looks for a record that was added, under the id that the BMC has answered, and, since not all are right, at the
    /// log's end. With `patience` it looks again for a second.
    ///
    /// # Errors
    /// When the BMC does not answer.
    pub fn find_sel_entry(
        &mut self,
        record: &[u8; 16],
        id: Option<u16>,
        patience: bool,
    ) -> Result<Option<Entry>, BmcError> {
        self.look(patience, |bmc| {
            for id in [id, Some(LAST_RECORD)].into_iter().flatten() {
                if let Some(found) = bmc.sel_entry(id)?.filter(|found| is_same(found, record)) {
                    let id = if names_one(id) { id } else { own_id(&found) };
                    return Ok(Some(Entry { id, record: found }));
                }
            }
            Ok(None)
        })
    }

    /// The id that the log's last record has in it.
    ///
    /// # Errors
    /// When the BMC does not answer.
    pub fn last_sel_id(&mut self) -> Result<Option<u16>, BmcError> {
        Ok(self.sel_entry(LAST_RECORD)?.as_ref().map(own_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::System;
    use lastwords_core::{
        budget::{Millis, Timer},
        ipmi::{
            TransferError, Transport,
            commands::{
                AddSelEntry, Command, DeviceId, GetDeviceId, GetSelInfo, GetWatchdogTimer, WatchdogTimer,
            },
            message::Request,
        },
    };
    use proptest::prelude::*;

    /// A BMC that answers what the function returns, completion code first.
    struct Fake<F>(F);

    impl<F: FnMut(Request<'_>) -> Vec<u8>> Transport<System> for Fake<F> {
        fn transfer(
            &mut self,
            _: &mut System,
            _: &mut Timer,
            request: &[u8],
            reply: &mut [u8],
            _: Millis,
        ) -> Result<usize, TransferError> {
            let request = Request::decode(request).unwrap();
            let answer = self.0(request);
            request.put_answer(&answer, reply).ok_or(TransferError::TooLong)
        }
    }

    fn bmc(answers: impl FnMut(Request<'_>) -> Vec<u8> + Send + 'static) -> Connection {
        Connection::new(Fake(answers), "test")
    }

    fn record(id: u16) -> [u8; 16] {
        let mut record = [7; 16];
        record[..2].copy_from_slice(&id.to_le_bytes());
        record
    }

    /// Get SEL Entry's answer from a SEL with these ids.
    fn from(sel: &[u16], request: Request<'_>) -> Vec<u8> {
        let id = u16::from_le_bytes([request.data[2], request.data[3]]);
        let at =
            if id == FIRST_RECORD { 0 } else { sel.iter().position(|one| *one == id).unwrap_or(sel.len()) };
        match sel.get(at) {
            Some(id) => {
                let next = sel.get(at + 1).unwrap_or(&LAST_RECORD).to_le_bytes();
                [&[0], &next[..], &record(*id)].concat()
            }
            None => vec![CompletionCode::NOT_PRESENT.0],
        }
    }

    fn ids(entries: &[Entry]) -> Vec<u16> {
        entries.iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn what_the_bench_bmcs_say_of_themselves() {
        // ipmi_sim and QEMU 7.2, as `ipmitool -v raw` shows them.
        let id = [0, 0x20, 0x23, 0x09, 0x08, 0x02, 0x9f, 0x91, 0x12, 0x00, 0x02, 0x0f, 0, 0, 0, 0];
        let device = bmc(move |_| id.to_vec()).send(&GetDeviceId).unwrap();
        let expected = DeviceId {
            manufacturer: 0x1291,
            product: 0xf02,
            firmware: (9, 8),
            ipmi: (2, 0),
            updating: false,
        };
        assert_eq!(device, expected);

        let info = [0, 0x51, 3, 0, 0xd0, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0x82];
        let info = bmc(move |_| info.to_vec()).send(&GetSelInfo).unwrap();
        assert_eq!((info.entries, info.free_records(), info.overflow), (3, Some(125), true));

        let timer = [0, 0x44, 0x01, 0, 0x10, 0xb0, 0x04, 0x6e, 0x04];
        let timer = bmc(move |_| timer.to_vec()).send(&GetWatchdogTimer).unwrap();
        let expected =
            WatchdogTimer { running: true, timer_use: 4, action: 1, initial: 1200, present: Some(1134) };
        assert_eq!(timer, expected);
    }

    #[test]
    fn a_busy_bmc_is_asked_again_and_a_refusal_names_the_command() {
        let mut answers = [vec![CompletionCode::NODE_BUSY.0], vec![0, 5, 0]].into_iter();
        assert_eq!(bmc(move |_| answers.next().unwrap()).send(&ReserveSel).unwrap(), 5);

        let refused = bmc(|_| vec![0xd4]).send(&AddSelEntry(&record(0))).unwrap_err();
        assert_eq!(refused.code(), Some(CompletionCode(0xd4)));
        assert_eq!(
            refused.to_string(),
            "the BMC refused Add SEL Entry: completion code 0xd4, not allowed at this privilege or on this interface"
        );
        assert!(matches!(bmc(|_| Vec::new()).send(&ReserveSel), Err(BmcError::Garbled(_))));
        let late = bmc(|_| vec![0, 1, 0]).within(Duration::ZERO).send(&ReserveSel);
        assert!(matches!(late, Err(BmcError::Silent(_))));
    }

    /// As the image takes these codes: core's rule is the only one.
    #[test]
    fn a_bmc_that_initializes_itself_is_asked_again_and_a_timeout_inside_it_is_no_answer() {
        let mut answers = [vec![CompletionCode::INITIALIZING.0], vec![0, 7, 0]].into_iter();
        assert_eq!(bmc(move |_| answers.next().unwrap()).send(&ReserveSel).unwrap(), 7);

        let mut asked = 0;
        let mut bmc = bmc(move |_| {
            asked += 1;
            if asked == 2 { vec![0, 7, 0] } else { vec![CompletionCode::TIMEOUT.0] }
        });
        assert_eq!(bmc.send(&ReserveSel).unwrap(), 7);
        assert!(matches!(bmc.send(&ReserveSel), Err(BmcError::Silent(_))));
    }

    #[test]
    fn a_sel_is_read_in_its_order() {
        assert_eq!(bmc(|request| from(&[], request)).sel_entries().unwrap(), []);
        assert_eq!(
            ids(&bmc(|request| from(&[9, 2, 0xfffe], request)).sel_entries().unwrap()),
            [9, 2, 0xfffe]
        );
    }

    #[test]
    fn a_record_that_goes_away_while_it_is_read_makes_it_read_again() {
        let mut sel = vec![1, 2, 3];
        let mut asked = 0;
        let mut bmc = bmc(move |request| {
            asked += 1;
            if asked == 2 {
                sel = vec![3, 4];
            }
            from(&sel, request)
        });
        assert_eq!(ids(&bmc.sel_entries().unwrap()), [3, 4]);
    }

    #[test]
    fn a_bmc_that_wants_a_reservation_gets_one() {
        let mut bmc = bmc(|request| match request.cmd {
            ReserveSel::CMD => vec![0, 0x34, 0x12],
            _ if request.data[..2] == [0x34, 0x12] => from(&[1, 2], request),
            _ => vec![CompletionCode::RESERVATION_CANCELED.0],
        });
        assert_eq!(ids(&bmc.sel_entries().unwrap()), [1, 2]);
    }

    #[test]
    fn a_list_of_records_that_runs_in_a_circle_ends() {
        let circle = |request: Request<'_>| match request.data[2] {
            0 | 1 => [&[0, 2, 0], &record(1)[..]].concat(),
            _ => [&[0, 1, 0], &record(2)[..]].concat(),
        };
        assert_eq!(ids(&bmc(circle).sel_entries().unwrap()), [1, 2]);
        let gone = bmc(
            |request| if request.data[2] == 0 { [&[0, 2, 0], &record(1)[..]].concat() } else { vec![0xcb] },
        )
        .sel_entries();
        assert_eq!(gone.unwrap_err().code(), Some(CompletionCode::NOT_PRESENT));
    }

    proptest! {
        #[test]
        fn any_answer_is_taken_or_refused(mut answers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20)) {
            // Busy is tested above; it only waits.
            let busy = |answer: &&mut Vec<u8>| answer.first().is_some_and(|code| CompletionCode(*code).is_busy());
            answers.iter_mut().filter(busy).for_each(|answer| answer[0] = 0);
            let mut turn = 0;
            let mut bmc = bmc(move |_| {
                turn += 1;
                answers[turn % answers.len()].clone()
            });
            let _ = (bmc.send(&GetDeviceId).is_ok(), bmc.send(&GetSelInfo).is_ok(), bmc.send(&GetWatchdogTimer).is_ok());
            let _ = bmc.sel_entries();
        }
    }
}
