//! A BMC for tests: a SEL and a watchdog in memory, and the ways in which real ones behave.

use super::{Connection, System};
use lastwords_core::{
    budget::{Millis, Timer},
    ipmi::{TransferError, Transport, message::Request},
};
use std::sync::{Arc, Mutex};

/// What it does, and what it was asked.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    /// Its SEL, record ids from 1 on.
    pub sel: Vec<[u8; 16]>,
    /// Record types that it refuses to add, and with which completion code.
    pub refuses: Vec<(u8, u8)>,
    /// Completion code for platform events.
    pub event_code: u8,
    /// Record types that it takes and forgets.
    pub forgets: Vec<u8>,
    /// Completion code for Delete SEL Entry.
    pub delete_code: u8,
    /// It needs this many more readings before it shows what was added last.
    pub slow: usize,
    /// How many more records fit, as Get SEL Info has it.
    pub free: Option<u16>,
    /// Its clock, as Get SEL Time has it.
    pub clock: Option<u32>,
    /// Get Watchdog Timer's answer.
    pub timer: [u8; 8],
    /// It does not answer so many requests.
    pub silent: usize,
    /// Commands that it carries out, and whose next answer is lost.
    pub loses: Vec<u8>,
    /// It leaves a record's id bytes as they were sent, and knows the records by numbers of its own.
    pub keeps_ids: bool,
    /// These numbers, of the records that have some.
    pub numbers: Vec<Option<u16>>,
    /// Add SEL Entry answers this id, whichever it is.
    pub answers_id: Option<u16>,
    /// A new record gets the number of the last one.
    pub same_number: bool,
    /// After a deletion it numbers its records anew.
    pub renumbers: bool,
    /// Completion code for Reserve SEL.
    pub reserve_code: u8,
    /// So many deletions are refused because the reservation is cancelled.
    pub cancels: usize,
    /// It answers a deletion with success, and does nothing.
    pub deletes_nothing: bool,
    /// What happens to its SEL before it answers such a command.
    pub meddles: Option<fn(&mut Self, u8)>,
    /// All requests but Get SEL Entry: net function, command, data.
    pub asked: Vec<(u8, u8, Vec<u8>)>,
}

impl Fake {
    /// A connection to it, and a look at it.
    pub fn start(self) -> (Connection, Arc<Mutex<Self>>) {
        let shared = Arc::new(Mutex::new(self));
        (Connection::new(Line(Arc::clone(&shared)), "the test"), shared)
    }

    /// The number under which it knows a record.
    fn number(&self, at: usize) -> u16 {
        let own = || u16::from_le_bytes([self.sel[at][0], self.sel[at][1]]);
        self.numbers.get(at).copied().flatten().unwrap_or_else(own)
    }

    /// Adds a record, and answers its number.
    pub fn add(&mut self, mut record: [u8; 16]) -> u16 {
        let last = self.sel.len().checked_sub(1).map_or(0, |last| self.number(last));
        let id = if self.same_number { last.max(1) } else { last + 1 };
        if !self.keeps_ids {
            record[..2].copy_from_slice(&id.to_le_bytes());
        }
        if record[2] < 0xe0 {
            record[3..7].copy_from_slice(&0x6a00_0000u32.to_le_bytes());
        }
        if !self.forgets.contains(&record[2]) {
            self.numbers.resize(self.sel.len(), None);
            self.numbers.push(Some(id));
            self.sel.push(record);
        }
        id
    }

    fn delete(&mut self, at: usize) {
        self.sel.remove(at);
        if at < self.numbers.len() {
            self.numbers.remove(at);
        }
        if self.renumbers {
            self.numbers.clear();
            for (record, id) in self.sel.iter_mut().zip(1u16..) {
                record[..2].copy_from_slice(&id.to_le_bytes());
            }
        }
    }

    fn position(&self, id: &[u8]) -> Option<usize> {
        match id {
            [0, 0] => (!self.sel.is_empty()).then_some(0),
            [0xff, 0xff] => self.sel.len().checked_sub(1),
            id => (0..self.sel.len()).find(|at| self.number(*at).to_le_bytes() == *id),
        }
    }

    fn answer(&mut self, request: Request<'_>) -> Vec<u8> {
        let data = request.data;
        if request.cmd != 0x43 {
            self.asked.push((request.net_fn.0, request.cmd, data.to_vec()));
        }
        if let Some(meddle) = self.meddles {
            meddle(self, request.cmd);
        }
        match (request.net_fn.0, request.cmd) {
            (0x04, 0x02) if self.event_code == 0 => {
                let mut record = [0; 16];
                record[2] = 2;
                record[7] = data[0];
                record[9..].copy_from_slice(&data[1..]);
                self.add(record);
                vec![0]
            }
            (0x04, 0x02) => vec![self.event_code],
            (0x06, 0x01) => vec![0, 0x20, 0x23, 0x09, 0x08, 0x02, 0x9f, 0x91, 0x12, 0x00, 0x02, 0x0f],
            (0x06, 0x22) if self.timer == [0; 8] => vec![0x80],
            (0x06, 0x22) => vec![0],
            (0x06, 0x24) => {
                self.timer = [data[0], data[1], 0, 0, data[4], data[5], data[4], data[5]];
                vec![0]
            }
            (0x06, 0x25) => [&[0], &self.timer[..]].concat(),
            (0x0a, 0x40) => {
                let free = self.free.map_or(u16::MAX, |records| records * 16).to_le_bytes();
                let len = (self.sel.len() as u16).to_le_bytes();
                [&[0, 0x51], &len[..], &free, &[0; 8], &[0x0a]].concat()
            }
            (0x0a, 0x48) if self.clock.is_some() => {
                [&[0], &self.clock.unwrap_or_default().to_le_bytes()[..]].concat()
            }
            (0x0a, 0x42) if self.reserve_code == 0 => vec![0, 1, 0],
            (0x0a, 0x42) => vec![self.reserve_code],
            (0x0a, 0x43) if self.slow > 0 => {
                self.slow -= 1;
                vec![0xcb]
            }
            (0x0a, 0x43) => match self.position(&data[2..4]) {
                Some(at) => {
                    let next = if at + 1 < self.sel.len() { self.number(at + 1) } else { u16::MAX };
                    [&[0], &next.to_le_bytes()[..], &self.sel[at]].concat()
                }
                None => vec![0xcb],
            },
            (0x0a, 0x44) => {
                if let Some((_, code)) = self.refuses.iter().find(|(record_type, _)| *record_type == data[2])
                {
                    return vec![*code];
                }
                let id = self.add(data.try_into().unwrap());
                [&[0], &self.answers_id.unwrap_or(id).to_le_bytes()[..]].concat()
            }
            (0x0a, 0x46) if self.cancels > 0 => {
                self.cancels -= 1;
                vec![0xc5]
            }
            (0x0a, 0x46) if self.delete_code == 0 => match self.position(&data[2..4]) {
                Some(at) => {
                    if !self.deletes_nothing {
                        self.delete(at);
                    }
                    [&[0], &data[2..4]].concat()
                }
                None => vec![0xcb],
            },
            (0x0a, 0x46) => vec![self.delete_code],
            _ => vec![0xc1],
        }
    }
}

struct Line(Arc<Mutex<Fake>>);

impl Transport<System> for Line {
    fn transfer(
        &mut self,
        _: &mut System,
        _: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        _: Millis,
    ) -> Result<usize, TransferError> {
        let request = Request::decode(request).unwrap();
        let mut fake = self.0.lock().unwrap();
        if fake.silent > 0 {
            fake.silent -= 1;
            return Err(TransferError::Timeout);
        }
        let answer = fake.answer(request);
        if let Some(at) = fake.loses.iter().position(|cmd| *cmd == request.cmd) {
            fake.loses.remove(at);
            return Err(TransferError::Timeout);
        }
        request.put_answer(&answer, reply).ok_or(TransferError::TooLong)
    }
}
