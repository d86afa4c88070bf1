//! A session with a BMC: how it is opened, asked, found dead and opened again. It knows no socket and no clock: a [`Link`]
//! carries packets and tells the time, so that a test with a BMC that takes five seconds for each answer takes none.
//!
//! What comes in may be anybody's. A packet that is not the one waited for, or not signed with the session's key, or that has
//! been taken before, is passed over, and the request is sent again with patience that grows. A login that is refused is
//! never tried again: some BMCs lock a user after three.

use super::{
    handshake::{BY_NAME, Handshake, Proof, USER},
    message::{answer, message},
    packet::{CAPABILITIES, Keys, are_1_5_alone, contents, packet, payload, sequence},
    suite::Suite,
};
use lastwords_core::ipmi::message::{NetFn, Request};
use std::{collections::BTreeSet, fmt, io, time::Duration};

/// A packet is sent again after so long, while nothing is known of how fast the BMC answers; and later at least.
const FIRST: Duration = Duration::from_millis(1500);
const SHORTEST: Duration = Duration::from_millis(500);
/// As long as the BMC takes for an answer, it is at most taken to need.
const SLOWEST: Duration = Duration::from_secs(15);
/// Each further copy of a packet is given so many times the time of the first one.
const GROWTH: u32 = 2;
/// So many copies of a request without an answer, and the BMC has forgotten the session; of a step while one is opened.
const COPIES: usize = 12;
const STEP_COPIES: usize = 8;
/// After so many, something else is asked with each: where so many of these are answered, and the request is not, no copy
/// of it will be.
const ALONE: usize = 2;
const ALIVE: usize = 5;

/// Where nobody answers at all, no longer is waited.
const SILENCE: Duration = Duration::from_secs(30);
/// So many times is begun anew where packets are lost, or a BMC drops what it does not like; less where it says that it knows no
/// such session.
const TRIES: usize = 8;
/// A BMC that has no session free ends those that are not used after a minute (6.12.15).
const FULL: Duration = Duration::from_secs(120);
/// Between two questions whether a session is free.
const FULL_PAUSE: Duration = Duration::from_secs(5);

/// Longest packet that is taken.
const PACKET_LEN: usize = 1024;
/// Answers may overtake each other by so many, not more.
const WINDOW: u32 = 32;

/// Commands (IPMI 2.0 appendix G) that belong to the session, and one that every BMC answers.
const GET_DEVICE_ID: u8 = 0x01;
const SET_SESSION_PRIVILEGE_LEVEL: u8 = 0x3b;
const CLOSE_SESSION: u8 = 0x3c;

/// What carries packets.
pub trait Link {
    /// Its clock.
    fn now(&mut self) -> Duration;
    /// Sends a packet.
    ///
    /// # Errors
    /// When it cannot be sent.
    fn send(&mut self, packet: &[u8]) -> io::Result<()>;
    /// Waits for a packet until then: its length, cut to the buffer's.
    ///
    /// # Errors
    /// When none can come.
    fn receive(&mut self, buffer: &mut [u8], until: Duration) -> io::Result<Option<usize>>;
    /// Random bytes that nobody can guess.
    ///
    /// # Errors
    /// When there are none.
    fn random(&mut self) -> io::Result<[u8; 32]>;
}

/// Who wants in.
#[derive(Clone)]
pub struct Login {
    /// The user's name, and the password.
    pub user: Vec<u8>,
    /// See `user`.
    pub password: Vec<u8>,
    /// The BMC's key, where it has one.
    pub kg: Option<Vec<u8>>,
}

/// A status code of RMCP+ and RAKP other than 0 (table 13-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u8);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 18] = [
            "Insufficient resources to create a session",
            "Invalid Session ID",
            "Invalid payload type",
            "Invalid authentication algorithm",
            "Invalid integrity algorithm",
            "No matching authentication payload",
            "No matching integrity payload",
            "Inactive Session ID",
            "Invalid role",
            "Unauthorized role or privilege level requested",
            "Insufficient resources to create a session at the requested role",
            "Invalid name length",
            "Unauthorized name",
            "Unauthorized GUID",
            "Invalid integrity check value",
            "Invalid confidentiality algorithm",
            "No Cipher Suite match with proposed security algorithms",
            "Illegal or Unrecognized Parameter",
        ];
        write!(f, "RAKP status {:#04x}", self.0)?;
        match usize::from(self.0).checked_sub(1).and_then(|at| NAMES.get(at)) {
            Some(name) => write!(f, ", {name}"),
            None => Ok(()),
        }
    }
}

/// Why there is no session.
#[derive(Debug)]
pub enum LoginError {
    /// Nobody answers.
    Silent,
    /// Somebody does, and no session was open in time: answers come late, or packets are lost.
    Slow,
    /// All sessions are taken.
    Full(Status),
    /// No suite of ours.
    NoSuite(Status),
    /// The BMC refuses.
    Refused(Status),
    /// The BMC knows another password.
    Password,
    /// It knows the password, and has another key.
    Kg,
    /// It has no RMCP+.
    Only15,
    /// What it answers is no answer.
    Nonsense,
    /// The network.
    Io(io::Error),
}

impl From<io::Error> for LoginError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Why one try has not opened a session.
enum Failed {
    /// Another one may. Why this one has not, where the BMC tells.
    Again(Option<Status>),
    /// No other one will.
    Error(LoginError),
}

impl<E: Into<LoginError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl From<Status> for Failed {
    /// What an error answer says. It counts whatever its tag and session: some BMCs answer errors with others.
    fn from(status: Status) -> Self {
        match status.0 {
            // What is asked for belongs to a session that the BMC has given up.
            0x02 | 0x08 => Self::Again(Some(status)),
            0x01 | 0x0b => Self::Error(LoginError::Full(status)),
            0x03..=0x07 | 0x10..=0x12 => Self::Error(LoginError::NoSuite(status)),
            _ => Self::Error(LoginError::Refused(status)),
        }
    }
}

/// A session, open or to be opened.
pub struct Session<L: Link> {
    pub link: L,
    login: Login,
    open: Option<Open>,
    /// How long an answer took.
    takes: Option<Duration>,
    /// Has anybody answered?
    heard: bool,
    /// Has the BMC refused us?
    refused: bool,
    /// Did it answer something else, while it did not answer the last request that it has not answered?
    alive: bool,
}

/// A session that is open.
struct Open {
    keys: Keys,
    console_id: u32,
    bmc_id: u32,
    /// The last packet's number; 0 is outside of sessions.
    sequence: u32,
    /// The last request's number.
    request: u8,
    /// The highest number of a packet that was taken, and the end of each, with its code.
    highest: u32,
    taken: BTreeSet<[u8; 16]>,
}

/// An Open Session Request.
struct Attempt {
    suite: Suite,
    console_id: [u8; 4],
    sent: Duration,
}

/// Looks at what comes until then, up to the first packet in which `find` finds something.
fn listen<T>(
    link: &mut impl Link,
    until: Duration,
    mut find: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut buffer = [0; PACKET_LEN];
    while let Some(len) = link.receive(&mut buffer, until)? {
        if let Some(found) = find(&buffer[..len.min(PACKET_LEN)]) {
            return Ok(Some(found));
        }
        if link.now() >= until {
            break;
        }
    }
    Ok(None)
}

impl<L: Link> Session<L> {
    /// One that opens itself when it is asked.
    pub fn new(link: L, login: Login) -> Self {
        Self { link, login, open: None, takes: None, heard: false, refused: false, alive: false }
    }

    /// How long the answer to this copy of a packet is waited for.
    fn patience(&self, copy: usize) -> Duration {
        let Some(takes) = self.takes else { return FIRST };
        let first = (takes * 2).clamp(SHORTEST, 2 * SLOWEST);
        if copy == 0 { first } else { first * GROWTH }
    }

    /// Remembers how long the answer to a packet took that was sent then.
    fn learn(&mut self, sent: Duration) {
        let took = self.link.now().saturating_sub(sent);
        // What is slow now and then is slow: it is forgotten slowly.
        self.takes = Some(self.takes.map_or(took, |takes| took.max((takes * 7 + took) / 8)));
    }

    fn random<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let random = self.link.random()?;
        Ok(std::array::from_fn(|at| random.get(at).copied().unwrap_or(0)))
    }

    /// Opens a session at privilege level User, before `deadline`.
    ///
    /// # Errors
    /// [`LoginError`].
    pub fn open(&mut self, deadline: Duration) -> Result<(), LoginError> {
        let full_until = deadline.min(self.link.now() + FULL);
        self.heard = false;
        let mut suites = Suite::ALL.to_vec();
        let mut tries = 1;
        loop {
            let error = match self.handshake(&mut suites, deadline) {
                Ok(()) => return Ok(()),
                Err(Failed::Again(status)) if self.link.now() < deadline && tries < TRIES => {
                    tries += if status.is_some() { TRIES / 2 } else { 1 };
                    continue;
                }
                // Said late, of the better suite: what the other one is made of the BMC may know.
                Err(Failed::Error(LoginError::NoSuite(_))) if suites.len() > 1 => {
                    suites.swap_remove(0);
                    continue;
                }
                Err(Failed::Again(status)) => status.map_or(LoginError::Silent, LoginError::Refused),
                Err(Failed::Error(error)) => error,
            };
            let now = self.link.now();
            if !matches!(error, LoginError::Full(_)) || now + FULL_PAUSE >= full_until {
                self.refused |=
                    !matches!(error, LoginError::Full(_) | LoginError::Silent | LoginError::Io(_));
                let is_slow = matches!(error, LoginError::Silent) && self.heard;
                return Err(if is_slow { LoginError::Slow } else { error });
            }
            listen(&mut self.link, now + FULL_PAUSE, |_| None::<()>)?;
        }
    }

    /// Tries once to open a session.
    fn handshake(&mut self, suites: &mut Vec<Suite>, until: Duration) -> Result<(), Failed> {
        let (Attempt { suite, console_id, .. }, bmc_id) = self.request_session(suites, until)?;
        let (user, password) = (self.login.user.clone(), self.login.password.clone());
        let kg = self.login.kg.clone().unwrap_or_else(|| password.clone());
        let mut handshake = Handshake {
            suite,
            role: BY_NAME | USER,
            user: &user,
            password: &password,
            kg: &kg,
            console_id,
            bmc_id,
            console_random: [0; 16],
            bmc_random: [0; 16],
            bmc_guid: [0; 16],
        };
        self.prove_bmc(&mut handshake, until)?;
        let refused = match self.prove_ourselves(&handshake, until) {
            Ok(()) => None,
            // The answer may have been lost, and the session be open: what is signed will show it.
            Err(Failed::Again(status)) => status,
            error => return error,
        };
        self.open = Some(Open {
            keys: Keys::new(suite, &handshake.sik()),
            console_id: u32::from_le_bytes(console_id),
            bmc_id: u32::from_le_bytes(bmc_id),
            sequence: 0,
            request: 0,
            highest: 0,
            taken: BTreeSet::new(),
        });
        let level = Request { net_fn: NetFn::APP, cmd: SET_SESSION_PRIVILEGE_LEVEL, data: &[USER] };
        // A session begins at this level; a BMC that sees it otherwise refuses the first command.
        if self.ask_open(level, until)?.is_some() || self.alive {
            return Ok(());
        }
        self.close();
        // A login that was refused is not tried again.
        Err(refused.map_or(Failed::Again(None), |status| LoginError::Refused(status).into()))
    }

    /// Open Session Request: until one is granted. Each copy has an id of its own, and the answer to any of them counts.
    fn request_session(
        &mut self,
        suites: &mut Vec<Suite>,
        until: Duration,
    ) -> Result<(Attempt, [u8; 4]), Failed> {
        /// What came.
        enum Heard {
            Only15,
            Response(Vec<u8>),
        }
        let began = self.link.now();
        let mut attempts: Vec<Attempt> = Vec::new();
        loop {
            let (now, copy) = (self.link.now(), attempts.len());
            let until = if self.heard { until } else { until.min(began + SILENCE) };
            if now >= until {
                return Err(LoginError::Silent.into());
            }
            // Some BMCs drop what they do not know: each third copy asks for what is left.
            let wanted = if copy % 3 == 2 { suites.last() } else { suites.first() };
            let suite = *wanted.ok_or(LoginError::NoSuite(Status(0x11)))?;
            let mut console_id = self.random()?;
            // 0 is no session.
            console_id[0] |= 1;
            attempts.push(Attempt { suite, console_id, sent: now });
            let mut request = vec![attempts.len() as u8, 0, 0, 0];
            request.extend(console_id);
            for (kind, algorithm) in (0..).zip(suite.algorithms()) {
                request.extend([kind, 0, 0, 8, algorithm, 0, 0, 0]);
            }
            self.link.send(&packet(payload::OPEN_SESSION_REQUEST, 0, 0, &request))?;
            if copy % 2 == 1 && !self.heard {
                self.link.send(&CAPABILITIES)?;
            }
            let again = until.min(now + self.patience(copy));
            let find = |packet: &[u8]| match are_1_5_alone(packet) {
                Some(true) => Some(Heard::Only15),
                _ => contents(payload::OPEN_SESSION_RESPONSE, 0, packet)
                    .map(|response| Heard::Response(response.to_vec())),
            };
            let mut only_15 = false;
            while let Some(heard) = listen(&mut self.link, again, find)? {
                let Heard::Response(response) = heard else {
                    only_15 = true;
                    continue;
                };
                let [tag, status, _, _, rest @ ..] = &response[..] else { continue };
                self.heard = true;
                let ours = attempts.iter().position(|attempt| rest.get(..4) == Some(&attempt.console_id));
                let algorithms = [12, 20, 28].map(|at| rest.get(at).copied());
                let status = match (ours, rest.get(4..8).and_then(<[u8]>::first_chunk)) {
                    (Some(ours), Some(bmc_id)) if *status == 0 => {
                        if algorithms == attempts[ours].suite.algorithms().map(Some) {
                            let attempt = attempts.swap_remove(ours);
                            self.learn(attempt.sent);
                            return Ok((attempt, *bmc_id));
                        }
                        // It has chosen another one.
                        0x11
                    }
                    _ if *status == 0 => continue,
                    _ => *status,
                };
                let tagged = usize::from(*tag).checked_sub(1).filter(|at| *at < attempts.len());
                // A refusal that is slow is one, too: more copies would take more of the BMC's few sessions.
                if let Some(attempt) = ours.or(tagged).and_then(|at| attempts.get(at)) {
                    self.learn(attempt.sent);
                }
                match Failed::from(Status(status)) {
                    Failed::Error(LoginError::NoSuite(status)) => {
                        let refused = attempts[ours.or(tagged).unwrap_or(copy)].suite;
                        suites.retain(|suite| *suite != refused);
                        if suites.is_empty() {
                            return Err(LoginError::NoSuite(status).into());
                        }
                        break;
                    }
                    error => return Err(error),
                }
            }
            // Had anybody forged it, a response of the BMC's own would have come, too.
            if only_15 && !self.heard {
                return Err(LoginError::Only15.into());
            }
        }
    }

    /// RAKP messages 1 and 2: does the BMC know the password? Each copy has a random number of its own, and the answer to
    /// the last one alone counts: some BMCs draw another one for each that comes.
    fn prove_bmc(&mut self, handshake: &mut Handshake<'_>, until: Duration) -> Result<(), Failed> {
        let mut before = Vec::new();
        for copy in 0..STEP_COPIES {
            let now = self.link.now();
            if now >= until {
                break;
            }
            handshake.console_random = self.random()?;
            let tag = copy as u8 + 1;
            self.link.send(&packet(payload::RAKP_1, 0, 0, &[&[tag], &handshake.rakp_1()[..]].concat()))?;
            let again = until.min(now + self.patience(copy));
            let mut wrong = None;
            let find = |packet: &[u8]| contents(payload::RAKP_2, 0, packet).map(<[u8]>::to_vec);
            while let Some(two) = listen(&mut self.link, again, find)? {
                match &two[..] {
                    [_, status @ 1..=u8::MAX, ..] => return Err(Status(*status).into()),
                    [of, _, rest @ ..]
                        if [0, tag].contains(of) && rest.get(2..6) == Some(&handshake.console_id) =>
                    {
                        let is_of = |random: &[u8; 16]| {
                            let mut other = Handshake { console_random: *random, ..handshake.clone() };
                            other.rakp_2(rest) == Proof::Right
                        };
                        if before.iter().any(is_of) {
                            continue;
                        }
                        match handshake.rakp_2(rest) {
                            Proof::Right => {
                                self.learn(now);
                                return Ok(());
                            }
                            Proof::Wrong => wrong = Some(LoginError::Password),
                            Proof::Short => wrong = Some(LoginError::Nonsense),
                        }
                    }
                    _ => {}
                }
            }
            // Had anybody forged it, the BMC's own would have come, too.
            if let Some(error) = wrong {
                return Err(error.into());
            }
            before.push(handshake.console_random);
        }
        Err(Failed::Again(None))
    }

    /// RAKP messages 3 and 4: we know the password, and the BMC the key.
    fn prove_ourselves(&mut self, handshake: &Handshake<'_>, until: Duration) -> Result<(), Failed> {
        let tag = STEP_COPIES as u8 + 1;
        let three = packet(payload::RAKP_3, 0, 0, &[&[tag], &handshake.rakp_3()[..]].concat());
        for copy in 0..STEP_COPIES {
            let now = self.link.now();
            if now >= until {
                break;
            }
            self.link.send(&three)?;
            let again = until.min(now + self.patience(copy));
            let mut wrong = None;
            let find = |packet: &[u8]| contents(payload::RAKP_4, 0, packet).map(<[u8]>::to_vec);
            while let Some(four) = listen(&mut self.link, again, find)? {
                match &four[..] {
                    [_, status @ 1..=u8::MAX, ..] => {
                        let status = Status(*status);
                        return Err(match Failed::from(status) {
                            // An earlier copy may have opened the session.
                            again @ Failed::Again(_) if copy > 0 => again,
                            other @ Failed::Error(LoginError::NoSuite(Status(..=0x11))) => other,
                            _ => LoginError::Refused(status).into(),
                        });
                    }
                    [of, _, rest @ ..]
                        if [0, tag].contains(of) && rest.get(2..6) == Some(&handshake.console_id) =>
                    {
                        match handshake.rakp_4(rest) {
                            Proof::Right => {
                                self.learn(now);
                                return Ok(());
                            }
                            Proof::Wrong => wrong = Some(LoginError::Kg),
                            Proof::Short => wrong = Some(LoginError::Nonsense),
                        }
                    }
                    _ => {}
                }
            }
            if let Some(error) = wrong {
                return Err(error.into());
            }
        }
        Err(Failed::Again(None))
    }

    /// Sends a request until it is answered: completion code and data. A session that the BMC has forgotten is opened again.
    /// `None` when there is no answer by then, or there will be none, because the BMC answers others.
    ///
    /// # Errors
    /// When the BMC does not let us in again, or the network fails.
    pub fn ask(&mut self, request: Request<'_>, deadline: Duration) -> Result<Option<Vec<u8>>, LoginError> {
        while self.link.now() < deadline {
            if self.open.is_none() {
                if self.refused {
                    return Err(LoginError::Refused(Status(0x08)));
                }
                match self.open(deadline) {
                    Ok(()) => {}
                    Err(LoginError::Silent | LoginError::Slow | LoginError::Full(_)) => break,
                    Err(error) => return Err(error),
                }
            }
            if let Some(answer) = self.ask_open(request, deadline)? {
                return Ok(Some(answer));
            }
            if self.alive {
                break;
            }
            if self.link.now() < deadline {
                self.close();
            }
        }
        Ok(None)
    }

    /// Sends a request in the session that is open, [`COPIES`] times at most. Each copy has a number of its own, and the answer
    /// to any of them counts.
    fn ask_open(&mut self, request: Request<'_>, deadline: Duration) -> io::Result<Option<Vec<u8>>> {
        let other = Request { net_fn: NetFn::APP, cmd: GET_DEVICE_ID, data: &[] };
        // The number of each, when it was sent, and what it asks.
        let mut copies: Vec<(u8, Duration, Request<'_>)> = Vec::new();
        let mut alive = 0;
        for copy in 0..COPIES {
            let now = self.link.now();
            if now >= deadline || alive >= ALIVE {
                break;
            }
            let again = deadline.min(now + self.patience(copy));
            for asked in [request, other].into_iter().take(if copy < ALONE { 1 } else { 2 }) {
                let iv = self.random()?;
                let Some(open) = &mut self.open else { return Ok(None) };
                self.link.send(&open.next(asked, iv))?;
                copies.push((open.request, now, asked));
            }
            let Some(open) = &mut self.open else { break };
            let found = listen(&mut self.link, again, |packet| {
                let message = open.keys.open(open.console_id, packet)?;
                let of = |(number, ..): &&(u8, Duration, Request<'_>)| {
                    Some(number << 2) == message.get(4).copied()
                };
                let (_, sent, asked) = copies.iter().find(of)?;
                let (_, answer) = answer(*asked, &message)?;
                if !open.is_new(packet) {
                    return None;
                }
                if *asked != request {
                    alive += 1;
                    return None;
                }
                Some((*sent, answer.to_vec()))
            })?;
            if let Some((sent, answer)) = found {
                self.learn(sent);
                return Ok(Some(answer));
            }
        }
        self.alive = alive >= ALIVE;
        Ok(None)
    }

    /// Closes the session, of which a BMC has few. Whether it hears us, it closes it itself after a minute.
    pub fn close(&mut self) {
        let (Some(mut open), Ok(iv)) = (self.open.take(), self.random()) else { return };
        let id = open.bmc_id.to_le_bytes();
        let close = Request { net_fn: NetFn::APP, cmd: CLOSE_SESSION, data: &id };
        let _ = self.link.send(&open.next(close, iv));
    }
}

impl<L: Link> Drop for Session<L> {
    fn drop(&mut self) {
        self.close();
    }
}

impl Open {
    /// The next packet with this request.
    fn next(&mut self, request: Request<'_>, iv: [u8; 16]) -> Vec<u8> {
        self.request = (self.request + 1) & 0x3f;
        // Sequence numbers go round without 0.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.keys.seal(self.bmc_id, self.sequence, &message(request, self.request), iv)
    }

    /// Has this packet, which is the BMC's, not come before? One that is much older than the last one has been held back. Some
    /// BMCs do not count their packets; but two that they sign have never the same code, since each has random bytes.
    fn is_new(&mut self, packet: &[u8]) -> bool {
        let sequence = sequence(packet);
        let Some(code) = packet.last_chunk() else { return false };
        let is_new = sequence.saturating_add(WINDOW) >= self.highest && self.taken.insert(*code);
        self.highest = self.highest.max(sequence);
        is_new
    }
}
