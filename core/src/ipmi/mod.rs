//! IPMI, written once: the image and the tool send the same messages, understand the same answers and give a BMC up by
//! the same rules; only the way there differs.
//!
//! `message` is the envelope, `commands` what is in it, `kcs`, `bt` and `ssif` are ways to the BMC, `interface` which of them
//! it is and where; here is what all commands share: asking again, and when to stop.

pub mod bt;
pub mod commands;
pub mod interface;
pub mod kcs;
pub mod message;
pub mod sel_writer;
pub mod ssif;
pub mod watchdog;

use crate::budget::{Millis, Timer};
use crate::hw::{Clock, Register, Registers};
use commands::Command;
use message::{CompletionCode, REQUEST_LEN, Request};

/// A way to a BMC.
pub trait Transport<M> {
    /// Carries `request` there and its answer back into `reply`, both from NetFn/LUN on; returns the answer's length.
    /// Ends at `deadline` by `timer`.
    ///
    /// # Errors
    /// When there is no answer; see [`TransferError`].
    fn transfer(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError>;
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// Nobody is at the interface: its status register reads 0xff.
    Absent,
    /// No interface is named. Nobody was asked; the status register where KCS usually is reads this.
    Unnamed(u8),
    /// The BMC did not go on in time.
    Timeout,
    /// The BMC went into a state (the whole status register) that the protocol does not have here.
    State(u8),
    /// The answer is longer than any that was asked for.
    TooLong,
    /// The operating system does not carry it, with its error number. The image has no operating system.
    Os(i32),
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// Nobody answers at the interface.
    Absent,
    /// No interface is named; see [`TransferError::Unnamed`].
    Unnamed(u8),
    /// The BMC did not answer in time twice in a row, now or before: it is left alone.
    Silent,
    /// It answers, but not as the protocol has it.
    Garbled,
    /// It refused with this completion code.
    Refused(CompletionCode),
    /// The budget is spent.
    NoTime,
    /// The operating system's error number.
    Os(i32),
}

/// Longest answer that is taken: completion code and data of Get SEL Entry are 19 bytes, Get Device ID's at most 16;
/// more is some other command's.
const REPLY_LEN: usize = 40;

/// Where an answer's data begins: behind NetFn/LUN, command and completion code.
const ANSWER: usize = 3;

/// How often a command is sent again after an answer that was out of step.
const RETRIES: u8 = 3;
/// How often a busy BMC is asked again, and how long it is left alone between.
const BUSY_RETRIES: u8 = 10;
const BUSY_PAUSE: Millis = 100;
/// So many timeouts in a row and the BMC counts as unresponsive.
const TIMEOUTS: u8 = 2;

/// What a bus without anybody on it reads as.
const NOBODY: u8 = 0xff;

/// Waits until an interface's status register is as asked for; returns the whole register.
#[inline(never)]
fn wait<M: Registers + Clock>(
    machine: &mut M,
    timer: &mut Timer,
    status: Register,
    deadline: Millis,
    good: fn(u8) -> bool,
) -> Result<u8, TransferError> {
    let seen = timer.wait(machine, deadline, |machine| {
        Some(machine.get(status)).filter(|status| *status == NOBODY || good(*status))
    });
    match seen {
        Some(NOBODY) => Err(TransferError::Absent),
        Some(status) => Ok(status),
        None => Err(TransferError::Timeout),
    }
}

/// A BMC, and what is known of its willingness to answer.
pub struct Bmc<T> {
    transport: T,
    timeout: Millis,
    timeouts: u8,
    absent: bool,
    /// The last answer.
    reply: [u8; REPLY_LEN],
}

impl<T> Bmc<T> {
    /// The BMC behind `transport`, which may take `timeout` for an answer. Touches nothing.
    #[must_use]
    pub fn new(transport: T, timeout: Millis) -> Self {
        Self { transport, timeout, timeouts: 0, absent: false, reply: [0; REPLY_LEN] }
    }

    /// The way to it, when nothing is to be asked any more.
    pub fn into_transport(self) -> T {
        self.transport
    }

    /// The way to it, to carry something by hand.
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Has it been given up, because it did not answer twice in a row?
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.timeouts >= TIMEOUTS
    }

    /// Forgets that nobody answered at the interface: a BMC that resets itself is away for a while, and to look costs
    /// nothing.
    pub fn look_again(&mut self) {
        self.absent = false;
    }

    /// Forgets all that speaks against asking: for a caller that has time.
    pub fn try_again(&mut self) {
        self.absent = false;
        self.timeouts = 0;
    }

    /// Sends a command until it is answered or given up; returns what the answer says.
    ///
    /// # Errors
    /// When the BMC refuses, does not answer or answers nonsense; see [`CommandError`].
    pub fn send<M: Clock, C: Command>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        command: &C,
    ) -> Result<C::Answer, CommandError>
    where
        T: Transport<M>,
    {
        let data = command.data();
        let request = Request { net_fn: C::NET_FN, cmd: C::CMD, data: data.as_ref() };
        let answer = self.exchange(machine, timer, request)?;
        C::answer(answer).ok_or(CommandError::Garbled)
    }

    /// Sends a request until it is answered or given up; returns the answer's data behind the completion code.
    fn exchange<M: Clock>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        request: Request,
    ) -> Result<&[u8], CommandError>
    where
        T: Transport<M>,
    {
        let mut wire = [0; REQUEST_LEN];
        let wire = request.encode(&mut wire).ok_or(CommandError::Garbled)?;
        let (mut garbled, mut busy) = (0, 0);
        let before = self.timeouts;
        let answer = loop {
            if self.absent {
                return Err(CommandError::Absent);
            }
            if self.is_given_up() {
                return Err(CommandError::Silent);
            }
            if timer.spent(machine) {
                return Err(CommandError::NoTime);
            }
            let deadline = timer.within(self.timeout);
            match self.transport.transfer(machine, timer, wire, &mut self.reply, deadline) {
                Ok(len) => {
                    let timeouts = core::mem::take(&mut self.timeouts);
                    match self.reply.get(..len).and_then(|reply| request.answer(reply)) {
                        Some((CompletionCode::OK, _)) => break ANSWER..len,
                        // No better than no answer.
                        Some((CompletionCode::TIMEOUT, _)) => self.timeouts = timeouts + 1,
                        Some((code, _)) if code.is_busy() && busy < BUSY_RETRIES => {
                            busy += 1;
                            timer.pause(machine, BUSY_PAUSE);
                        }
                        Some((code, _)) => {
                            // Busy for so long is no better than silent.
                            if busy == BUSY_RETRIES {
                                self.timeouts = before + 1;
                            }
                            return Err(CommandError::Refused(code));
                        }
                        None if garbled < RETRIES => garbled += 1,
                        None => return Err(CommandError::Garbled),
                    }
                }
                Err(TransferError::Absent) => self.absent = true,
                Err(TransferError::Unnamed(status)) => return Err(CommandError::Unnamed(status)),
                // One that had not all of its time is not unresponsive for that.
                Err(TransferError::Timeout) if timer.spent(machine) => return Err(CommandError::NoTime),
                Err(TransferError::Timeout) => self.timeouts += 1,
                Err(TransferError::Os(error)) => return Err(CommandError::Os(error)),
                Err(_) if garbled < RETRIES => garbled += 1,
                Err(_) => return Err(CommandError::Garbled),
            }
        };
        self.reply.get(answer).ok_or(CommandError::Garbled)
    }
}
