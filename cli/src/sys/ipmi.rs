//! The requests that Linux' IPMI driver takes through its device (`include/uapi/linux/ipmi.h`).

use std::{fs::File, io, os::fd::AsRawFd};

const IPMICTL_RECEIVE_MSG_TRUNC: libc::c_ulong = 0xc030_690b;
const IPMICTL_SEND_COMMAND: libc::c_ulong = 0x8028_690d;
const IPMI_SYSTEM_INTERFACE_ADDR_TYPE: libc::c_int = 0x0c;
const IPMI_BMC_CHANNEL: libc::c_short = 0xf;
const IPMI_RESPONSE_RECV_TYPE: libc::c_int = 1;

/// `struct ipmi_system_interface_addr`; the driver may write back any `struct ipmi_addr`, of 40 bytes.
#[repr(C)]
struct IpmiAddr {
    addr_type: libc::c_int,
    channel: libc::c_short,
    data: [u8; 34],
}

const _: () = assert!(size_of::<IpmiAddr>() == 40);

/// `struct ipmi_msg`.
#[repr(C)]
struct IpmiMsg {
    netfn: u8,
    cmd: u8,
    data_len: u16,
    data: *mut u8,
}

/// `struct ipmi_req`.
#[repr(C)]
struct IpmiReq {
    addr: *mut IpmiAddr,
    addr_len: libc::c_uint,
    msgid: libc::c_long,
    msg: IpmiMsg,
}

/// `struct ipmi_recv`.
#[repr(C)]
struct IpmiRecv {
    recv_type: libc::c_int,
    addr: *mut IpmiAddr,
    addr_len: libc::c_uint,
    msgid: libc::c_long,
    msg: IpmiMsg,
}

// The size is in the numbers' bits 29:16.
const _: () = assert!(size_of::<IpmiReq>() == (IPMICTL_SEND_COMMAND >> 16 & 0x3fff) as usize);
const _: () = assert!(size_of::<IpmiRecv>() == (IPMICTL_RECEIVE_MSG_TRUNC >> 16 & 0x3fff) as usize);

/// Gives the IPMI driver a command for the BMC itself, LUN 0. Its answer comes back with `msgid`.
///
/// # Errors
/// The driver's.
pub fn ipmi_send(device: &File, msgid: i64, netfn: u8, cmd: u8, data: &[u8]) -> io::Result<()> {
    let mut addr = IpmiAddr {
        addr_type: IPMI_SYSTEM_INTERFACE_ADDR_TYPE,
        channel: IPMI_BMC_CHANNEL,
        data: [0; 34], // the LUN and nothing
    };
    let data_len = u16::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let request = IpmiReq {
        addr: &raw mut addr,
        // `struct ipmi_system_interface_addr` alone.
        addr_len: 8,
        msgid,
        msg: IpmiMsg { netfn, cmd, data_len, data: data.as_ptr().cast_mut() },
    };
    // SAFETY: the driver reads `request`, `addr_len` bytes at `addr` and `data_len` at `data`, all alive through the
    // call; it writes nothing. Any other device refuses the number.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), IPMICTL_SEND_COMMAND, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a message that waits in the IPMI driver into `data`: returns its `msgid` when it is an answer, and its
/// length, completion code included.
///
/// # Errors
/// The driver's: EAGAIN when none waits, EMSGSIZE when it is longer than `data` (it is lost then).
pub fn ipmi_receive(device: &File, data: &mut [u8]) -> io::Result<(Option<i64>, usize)> {
    let mut addr = IpmiAddr { addr_type: 0, channel: 0, data: [0; 34] };
    let mut message = IpmiRecv {
        recv_type: 0,
        addr: &raw mut addr,
        addr_len: size_of::<IpmiAddr>() as libc::c_uint,
        msgid: 0,
        msg: IpmiMsg {
            netfn: 0,
            cmd: 0,
            data_len: u16::try_from(data.len()).unwrap_or(u16::MAX),
            data: data.as_mut_ptr(),
        },
    };
    // SAFETY: the driver writes `message`, at most `addr_len` bytes at `addr` and at most `data_len` at `data`, which
    // are exclusively ours. Any other device refuses the number.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), IPMICTL_RECEIVE_MSG_TRUNC, &raw mut message) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let answer = (message.recv_type == IPMI_RESPONSE_RECV_TYPE).then_some(message.msgid);
    Ok((answer, usize::from(message.msg.data_len).min(data.len())))
}
