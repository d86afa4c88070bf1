//! The few IPMI commands that last words need, and when to give a BMC up.

use crate::budget::{Millis, Timer};
use crate::hw::{Clock, Ports};
use crate::kcs::{self, Kcs};
use crate::plan::{Action, KcsPorts};
use crate::sel;

/// Network function codes (IPMI 2.0 table 5-1), requests.
mod net_fn {
    pub const CHASSIS: u8 = 0x00;
    pub const SENSOR_EVENT: u8 = 0x04;
    pub const APP: u8 = 0x06;
    pub const STORAGE: u8 = 0x0a;
}

/// Commands (IPMI 2.0 appendix G).
mod cmd {
    pub const CHASSIS_CONTROL: u8 = 0x02;
    pub const PLATFORM_EVENT_MESSAGE: u8 = 0x02;
    pub const RESET_WATCHDOG_TIMER: u8 = 0x22;
    pub const SET_WATCHDOG_TIMER: u8 = 0x24;
    pub const GET_SEL_INFO: u8 = 0x40;
    pub const ADD_SEL_ENTRY: u8 = 0x44;
}

/// Completion code: node busy, ask again.
const NODE_BUSY: u8 = 0xc0;
/// Completion code: the BMC initializes itself.
const INITIALIZING: u8 = 0xd2;
/// Completion code: what is behind the interface did not answer it in time, which is no better than no answer.
const TIMED_OUT: u8 = 0xc3;

/// Longest request: NetFn/LUN, command, one SEL record.
const REQUEST_LEN: usize = 2 + 16;
/// Longest answer that is taken. None of ours is longer than 17 bytes; more is some other command's.
const REPLY_LEN: usize = 40;
/// So many bytes of an answer are handed on.
const ANSWER_LEN: usize = 8;

/// How often a command is sent again after an answer that was out of step.
const RETRIES: u8 = 3;
/// How often a busy BMC is asked again, and how long it is left alone between.
const BUSY_RETRIES: u8 = 10;
const BUSY_PAUSE: Millis = 100;
/// So many timeouts in a row and the BMC counts as dead.
const TIMEOUTS: u8 = 2;

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Nobody answers at the ports.
    Absent,
    /// It did not answer in time twice in a row, now or before: it is left alone.
    Silent,
    /// It answers, but not as the protocol has it.
    Garbled,
    /// It refused with this completion code (IPMI 2.0 table 5-2).
    Refused(u8),
    /// The budget is spent.
    NoTime,
}

/// A BMC behind a KCS interface.
pub struct Bmc {
    kcs: Kcs,
    timeout: Millis,
    timeouts: u8,
    absent: bool,
}

impl Bmc {
    /// The BMC at these ports, which may take `timeout` for an answer. Touches nothing.
    #[must_use]
    pub fn new(ports: KcsPorts, timeout: Millis) -> Self {
        Self { kcs: Kcs::new(ports), timeout, timeouts: 0, absent: false }
    }

    /// Has it been given up, because it did not answer twice in a row?
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.timeouts >= TIMEOUTS
    }

    /// Forgets that nobody answered at the ports: a BMC that resets itself is away for a while, and to look costs nothing.
    pub fn look_again(&mut self) {
        self.absent = false;
    }

    /// Sends a command until it is answered or given up. Returns the answer's first bytes behind the completion code.
    fn command<M: Ports + Clock>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        net_fn: u8,
        cmd: u8,
        data: &[u8],
    ) -> Result<[u8; ANSWER_LEN], Error> {
        let mut request = [0; REQUEST_LEN];
        let head = [net_fn << 2, cmd];
        for (slot, byte) in request.iter_mut().zip(head.iter().chain(data)) {
            *slot = *byte;
        }
        let request = request.get(..head.len() + data.len()).ok_or(Error::Garbled)?;
        let (mut garbled, mut busy) = (0, 0);
        let before = self.timeouts;
        loop {
            if self.absent {
                return Err(Error::Absent);
            }
            if self.is_given_up() {
                return Err(Error::Silent);
            }
            if timer.spent(machine) {
                return Err(Error::NoTime);
            }
            let mut reply = [0; REPLY_LEN];
            let deadline = timer.within(self.timeout);
            match self.kcs.transfer(machine, timer, request, &mut reply, deadline) {
                Ok(len) => {
                    let timeouts = core::mem::take(&mut self.timeouts);
                    // Bit 2 of the first byte marks a response; another one's answer may have been waiting.
                    match reply.get(..len) {
                        Some([to, of, code, data @ ..]) if (*to, *of) == ((net_fn | 1) << 2, cmd) => {
                            match *code {
                                0 => {
                                    let mut answer = [0; ANSWER_LEN];
                                    for (slot, byte) in answer.iter_mut().zip(data) {
                                        *slot = *byte;
                                    }
                                    return Ok(answer);
                                }
                                TIMED_OUT => self.timeouts = timeouts + 1,
                                NODE_BUSY | INITIALIZING if busy < BUSY_RETRIES => {
                                    busy += 1;
                                    pause(machine, timer, BUSY_PAUSE);
                                }
                                code => {
                                    // Busy for so long is no better than silent.
                                    if busy == BUSY_RETRIES {
                                        self.timeouts = before + 1;
                                    }
                                    return Err(Error::Refused(code));
                                }
                            }
                        }
                        _ if garbled < RETRIES => garbled += 1,
                        _ => return Err(Error::Garbled),
                    }
                }
                Err(kcs::Error::Absent) => self.absent = true,
                Err(kcs::Error::Timeout) => self.timeouts += 1,
                Err(_) if garbled < RETRIES => garbled += 1,
                Err(_) => return Err(Error::Garbled),
            }
        }
    }

    /// Platform Event Message (29.3), as the operating system's last: OS Stop/Shutdown, `data` being event data 1
    /// to 3.
    ///
    /// # Errors
    /// When the BMC does not take it.
    pub fn platform_event<M: Ports + Clock>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        sensor_number: u8,
        data: [u8; 3],
    ) -> Result<(), Error> {
        let message = sel::event_message(sensor_number, data);
        self.command(machine, timer, net_fn::SENSOR_EVENT, cmd::PLATFORM_EVENT_MESSAGE, &message).map(drop)
    }

    /// Chassis Control (28.3), hard reset.
    ///
    /// # Errors
    /// When the BMC does not take it.
    pub fn hard_reset<M: Ports + Clock>(&mut self, machine: &mut M, timer: &mut Timer) -> Result<(), Error> {
        self.command(machine, timer, net_fn::CHASSIS, cmd::CHASSIS_CONTROL, &[HARD_RESET]).map(drop)
    }

    /// Get SEL Info (31.2): the free space in bytes; 0xffff stands for that and more.
    ///
    /// # Errors
    /// When the BMC does not tell.
    pub fn sel_free_space<M: Ports + Clock>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
    ) -> Result<u16, Error> {
        let [_version, _, _, low, high, ..] =
            self.command(machine, timer, net_fn::STORAGE, cmd::GET_SEL_INFO, &[])?;
        Ok(u16::from_le_bytes([low, high]))
    }

    /// Add SEL Entry (31.6).
    ///
    /// # Errors
    /// When the BMC does not take it.
    pub fn add_sel_entry<M: Ports + Clock>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        record: &[u8; 16],
    ) -> Result<(), Error> {
        self.command(machine, timer, net_fn::STORAGE, cmd::ADD_SEL_ENTRY, record).map(drop)
    }

    /// Set Watchdog Timer (27.6) for SMS/OS use, to `seconds` and `action`. A timer that ran stands still after it.
    ///
    /// # Errors
    /// When the BMC does not take it.
    pub fn set_watchdog_timer<M: Ports + Clock>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        seconds: u16,
        action: Action,
    ) -> Result<(), Error> {
        let [lsb, msb] = seconds.saturating_mul(10).to_le_bytes();
        // No pre-timeout interrupt; clear the SMS/OS expiration flag, so that what is found there later is ours.
        let data = [USE_SMS_OS, action as u8, 0, 1 << USE_SMS_OS, lsb, msb];
        self.command(machine, timer, net_fn::APP, cmd::SET_WATCHDOG_TIMER, &data).map(drop)
    }

    /// Reset Watchdog Timer (27.5): starts it, or starts it over.
    ///
    /// # Errors
    /// When the BMC does not take it, with 0x80 when the timer was never set.
    pub fn reset_watchdog_timer<M: Ports + Clock>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
    ) -> Result<(), Error> {
        self.command(machine, timer, net_fn::APP, cmd::RESET_WATCHDOG_TIMER, &[]).map(drop)
    }
}

/// Chassis Control: hard reset.
const HARD_RESET: u8 = 3;
/// Watchdog timer use SMS/OS (table 27-3).
const USE_SMS_OS: u8 = 4;

/// Lets time pass.
fn pause<M: Ports + Clock>(machine: &mut M, timer: &mut Timer, ms: Millis) {
    let until = timer.within(ms);
    while !timer.passed(machine, until) {}
}
