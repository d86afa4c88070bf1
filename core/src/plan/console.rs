//! Where console lines go, as a parameter names it: a UART, the text screen, both or neither.

use crate::arch;
use crate::cmdline;
use crate::device::uart::Serial;
use core::fmt;

/// Where console lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleDevices {
    /// A 16550 UART.
    pub serial: Option<Serial>,
    /// The VGA text screen.
    pub vga: bool,
}

impl ConsoleDevices {
    /// Reads a list of `ttyS0` to `ttyS3` or a port, a line speed behind it, `vga`; or `none` alone.
    ///
    /// # Errors
    /// When it is not that, or [`arch::RESERVED`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str =
            "takes ttyS0 to ttyS3, a port or mmio[32]:ADDR, with ,BAUD (115200/n) if wanted; vga; or none";
        let mut console = Self { serial: None, vga: false };
        if text == "none" {
            return Ok(console);
        }
        for item in cmdline::fields(text) {
            if item == "vga" {
                console.vga = true;
            } else if let Some(serial) = &mut console.serial {
                if serial.baud.is_some() {
                    return Err(WHY);
                }
                serial.baud = Some(Serial::parse_baud(item).ok_or(WHY)?);
            } else {
                let serial = Serial::parse(item).ok_or(WHY)?;
                if serial.is_reserved() {
                    return Err(arch::RESERVED);
                }
                console.serial = Some(serial);
            }
        }
        Ok(console)
    }

    /// The dump kernel's own serial console: the last `console=ttySn` on its command line. The line speed is left as it
    /// is, because the crashed kernel has most likely used the same UART.
    #[must_use]
    pub fn of_kernel(line: &str) -> Self {
        let serial = cmdline::words(line)
            .filter_map(|word| cmdline::fields(word.strip_prefix("console=")?).next())
            .filter(|name| name.starts_with("ttyS"))
            .filter_map(Serial::parse)
            .last();
        Self { serial, vga: false }
    }
}

impl fmt::Display for ConsoleDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.serial, self.vga) {
            (None, true) => f.write_str("vga"),
            (None, false) => f.write_str("none"),
            (Some(serial), true) => write!(f, "{serial},vga"),
            (Some(serial), false) => write!(f, "{serial}"),
        }
    }
}
