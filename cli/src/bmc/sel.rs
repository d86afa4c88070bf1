//! What takes several commands of the SEL: reading all of it while it changes, or its end alone, and finding a record that
//! was added.
//!
//! BMCs differ in how they number their records. The log's order is what each answer gives as the next record's id; the id in a
//! record may be any. A chain that ends before the log does is taken up again behind the gap, or from the log's end back; and
//! what could not be read is said, not left out silently. How many records there are is what this chain shows. What Get SEL
//! Info counts is a claim: where it differs that is said, and changes nothing.

use super::{BmcError, Connection};
use lastwords_core::{
    budget::Millis,
    ipmi::{
        commands::{Command, FIRST_RECORD, GetSelCount, GetSelEntry, LAST_RECORD, ReserveSel},
        message::{CompletionCode, REQUEST_LEN, Request},
        sel_writer::content,
    },
};
use std::collections::BTreeSet;

/// How often a SEL that somebody clears or that drops its oldest records is read again from the beginning.
pub const RESTARTS: usize = 5;
/// No BMC logs so many records while its newest ones are read: what has higher ids is of one log, whenever it was cleared.
const REFILLED: u16 = 1000;
/// How often in a row a reservation is made again for the same record. The deadline may come first.
const RESERVATIONS: u32 = 1000;
/// From the third one on the BMC is left alone for so long before.
const RESERVATION_PAUSE: Millis = 20;
/// How many ids in a row are tried where a record may be, and is not.
const GUESSES: u32 = 3;
/// Longest wait for the answer that shows whether a BMC answers anything, behind a record that it does not answer.
const ALIVE: Millis = 30_000;

/// How often a record that was added is looked for, and how long between: some BMCs write their log in the
/// background.
const LOOKS: u32 = 5;
const PAUSE: Millis = 200;

/// One SEL record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id under which the BMC gives it. Of the first, which is asked for by 0, it is the one in the record.
    pub id: u16,
    /// Its 16 bytes (table 32-1), its id among them where the BMC fills that in.
    pub record: [u8; 16],
}

/// A SEL's records.
#[derive(Debug, Default)]
pub struct SelList {
    /// In the log's order.
    pub entries: Vec<Entry>,
    /// Does each id stand for one record? The list came to its end, and not back to itself.
    pub is_distinct: bool,
    /// How many records the BMC counts, where it was asked (Get SEL Info).
    pub count: Option<u16>,
    /// Records that the BMC has, and does not show.
    pub unreadable: usize,
    /// Is what lies before the first entry left out, because it was not wanted?
    pub from_end: bool,
    /// Are there records that the BMC does not answer for, though it answers others?
    pub is_silent: bool,
    /// Is it unknown what the newest record is? The list did not come to its end, and the BMC does not show the last one.
    pub is_open: bool,
    /// Why it ends before the log does.
    pub ended_by: Option<BmcError>,
}

impl SelList {
    /// The same, where the BMC answered to its end.
    ///
    /// # Errors
    /// Why it ends before.
    pub fn whole(self) -> Result<Self, BmcError> {
        match self.ended_by {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// How many records are missing that should be here.
    #[must_use]
    pub fn missing(&self) -> usize {
        let counted = usize::from(self.count.unwrap_or(0)).saturating_sub(self.entries.len());
        if self.from_end { 0 } else { counted.max(self.unreadable) }
    }
}

/// Told of the newest records, the newest first: are these all that are wanted?
pub type Enough<'a> = dyn FnMut(&[Entry]) -> bool + 'a;

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
    /// When nothing could be read: the BMC does not answer.
    pub fn sel_list(&mut self) -> Result<SelList, BmcError> {
        Walk::new(self, None).forward(Vec::new())
    }

    /// The same, held against what Get SEL Info counts. Where `enough` is given the newest records alone, up to those that are:
    /// from the end back, as long as the BMC numbers its records in order, else all. A log that was cleared meanwhile is
    /// read again.
    ///
    /// # Errors
    /// As [`Connection::sel_list`].
    pub fn read_sel(&mut self, mut enough: Option<&mut Enough<'_>>) -> Result<SelList, BmcError> {
        let mut info = match self.sel_count() {
            Ok(info) => Some(info),
            Err(BmcError::Refused(..) | BmcError::Garbled(_)) => None,
            Err(error) => return Err(error),
        };
        let mut restarts = 0;
        loop {
            let walk = Walk::new(self, info.map(|(count, _)| count));
            let mut read = match &mut enough {
                None => walk.forward(Vec::new()),
                Some(enough) => walk.backward(enough),
            };
            let answers = match &read {
                Ok(list) => list.ended_by.is_none() && !(list.from_end && list.entries[0].id > REFILLED),
                Err(error) => error.code().is_some(),
            };
            let Some((counted, erased)) = info.filter(|_| answers) else { return read };
            let Ok(now) = self.sel_count() else { return read };
            // A BMC that has another time whenever it is asked has not cleared its log.
            let is_cleared = now.1 != erased
                && restarts < RESTARTS
                && self.sel_count().is_ok_and(|again| again.1 == now.1);
            if !is_cleared {
                if let Ok(list) = &mut read {
                    // Records may have come meanwhile: each number between was right once.
                    let read = u16::try_from(list.entries.len()).unwrap_or(u16::MAX);
                    list.count = Some(read.clamp(counted.min(now.0), counted.max(now.0)));
                }
                return read;
            }
            (restarts, info) = (restarts + 1, Some(now));
        }
    }

    // It is asked in several places.
    #[inline(never)]
    fn sel_count(&mut self) -> Result<(u16, Option<u32>), BmcError> {
        self.send(&GetSelCount)
    }

    /// Does the BMC answer anything?
    fn is_alive(&mut self) -> bool {
        let request = Request { net_fn: GetSelCount::NET_FN, cmd: GetSelCount::CMD, data: &[] };
        let mut wire = [0; REQUEST_LEN];
        let wire = request.encode(&mut wire).unwrap_or_default();
        self.relay(wire, &mut [0; 2 * REQUEST_LEN], ALIVE).is_ok()
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
                self.pause(PAUSE);
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

/// What an answer shows of a record that was asked for.
enum Got {
    /// The next one's id, and the record.
    Record(u16, [u8; 16]),
    /// There is none, or it is not shown.
    Nothing(BmcError),
    /// Nobody answers any more.
    Silence(BmcError),
}

/// The ids that were asked for: a bit for each there can be.
struct Asked(Vec<u64>);

impl Default for Asked {
    fn default() -> Self {
        Self(vec![0; (usize::from(u16::MAX) + 1) / u64::BITS as usize])
    }
}

impl Asked {
    /// Adds one; false when it was there.
    fn insert(&mut self, id: u16) -> bool {
        let (word, bit) = (usize::from(id) / u64::BITS as usize, 1 << (u32::from(id) % u64::BITS));
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}

/// A SEL that is being read.
struct Walk<'a> {
    bmc: &'a mut Connection,
    reservation: u16,
    /// Ids that were asked for.
    asked: Asked,
    /// Those that the BMC does not answer, though it answers others.
    silent: Vec<u16>,
    list: SelList,
}

impl<'a> Walk<'a> {
    fn new(bmc: &'a mut Connection, count: Option<u16>) -> Self {
        let list = SelList { count, ..SelList::default() };
        Self { bmc, reservation: 0, asked: Asked::default(), silent: Vec::new(), list }
    }

    /// Asks for a record, under a reservation where the BMC wants one, as often as somebody cancels it. One that is not
    /// answered is not shown, as long as the BMC answers something else.
    fn get(&mut self, id: u16) -> Got {
        if self.silent.contains(&id) {
            return Got::Nothing(BmcError::Silent(GetSelEntry::NAME));
        }
        let mut cancelled = 0;
        loop {
            let error = match self.bmc.send(&GetSelEntry { reservation: self.reservation, id }) {
                Ok((next, record)) => return Got::Record(next, record),
                Err(error) => error,
            };
            match error.code() {
                Some(CompletionCode::RESERVATION_CANCELED) if cancelled < RESERVATIONS => {
                    cancelled += 1;
                    if cancelled > 2 {
                        self.bmc.pause(RESERVATION_PAUSE);
                    }
                    match self.bmc.send(&ReserveSel) {
                        Ok(reservation) => self.reservation = reservation,
                        Err(error @ (BmcError::Refused(..) | BmcError::Garbled(_))) => {
                            return Got::Nothing(error);
                        }
                        Err(error) => return Got::Silence(error),
                    }
                }
                None if !matches!(error, BmcError::Garbled(_)) => {
                    if !self.bmc.is_alive() {
                        return Got::Silence(error);
                    }
                    self.silent.push(id);
                    return Got::Nothing(error);
                }
                _ => return Got::Nothing(error),
            }
        }
    }

    /// The same. What is refused for no reason of the record's may be there when it is asked for again.
    fn get_twice(&mut self, id: u16) -> Got {
        match self.get(id) {
            Got::Nothing(BmcError::Refused(_, code)) if code != CompletionCode::NOT_PRESENT => self.get(id),
            Got::Nothing(BmcError::Garbled(_)) => self.get(id),
            got => got,
        }
    }

    fn push(&mut self, id: u16, record: [u8; 16]) {
        self.list.entries.push(Entry { id, record });
        self.told(self.list.entries.len());
    }

    fn told(&mut self, read: usize) {
        if let Some(progress) = &mut self.bmc.progress {
            progress(read, self.list.count);
        }
    }

    /// From the log's end back, while the id before the last one is that of the record before.
    fn backward(mut self, enough: &mut Enough<'_>) -> Result<SelList, BmcError> {
        let mut newest: Vec<Entry> = Vec::new();
        let mut id = LAST_RECORD;
        loop {
            match self.get(id) {
                Got::Record(next, record) => {
                    let own = own_id(&record);
                    let is_in_order = match newest.last() {
                        None => next == LAST_RECORD && names_one(own),
                        Some(after) => next == after.id && own == id,
                    };
                    if !is_in_order {
                        break;
                    }
                    newest.push(Entry { id: own, record });
                    self.told(newest.len());
                    id = own - 1;
                }
                Got::Nothing(_) => break,
                Got::Silence(error) if newest.is_empty() => return Err(error),
                Got::Silence(error) => {
                    self.list.ended_by = Some(error);
                    break;
                }
            }
            // The only record may be any: one before it has shown that its id counts.
            self.list.from_end = newest.len() > 1 && enough(&newest);
            if self.list.from_end || id == FIRST_RECORD {
                break;
            }
        }
        if self.list.ended_by.is_some() || self.list.from_end {
            newest.reverse();
            self.list.entries = newest;
            return Ok(self.list);
        }
        if newest.len() < 2 {
            newest.clear();
        }
        self.forward(newest)
    }

    /// From the log's beginning on, each record by the id that the one before gives; up to those that are known of its end, the
    /// newest first, whose ids are in order.
    fn forward(mut self, mut known: Vec<Entry>) -> Result<SelList, BmcError> {
        let mut restarts = 0;
        'again: loop {
            (self.list.entries, self.list.unreadable) = (Vec::new(), 0);
            self.asked = Asked::default();
            let mut id = FIRST_RECORD;
            let (mut before, mut guesses, mut is_distinct, mut refused) = (None, 0, true, None);
            // Where the first record points to, and what was asked for where one points back.
            let (mut second, mut guessed) = (None, None);
            // A list of ids that comes back to itself ends there.
            let came_to_end = loop {
                if id == LAST_RECORD {
                    break true;
                }
                let ids = known.last().zip(known.first()).map(|(oldest, newest)| oldest.id..=newest.id);
                if ids.is_some_and(|ids| ids.contains(&id)) {
                    self.list.entries.extend(known.drain(..).rev());
                    break true;
                }
                if !self.asked.insert(id) {
                    // It points back. Most BMCs count: the next one may be there all the same.
                    let next = before.and_then(|before: u16| before.checked_add(1));
                    (is_distinct, guesses) = (false, GUESSES + 1);
                    match next.filter(|next| names_one(*next) && guessed != Some(*next)) {
                        Some(next) => (guessed, id) = (Some(next), next),
                        None => break false,
                    }
                    continue;
                }
                match self.get_twice(id) {
                    Got::Record(next, record) => {
                        let own = own_id(&record);
                        if id == FIRST_RECORD && known.contains(&Entry { id: own, record }) {
                            id = own;
                            continue;
                        }
                        // The first record is asked for by 0, and may be pointed to by its own id, whatever is in the record.
                        let (first, last) = (self.list.entries.first(), self.list.entries.last());
                        let is_first = first.is_some_and(|first| first.record == record)
                            && (own == id || second == Some(next));
                        // Some BMCs have a record for each id.
                        let is_known =
                            [first, last].into_iter().flatten().any(|known| known.record == record);
                        if guesses > 0 && is_known && !(is_first && self.list.entries.len() == 1) {
                            break false;
                        }
                        second = second.or(Some(next));
                        if is_first {
                            before = before.max(Some(id));
                        } else {
                            self.push(if id == FIRST_RECORD { own } else { id }, record);
                            before = Some(id);
                        }
                        guesses = 0;
                        id = next;
                    }
                    Got::Nothing(error)
                        if id == FIRST_RECORD && error.code() == Some(CompletionCode::NOT_PRESENT) =>
                    {
                        let is_empty = self.list.count.is_none_or(|count| count == 0);
                        if is_empty && !matches!(self.get(LAST_RECORD), Got::Record(..)) {
                            break true;
                        }
                        // There is no record 0, or the first one is refused: the next is behind it.
                        (id, guesses, is_distinct) = (1, 1, false);
                        refused = Some(error);
                    }
                    Got::Nothing(error) => {
                        is_distinct = false;
                        let is_gone = error.code() == Some(CompletionCode::NOT_PRESENT);
                        if guesses == 0 && is_gone && restarts < RESTARTS && self.has_changed() {
                            restarts += 1;
                            known.clear();
                            continue 'again;
                        }
                        // A BMC that has no record 0 may have the first one by its id.
                        let counts = id != FIRST_RECORD || self.list.count.is_none();
                        self.list.unreadable += usize::from(match guesses {
                            0 => counts,
                            guesses => !is_gone && guesses <= GUESSES,
                        });
                        guesses += 1;
                        // What follows it is not known. Most BMCs count in steps.
                        let known = before.filter(|before| names_one(*before));
                        let step = known.map_or(1, |before| id.saturating_sub(before).max(1));
                        match id.checked_add(step).filter(|_| guesses <= GUESSES) {
                            Some(next) if names_one(next) => (before, id) = (Some(id), next),
                            _ => break false,
                        }
                        refused = Some(error);
                    }
                    Got::Silence(error) if self.list.entries.is_empty() && known.is_empty() => {
                        return Err(error);
                    }
                    Got::Silence(error) => {
                        self.list.ended_by = Some(error);
                        break false;
                    }
                }
            };
            self.list.is_distinct = is_distinct && came_to_end;
            let has_end = self.take_from_end(known);
            self.list.is_open = !came_to_end && !has_end;
            self.list.is_silent = !self.silent.is_empty();
            return match refused {
                // It shows nothing at all.
                Some(error) if self.list.entries.is_empty() => Err(error),
                _ => Ok(self.list),
            };
        }
    }

    /// Is the first record another one than before? Then the log was cleared, or has dropped its oldest records.
    fn has_changed(&mut self) -> bool {
        let first = self.list.entries.first().map(|first| first.record);
        match self.get(FIRST_RECORD) {
            Got::Record(_, record) => first != Some(record),
            _ => true,
        }
    }

    /// Takes what is behind the place where the list has ended: from the log's end back, by the ids below the last one's.
    /// What is `known` of the end, the newest first, is not asked for again. False where the BMC does not show the last record.
    fn take_from_end(&mut self, mut known: Vec<Entry>) -> bool {
        let mut records = BTreeSet::new();
        records.extend(self.list.entries.iter().map(|entry| entry.record));
        known.retain(|entry| records.insert(entry.record));
        let mut found = known;
        let mut id = found.last().map_or(FIRST_RECORD, |oldest| oldest.id);
        if found.is_empty() && self.list.ended_by.is_none() {
            match self.get(LAST_RECORD) {
                Got::Record(_, record) if records.insert(record) => {
                    let own = own_id(&record);
                    found.push(Entry { id: own, record });
                    // Where the id in it is one less than that by which it is asked for, another one is there.
                    id = if names_one(own) { (own + 1).min(LAST_RECORD - 1) } else { FIRST_RECORD };
                }
                Got::Record(..) => return true,
                _ => return false,
            }
        }
        self.list.is_distinct &= found.is_empty();
        let mut guesses = 0;
        while names_one(id) && guesses < GUESSES && self.list.ended_by.is_none() {
            id -= 1;
            if !names_one(id) || !self.asked.insert(id) {
                break;
            }
            match self.get(id) {
                Got::Record(_, record) if records.insert(record) => {
                    found.push(Entry { id, record });
                    self.told(self.list.entries.len() + found.len());
                    guesses = 0;
                }
                Got::Record(..) | Got::Nothing(_) => guesses += 1,
                Got::Silence(error) => self.list.ended_by = Some(error),
            }
        }
        let has_end = !found.is_empty();
        self.list.entries.extend(found.into_iter().rev());
        has_end
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
    use std::time::Duration;

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
            "the BMC refused Add SEL Entry: completion code 0xd4, Insufficient privilege level"
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
        assert_eq!(bmc(|request| from(&[], request)).sel_list().unwrap().entries, []);
        assert_eq!(
            ids(&bmc(|request| from(&[9, 2, 0xfffe], request)).sel_list().unwrap().entries),
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
        assert_eq!(ids(&bmc.sel_list().unwrap().entries), [3, 4]);
    }

    #[test]
    fn a_list_that_ends_early_is_taken_up_from_the_logs_end_or_said_to_be_open() {
        for (last, open) in [(true, false), (false, true)] {
            let mut bmc = bmc(move |request| match request.cmd {
                GetSelEntry::CMD if request.data[2..4] == [0xff, 0xff] && last => {
                    [&[0, 0xff, 0xff], &record(6)[..]].concat()
                }
                GetSelEntry::CMD if request.data[2..4] == [3, 0] => {
                    let next = if last { [0xff, 0xff] } else { [9, 0] };
                    [&[0], &next[..], &record(3)].concat()
                }
                GetSelEntry::CMD if !last && request.data[2] > 3 => vec![0xff],
                GetSelEntry::CMD => from(&[1, 2, 3, 4, 5, 6], request),
                // Nor does it say how many there are.
                _ => vec![0xc1],
            });
            let list = bmc.read_sel(None).unwrap();
            let all: &[u16] = if last { &[1, 2, 3, 4, 5, 6] } else { &[1, 2, 3] };
            assert_eq!((ids(&list.entries).as_slice(), list.is_open), (all, open));
        }
    }

    #[test]
    fn a_bmc_that_wants_a_reservation_gets_one() {
        let mut bmc = bmc(|request| match request.cmd {
            ReserveSel::CMD => vec![0, 0x34, 0x12],
            _ if request.data[..2] == [0x34, 0x12] => from(&[1, 2], request),
            _ => vec![CompletionCode::RESERVATION_CANCELED.0],
        });
        assert_eq!(ids(&bmc.sel_list().unwrap().entries), [1, 2]);
    }

    #[test]
    fn a_list_of_records_that_runs_in_a_circle_ends() {
        let circle = |request: Request<'_>| match request.data[2] {
            0 | 1 => [&[0, 2, 0], &record(1)[..]].concat(),
            _ => [&[0, 1, 0], &record(2)[..]].concat(),
        };
        assert_eq!(ids(&bmc(circle).sel_list().unwrap().entries), [1, 2]);
        let gone = bmc(
            |request| if request.data[2] == 0 { [&[0, 2, 0], &record(1)[..]].concat() } else { vec![0xcb] },
        )
        .sel_list()
        .unwrap();
        assert_eq!((ids(&gone.entries), gone.unreadable, gone.is_distinct), (vec![1], 1, false));
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
            let _ = bmc.sel_list();
        }
    }
}
