//! The connection to a BMC over the LAN: RMCP+ (IPMI 2.0 section 13), as much of it as asking takes. Our own, because no
//! released crate supports cipher suite 17, which is the only one that newer BMCs allow, to a port of one's choice.
//!
//! What comes in may be anybody's: a packet that is not the one waited for, or not signed with the session's key, is
//! passed over, and the request is sent again until its time is over.

mod handshake;
mod host;
mod message;
mod packet;
mod suite;
#[cfg(test)]
mod tests;

pub use host::Host;

use super::{BmcError, System, error::os};
use crate::sys;
use handshake::{BY_NAME, Handshake, USER};
use lastwords_core::{
    budget::{Millis, Timer},
    ipmi::{
        TransferError, Transport,
        message::{NetFn, Request},
    },
};
use message::{answer, message};
use packet::{Keys, contents, packet, payload};
use std::{
    io::{
        self,
        ErrorKind::{Interrupted, TimedOut, WouldBlock},
    },
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    time::{Duration, Instant},
};
use suite::Suite;

/// After this long without an answer a packet is sent again.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest time for one step of opening a session.
const STEP: Duration = Duration::from_secs(5);

/// Longest packet that is taken.
const PACKET_LEN: usize = 1024;

/// Commands (IPMI 2.0 appendix G) that belong to the session.
const SET_SESSION_PRIVILEGE_LEVEL: u8 = 0x3b;
const CLOSE_SESSION: u8 = 0x3c;

/// An open session with a BMC.
pub struct Session {
    socket: UdpSocket,
    host: String,
    keys: Keys,
    console_id: u32,
    bmc_id: u32,
    /// The last packet's number; 0 is outside of sessions.
    sequence: u32,
    /// The last request's number.
    request: u8,
}

impl Session {
    /// Opens a session at privilege level User.
    ///
    /// # Errors
    /// [`BmcError::NoAnswer`], [`BmcError::Login`], [`BmcError::NoSuite`], [`BmcError::Io`].
    pub fn open(host: &Host, user: &str, password: &[u8]) -> Result<Self, BmcError> {
        if user.len() > 16 || password.len() > 20 {
            return Err(BmcError::Login(
                host.to_string(),
                "IPMI has names of at most 16 and passwords of at most 20 bytes",
            ));
        }
        let addresses = (host.name.as_str(), host.port)
            .to_socket_addrs()
            .map_err(|error| io_error(host.to_string(), error))?;
        let mut last = BmcError::NoAnswer(host.to_string());
        for address in addresses {
            for suite in Suite::ALL {
                match Self::open_with(host, address, suite, user.as_bytes(), password) {
                    Err(error @ (BmcError::NoAnswer(_) | BmcError::NoSuite(_))) => last = error,
                    // Nobody is at this address: no other suite will do.
                    Err(error @ BmcError::Io(..)) => {
                        last = error;
                        break;
                    }
                    result => return result,
                }
            }
        }
        Err(last)
    }

    fn open_with(
        host: &Host,
        address: SocketAddr,
        suite: Suite,
        user: &[u8],
        password: &[u8],
    ) -> Result<Self, BmcError> {
        let io_error = |error| io_error(host.to_string(), error);
        let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).and_then(|socket| socket.connect(address).map(|()| socket));
        let (console_random, [id, ..]) = random().map_err(io_error)?;
        let mut handshake = Handshake {
            suite,
            role: BY_NAME | USER,
            user,
            password,
            // 0 is no session.
            console_id: [id | 1, b'l', b'w', b's'],
            bmc_id: [0; 4],
            console_random,
            bmc_random: [0; 16],
            bmc_guid: [0; 16],
        };
        let mut session = Self {
            socket: socket.map_err(io_error)?,
            host: host.to_string(),
            keys: Keys::new(suite, &[]),
            console_id: u32::from_le_bytes(handshake.console_id),
            bmc_id: 0,
            sequence: 0,
            request: 0,
        };

        let algorithms = suite.algorithms();
        let mut request = vec![0, 0, 0];
        request.extend(handshake.console_id);
        for (kind, algorithm) in (0..).zip(algorithms) {
            request.extend([kind, 0, 0, 8, algorithm, 0, 0, 0]);
        }
        let opened = session.step(
            payload::OPEN_SESSION_REQUEST,
            &request,
            payload::OPEN_SESSION_RESPONSE,
            handshake.console_id,
        )?;
        handshake.bmc_id =
            *opened.get(6..).and_then(<[u8]>::first_chunk).ok_or_else(|| session.nonsense())?;
        let chosen = [14, 22, 30].map(|at| opened.get(at).copied());
        if chosen != algorithms.map(Some) {
            return Err(BmcError::NoSuite(session.host.clone()));
        }

        let two =
            session.step(payload::RAKP_1, &handshake.rakp_1(), payload::RAKP_2, handshake.console_id)?;
        if !handshake.rakp_2(&two) {
            return Err(BmcError::Login(session.host.clone(), WRONG_PASSWORD));
        }
        let four =
            session.step(payload::RAKP_3, &handshake.rakp_3(), payload::RAKP_4, handshake.console_id)?;
        if !handshake.rakp_4(&four) {
            return Err(session.nonsense());
        }
        session.keys = Keys::new(suite, &handshake.sik());
        session.bmc_id = u32::from_le_bytes(handshake.bmc_id);
        let level = Request { net_fn: NetFn::APP, cmd: SET_SESSION_PRIVILEGE_LEVEL, data: &[USER] };
        // A session begins at this level; a BMC that sees it otherwise refuses the first command.
        let answered = session.ask(level, Instant::now() + STEP).map_err(|error| session.io_error(error))?;
        answered.map(|_| session).ok_or_else(|| BmcError::NoAnswer(host.to_string()))
    }

    /// One step of opening: sends `message` behind a tag and returns what comes behind the answer's status.
    fn step(
        &mut self,
        kind: u8,
        message: &[u8],
        answers: u8,
        console_id: [u8; 4],
    ) -> Result<Vec<u8>, BmcError> {
        // The payload type is as good a tag as any.
        let packet = packet(kind, 0, 0, &[&[kind], message].concat());
        let find = |_: &Self, packet: &[u8]| match contents(answers, 0, packet)? {
            [tag, status, rest @ ..] if *tag == kind => Some((*status, rest.to_vec())),
            _ => None,
        };
        let found = self.exchange(Instant::now() + STEP, |_| Ok(packet.clone()), find);
        let found = found.map_err(|error| self.io_error(error))?;
        let (status, rest) = found.ok_or_else(|| BmcError::NoAnswer(self.host.clone()))?;
        match status {
            0 if answers == payload::OPEN_SESSION_RESPONSE || rest.get(2..6) == Some(&console_id) => Ok(rest),
            // Table 13-15.
            3..=7 | 0x10 | 0x11 => Err(BmcError::NoSuite(self.host.clone())),
            0x01 | 0x0b => Err(BmcError::Login(
                self.host.clone(),
                "it has no room for one more session: try again in a minute",
            )),
            0x09 | 0x0a => Err(BmcError::Login(self.host.clone(), "this user has no privileges on the LAN")),
            0x0c | 0x0d => Err(BmcError::Login(self.host.clone(), "no such user")),
            0x0f => Err(BmcError::Login(self.host.clone(), WRONG_PASSWORD)),
            _ => Err(self.nonsense()),
        }
    }

    fn io_error(&self, error: io::Error) -> BmcError {
        io_error(self.host.clone(), error)
    }

    fn nonsense(&self) -> BmcError {
        BmcError::Login(self.host.clone(), "the BMC's answer is invalid")
    }

    /// Sends what `make` makes, again and again, until `find` finds the answer in a packet or the time is over: `None`
    /// then.
    fn exchange<T>(
        &mut self,
        deadline: Instant,
        mut make: impl FnMut(&mut Self) -> io::Result<Vec<u8>>,
        find: impl Fn(&Self, &[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        while Instant::now() < deadline {
            let packet = make(self)?;
            self.socket.send(&packet)?;
            let again = deadline.min(Instant::now() + AGAIN);
            while let Some(left) = again.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            {
                self.socket.set_read_timeout(Some(left))?;
                let mut buffer = [0; PACKET_LEN];
                match self.socket.recv(&mut buffer) {
                    Ok(len) => {
                        if let Some(found) = find(self, &buffer[..len]) {
                            return Ok(Some(found));
                        }
                    }
                    Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// The next packet with this request.
    fn next(&mut self, request: Request<'_>) -> io::Result<Vec<u8>> {
        // Sequence numbers go round without 0.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let (iv, _) = random()?;
        Ok(self.keys.seal(self.bmc_id, self.sequence, &message(request, self.request), iv))
    }
}

const WRONG_PASSWORD: &str = "wrong password";

fn io_error(host: String, error: io::Error) -> BmcError {
    match error.kind() {
        // A machine is there, but nobody listens at the port.
        io::ErrorKind::ConnectionRefused => BmcError::NoAnswer(host),
        _ => BmcError::Io(host, error),
    }
}

/// 16 random bytes and 16 more.
fn random() -> io::Result<([u8; 16], [u8; 16])> {
    let bytes =
        sys::random_bytes().ok_or_else(|| io::Error::other("the kernel has no random numbers yet"))?;
    let (mut one, mut other) = ([0; 16], [0; 16]);
    one.copy_from_slice(&bytes[..16]);
    other.copy_from_slice(&bytes[16..]);
    Ok((one, other))
}

impl Session {
    /// Sends a request until it is answered: completion code and data. `None` when there is no answer by then.
    fn ask(&mut self, request: Request<'_>, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        self.request = (self.request + 1) & 0x3f;
        let find = |session: &Self, packet: &[u8]| {
            let message = session.keys.open(session.console_id, packet)?;
            answer(request, session.request, &message).map(<[u8]>::to_vec)
        };
        self.exchange(deadline, |session| session.next(request), find)
    }
}

impl Transport<System> for Session {
    fn transfer(
        &mut self,
        system: &mut System,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        let request = Request::decode(request).ok_or(TransferError::State(0))?;
        let end = system.instant(timer, deadline);
        let answer = self.ask(request, end).map_err(|error| os(&error))?.ok_or(TransferError::Timeout)?;
        request.put_answer(&answer, reply).ok_or(TransferError::TooLong)
    }
}

impl Drop for Session {
    /// Closes the session, of which a BMC has few. Whether it heard us, it closes it itself after a minute.
    fn drop(&mut self) {
        if self.bmc_id != 0 {
            let id = self.bmc_id.to_le_bytes();
            let close = Request { net_fn: NetFn::APP, cmd: CLOSE_SESSION, data: &id };
            if let Ok(packet) = self.next(close) {
                let _ = self.socket.send(&packet);
            }
        }
    }
}
