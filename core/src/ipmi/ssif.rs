//! The SMBus System Interface to the BMC: IPMI 2.0 section 12, over an Intel i801, the SMBus controller of Intel's chipsets,
//! polled.
//!
//! The memory's SPD EEPROMs are on the same bus: one slave address is ever spoken to, the BMC's, with two commands. Requests and
//! answers of a report have one part each: a block write of command 2, and block reads of command 3, which the BMC does not
//! acknowledge until it has an answer. Packet error codes are left out: they are optional, and whether a BMC has them only
//! one more command would tell.
//!
//! # Whose an answer is
//! An answer has no number that tells which request it is for. What must not be carried out twice (Add SEL Entry, Platform Event)
//! and was not answered in time is remembered. Its answer is waited for once more, for half of the time there is: where the
//! same request is sent again it is that one's, before another it is taken away. Only then is it written again: a record that
//! is there twice costs no word, one that a BMC has lost does. Other commands are written again at once.
//!
//! Some BMCs acknowledge always, with the last answer until they have the next (QEMU's is one). What comes to Add SEL Entry
//! with the record's ID that came before is such a one, until it has been there for [`REMAINS`] and no two IDs were ever
//! different: then this BMC does not number its records.
//!
//! # Whose the controller is
//! INUSE_STS is a semaphore: the first read of HST_STS takes it, and writing it gives it back. Firmware honours it (SMM, ACPI).
//! Linux does not ask it; its first read takes it all the same, and it is given back behind each access since 5.14, and before
//! that never (`drivers/i2c/busses/i2c-i801.c`). So behind a crash it may be set
//!
//! - by the crashed kernel, in the middle of an access, or because it was too old to give it back. Nobody else enables the
//!   controller's interrupt (INTREN): firmware has no handler for it. And nobody else speaks to the BMC's address while this CPU
//!   runs: SMM holds all CPUs until it has done. The registers show one of both, as long as nobody has begun anything since. Such a
//!   semaphore is nobody's any more. What is still under way gets the time that the slowest transaction takes, and is then
//!   killed: block transactions byte by byte never end without their driver, and hold the bus.
//! - by firmware. It is waited for until the deadline, and nothing is written.
//!
//! Where it is free, but the controller is busy, that is the crashed kernel's, too: who honours the semaphore holds it then. QEMU's
//! controller has none. As soon as the controller has once been ours, nothing of the crashed kernel is left, and whoever has
//! it later lives.

use super::commands::{AddSelEntry, Command, Event};
use super::interface::I801;
use super::message::NetFn;
use super::{TransferError, Transport, wait};
use crate::budget::{Millis, Timer};
use crate::hw::{Clock, Registers};

/// Distances of the controller's registers (Intel ICH9 datasheet 21.2; [`I801::USED`]): status.
pub const HST_STS: u16 = 0x0;
/// Control.
pub const HST_CNT: u16 = 0x2;
/// The command.
pub const HST_CMD: u16 = 0x3;
/// The slave's address, above [`READ`].
pub const XMIT_SLVA: u16 = 0x4;
/// How many bytes the block has.
pub const HST_D0: u16 = 0x5;
/// The block's next byte.
pub const HOST_BLOCK_DB: u16 = 0x7;
/// Auxiliary control.
pub const AUX_CTL: u16 = 0xd;

/// HST_STS: a transaction is under way.
pub const HOST_BUSY: u8 = 0x01;
/// It has ended.
pub const INTR: u8 = 0x02;
/// Nobody has acknowledged.
pub const DEV_ERR: u8 = 0x04;
/// Another master was faster.
pub const BUS_ERR: u8 = 0x08;
/// It was killed.
pub const FAILED: u8 = 0x10;
/// Somebody has the controller. A read takes it, writing it gives it back.
pub const INUSE_STS: u8 = 0x40;
/// A byte of a block is there.
pub const BYTE_DONE: u8 = 0x80;
/// Each says that a transaction has ended.
const ENDS: u8 = FAILED | BUS_ERR | DEV_ERR | INTR;
/// What writing clears, of a transaction's.
const FLAGS: u8 = BYTE_DONE | ENDS;

/// HST_CNT: interrupt when a transaction has ended.
pub const INTREN: u8 = 0x01;
/// End the transaction under way. Must be cleared again.
pub const KILL: u8 = 0x02;
/// A block, its length first.
pub const BLOCK: u8 = 5 << 2;
/// Begin.
pub const START: u8 = 0x40;

/// AUX_CTL: HOST_BLOCK_DB is a buffer of 32 bytes, which each read of HST_CNT begins anew.
pub const E32B: u8 = 0x02;
/// Packet error codes.
pub const AAC: u8 = 0x01;

/// XMIT_SLVA: read.
pub const READ: u8 = 0x01;

/// Commands: a request, an answer, in one part.
pub const REQUEST: u8 = 0x02;
/// See [`REQUEST`].
pub const RESPONSE: u8 = 0x03;

/// So many bytes a block has. A request of two and more parts, which have commands of their own, does not occur.
const BLOCKS: core::ops::RangeInclusive<usize> = 1..=32;

/// Between two tries while the BMC does not acknowledge. Most answer within some ten milliseconds.
const PAUSE: Millis = 10;
/// More tries than fit into the longest time limit of a command, 60 s.
const TRIES: u32 = 6_100;
/// An answer that is the one before does not stay so long, unless it is this one's. Less than the time limit of a command.
const REMAINS: Millis = 3_500;
/// No transaction takes longer: a clock held low is given up after 35 ms at most (SMBus, T_TIMEOUT), and 35 bytes are 4 ms.
const SLOWEST: Millis = 50;

/// What a transfer leaves for the next.
#[derive(Clone, Copy, Default)]
pub struct Before {
    /// The controller was ours.
    was_ours: bool,
    /// The last request of those that must not be carried out twice, as long as the BMC owes its answer. Its length is 0 when
    /// none is.
    request: [u8; *BLOCKS.end()],
    len: u8,
    /// The record's ID in the last answer to Add SEL Entry, and what the IDs have shown.
    id: Option<[u8; 2]>,
    ids: Ids,
}

/// What the record IDs in answers have shown.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Ids {
    #[default]
    Unknown,
    /// There were two.
    Differ,
    /// There was one, for long.
    Constant,
}

impl Before {
    fn owed(&self) -> &[u8] {
        self.request.get(..usize::from(self.len)).unwrap_or(&[])
    }

    fn owe(&mut self, request: &[u8]) {
        self.len = if is_once(request) { request.len() as u8 } else { 0 };
        for (to, from) in self.request.iter_mut().zip(request) {
            *to = *from;
        }
    }

    /// Is this the answer to the request before? `waited`: it has been there for [`REMAINS`].
    fn is_stale(&mut self, answer: &[u8], waited: bool) -> bool {
        let [net_fn, cmd, 0, one, other, ..] = *answer else { return false };
        if (net_fn & !4, cmd) != ADD_SEL_ENTRY {
            return false;
        }
        let id = Some([one, other]);
        if self.id == id && self.ids != Ids::Constant {
            if self.ids == Ids::Differ || !waited {
                return true;
            }
            self.ids = Ids::Constant;
        } else if self.id.is_some() && self.id != id {
            self.ids = Ids::Differ;
        }
        self.id = id;
        false
    }
}

/// NetFn and LUN of a request, and the command.
const ADD_SEL_ENTRY: (u8, u8) = (NetFn::STORAGE.0 << 2, AddSelEntry::CMD);
const PLATFORM_EVENT: (u8, u8) = (NetFn::SENSOR_EVENT.0 << 2, Event::CMD);

/// Must it not be carried out twice?
fn is_once(request: &[u8]) -> bool {
    matches!(*request, [net_fn, cmd, ..] if [ADD_SEL_ENTRY, PLATFORM_EVENT].contains(&(net_fn, cmd)))
}

/// One BMC on the bus.
pub struct Ssif<'a> {
    /// The controller, and the BMC's address.
    pub controller: I801,
    /// What the transfer before has left.
    pub before: &'a mut Before,
}

impl<M: Registers + Clock> Transport<M> for Ssif<'_> {
    #[inline(never)]
    fn transfer(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        if !BLOCKS.contains(&request.len()) {
            return Err(TransferError::TooLong);
        }
        let mut wire = Wire { controller: self.controller, machine, timer, deadline, before: self.before };
        let crashed = wire.acquire()?;
        // From here on it is ours, and is given back whatever happens.
        let mut result = if crashed { wire.stop() } else { wire.wait(|status| status & HOST_BUSY == 0) };
        if result.is_ok() {
            wire.before.was_ours = true;
            let aux = wire.get(AUX_CTL);
            wire.put(AUX_CTL, aux & !AAC | E32B);
            result = wire.exchange(request, reply);
            wire.put(HST_STS, FLAGS);
            wire.put(AUX_CTL, aux);
        }
        wire.put(HST_STS, INUSE_STS);
        result.map(usize::from)
    }
}

/// One transfer under way.
struct Wire<'a, M> {
    controller: I801,
    machine: &'a mut M,
    timer: &'a mut Timer,
    deadline: Millis,
    before: &'a mut Before,
}

impl<M: Registers + Clock> Wire<'_, M> {
    #[inline(never)]
    fn get(&mut self, at: u16) -> u8 {
        self.machine.get(self.controller.register(at))
    }

    #[inline(never)]
    fn put(&mut self, at: u16, value: u8) {
        self.machine.put(self.controller.register(at), value);
    }

    #[inline(never)]
    fn wait(&mut self, good: fn(u8) -> bool) -> Result<u8, TransferError> {
        wait(self.machine, self.timer, self.controller.register(HST_STS), self.deadline, good)
    }

    /// Takes the controller, where nobody who lives has it; is what it does the crashed kernel's?
    fn acquire(&mut self) -> Result<bool, TransferError> {
        let is_free = self.wait(|_| true)? & INUSE_STS == 0;
        let crashed = !self.before.was_ours
            && (is_free
                || self.get(HST_CNT) & INTREN != 0
                || self.get(XMIT_SLVA) & !READ == self.controller.address << 1);
        if !is_free && !crashed {
            self.wait(|status| status & INUSE_STS == 0)?;
        }
        Ok(crashed)
    }

    /// Lets a transaction that is under way end, or kills it.
    #[inline(never)]
    fn stop(&mut self) -> Result<u8, TransferError> {
        let deadline = core::mem::replace(&mut self.deadline, self.timer.within(SLOWEST));
        let mut result = self.wait(|status| status & HOST_BUSY == 0);
        if result == Err(TransferError::Timeout) {
            self.put(HST_CNT, KILL);
            self.deadline = self.timer.within(SLOWEST);
            result = self.wait(|status| status & HOST_BUSY == 0);
            self.put(HST_CNT, 0);
        }
        self.deadline = deadline;
        result
    }

    /// Writes the request until it is acknowledged, then reads until there is its answer.
    fn exchange(&mut self, request: &[u8], reply: &mut [u8]) -> Result<u8, TransferError> {
        let (owed, deadline) = (*self.before, self.deadline);
        self.before.len = 0;
        if !owed.owed().is_empty() && owed.owed().get(..2) == request.get(..2) {
            let now = self.timer.now(self.machine);
            self.deadline = now + deadline.saturating_sub(now) / 2;
            let late = self.go_on(&[], request, reply);
            self.deadline = deadline;
            match late {
                Ok(_) if owed.owed() != request => {}
                Err(TransferError::Timeout) => {}
                late => return late,
            }
        }
        let result = self.go_on(request, request, reply);
        if result.is_ok() {
            self.before.len = 0;
        }
        result
    }

    /// Writes the block, if there is one, until it is acknowledged, and then reads until the request's answer is there. Other answers
    /// are no answer yet: a BMC may still have one for the crashed kernel.
    fn go_on(&mut self, block: &[u8], request: &[u8], reply: &mut [u8]) -> Result<u8, TransferError> {
        let mut block = block;
        let began = self.timer.now(self.machine);
        for _ in 0..TRIES {
            let status = self.transaction(block)?;
            if status & (FAILED | BUS_ERR | DEV_ERR) == 0 {
                if !block.is_empty() {
                    self.before.owe(block);
                    block = &[];
                    continue;
                }
                let waited = self.timer.now(self.machine).saturating_sub(began) >= REMAINS;
                if let Some(len) = self.take(request, reply)
                    && !self.before.is_stale(reply.get(..usize::from(len)).unwrap_or(&[]), waited)
                {
                    return Ok(len);
                }
            }
            self.timer.pause(self.machine, PAUSE);
            if self.timer.now(self.machine) >= self.deadline || self.timer.was_spent() {
                return Err(TransferError::Timeout);
            }
        }
        Err(TransferError::State(0))
    }

    /// One transaction: writes a block, or reads one where there is none. Returns the status that it ended with.
    fn transaction(&mut self, block: &[u8]) -> Result<u8, TransferError> {
        let address = self.controller.address << 1;
        let (address, command) =
            if block.is_empty() { (address | READ, RESPONSE) } else { (address, REQUEST) };
        self.put(HST_STS, FLAGS);
        self.put(XMIT_SLVA, address);
        self.put(HST_CMD, command);
        self.put(HST_D0, block.len() as u8);
        self.get(HST_CNT);
        for byte in block {
            self.put(HOST_BLOCK_DB, *byte);
        }
        self.put(HST_CNT, START | BLOCK);
        let result = self.wait(|status| status & HOST_BUSY == 0 && status & ENDS != 0);
        if result == Err(TransferError::Timeout) {
            // Whether it has stopped shows in the next transfer.
            let _ = self.stop();
        }
        result
    }

    /// The answer that was read, where it is the request's; its length.
    fn take(&mut self, request: &[u8], reply: &mut [u8]) -> Option<u8> {
        let len = self.get(HST_D0);
        self.get(HST_CNT);
        let block = reply.get_mut(..usize::from(len)).filter(|block| BLOCKS.contains(&block.len()))?;
        for byte in &mut *block {
            *byte = self.get(HOST_BLOCK_DB);
        }
        match (block, request) {
            ([net_fn, cmd, _, ..], [asked_net_fn, asked_cmd, ..])
                if *net_fn == asked_net_fn | 4 && cmd == asked_cmd =>
            {
                Some(len)
            }
            _ => None,
        }
    }
}
