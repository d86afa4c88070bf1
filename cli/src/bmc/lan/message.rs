//! IPMI messages as they are sent over the LAN (IPMI 2.0 section 13.8), the contents of a session's packets.

use lastwords_core::ipmi::message::Request;

/// The BMC's address in a message, and ours: a remote console's software id.
pub const BMC: u8 = 0x20;
pub const CONSOLE: u8 = 0x81;

/// An IPMI message for the BMC (13.8): two checked parts.
pub fn message(request: Request<'_>, sequence: u8) -> Vec<u8> {
    let mut message = vec![BMC, request.net_fn.0 << 2];
    message.push(checksum(&message));
    message.extend([CONSOLE, sequence << 2, request.cmd]);
    message.extend(request.data);
    message.push(checksum(&message[3..]));
    message
}

/// The number, and completion code and data, of a message that answers such a request. `None` when it is anything else.
/// The packet is signed: a wrong checksum in it is the BMC's mistake, and nobody else's.
pub fn answer<'a>(request: Request<'_>, message: &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [CONSOLE, net_fn, _, _, number, cmd, rest @ ..] = message else { return None };
    let ours = *net_fn == request.net_fn.response() << 2 && *cmd == request.cmd;
    rest.split_last().map(|(_, data)| (number >> 2, data)).filter(|_| ours)
}

/// What makes the sum zero.
pub fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}
