//! What core's sequence runs on in a test: a machine that has a console and nothing else, and a connection to the real BMC
//! that keeps what was accepted and withholds what would alert people.

use super::Sent;
use crate::bmc::{Connection, System};
use lastwords_core::{
    budget::{Millis, Timer},
    device::uart::Serial,
    hw::{Clock, Memory, Register, Registers, Reset, Second},
    ipmi::{
        TransferError, Transport,
        commands::{AddSelEntry, Command, Event, GetSelInfo},
        message::{CompletionCode, Request},
    },
    plan::ConsoleDevices,
};

/// The machine.
pub struct StandIn {
    system: System,
    sent: Vec<u8>,
    /// Ticks that do not count: what a crash would not do.
    apart: u64,
}

/// Its UART.
const UART: u16 = 0x3f8;

impl StandIn {
    /// The frequency of its counter.
    pub const KHZ: u32 = System::KHZ;

    /// Its console.
    pub const CONSOLE: ConsoleDevices = ConsoleDevices {
        serial: Some(Serial { base: Register::Port(UART), spacing: 1, baud: None }),
        vga: false,
    };

    pub fn new() -> Self {
        Self { system: System::new(None), sent: Vec::new(), apart: 0 }
    }

    /// Does something whose time is not the report's.
    fn apart(&mut self, work: impl FnOnce()) {
        let began = self.system.ticks();
        work();
        self.apart += self.system.ticks() - began;
    }

    /// What went to the console.
    pub fn console(self) -> String {
        String::from_utf8_lossy(&self.sent).replace('\r', "")
    }
}

impl Registers for StandIn {
    fn get(&mut self, register: Register) -> u8 {
        /// Line status: the transmitter is empty.
        const EMPTY: u8 = 0x60;
        if register == Register::Port(UART + 5) { EMPTY } else { 0xff }
    }

    fn put(&mut self, register: Register, value: u8) {
        if register == Register::Port(UART) {
            self.sent.push(value);
        }
    }
}

impl Memory for StandIn {
    fn read(&mut self, _: u64, _: &mut [u8]) -> bool {
        false
    }

    fn write(&mut self, _: u64, _: &[u8]) {}
}

impl Clock for StandIn {
    fn ticks(&mut self) -> u64 {
        self.system.ticks() - self.apart
    }

    fn second(&mut self) -> Second {
        self.system.second()
    }

    fn relax(&mut self) {
        self.system.relax();
    }
}

impl Reset for StandIn {
    fn reset(&mut self, _: usize) -> bool {
        false
    }
}

/// The connection to the real BMC.
pub struct Relay<'a> {
    bmc: &'a mut Connection,
    event: bool,
    /// Records that were added, with the ids that the BMC has assigned.
    added: Vec<(Option<u16>, [u8; 16])>,
    /// The request that was not answered so far, and why. It may be sent again.
    unanswered: Option<(Vec<u8>, TransferError)>,
    tested: Sent,
}

impl<'a> Relay<'a> {
    /// To this BMC; `event`: platform events go there, too.
    pub fn new(bmc: &'a mut Connection, event: bool) -> Self {
        Self { bmc, event, added: Vec::new(), unanswered: None, tested: Sent::default() }
    }

    /// Looks for a record that was accepted.
    fn look(&mut self, id: Option<u16>, record: &[u8; 16]) {
        self.tested.accepted += 1;
        // A BMC that is slow to write is waited for once.
        let patience = self.tested.stored.len() + 1 == self.tested.accepted;
        match self.bmc.find_sel_entry(record, id, patience) {
            Ok(found) => self.tested.stored.extend(found),
            Err(error) => self.tested.error = Some(error),
        }
    }

    /// A request that nobody will send again stays without an answer.
    fn give_up(&mut self) {
        if let Some((wire, error)) = self.unanswered.take() {
            self.tested.error = Some(self.bmc.transfer_error(error, name(&wire)));
        }
    }

    /// Reads back what was added; what came of it all, but for the console.
    pub fn end(mut self) -> Sent {
        self.give_up();
        for (id, record) in std::mem::take(&mut self.added) {
            self.look(id, &record);
        }
        self.tested
    }

    /// Notes what the BMC has accepted.
    fn accepted(&mut self, request: Request<'_>, answer: &[u8]) {
        match (request.net_fn, request.cmd, request.data) {
            (AddSelEntry::NET_FN, AddSelEntry::CMD, data) => {
                if let (Ok(record), Some(id)) = (data.try_into(), AddSelEntry::answer(answer)) {
                    self.added.push((id, record));
                }
            }
            (Event::NET_FN, Event::CMD, [generator, rest @ ..]) if rest.len() == 7 => {
                let mut record = [0, 0, 2, 0, 0, 0, 0, *generator, 0, 0, 0, 0, 0, 0, 0, 0];
                record[9..].copy_from_slice(rest);
                // The answer has no id; it is the last record now.
                self.look(None, &record);
            }
            _ => {}
        }
    }
}

impl Transport<StandIn> for Relay<'_> {
    fn transfer(
        &mut self,
        machine: &mut StandIn,
        timer: &mut Timer,
        wire: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        let request = Request::decode(wire).ok_or(TransferError::State(0))?;
        if (request.net_fn, request.cmd) == (Event::NET_FN, Event::CMD) && !self.event {
            self.tested.withheld = true;
            let code = [CompletionCode::INSUFFICIENT_PRIVILEGE.0];
            return request.put_answer(&code, reply).ok_or(TransferError::TooLong);
        }
        if self.unanswered.as_ref().is_some_and(|(before, _)| before != wire) {
            self.give_up();
        }
        let limit = deadline.saturating_sub(timer.now(machine));
        let len = self.bmc.relay(wire, reply, limit).inspect_err(|error| {
            self.unanswered = Some((wire.to_vec(), *error));
        })?;
        self.unanswered = None;
        let answered = reply.get(..len).and_then(|reply| request.answer(reply));
        match answered {
            Some((CompletionCode::OK, data)) => machine.apart(|| self.accepted(request, data)),
            Some((code, _)) if name(wire) == Event::NAME && !code.is_busy() => {
                self.tested.event_refused = Some(code);
            }
            _ => {}
        }
        Ok(len)
    }
}

/// The name of a request of the report's.
fn name(wire: &[u8]) -> &'static str {
    match Request::decode(wire).map(|request| (request.net_fn, request.cmd)) {
        Some((AddSelEntry::NET_FN, AddSelEntry::CMD)) => AddSelEntry::NAME,
        Some((Event::NET_FN, Event::CMD)) => Event::NAME,
        Some((GetSelInfo::NET_FN, GetSelInfo::CMD)) => GetSelInfo::NAME,
        _ => "a request",
    }
}
