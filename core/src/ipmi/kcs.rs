//! The Keyboard Controller Style interface to the BMC: IPMI 2.0 section 9, polled.
//!
//! A transfer is driven byte by byte by the BMC's state bits; whatever does not fit is answered by the error exit of
//! figure 9-8 and reported, and the caller decides whether to try again. Every wait is the timer's and ends at a deadline, and
//! what needs no waiting ends with the request's bytes and the answer's.

use super::interface::KcsPorts;
use super::{NOBODY, TransferError, Transport, wait};
use crate::budget::{Millis, Timer};
use crate::hw::{Clock, Registers};

/// Status register (table 9-1): output buffer full, a byte waits for us.
pub const OBF: u8 = 0x01;
/// Status register: input buffer full, the BMC has not taken our last byte yet.
pub const IBF: u8 = 0x02;
/// Status register: the state, in bits 7:6 (table 9-2).
pub const STATE: u8 = 0xc0;
/// IDLE_STATE.
pub const IDLE_STATE: u8 = 0x00;
/// READ_STATE.
pub const READ_STATE: u8 = 0x40;
/// WRITE_STATE.
pub const WRITE_STATE: u8 = 0x80;
/// ERROR_STATE.
pub const ERROR_STATE: u8 = 0xc0;

/// Control codes (table 9-3): GET_STATUS / ABORT.
pub const GET_STATUS_ABORT: u8 = 0x60;
/// Control code WRITE_START.
pub const WRITE_START: u8 = 0x61;
/// Control code WRITE_END.
pub const WRITE_END: u8 = 0x62;
/// Control code READ.
pub const READ: u8 = 0x68;

/// Longest time for the error exit.
const SHORT: Millis = 500;

/// Bytes that are taken out of the output buffer, which holds one, before a BMC that always has one more counts as
/// broken.
const DRAIN: usize = 8;
/// So often one is looked for that need not come.
const DUMMY: usize = 12;

/// One KCS interface.
pub struct Kcs {
    ports: KcsPorts,
}

impl Kcs {
    /// The interface at these ports. Touches nothing.
    #[must_use]
    pub fn new(ports: KcsPorts) -> Self {
        Self { ports }
    }
}

impl<M: Registers + Clock> Transport<M> for Kcs {
    /// A transfer that fails has tried the error exit, but where it met nobody. Nor at the very end: a slow BMC may
    /// yet do what it was asked for last, which an abort would take back.
    fn transfer(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        let mut wire = Wire { ports: self.ports, machine, timer, deadline };
        if wire.status() == NOBODY {
            return Err(TransferError::Absent);
        }
        let result = wire.settle().and_then(|()| wire.write(request)).and_then(|()| wire.read(reply));
        let aborts = match result {
            Ok(_) | Err(TransferError::Absent) => false,
            Err(TransferError::Timeout) => !wire.timer.is_over(),
            Err(_) => true,
        };
        if aborts {
            wire.deadline = wire.timer.within(SHORT);
            // Whether the error exit worked shows in the next transfer, which begins by looking at the state.
            let _ = wire.error_exit();
        }
        result
    }
}

/// Has the BMC taken what was written, and is there a byte where one is to come?
fn has_gone_on(status: u8) -> bool {
    status & IBF == 0 && status & (STATE | OBF) != READ_STATE
}

/// One transfer under way.
struct Wire<'a, M> {
    ports: KcsPorts,
    machine: &'a mut M,
    timer: &'a mut Timer,
    deadline: Millis,
}

impl<M: Registers + Clock> Wire<'_, M> {
    #[inline(never)]
    fn status(&mut self) -> u8 {
        self.machine.get(self.ports.status)
    }

    fn command(&mut self, code: u8) {
        self.machine.put(self.ports.status, code);
    }

    /// Waits until the status register is as asked for; returns the whole register.
    fn wait(&mut self, good: fn(u8) -> bool) -> Result<u8, TransferError> {
        wait(self.machine, self.timer, self.ports.status, self.deadline, good)
    }

    /// Waits until the BMC has taken what was written.
    fn wait_for_ibf(&mut self) -> Result<u8, TransferError> {
        self.wait(|status| status & IBF == 0)
    }

    /// Empties the output buffer.
    fn clear_obf(&mut self) -> Result<(), TransferError> {
        for _ in 0..DRAIN {
            if self.status() & OBF == 0 {
                return Ok(());
            }
            self.machine.get(self.ports.data);
        }
        Err(TransferError::State(self.status()))
    }

    /// Takes the dummy byte behind IDLE_STATE, which from some BMCs comes a few microseconds later, and must not meet
    /// the next WRITE_START. Some leave it out: it is looked for, but nobody waits for it.
    fn dummy(&mut self) -> Result<(), TransferError> {
        (0..DUMMY).any(|_| self.status() & OBF != 0);
        self.clear_obf()
    }

    /// Waits for IBF = 0 and demands a state.
    fn taken(&mut self, state: u8) -> Result<(), TransferError> {
        let status = self.wait_for_ibf()?;
        if status & STATE == state { Ok(()) } else { Err(TransferError::State(status)) }
    }

    /// Brings the interface to IDLE_STATE: the crashed kernel may have been in the middle of a transfer, ours before
    /// may have failed.
    fn settle(&mut self) -> Result<(), TransferError> {
        if self.status() & (STATE | IBF) == IDLE_STATE {
            return Ok(());
        }
        let deadline = core::mem::replace(&mut self.deadline, self.timer.within(SHORT));
        let result = self.error_exit();
        self.deadline = deadline;
        match result {
            // An interface that says it is idle is good enough, whatever the error exit met.
            Err(error) if error == TransferError::Absent || self.status() & STATE != IDLE_STATE => Err(error),
            _ => Ok(()),
        }
    }

    /// Figure 9-6: the request.
    fn write(&mut self, request: &[u8]) -> Result<(), TransferError> {
        let Some((last, first)) = request.split_last() else { return Ok(()) };
        self.wait_for_ibf()?;
        self.clear_obf()?;
        self.command(WRITE_START);
        self.taken(WRITE_STATE)?;
        self.clear_obf()?;
        for byte in first {
            self.machine.put(self.ports.data, *byte);
            self.taken(WRITE_STATE)?;
            self.clear_obf()?;
        }
        self.command(WRITE_END);
        self.taken(WRITE_STATE)?;
        self.clear_obf()?;
        self.machine.put(self.ports.data, *last);
        Ok(())
    }

    /// Figure 9-7: the answer.
    fn read(&mut self, reply: &mut [u8]) -> Result<usize, TransferError> {
        // Behind the last byte there is room for the end alone.
        for len in 0..=reply.len() {
            // While the BMC works on the request it stays in WRITE_STATE (table 9-2 lets it change any time later). In
            // READ_STATE a byte comes, or the state goes on to IDLE.
            let status = self.wait(if len == 0 {
                |status| status & STATE != WRITE_STATE && has_gone_on(status)
            } else {
                has_gone_on
            })?;
            match status & STATE {
                READ_STATE => {
                    let byte = self.machine.get(self.ports.data);
                    *reply.get_mut(len).ok_or(TransferError::TooLong)? = byte;
                    self.machine.put(self.ports.data, READ);
                }
                IDLE_STATE => {
                    self.dummy()?;
                    return Ok(len);
                }
                _ => return Err(TransferError::State(status)),
            }
        }
        Err(TransferError::TooLong)
    }

    /// Figure 9-8: GET_STATUS / ABORT, the error status, back to IDLE_STATE.
    fn error_exit(&mut self) -> Result<(), TransferError> {
        self.wait_for_ibf()?;
        self.command(GET_STATUS_ABORT);
        self.wait_for_ibf()?;
        self.clear_obf()?;
        self.machine.put(self.ports.data, 0);
        self.taken(READ_STATE)?;
        self.wait(|status| status & OBF != 0)?;
        self.machine.get(self.ports.data);
        self.machine.put(self.ports.data, READ);
        self.taken(IDLE_STATE)?;
        self.dummy()
    }
}
