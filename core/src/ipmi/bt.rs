//! The Block Transfer interface to the BMC: IPMI 2.0 section 11, polled.
//!
//! A message is written and read as a whole. It begins with its length and has a sequence number, by which an answer finds
//! its request: what comes for the crashed kernel's last request, or too late for one of ours, is dropped. There is no abort: a
//! BMC that is at work for somebody else is waited for. Every wait is the timer's and ends at a deadline; answers that are
//! dropped have a count.

use super::interface::BtPorts;
use super::{TransferError, Transport, wait};
use crate::budget::{Millis, Timer};
use crate::hw::{Clock, Registers};

/// BT_CTRL, written: the next write goes to the start of HOST2BT.
pub const CLR_WR_PTR: u8 = 0x01;
/// Written: the next read is from the start of BT2HOST.
pub const CLR_RD_PTR: u8 = 0x02;
/// There is a request in HOST2BT. The BMC clears it when it takes that.
pub const H2B_ATN: u8 = 0x04;
/// There is an answer in BT2HOST. Writing it clears it.
pub const B2H_ATN: u8 = 0x08;
/// The host is reading: the BMC keeps off BT2HOST. Writing it toggles it.
pub const H_BUSY: u8 = 0x40;
/// The BMC is reading HOST2BT, or cannot take a request.
pub const B_BUSY: u8 = 0x80;

/// The sequence number before that of the first request. Linux counts its own from a boot on, from 0 or 1 up
/// (`drivers/char/ipmi/ipmi_bt_sm.c`): this is far from the likely ones. And an answer must be to our command, too.
pub const SEQ: u8 = 0xd0;

/// So many answers are dropped before a request is written, and behind it. BT2HOST holds one, and a crashed kernel has one
/// request under way.
const STALE: usize = 8;

/// So often B2H_ATN is cleared, until it is clear.
const HITS: usize = 8;

/// One BT interface.
pub struct Bt<'a> {
    /// Its registers.
    pub ports: BtPorts,
    /// The last request's sequence number, [`SEQ`] at first.
    pub seq: &'a mut u8,
}

impl<M: Registers + Clock> Transport<M> for Bt<'_> {
    #[inline(never)]
    fn transfer(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        *self.seq = self.seq.wrapping_add(1);
        let [net_fn, cmd, data @ ..] = request else { return Err(TransferError::TooLong) };
        // Behind its length a message has NetFn/LUN, sequence number and command.
        let Ok(len) = u8::try_from(3 + data.len()) else { return Err(TransferError::TooLong) };
        let message = [len, *net_fn, *self.seq, *cmd];
        let mut wire = Wire { ports: self.ports, machine, timer, deadline };
        wire.make_ready(message, reply)?;
        wire.control(CLR_WR_PTR);
        for byte in message.iter().chain(data) {
            wire.machine.put(self.ports.buffer, *byte);
        }
        wire.control(H2B_ATN);
        for _ in 0..STALE {
            wire.wait(|status| status & B2H_ATN != 0)?;
            if let Some(len) = wire.take(message, reply)? {
                return Ok(len);
            }
        }
        Err(TransferError::State(wire.status()))
    }
}

/// One transfer under way.
struct Wire<'a, M> {
    ports: BtPorts,
    machine: &'a mut M,
    timer: &'a mut Timer,
    deadline: Millis,
}

impl<M: Registers + Clock> Wire<'_, M> {
    fn status(&mut self) -> u8 {
        self.machine.get(self.ports.control)
    }

    fn control(&mut self, bit: u8) {
        self.machine.put(self.ports.control, bit);
    }

    fn next_byte(&mut self) -> u8 {
        self.machine.get(self.ports.buffer)
    }

    fn wait(&mut self, good: fn(u8) -> bool) -> Result<u8, TransferError> {
        wait(self.machine, self.timer, self.ports.control, self.deadline, good)
    }

    /// Sets H_BUSY, or clears it.
    #[inline(never)]
    fn set_busy(&mut self, busy: u8) {
        if (self.status() ^ busy) & H_BUSY != 0 {
            self.control(H_BUSY);
        }
    }

    /// Waits until the BMC can take a request. The crashed kernel may have been in the middle of reading, and
    /// left H_BUSY set; its request may be under way, and the BMC may not go on until that one's answer is taken.
    fn make_ready(&mut self, message: [u8; 4], reply: &mut [u8]) -> Result<(), TransferError> {
        // Nobody there is no reason to write.
        self.wait(|_| true)?;
        self.set_busy(0);
        for _ in 0..STALE {
            let status = self.wait(|status| status & B2H_ATN != 0 || status & (B_BUSY | H2B_ATN) == 0)?;
            if status & B2H_ATN == 0 {
                return Ok(());
            }
            let _ = self.take(message, reply);
        }
        Err(TransferError::State(self.status()))
    }

    /// Takes an answer; returns its length from NetFn on, without the sequence number. `None` where it is not
    /// the message's.
    #[inline(never)]
    fn take(&mut self, message: [u8; 4], reply: &mut [u8]) -> Result<Option<usize>, TransferError> {
        self.set_busy(H_BUSY);
        // Some BMCs want it more than once (Linux has met them).
        for _ in 0..HITS {
            self.control(B2H_ATN);
            if self.status() & B2H_ATN == 0 {
                break;
            }
        }
        self.control(CLR_RD_PTR);
        let len = usize::from(self.next_byte());
        let head = [self.next_byte(), self.next_byte(), self.next_byte()];
        let [_, net_fn, seq, cmd] = message;
        // An answer's NetFn is the request's and one, which is behind two bits of LUN.
        let result = if head != [net_fn | 4, seq, cmd] {
            Ok(None)
        } else if let Some([answer_net_fn, answer_cmd, data @ ..]) = reply.get_mut(..len.wrapping_sub(1)) {
            (*answer_net_fn, *answer_cmd) = (net_fn | 4, cmd);
            for byte in data {
                *byte = self.next_byte();
            }
            Ok(Some(len - 1))
        } else {
            Err(TransferError::TooLong)
        };
        self.set_busy(0);
        result
    }
}
