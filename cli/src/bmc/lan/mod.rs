//! The connection to a BMC over the LAN: RMCP+ (IPMI 2.0 section 13), as much of it as asking takes. Our own, because no
//! released crate supports cipher suite 17, which is the only one that newer BMCs allow, to a port of one's choice.
//!
//! What is said to the BMC, and when again, is `session`'s; here are the socket and what an error means to the user.

mod handshake;
mod host;
mod message;
mod packet;
mod session;
#[cfg(test)]
pub mod simulated;
mod suite;
#[cfg(test)]
mod tests;

pub use host::Host;
pub use session::Login;

use super::{BmcError, System, error::os};
use crate::sys;
use lastwords_core::{
    budget::{Millis, Timer},
    ipmi::{TransferError, Transport, message::Request},
};
use session::{Link, LoginError, Session, Status};
use std::{
    io::{
        self,
        ErrorKind::{
            ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable, TimedOut, WouldBlock,
        },
    },
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    time::{Duration, Instant},
};

/// Longest name and password (IPMI 2.0 sections 22.28, 22.30), and longest key of a BMC (13.33).
const NAME_LEN: usize = 16;
const PASSWORD_LEN: usize = 20;
const KG_LEN: usize = 20;

/// Longest time for one command. In it a session is opened again that the BMC has forgotten.
pub const TIMEOUT: Millis = 120_000;

/// Opens a session at privilege level User, within this time.
///
/// # Errors
/// [`BmcError::NoAnswer`], [`BmcError::Slow`], [`BmcError::Login`], [`BmcError::NoSuite`], [`BmcError::Io`] and those between them.
pub fn open(host: &Host, login: &Login, limit: Duration) -> Result<Session<Udp>, BmcError> {
    let (name, start) = (host.to_string(), Instant::now());
    let kg = login.kg.as_ref().map_or(0, Vec::len);
    for (what, len, most) in [
        ("user's name", login.user.len(), NAME_LEN),
        ("password", login.password.len(), PASSWORD_LEN),
        ("key (Kg)", kg, KG_LEN),
    ] {
        if len > most {
            return Err(BmcError::TooLong(what, len, most));
        }
    }
    let addresses = (host.name.as_str(), host.port).to_socket_addrs();
    let mut last = BmcError::NoAnswer(name.clone());
    for address in addresses.map_err(|error| BmcError::Io(name.clone(), error))? {
        let opened = Udp::connect(address).map_err(LoginError::Io).and_then(|link| {
            let mut session = Session::new(link, login.clone());
            session.open(limit.saturating_sub(start.elapsed())).map(|()| session)
        });
        let error = match opened {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        let is_final = !matches!(error, LoginError::Silent | LoginError::Slow | LoginError::Io(_));
        last = reason(name.clone(), error);
        if is_final {
            break;
        }
    }
    Err(last)
}

/// What a user is told.
fn reason(host: String, error: LoginError) -> BmcError {
    match error {
        LoginError::Silent => BmcError::NoAnswer(host),
        LoginError::Slow => BmcError::Slow(host),
        LoginError::Full(status) => BmcError::NoSession(host, status.to_string()),
        LoginError::NoSuite(status) => BmcError::NoSuite(host, status.to_string()),
        LoginError::Refused(status @ Status(0x0c | 0x0d)) => {
            BmcError::Login(host, format!("wrong user ({status})"))
        }
        LoginError::Refused(status) => BmcError::Login(host, status.to_string()),
        LoginError::Password => BmcError::Login(host, "wrong password".to_owned()),
        LoginError::Kg => BmcError::Kg(host),
        LoginError::Only15 => BmcError::Only15(host),
        LoginError::Nonsense => BmcError::Login(host, "the BMC's answer is invalid".to_owned()),
        // A machine is there, but nobody listens at the port.
        LoginError::Io(error) if error.kind() == ConnectionRefused => BmcError::NoAnswer(host),
        LoginError::Io(error) => BmcError::Io(host, error),
    }
}

/// A UDP socket.
pub struct Udp {
    socket: UdpSocket,
    start: Instant,
    /// Has anything come? Then somebody is there: where nobody listens or no way leads there, that passes, as when a BMC
    /// starts its IPMI service again.
    heard: bool,
}

impl Udp {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local)?;
        socket.connect(address)?;
        Ok(Self { socket, start: Instant::now(), heard: false })
    }

    /// Is this what the network tells while nobody is there who was?
    fn passes(&self, error: &io::Error) -> bool {
        self.heard && matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
    }
}

impl Link for Udp {
    fn now(&mut self) -> Duration {
        self.start.elapsed()
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        match self.socket.send(packet) {
            // It was told of the packet before; this one has not gone.
            Err(error) if self.passes(&error) => {
                let _ = self.socket.send(packet);
                Ok(())
            }
            sent => sent.map(drop),
        }
    }

    fn receive(&mut self, buffer: &mut [u8], until: Duration) -> io::Result<Option<usize>> {
        while let Some(left) = until.checked_sub(self.now()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv(buffer) {
                Ok(len) => {
                    self.heard = true;
                    return Ok(Some(len));
                }
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => {}
                Err(error) if self.passes(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn random(&mut self) -> io::Result<[u8; 32]> {
        sys::random_bytes().ok_or_else(|| io::Error::other("the kernel has no random numbers yet"))
    }
}

impl<L: Link> Transport<System> for Session<L> {
    fn transfer(
        &mut self,
        system: &mut System,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        let request = Request::decode(request).ok_or(TransferError::State(0))?;
        // Whole milliseconds, of which the one that has begun is not left.
        let left = deadline.saturating_sub(timer.now(system)).saturating_sub(1);
        let end = self.link.now() + Duration::from_millis(u64::from(left));
        match self.ask(request, end) {
            Ok(Some(answer)) => request.put_answer(&answer, reply).ok_or(TransferError::TooLong),
            Ok(None) => Err(TransferError::Timeout),
            Err(LoginError::Io(error)) => Err(os(&error)),
            // It has let us in before. It is not asked again.
            Err(_) => Err(TransferError::Os(libc::EACCES)),
        }
    }
}
