//! The envelope of every IPMI message (IPMI 2.0 section 5): network function, command, data; and the completion code
//! in front of an answer's data. Messages here are as they go over a system interface: NetFn and LUN in one byte.

use core::fmt;

/// A network function code (table 5-1), the even one of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetFn(pub u8);

impl NetFn {
    /// Chassis.
    pub const CHASSIS: Self = Self(0x00);
    /// Sensor/Event.
    pub const SENSOR_EVENT: Self = Self(0x04);
    /// Application.
    pub const APP: Self = Self(0x06);
    /// Storage.
    pub const STORAGE: Self = Self(0x0a);

    /// The answer's network function: one more.
    #[must_use]
    pub const fn response(self) -> u8 {
        self.0 | 1
    }
}

/// A completion code (table 5-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionCode(pub u8);

impl CompletionCode {
    /// Command completed normally.
    pub const OK: Self = Self(0x00);
    /// Reset Watchdog Timer's own (27.5): the timer was never set.
    pub const WATCHDOG_UNINITIALIZED: Self = Self(0x80);
    /// Node busy.
    pub const NODE_BUSY: Self = Self(0xc0);
    /// Invalid command.
    pub const INVALID_COMMAND: Self = Self(0xc1);
    /// Timeout while processing the command: what is behind the interface did not answer it in time.
    pub const TIMEOUT: Self = Self(0xc3);
    /// Out of space.
    pub const OUT_OF_SPACE: Self = Self(0xc4);
    /// Reservation canceled or invalid.
    pub const RESERVATION_CANCELED: Self = Self(0xc5);
    /// Requested sensor, data or record not present.
    pub const NOT_PRESENT: Self = Self(0xcb);
    /// Invalid data field in the request.
    pub const INVALID_DATA_FIELD: Self = Self(0xcc);
    /// SDR repository in update mode.
    pub const SDR_UPDATE: Self = Self(0xd0);
    /// Device in firmware update mode.
    pub const FIRMWARE_UPDATE: Self = Self(0xd1);
    /// BMC initialization in progress.
    pub const INITIALIZING: Self = Self(0xd2);
    /// Insufficient privilege level, or not allowed on this interface.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(0xd4);

    /// Is the BMC to be asked again, a little later?
    #[must_use]
    pub fn is_busy(self) -> bool {
        matches!(self, Self::NODE_BUSY | Self::INITIALIZING)
    }

    /// Does it tell of the BMC's state (busy, full, updating itself) rather than of the request? What is refused for
    /// such a reason in one form is refused in every form.
    #[must_use]
    pub fn is_about_the_bmc(self) -> bool {
        matches!(
            self,
            Self::NODE_BUSY
                | Self::TIMEOUT
                | Self::OUT_OF_SPACE
                | Self::SDR_UPDATE
                | Self::FIRMWARE_UPDATE
                | Self::INITIALIZING
        )
    }
}

impl fmt::Display for CompletionCode {
    /// The number, and its name in the specification.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0xc0 => "Node Busy",
            0xc1 => "Invalid Command",
            0xc2 => "Command invalid for given LUN",
            0xc3 => "Timeout while processing command",
            0xc4 => "Out of space",
            0xc5 => "Reservation Canceled or Invalid Reservation ID",
            0xc6 => "Request data truncated",
            0xc7 => "Request data length invalid",
            0xc8 => "Request data field length limit exceeded",
            0xc9 => "Parameter out of range",
            0xca => "Cannot return number of requested data bytes",
            0xcb => "Requested Sensor, data, or record not present",
            0xcc => "Invalid data field in Request",
            0xcd => "Command illegal for specified sensor or record type",
            0xce => "Command response could not be provided",
            0xcf => "Cannot execute duplicated request",
            0xd0 => "SDR Repository in update mode",
            0xd1 => "Device in firmware update mode",
            0xd2 => "BMC initialization in progress",
            0xd3 => "Destination unavailable",
            0xd4 => "Insufficient privilege level",
            0xd5 => "Not supported in present state",
            0xd6 => "Command sub-function disabled or unavailable",
            0xff => "Unspecified error",
            _ => return write!(f, "completion code {:#04x}", self.0),
        };
        write!(f, "completion code {:#04x}, {name}", self.0)
    }
}

/// Longest request: NetFn/LUN, command, one SEL record.
pub const REQUEST_LEN: usize = 2 + 16;

/// A request to the BMC itself (LUN 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Network function.
    pub net_fn: NetFn,
    /// Command (appendix G).
    pub cmd: u8,
    /// Its data.
    pub data: &'a [u8],
}

impl<'a> Request<'a> {
    /// The request as it goes over the interface. `None` when it is longer than any of ours.
    #[must_use]
    pub fn encode(self, wire: &mut [u8; REQUEST_LEN]) -> Option<&[u8]> {
        let head = [self.net_fn.0 << 2, self.cmd];
        for (slot, byte) in wire.iter_mut().zip(head.iter().chain(self.data)) {
            *slot = *byte;
        }
        wire.get(..head.len() + self.data.len())
    }

    /// The request that came over an interface.
    #[must_use]
    pub fn decode(wire: &'a [u8]) -> Option<Self> {
        match wire {
            [net_fn, cmd, data @ ..] => Some(Self { net_fn: NetFn(net_fn >> 2), cmd: *cmd, data }),
            _ => None,
        }
    }

    /// Completion code and data of the answer `reply` to this request; `None` when it is no answer, or one to another
    /// request, which may have been waiting.
    #[must_use]
    pub fn answer(self, reply: &[u8]) -> Option<(CompletionCode, &[u8])> {
        match reply {
            [to, of, code, data @ ..] if (*to, *of) == (self.net_fn.response() << 2, self.cmd) => {
                Some((CompletionCode(*code), data))
            }
            _ => None,
        }
    }

    /// Puts completion code and data of an answer to this request into `reply` as it would come over an interface;
    /// returns its length. For ways to a BMC that carry no head. `None` when it does not fit.
    #[must_use]
    pub fn put_answer(self, answer: &[u8], reply: &mut [u8]) -> Option<usize> {
        let head = [self.net_fn.response() << 2, self.cmd];
        let len = head.len() + answer.len();
        for (slot, byte) in reply.get_mut(..len)?.iter_mut().zip(head.iter().chain(answer)) {
            *slot = *byte;
        }
        Some(len)
    }
}
