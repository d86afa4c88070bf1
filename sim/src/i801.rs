//! An Intel i801 SMBus controller with a BMC and a memory's EEPROM on its bus: ICH9 datasheet chapter 21, IPMI 2.0 section 12. What
//! the host may not do is written down.
//!
//! The BMC's commands are carried out by the BMC behind it, after that one's `answer_us`; until then it acknowledges no read.

use crate::bmc::Ask;
use std::collections::{BTreeSet, VecDeque};

const HOST_BUSY: u8 = 0x01;
const INTR: u8 = 0x02;
const DEV_ERR: u8 = 0x04;
const BUS_ERR: u8 = 0x08;
const FAILED: u8 = 0x10;
const INUSE: u8 = 0x40;
const BYTE_DONE: u8 = 0x80;
const KILL: u8 = 0x02;
const START: u8 = 0x40;
const E32B: u8 = 0x02;

/// Microseconds from START until HOST_BUSY, and between the flags and the end of HOST_BUSY.
const BUSY_AFTER_US: u64 = 3;
const FLAGS_BEFORE_US: u64 = 20;

/// The BMC's slave address.
pub const BMC: u8 = 0x42;

/// The bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Works.
    Free,
    /// Held low: a transaction ends when it is killed.
    Low,
    /// Another master always is faster.
    Taken,
    /// Nobody acknowledges.
    Empty,
}

/// The controller and what is behind it.
pub struct I801 {
    /// Nobody there: no decoding.
    pub absent: bool,
    /// HST_STS reads this, whatever happens.
    pub stuck: Option<u8>,
    /// It has no semaphore.
    pub no_semaphore: bool,
    /// Firmware has the semaphore, from this microsecond up to that.
    pub firmware_us: std::ops::Range<u64>,
    /// The bus.
    pub bus: Bus,
    /// Each byte takes so many microseconds.
    pub byte_us: u64,
    /// The BMC acknowledges no request until this microsecond.
    pub deaf_until_us: u64,
    /// The BMC acknowledges a read always, and has its last answer until it has the next.
    pub remains: bool,
    /// The BMC takes a request while it works at another, and has an answer for each, in their order.
    pub queues: bool,
    /// The length of answers is this.
    pub wrong_len: Option<u8>,
    /// What the host did that it may not.
    pub violations: Vec<String>,
    /// Transactions: XMIT_SLVA and HST_CMD.
    pub transactions: BTreeSet<(u8, u8)>,
    /// So many of them.
    pub count: u64,
    /// So many were killed.
    pub kills: u32,
    /// AUX_CTL.
    pub aux: u8,
    /// HST_CNT, as it was written last.
    pub control: u8,
    in_use: bool,
    status: u8,
    command: u8,
    address: u8,
    len: u8,
    buffer: [u8; 32],
    at: usize,
    /// When the last transaction of ours began.
    began_us: u64,
    /// When the transaction under way ends, and the status then.
    ends: Option<(u64, u8)>,
    /// The BMC's answers, and from when on each is there: one, unless it `queues` them.
    answers: VecDeque<(u64, Vec<u8>)>,
    /// The one before.
    last: Option<Vec<u8>>,
}

impl Default for I801 {
    fn default() -> Self {
        Self {
            absent: false,
            stuck: None,
            no_semaphore: false,
            firmware_us: 0..0,
            bus: Bus::Free,
            byte_us: 90,
            deaf_until_us: 0,
            remains: false,
            queues: false,
            wrong_len: None,
            violations: Vec::new(),
            transactions: BTreeSet::new(),
            count: 0,
            kills: 0,
            aux: 0,
            control: 0,
            in_use: false,
            status: 0,
            command: 0,
            address: 0,
            len: 0,
            buffer: [0; 32],
            at: 0,
            began_us: 0,
            ends: None,
            answers: VecDeque::new(),
            last: None,
        }
    }
}

impl I801 {
    /// Leaves it as a kernel that died in the middle of a transaction would: with this in HST_CNT, to this address and direction,
    /// which ends after `us` microseconds, or never. `in_use`: the kernel's first look has taken the semaphore.
    pub fn leave_busy(&mut self, in_use: bool, control: u8, address: u8, us: Option<u64>) {
        self.in_use = in_use;
        self.control = control;
        self.address = address;
        self.status = HOST_BUSY;
        self.ends = Some((us.unwrap_or(u64::MAX), INTR));
        self.aux = E32B;
    }

    /// Leaves it as a kernel does that never gives the semaphore back: with what it did last.
    pub fn leave_in_use(&mut self, control: u8, address: u8) {
        self.in_use = true;
        (self.control, self.address, self.status) = (control, address, INTR);
    }

    /// Leaves the BMC with an answer that nobody has read.
    pub fn leave_answer(&mut self, answer: &[u8]) {
        self.answers = [(0, answer.to_vec())].into();
    }

    /// Has somebody the semaphore?
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// Whoever had it gives it back.
    pub fn release(&mut self) {
        self.in_use = false;
    }

    /// Does it show why a transaction has ended?
    #[must_use]
    pub fn has_flags(&self) -> bool {
        self.status & !HOST_BUSY != 0
    }

    /// Is a transaction under way?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.status & HOST_BUSY != 0
    }

    fn violation(&mut self, what: &str) {
        self.violations.push(what.to_owned());
    }

    fn go_on(&mut self, us: u64) {
        // Why it ends shows a little before it has ended.
        if let Some((at, status)) = self.ends
            && at <= us.saturating_add(FLAGS_BEFORE_US)
        {
            self.status |= status;
        }
        if let Some((_, status)) = self.ends.take_if(|(at, _)| *at <= us) {
            self.status = self.status & !HOST_BUSY | status;
        }
    }

    pub(crate) fn read(&mut self, register: u16, us: u64) -> u8 {
        if self.absent {
            return 0xff;
        }
        self.go_on(us);
        match register {
            0x0 => {
                let in_use = self.in_use || self.firmware_us.contains(&us);
                if !in_use {
                    self.in_use = !self.no_semaphore;
                }
                let hidden = if us < self.began_us + BUSY_AFTER_US { HOST_BUSY } else { 0 };
                let in_use = if in_use && !self.no_semaphore { INUSE } else { 0 };
                self.stuck.unwrap_or(self.status & !hidden | in_use)
            }
            0x2 => {
                self.at = 0;
                self.control & !START
            }
            0x3 => self.command,
            0x4 => self.address,
            0x5 => self.len,
            0x7 => {
                self.at += 1;
                self.buffer[(self.at - 1) % 32]
            }
            0xd => self.aux,
            _ => {
                self.violation(&format!("register {register:#x} read"));
                0
            }
        }
    }

    pub(crate) fn write(&mut self, register: u16, value: u8, us: u64, ask: Ask) {
        if self.absent {
            return;
        }
        self.go_on(us);
        if self.firmware_us.contains(&us) && !self.in_use {
            self.violation(&format!("register {register:#x} written while firmware has the controller"));
        }
        if self.status & HOST_BUSY != 0 && !(register == 0x2 && value & START == 0 || register == 0x0) {
            self.violation(&format!("register {register:#x} written in a transaction"));
        }
        match register {
            0x0 => {
                self.status &= !(value & (BYTE_DONE | FAILED | BUS_ERR | DEV_ERR | INTR));
                if value & INUSE != 0 {
                    self.in_use = false;
                }
            }
            0x2 => self.write_control(value, us, ask),
            0x3 => self.command = value,
            0x4 => self.address = value,
            0x5 => self.len = value,
            0x7 => {
                self.buffer[self.at % 32] = value;
                self.at += 1;
            }
            0xd => self.aux = value,
            _ => self.violation(&format!("register {register:#x} written")),
        }
    }

    fn write_control(&mut self, value: u8, us: u64, ask: Ask) {
        self.control = value;
        if value & KILL != 0 {
            self.kills += 1;
            if self.status & HOST_BUSY != 0 {
                self.ends = None;
                self.status = self.status & !HOST_BUSY | FAILED;
            }
        }
        if value & START == 0 {
            return;
        }
        if value & KILL != 0 || value & 0x9d != 5 << 2 || self.aux & 0x03 != E32B {
            self.violation(&format!("HST_CNT {value:#x} written, AUX_CTL {:#x}", self.aux));
        }
        if self.status & (BYTE_DONE | FAILED | BUS_ERR | DEV_ERR | INTR) != 0 {
            self.violation(&format!("begun with HST_STS {:#x}", self.status));
        }
        self.transactions.insert((self.address, self.command));
        self.count += 1;
        let bytes = 3 + if self.address & 1 == 0 { u64::from(self.len) } else { 10 };
        let (takes, status) = match self.bus {
            Bus::Free => (bytes * self.byte_us, self.carry_out(us, ask)),
            Bus::Low => (u64::MAX - us, FAILED),
            Bus::Taken => (self.byte_us, BUS_ERR),
            Bus::Empty => (self.byte_us, DEV_ERR),
        };
        self.status |= HOST_BUSY;
        self.began_us = us;
        self.ends = Some((us.saturating_add(takes), status));
    }

    /// A transaction, done at its beginning; the status that it ends with.
    fn carry_out(&mut self, us: u64, ask: Ask) -> u8 {
        let (slave, reads) = (self.address >> 1, self.address & 1 != 0);
        match (reads, self.command) {
            _ if slave != BMC => {
                self.violation(&format!("slave {slave:#x} spoken to"));
                DEV_ERR
            }
            (false, 2) if us < self.deaf_until_us => DEV_ERR,
            (false, 2) if (1..=32).contains(&self.len) => {
                let (answer, later) = ask(&self.buffer[..usize::from(self.len)]);
                let before = self.answers.back().map_or(us, |(at, _)| us.max(*at));
                if !self.queues {
                    self.last = self.answers.drain(..).next().map(|(_, answer)| answer);
                }
                let begun = if self.queues { before } else { us };
                self.answers.extend(answer.map(|answer| (begun + later, answer)));
                INTR
            }
            (true, 3) => {
                let ready =
                    self.answers.front().filter(|(at, _)| *at <= us).map(|(_, answer)| answer.clone());
                if ready.is_some() && self.queues {
                    self.answers.pop_front();
                }
                let Some(answer) = ready.or(self.last.clone().filter(|_| self.remains)) else {
                    return DEV_ERR;
                };
                let len = answer.len().min(32);
                self.buffer[..len].copy_from_slice(&answer[..len]);
                self.at = len;
                self.len = self.wrong_len.unwrap_or(len as u8);
                INTR
            }
            (_, command) => {
                self.violation(&format!("command {command:#x}, {} bytes", self.len));
                DEV_ERR
            }
        }
    }
}
