//! The console: its lines go to a UART, a text screen, both or neither, and none of them waits for long.

use crate::budget::Timer;
use crate::device::{uart::Uart, vga};
use crate::hw::Machine;
use crate::plan::ConsoleDevices;
use crate::text::{Buffer, Text};

/// Bytes in a line.
pub const LINE_LEN: usize = 288;
/// How our own lines begin.
pub const PREFIX: &str = "lastwords: ";

/// Where lines go. Nothing is touched until the first one is printed.
pub struct Console {
    /// The line that is being written.
    line: Text<LINE_LEN>,
    uart: Option<Uart>,
    vga: bool,
    begun: bool,
}

impl Console {
    /// The console that the plan names.
    #[must_use]
    #[inline(never)]
    pub fn new(plan: ConsoleDevices) -> Self {
        Self { line: Text::new(), uart: plan.serial.map(Uart::new), vga: plan.vga, begun: false }
    }

    /// The next line, without any text yet. There is one buffer for all lines: a copy of each would cost code and
    /// stack in the image.
    pub fn line(&mut self) -> &mut Buffer<[u8]> {
        self.line.clear();
        &mut self.line
    }

    /// The next line, that begins as all of ours do.
    #[inline(never)]
    pub fn our_line(&mut self) -> &mut Buffer<[u8]> {
        self.line().str(PREFIX)
    }

    /// Prints the line. What cannot be written in time is lost.
    pub fn print<M: Machine>(&mut self, machine: &mut M, timer: &mut Timer) {
        if !self.begun {
            self.begun = true;
            if self.uart.as_mut().is_some_and(|uart| !uart.begin(machine)) {
                self.uart = None;
            }
            // The crashed kernel may have stopped in the middle of a line.
            send(&mut self.uart, machine, timer, b"\r\n");
        }
        send(&mut self.uart, machine, timer, self.line.as_bytes());
        send(&mut self.uart, machine, timer, b"\r\n");
        if self.vga {
            vga::line(machine, self.line.as_bytes());
        }
    }
}

fn send<M: Machine>(uart: &mut Option<Uart>, machine: &mut M, timer: &mut Timer, bytes: &[u8]) {
    if uart.as_mut().is_some_and(|uart| !uart.send(machine, timer, bytes)) {
        *uart = None;
    }
}
