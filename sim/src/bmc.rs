//! A BMC at register level: the KCS state machine of IPMI 2.0 section 9, and the commands that a report uses.
//!
//! It keeps what it is told as a BMC does, and every request as it came over the wire. It can be slow, silent, busy,
//! refuse, answer nonsense, fall into ERROR_STATE, or be found in the middle of somebody else's transfer.

use std::collections::VecDeque;
use std::ops::Range;

pub(crate) const OBF: u8 = 0x01;
pub(crate) const IBF: u8 = 0x02;
pub(crate) const IDLE: u8 = 0x00;
pub(crate) const READ: u8 = 0x40;
pub(crate) const WRITE: u8 = 0x80;
pub(crate) const ERROR: u8 = 0xc0;

/// Carries a request out: the answer from NetFn on, where there is one, and the microseconds until it is there.
pub(crate) type Ask<'a> = &'a mut dyn FnMut(&[u8]) -> (Option<Vec<u8>>, u64);

/// What it does with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Carries it out.
    Obey,
    /// Refuses with a completion code.
    Code(u8),
    /// Never answers; an abort ends it.
    Nothing,
    /// Answers with these bytes, NetFn and all.
    Bytes(Vec<u8>),
    /// Goes into ERROR_STATE.
    Error,
}

/// The watchdog timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogState {
    /// Set Watchdog Timer's six data bytes.
    pub set: [u8; 6],
    /// Is it counting down?
    pub running: bool,
}

/// The BMC.
pub struct KcsBmc {
    /// Nobody there: both ports read 0xff.
    pub absent: bool,
    /// It resets itself: between these microseconds nobody is there, and afterwards it is idle.
    pub away_us: Range<u64>,
    /// The status register reads this, whatever happens.
    pub stuck_status: Option<u8>,
    /// Leaves out the dummy byte at the end of an answer.
    pub no_dummy: bool,
    /// An abort ends in IDLE_STATE at once, without the error status.
    pub short_abort: bool,
    /// Microseconds from a request to its answer.
    pub answer_us: u64,
    /// What it does with the next requests; behind their end, [`KcsBmc::then`].
    pub answers: VecDeque<Answer>,
    /// What it does with every request after those.
    pub then: Answer,
    /// Every request, as it came over the wire.
    pub requests: Vec<Vec<u8>>,
    /// The System Event Log.
    pub sel: Vec<[u8; 16]>,
    /// Space in it as Get SEL Info tells it, in bytes, before the first record; 0xffff for so many or more.
    pub sel_free: u16,
    /// Record types that Add SEL Entry refuses, with this completion code.
    pub refused: Vec<(u8, u8)>,
    /// Platform events, without the two bytes of the head.
    pub events: Vec<Vec<u8>>,
    /// The watchdog, once it was set.
    pub watchdog: Option<WatchdogState>,
    /// Hard resets by Chassis Control.
    pub resets: u32,
    /// So often one of its registers was read.
    pub looks: u64,
    state: u8,
    out: Option<u8>,
    write_end: bool,
    aborting: bool,
    request: Vec<u8>,
    reply: VecDeque<u8>,
    pending: Option<(u64, Vec<u8>)>,
}

impl Default for KcsBmc {
    fn default() -> Self {
        Self {
            absent: false,
            away_us: 0..0,
            stuck_status: None,
            no_dummy: false,
            short_abort: false,
            answer_us: 300,
            answers: VecDeque::new(),
            then: Answer::Obey,
            requests: Vec::new(),
            sel: Vec::new(),
            sel_free: 0xffff,
            refused: Vec::new(),
            events: Vec::new(),
            watchdog: None,
            resets: 0,
            looks: 0,
            state: IDLE,
            out: None,
            write_end: false,
            aborting: false,
            request: Vec::new(),
            reply: VecDeque::new(),
            pending: None,
        }
    }
}

impl KcsBmc {
    /// Is it still at work on the last request?
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        self.pending.is_some()
    }

    /// Leaves it as a kernel that died in the middle of reading an answer would.
    pub fn leave_reading(&mut self, rest: &[u8]) {
        self.state = READ;
        self.reply = rest.iter().copied().collect();
        self.out = self.reply.pop_front();
    }

    /// Leaves it as a kernel that died in the middle of writing a request would.
    pub fn leave_writing(&mut self, begun: &[u8]) {
        self.state = WRITE;
        self.request = begun.to_vec();
    }

    /// Leaves it as a kernel that died waiting for an answer would: it comes after `us` microseconds.
    pub fn leave_answering(&mut self, us: u64, reply: &[u8]) {
        self.state = WRITE;
        self.pending = Some((us, reply.to_vec()));
    }

    pub(crate) fn read(&mut self, port: u16, time_us: u64) -> u8 {
        self.looks += 1;
        if self.absent || self.is_away(time_us) {
            return 0xff;
        }
        self.answer_when_due(time_us);
        if port == 0xca2 {
            return self.out.take().unwrap_or(0);
        }
        self.stuck_status.unwrap_or(self.state | if self.out.is_some() { OBF } else { 0 })
    }

    fn is_away(&mut self, time_us: u64) -> bool {
        let away = self.away_us.contains(&time_us);
        if away {
            self.state = IDLE;
            self.out = None;
            self.pending = None;
            self.reply.clear();
        }
        away
    }

    fn answer_when_due(&mut self, time_us: u64) {
        if self.pending.as_ref().is_some_and(|(at, _)| *at <= time_us) {
            let (_, reply) = self.pending.take().expect("just seen");
            self.reply = reply.into();
            self.state = READ;
            self.out = self.reply.pop_front();
        }
    }

    pub(crate) fn write(&mut self, port: u16, value: u8, time_us: u64) {
        if self.absent || self.is_away(time_us) || self.stuck_status.is_some_and(|status| status & IBF != 0) {
            return;
        }
        self.answer_when_due(time_us);
        if port == 0xca3 { self.control_code(value) } else { self.data(value, time_us) }
    }

    fn control_code(&mut self, code: u8) {
        match code {
            0x60 => {
                self.pending = None;
                self.reply.clear();
                self.state = WRITE;
                self.aborting = true;
                self.out = Some(0);
            }
            0x61 => {
                self.request.clear();
                self.reply.clear();
                self.write_end = false;
                self.state = WRITE;
                self.out = Some(0);
            }
            0x62 if self.state == WRITE => {
                self.write_end = true;
                self.out = Some(0);
            }
            _ => self.state = ERROR,
        }
    }

    fn data(&mut self, byte: u8, time_us: u64) {
        match self.state {
            WRITE if self.aborting => {
                // The error status of figure 9-8: 0, no error.
                self.aborting = false;
                self.state = if self.short_abort { IDLE } else { READ };
                self.reply.clear();
                self.out = (!self.short_abort).then_some(0);
            }
            WRITE => {
                self.request.push(byte);
                if self.write_end {
                    self.write_end = false;
                    self.carry_out(time_us);
                } else {
                    self.out = Some(0);
                }
            }
            READ if byte == 0x68 => {
                self.out = self.reply.pop_front();
                if self.out.is_none() {
                    self.state = IDLE;
                    self.out = (!self.no_dummy).then_some(0);
                }
            }
            _ => self.state = ERROR,
        }
    }

    fn carry_out(&mut self, time_us: u64) {
        let request = std::mem::take(&mut self.request);
        match self.answers.pop_front().unwrap_or(self.then.clone()) {
            Answer::Nothing => self.requests.push(request),
            Answer::Error => {
                self.requests.push(request);
                self.state = ERROR;
            }
            answer => self.pending = Some((time_us + self.answer_us, self.reply_to(&request, answer))),
        }
    }

    /// A request by another interface than KCS; returns the answer from NetFn on, where there is one.
    pub(crate) fn request(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        match self.answers.pop_front().unwrap_or(self.then.clone()) {
            Answer::Nothing | Answer::Error => {
                self.requests.push(request.to_vec());
                None
            }
            answer => Some(self.reply_to(request, answer)),
        }
    }

    /// Takes a request down; returns the answer from NetFn on.
    pub(crate) fn reply_to(&mut self, request: &[u8], answer: Answer) -> Vec<u8> {
        self.requests.push(request.to_vec());
        let head = [request[0] | 4, request.get(1).copied().unwrap_or(0)];
        match answer {
            Answer::Code(code) => [&head[..], &[code]].concat(),
            Answer::Bytes(bytes) => bytes,
            _ => [&head[..], &self.obey(request)].concat(),
        }
    }

    /// Carries a request out; returns completion code and data.
    fn obey(&mut self, request: &[u8]) -> Vec<u8> {
        match (request[0] >> 2, request[1], &request[2..]) {
            // Switched off, or off and on: a test looks at the requests.
            (0x00, 0x02, [0 | 2]) => vec![0],
            (0x00, 0x02, [3]) => {
                self.resets += 1;
                vec![0]
            }
            (0x04, 0x02, data) if data.len() == 8 => {
                self.events.push(data.to_vec());
                vec![0]
            }
            (0x06, 0x22, []) => match &mut self.watchdog {
                Some(watchdog) => {
                    watchdog.running = true;
                    vec![0]
                }
                None => vec![0x80],
            },
            (0x06, 0x24, data) => match data.try_into() {
                Ok(set) => {
                    self.watchdog = Some(WatchdogState { set, running: false });
                    vec![0]
                }
                Err(_) => vec![0xc7],
            },
            (0x0a, 0x40, []) => {
                let [entries, _] = (self.sel.len() as u16).to_le_bytes();
                let used = 16 * self.sel.len() as u16;
                let free = if self.sel_free == 0xffff { 0xffff } else { self.sel_free.saturating_sub(used) };
                let [low, high] = free.to_le_bytes();
                [&[0, 0x51, entries, 0, low, high][..], &[0; 8], &[0x02]].concat()
            }
            (0x0a, 0x44, data) if self.refused.iter().any(|(kind, _)| data.get(2) == Some(kind)) => self
                .refused
                .iter()
                .find(|(kind, _)| data.get(2) == Some(kind))
                .map_or(vec![], |(_, code)| vec![*code]),
            (0x0a, 0x44, data) => match data.try_into() {
                Ok(record) => {
                    self.sel.push(record);
                    let [lsb, msb] = (self.sel.len() as u16).to_le_bytes();
                    vec![0, lsb, msb]
                }
                Err(_) => vec![0xc7],
            },
            _ => vec![0xc1],
        }
    }
}
