//! The way to a BMC over the LAN: RMCP+ (IPMI 2.0 section 13), as much of it as asking takes. Our own, because no
//! released crate speaks cipher suite 17, which is the only one that newer BMCs allow, to a port of one's choice.
//!
//! What comes in may be anybody's: a packet that is not the one waited for, or not signed with the session's key, is
//! passed over, and the request is sent again until its time is over.

use super::{Error, Request, Transport};
use crate::sys;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::NoPadding};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use std::{
    fmt,
    io::{
        self,
        ErrorKind::{Interrupted, TimedOut, WouldBlock},
    },
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    str::FromStr,
    time::{Duration, Instant},
};

/// The port of RMCP.
pub const PORT: u16 = 623;

/// After this long without an answer a packet is sent again.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest time for one step of opening a session.
const STEP: Duration = Duration::from_secs(5);

/// Longest packet that is taken.
const PACKET_LEN: usize = 1024;

/// The head of every packet: RMCP 1.0, no RMCP acknowledge, class IPMI.
const RMCP: [u8; 4] = [6, 0, 0xff, 7];
/// Authentication type in the session header: RMCP+ (table 13-8).
const RMCP_PLUS: u8 = 6;
/// The session header's payload type: the payload is encrypted, the packet authenticated.
const SEALED: u8 = 0xc0;
/// Bytes of RMCP and session header.
const HEAD_LEN: usize = 16;

/// Payload types (table 13-16).
mod payload {
    pub const IPMI: u8 = 0x00;
    pub const OPEN_SESSION_REQUEST: u8 = 0x10;
    pub const OPEN_SESSION_RESPONSE: u8 = 0x11;
    pub const RAKP_1: u8 = 0x12;
    pub const RAKP_2: u8 = 0x13;
    pub const RAKP_3: u8 = 0x14;
    pub const RAKP_4: u8 = 0x15;
}

/// Privilege level User: enough to read the SEL.
const USER: u8 = 2;
/// Role in RAKP message 1: the user is looked up by the name alone.
const BY_NAME: u8 = 0x10;

const APP: u8 = 0x06;
const SET_SESSION_PRIVILEGE_LEVEL: u8 = 0x3b;
const CLOSE_SESSION: u8 = 0x3c;

/// The BMC's address in a message, and ours: a remote console's software id.
const BMC: u8 = 0x20;
const CONSOLE: u8 = 0x81;

/// Cipher suites (table 22-20), the better first. Both encrypt with AES-CBC-128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suite {
    /// 17: HMAC-SHA256 and HMAC-SHA256-128.
    Sha256,
    /// 3: HMAC-SHA1 and HMAC-SHA1-96.
    Sha1,
}

impl Suite {
    const ALL: [Self; 2] = [Self::Sha256, Self::Sha1];

    /// Authentication, integrity and confidentiality algorithm.
    fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Sha256 => [3, 4, 1],
            Self::Sha1 => [1, 1, 1],
        }
    }

    /// Bytes of a code that is cut to "integrity" length.
    fn cut(self) -> usize {
        match self {
            Self::Sha256 => 16,
            Self::Sha1 => 12,
        }
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha256 => code::<Hmac<Sha256>>(key, parts).finalize().into_bytes().to_vec(),
            Self::Sha1 => code::<Hmac<Sha1>>(key, parts).finalize().into_bytes().to_vec(),
        }
    }

    /// Is this the beginning of the code, as long as it has to be? In constant time.
    fn verify(self, key: &[u8], parts: &[&[u8]], expected: &[u8]) -> bool {
        match self {
            Self::Sha256 => code::<Hmac<Sha256>>(key, parts).verify_truncated_left(expected).is_ok(),
            Self::Sha1 => code::<Hmac<Sha1>>(key, parts).verify_truncated_left(expected).is_ok(),
        }
    }
}

fn code<H: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> H {
    // A key may have any length.
    let mut hmac = <H as KeyInit>::new_from_slice(key).expect("HMAC takes every key");
    for part in parts {
        hmac.update(part);
    }
    hmac
}

/// A host's name or address, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: u16,
}

impl FromStr for Host {
    type Err = &'static str;

    /// `host`, `host:port`, `192.0.2.1:623`, `2001:db8::1`, `[2001:db8::1]:623`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "takes a host or an address, and a port behind a colon where it is not 623";
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']').ok_or(WRONG)?;
                match port.strip_prefix(':') {
                    None if port.is_empty() => (name, None),
                    port => (name, Some(port.ok_or(WRONG)?)),
                }
            }
            None => match text.split_once(':') {
                Some((name, port)) if !port.contains(':') => (name, Some(port)),
                _ => (text, None),
            },
        };
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| WRONG)?;
        if name.is_empty() || port == 0 {
            return Err(WRONG);
        }
        Ok(Self { name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.name.contains(':')) {
            (PORT, _) => f.write_str(&self.name),
            (port, true) => write!(f, "[{}]:{port}", self.name),
            (port, false) => write!(f, "{}:{port}", self.name),
        }
    }
}

/// What the session's packets are signed and encrypted with.
#[derive(Clone)]
struct Keys {
    suite: Suite,
    k1: Vec<u8>,
    /// The first half of K2.
    aes: [u8; 16],
}

impl Keys {
    /// The keys of a session integrity key (13.32).
    fn new(suite: Suite, sik: &[u8]) -> Self {
        let k2 = suite.hmac(sik, &[&[2; 20]]);
        let mut aes = [0; 16];
        aes.copy_from_slice(&k2[..16]);
        Self { suite, k1: suite.hmac(sik, &[&[1; 20]]), aes }
    }

    /// A packet with this message, encrypted and signed (13.6, 13.28, 13.29).
    fn seal(&self, session: u32, sequence: u32, message: &[u8], iv: [u8; 16]) -> Vec<u8> {
        let mut text = message.to_vec();
        let pad = (16 - (text.len() + 1) % 16) % 16;
        text.extend((1..).take(pad));
        text.push(pad as u8);
        let len = text.len();
        // The text is as long as its blocks are: there is nothing to pad, and nothing that could fail.
        let _ = cbc::Encryptor::<aes::Aes128>::new(&self.aes.into(), &iv.into())
            .encrypt_padded::<NoPadding>(&mut text, len);
        let mut packet = packet(SEALED | payload::IPMI, session, sequence, &[&iv[..], &text].concat());
        // The signed part, pad length and next header included, fills 32-bit words.
        let pad = (4 - (packet.len() - RMCP.len() + 2) % 4) % 4;
        packet.extend(std::iter::repeat_n(0xff, pad));
        packet.extend([pad as u8, RMCP[3]]);
        let code = self.suite.hmac(&self.k1, &[&packet[RMCP.len()..]]);
        packet.extend(&code[..self.suite.cut()]);
        packet
    }

    /// The message of a packet that is ours. `None` when it is anything else.
    fn open(&self, session: u32, packet: &[u8]) -> Option<Vec<u8>> {
        let (signed, code) = packet.split_at_checked(packet.len().checked_sub(self.suite.cut())?)?;
        if !self.suite.verify(&self.k1, &[signed.get(RMCP.len()..)?], code) {
            return None;
        }
        let sealed = contents(SEALED | payload::IPMI, session, signed)?;
        let (iv, text) = sealed.split_first_chunk::<16>()?;
        let mut text = text.to_vec();
        let text = cbc::Decryptor::<aes::Aes128>::new(&self.aes.into(), &(*iv).into())
            .decrypt_padded::<NoPadding>(&mut text)
            .ok()?;
        let (pad, text) = text.split_last()?;
        Some(text.get(..text.len().checked_sub(usize::from(*pad))?)?.to_vec())
    }
}

/// A packet without a signature.
fn packet(payload_type: u8, session: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = RMCP.to_vec();
    packet.extend([RMCP_PLUS, payload_type]);
    packet.extend(session.to_le_bytes());
    packet.extend(sequence.to_le_bytes());
    packet.extend((payload.len() as u16).to_le_bytes());
    packet.extend(payload);
    packet
}

/// The payload of a packet of this type and session. `None` when it is anything else.
fn contents(payload_type: u8, session: u32, packet: &[u8]) -> Option<&[u8]> {
    let (head, rest) = packet.split_at_checked(HEAD_LEN)?;
    let ours = head[0] == RMCP[0] && head[3] == RMCP[3] && head[4..6] == [RMCP_PLUS, payload_type];
    let len = usize::from(u16::from_le_bytes([head[14], head[15]]));
    rest.get(..len).filter(|_| ours && head[6..10] == session.to_le_bytes())
}

/// An IPMI message for the BMC (13.8): two checked parts.
fn message(request: Request<'_>, sequence: u8) -> Vec<u8> {
    let mut message = vec![BMC, request.net_fn << 2];
    message.push(checksum(&message));
    message.extend([CONSOLE, sequence << 2, request.cmd]);
    message.extend(request.data);
    message.push(checksum(&message[3..]));
    message
}

/// The completion code and data of a message that answers this one. `None` when it is anything else.
fn answer<'a>(request: Request<'_>, sequence: u8, message: &'a [u8]) -> Option<&'a [u8]> {
    let [CONSOLE, net_fn, _, _, number, cmd, rest @ ..] = message else { return None };
    let ours = *net_fn == (request.net_fn | 1) << 2 && number >> 2 == sequence & 0x3f && *cmd == request.cmd;
    let checked = checksum(&message[..3]) == 0 && checksum(&message[3..]) == 0;
    rest.split_last().map(|(_, data)| data).filter(|_| ours && checked)
}

/// What makes the sum zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// What both sides put in the pot while a session is opened (13.31).
struct Handshake<'a> {
    suite: Suite,
    /// Role in RAKP message 1: how the user is looked up, and the highest privilege level wanted.
    role: u8,
    user: &'a [u8],
    password: &'a [u8],
    /// Session ids as they stand in a packet: ours, which the BMC uses, and the BMC's, which we use.
    console_id: [u8; 4],
    bmc_id: [u8; 4],
    console_random: [u8; 16],
    bmc_random: [u8; 16],
    bmc_guid: [u8; 16],
}

impl Handshake<'_> {
    fn role(&self) -> [u8; 2] {
        [self.role, self.user.len() as u8]
    }

    /// RAKP message 1, behind its tag.
    fn rakp_1(&self) -> Vec<u8> {
        let role = [self.role()[0], 0, 0, self.role()[1]];
        [&[0, 0, 0], &self.bmc_id[..], &self.console_random, &role, self.user].concat()
    }

    /// Takes RAKP message 2, from behind its status. False when the BMC does not know the password.
    fn rakp_2(&mut self, message: &[u8]) -> bool {
        let Some((random, rest)) = message.get(6..).and_then(<[u8]>::split_first_chunk) else { return false };
        let Some((guid, code)) = rest.split_first_chunk() else { return false };
        (self.bmc_random, self.bmc_guid) = (*random, *guid);
        self.suite.verify(
            self.password,
            &[
                &self.console_id,
                &self.bmc_id,
                &self.console_random,
                &self.bmc_random,
                &self.bmc_guid,
                &self.role(),
                self.user,
            ],
            code,
        )
    }

    /// RAKP message 3, behind its tag.
    fn rakp_3(&self) -> Vec<u8> {
        let parts = [&self.bmc_random[..], &self.console_id, &self.role(), self.user];
        let code = self.suite.hmac(self.password, &parts);
        [&[0, 0, 0], &self.bmc_id[..], &code].concat()
    }

    /// The session integrity key.
    fn sik(&self) -> Vec<u8> {
        let parts = [&self.console_random[..], &self.bmc_random, &self.role(), self.user];
        self.suite.hmac(self.password, &parts)
    }

    /// Is this RAKP message 4, from behind its status?
    fn rakp_4(&self, message: &[u8]) -> bool {
        let Some(code) = message.get(6..) else { return false };
        let parts = [&self.console_random[..], &self.bmc_id, &self.bmc_guid];
        code.len() == self.suite.cut() && self.suite.verify(&self.sik(), &parts, code)
    }
}

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
    /// When the host does not answer, has no such user or password, or speaks none of our cipher suites.
    pub fn open(host: &Host, user: &str, password: &[u8]) -> Result<Self, Error> {
        if user.len() > 16 || password.len() > 20 {
            return Err(Error::Login(
                host.to_string(),
                "IPMI has names of at most 16 and passwords of at most 20 bytes",
            ));
        }
        let addresses = (host.name.as_str(), host.port)
            .to_socket_addrs()
            .map_err(|error| io_error(host.to_string(), error))?;
        let mut last = Error::NoAnswer(host.to_string());
        for address in addresses {
            for suite in Suite::ALL {
                match Self::open_with(host, address, suite, user.as_bytes(), password) {
                    Err(error @ (Error::NoAnswer(_) | Error::NoSuite(_))) => last = error,
                    // Nobody is at this address: no other suite will do.
                    Err(error @ Error::Io(..)) => {
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
    ) -> Result<Self, Error> {
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
            return Err(Error::NoSuite(session.host.clone()));
        }

        let two =
            session.step(payload::RAKP_1, &handshake.rakp_1(), payload::RAKP_2, handshake.console_id)?;
        if !handshake.rakp_2(&two) {
            return Err(Error::Login(session.host.clone(), WRONG_PASSWORD));
        }
        let four =
            session.step(payload::RAKP_3, &handshake.rakp_3(), payload::RAKP_4, handshake.console_id)?;
        if !handshake.rakp_4(&four) {
            return Err(session.nonsense());
        }
        session.keys = Keys::new(suite, &handshake.sik());
        session.bmc_id = u32::from_le_bytes(handshake.bmc_id);
        let level = Request { net_fn: APP, cmd: SET_SESSION_PRIVILEGE_LEVEL, data: &[USER] };
        // A session begins at this level; a BMC that sees it otherwise says so when it is asked something.
        let _ = session.transfer(level, Instant::now() + STEP)?;
        Ok(session)
    }

    /// One step of opening: sends `message` behind a tag and returns what comes behind the answer's status.
    fn step(&mut self, kind: u8, message: &[u8], answers: u8, console_id: [u8; 4]) -> Result<Vec<u8>, Error> {
        // The payload type is as good a tag as any.
        let packet = packet(kind, 0, 0, &[&[kind], message].concat());
        let find = |_: &Self, packet: &[u8]| match contents(answers, 0, packet)? {
            [tag, status, rest @ ..] if *tag == kind => Some((*status, rest.to_vec())),
            _ => None,
        };
        let found = self.exchange(Instant::now() + STEP, |_| Ok(packet.clone()), find);
        let found = found.map_err(|error| self.io_error(error))?;
        let (status, rest) = found.ok_or_else(|| Error::NoAnswer(self.host.clone()))?;
        match status {
            0 if answers == payload::OPEN_SESSION_RESPONSE || rest.get(2..6) == Some(&console_id) => Ok(rest),
            // Table 13-15.
            3..=7 | 0x10 | 0x11 => Err(Error::NoSuite(self.host.clone())),
            0x01 | 0x0b => Err(Error::Login(
                self.host.clone(),
                "it has no room for one more session: try again in a minute",
            )),
            0x09 | 0x0a => Err(Error::Login(self.host.clone(), "this user has no privileges on the LAN")),
            0x0c | 0x0d => Err(Error::Login(self.host.clone(), "it has no such user")),
            0x0f => Err(Error::Login(self.host.clone(), WRONG_PASSWORD)),
            _ => Err(self.nonsense()),
        }
    }

    fn io_error(&self, error: io::Error) -> Error {
        io_error(self.host.clone(), error)
    }

    fn nonsense(&self) -> Error {
        Error::Login(self.host.clone(), "its answer makes no sense")
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

const WRONG_PASSWORD: &str = "it does not take this password";

fn io_error(host: String, error: io::Error) -> Error {
    match error.kind() {
        // A machine is there, but nobody listens at the port.
        io::ErrorKind::ConnectionRefused => Error::NoAnswer(host),
        _ => Error::Io(host, error),
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

impl Transport for Session {
    fn transfer(&mut self, request: Request<'_>, deadline: Instant) -> Result<Vec<u8>, Error> {
        self.request = (self.request + 1) & 0x3f;
        let find = |session: &Self, packet: &[u8]| {
            let message = session.keys.open(session.console_id, packet)?;
            answer(request, session.request, &message).map(<[u8]>::to_vec)
        };
        let found = self.exchange(deadline, |session| session.next(request), find);
        found.map_err(|error| self.io_error(error))?.ok_or(Error::Silent(request.name()))
    }
}

impl Drop for Session {
    /// Closes the session, of which a BMC has few. Whether it heard us, it closes it itself after a minute.
    fn drop(&mut self) {
        if self.bmc_id != 0 {
            let id = self.bmc_id.to_le_bytes();
            let close = Request { net_fn: APP, cmd: CLOSE_SESSION, data: &id };
            if let Ok(packet) = self.next(close) {
                let _ = self.socket.send(&packet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A session of ipmitool 1.8.19 with user admin, password lastwords: Open Session Response, RAKP messages 1 to 4,
    /// a request and its answer.
    type Capture = [&'static str; 7];

    /// Against pyghmi 1.6.19's BMC, made to say SHA-256 where it says SHA-1.
    const SUITE_17: Capture = [
        "\
         0600ff0706110000000000000000240000000400a4a3a2a0802e475900000008030000000100000804000000020000080100\
         0000",
        "\
         0600ff0706120000000000000000210000000000802e4759c784c1088ab309dfcb737b423bcff5e71400000561646d696e",
        "\
         0600ff0706130000000000000000480000000000a4a3a2a0cfff9c479e7db05cdf34459d888b582a6c617374776f72647320\
         6f6e206461648a8d6b2b4c690fd59100d876871eb55a4bbea6e453f3729890c243dcc4726274",
        "\
         0600ff0706140000000000000000280000000000802e47592ada9a65fde2e3f04f217a69077f7614b366ddfb90bd1da03593\
         f83cc4fc3a79",
        "\
         0600ff0706150000000000000000180000000000a4a3a2a0895d7feac894f884cfc56b6c8516d2d6",
        "\
         0600ff0706c0802e47590500000020005fefe6ac476c422a6b23e15f86a33f4fc5254ef9bf9b67c776ea69372bde29c6ffff\
         02079299180dedb9edab106a0ca9f6d687e6",
        "\
         0600ff0706c0a4a3a2a0030000003000f79eaff7d9a185f47c096ab75ee3531e18d077ccfb5a5083555a36891977fd86e890\
         2e171846f477b70d0471e914a2e0ffff0207de63179fb4ad21fb00519dcf11231e0e",
    ];

    /// Against OpenIPMI 2.0.33's ipmi_sim.
    const SUITE_3: Capture = [
        "\
         0600ff0706110000000000000000240000000000a4a3a2a00203000000000008010000000100000801000000020000080100\
         0000",
        "\
         0600ff07061200000000000000002100000000000203000002a2a219e5b76c36162db84d7eba0d4d1400000561646d696e",
        "\
         0600ff07061300000000000000003c0000000000a4a3a2a00702c340b48d54614148eeb77153f3f06c617374776f72647320\
         206f6e20646164c5011392c8cbe0c9685a35aa80459ce48aa568",
        "\
         0600ff07061400000000000000001c000000000002030000e9f96b67ba5eba3988c6c927f6d70814726f8988",
        "\
         0600ff0706150000000000000000140000000000a4a3a2a0d59ddfdb6ed98c0bd3d2edfe",
        "\
         0600ff0706c00203000005000000200038b668460f4dcb02dc443f66cbd581eaa2e1d22c1a01e4e1d81e814c125abb7effff\
         02072ff5fa479e847645341f014f",
        "\
         0600ff0706c0a4a3a2a00300000030003e633625bb2a3ceb14e68daf1c7169da4be4aadc32ab7694d73e47d35c20bf7fce0e\
         f34b658985a97931d39db494036effff0207edf9c3e198955e77b87531f4",
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn array<const N: usize>(packet: &[u8], at: usize) -> [u8; N] {
        packet[at..at + N].try_into().unwrap()
    }

    #[test]
    fn ipmitools_own_sessions() {
        for (suite, capture) in [(Suite::Sha256, SUITE_17), (Suite::Sha1, SUITE_3)] {
            let [opened, one, two, three, four, request, reply] = capture.map(bytes);
            let mut handshake = Handshake {
                suite,
                role: one[40],
                user: b"admin",
                password: b"lastwords",
                console_id: array(&opened, 20),
                bmc_id: array(&opened, 24),
                console_random: array(&one, 24),
                bmc_random: [0; 16],
                bmc_guid: [0; 16],
            };
            // From behind the tag, or the status, on.
            assert_eq!(one[17..], handshake.rakp_1());
            assert!(handshake.rakp_2(&two[18..]));
            assert_eq!(three[17..], handshake.rakp_3());
            assert!(handshake.rakp_4(&four[18..]));
            assert!(!handshake.rakp_4(&four[18..four.len() - 1]));

            let keys = Keys::new(suite, &handshake.sik());
            let [console, bmc] = [handshake.console_id, handshake.bmc_id].map(u32::from_le_bytes);
            let asked = keys.open(bmc, &request).expect("ipmitool's request");
            let sequence = u32::from_le_bytes(array(&request, 10));
            assert_eq!(keys.seal(bmc, sequence, &asked, array(&request, 16)), request);

            let own = Request { net_fn: asked[1] >> 2, cmd: asked[5], data: &asked[6..asked.len() - 1] };
            let number = asked[4] >> 2;
            assert_eq!(message(own, number), asked);
            let told = keys.open(console, &reply).expect("the BMC's answer");
            assert_eq!(answer(own, number, &told).unwrap()[0], 0);
            assert_eq!(answer(own, number + 1, &told), None);
            assert_eq!(answer(Request { cmd: own.cmd + 1, ..own }, number, &told), None);

            handshake.password = b"lastword";
            assert!(!handshake.rakp_2(&two[18..]));
        }
    }

    /// A BMC with user `reader`, password `secret`, that speaks this suite only. It hears every packet the second time,
    /// where it `loses` them, and before each answer it sends what is none.
    fn bmc(suite: Suite, loses: bool) -> Host {
        const ID: [u8; 4] = [9, 8, 7, 6];
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (guid, random) = ([3; 16], [4; 16]);
            let (mut console_id, mut console_random, mut role) = ([0; 4], [0; 16], 0);
            let mut sik = Vec::new();
            let mut heard = std::collections::BTreeSet::new();
            loop {
                let mut buffer = [0; PACKET_LEN];
                let (len, from) = socket.recv_from(&mut buffer).unwrap();
                let packet = &buffer[..len];
                let payload = &packet[HEAD_LEN..];
                if loses && heard.insert(packet[5]) {
                    continue;
                }
                let hmac = |key: &[u8], parts: &[&[u8]]| suite.hmac(key, parts);
                let who: &[&[u8]] = &[&[role, 6], b"reader"];
                let answers = match packet[5] {
                    payload::OPEN_SESSION_REQUEST => {
                        console_id = array(payload, 4);
                        let status = if payload[12] == suite.algorithms()[0] { 0 } else { 4 };
                        let head = [&[payload[0], status, 0, 0], &console_id[..], &ID].concat();
                        let answer = [&head[..], &payload[8..]].concat();
                        vec![super::packet(payload::OPEN_SESSION_RESPONSE, 0, 0, &answer)]
                    }
                    payload::RAKP_1 => {
                        (console_random, role) = (array(payload, 8), payload[24]);
                        let parts: [&[u8]; 7] =
                            [&console_id, &ID, &console_random, &random, &guid, &[role, 6], &payload[28..]];
                        let head = [&[payload[0], 0, 0, 0], &console_id[..], &random, &guid].concat();
                        let answer = [head, hmac(b"secret", &parts)].concat();
                        vec![super::packet(payload::RAKP_2, 0, 0, &answer)]
                    }
                    payload::RAKP_3 => {
                        assert_eq!(
                            payload[8..],
                            hmac(b"secret", &[&[&random, &console_id[..]], who].concat())
                        );
                        sik = hmac(b"secret", &[&[&console_random, &random[..]], who].concat());
                        let code = hmac(&sik, &[&console_random, &ID, &guid]);
                        let answer = [&[payload[0], 0, 0, 0], &console_id[..], &code[..suite.cut()]].concat();
                        vec![super::packet(payload::RAKP_4, 0, 0, &answer)]
                    }
                    _ => {
                        let keys = Keys::new(suite, &sik);
                        let asked = keys.open(u32::from_le_bytes(ID), packet).unwrap();
                        // The answer says what was asked, and in which packet.
                        let answer = |number: u8, data: &[u8]| {
                            let mut message = vec![CONSOLE, asked[1] | 4];
                            message.push(checksum(&message));
                            message.extend([BMC, number, asked[5], 0]);
                            message.extend(data);
                            message.push(checksum(&message[3..]));
                            keys.seal(u32::from_le_bytes(console_id), 1, &message, [5; 16])
                        };
                        let stale = answer(asked[4].wrapping_sub(4), b"old");
                        vec![stale, answer(asked[4], &[&packet[10..11], &asked[6..asked.len() - 1]].concat())]
                    }
                };
                socket.send_to(b"anybody's", from).unwrap();
                for answer in answers {
                    let mut forged = answer.clone();
                    *forged.last_mut().unwrap() ^= 1;
                    // Only what is signed can be known to be forged.
                    if answer[5] & 0xc0 != 0 {
                        socket.send_to(&forged, from).unwrap();
                    }
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        Host { name: "127.0.0.1".to_owned(), port }
    }

    #[test]
    fn a_session_from_its_opening_on() {
        for (suite, loses) in [(Suite::Sha256, false), (Suite::Sha1, false), (Suite::Sha256, true)] {
            let mut session = Session::open(&bmc(suite, loses), "reader", b"secret").unwrap();
            assert_eq!(session.keys.suite, suite);
            for number in 0..3 {
                let request = Request { net_fn: 0x0a, cmd: 0x43, data: &[number, 7] };
                let answer = session.transfer(request, Instant::now() + STEP).unwrap();
                assert_eq!((answer[0], &answer[2..]), (0, &[number, 7][..]));
                // No packet has another one's number.
                assert_eq!(answer[1], session.sequence as u8);
            }
        }
    }

    #[test]
    fn who_is_not_let_in_is_told_why() {
        let host = bmc(Suite::Sha256, false);
        let wrong = Session::open(&host, "reader", b"guess").err().unwrap();
        assert_eq!(wrong.to_string(), format!("{host} does not let us in: {WRONG_PASSWORD}"));
        let long = Session::open(&host, "a name of 17 bytes", b"").err().unwrap();
        assert!(matches!(long, Error::Login(..)), "{long}");
        // Nobody listens there any more.
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let silent = Session::open(&Host { port: nobody, ..host }, "reader", b"secret").err().unwrap();
        assert!(matches!(silent, Error::NoAnswer(_)), "{silent}");
    }

    #[test]
    fn hosts_and_ports() {
        for (text, name, port, shown) in [
            ("bmc7", "bmc7", 623, "bmc7"),
            ("192.0.2.1:9623", "192.0.2.1", 9623, "192.0.2.1:9623"),
            ("2001:db8::1", "2001:db8::1", 623, "2001:db8::1"),
            ("[2001:db8::1]:9623", "2001:db8::1", 9623, "[2001:db8::1]:9623"),
            ("[::1]", "::1", 623, "::1"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(host, Host { name: name.to_owned(), port });
            assert_eq!(host.to_string(), shown);
        }
        for bad in ["", ":623", "bmc7:", "bmc7:x", "bmc7:0", "bmc7:65536", "[::1", "[::1]9623", "[]:623"] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_and_nothing_else(
            text in prop::collection::vec(any::<u8>(), 0..60),
            session: u32,
            sequence: u32,
            iv: [u8; 16],
            at: prop::sample::Index,
            change in 1u8..,
        ) {
            for suite in Suite::ALL {
                let keys = Keys::new(suite, b"key");
                let mut packet = keys.seal(session, sequence, &text, iv);
                prop_assert_eq!(keys.open(session, &packet), Some(text.clone()));
                prop_assert_eq!(keys.open(session ^ 1, &packet), None);
                let at = 4 + at.index(packet.len() - 4);
                packet[at] ^= change;
                prop_assert_eq!(keys.open(session, &packet), None);
            }
        }

        #[test]
        fn anybodys_packets_are_passed_over(packet in prop::collection::vec(any::<u8>(), 0..120)) {
            let request = Request { net_fn: 6, cmd: 1, data: &[] };
            let _ = (contents(payload::RAKP_2, 0, &packet), answer(request, 0, &packet));
            for suite in Suite::ALL {
                let keys = Keys::new(suite, b"key");
                prop_assert_eq!(keys.open(0, &packet), None);
                // Signed all the same: by a BMC that makes mistakes.
                let mut signed = [&RMCP[..], &[RMCP_PLUS, SEALED], &[0; 8], &packet].concat();
                let code = suite.hmac(&keys.k1, &[&signed[4..]]);
                signed.extend(&code[..suite.cut()]);
                let _ = keys.open(0, &signed);
            }
            let mut handshake = Handshake {
                suite: Suite::Sha256,
                role: BY_NAME,
                user: b"",
                password: b"",
                console_id: [0; 4],
                bmc_id: [0; 4],
                console_random: [0; 16],
                bmc_random: [0; 16],
                bmc_guid: [0; 16],
            };
            prop_assert!(!handshake.rakp_2(&packet));
            prop_assert!(!handshake.rakp_4(&packet));
        }
    }
}
