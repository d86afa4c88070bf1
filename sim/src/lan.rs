//! A BMC on the LAN (RMCP+, IPMI 2.0 section 13) with a SEL, and the quirks of real ones: a switch each. It has no socket and
//! no clock: packets come with a time, and answers go with one, so that a test with an answer every five seconds takes no
//! time. `lan-bmc` puts it behind a UDP port, for other tools.
//!
//! Written from the specification, with nothing of the tool's own code in it.

use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::NoPadding};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// Milliseconds of whoever runs it.
pub type Ms = u64;

/// Sessions that it has room for, as many BMCs; and how long one lasts that is not used (6.12.15).
const SESSIONS: usize = 4;
const SESSION_ENDS: Ms = 60_000;
/// Bytes of RMCP and session header (13.6).
const HEAD: usize = 16;
/// After so many refused logins the user is locked.
const LOCKS_AFTER: u32 = 3;
/// The largest payload of UDP.
const LARGEST: usize = 65_507;

/// How a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// With this completion code.
    Code(u8),
    /// The record is cut.
    Short,
    /// Who asks for it gets no answer.
    Silent,
}

/// Where the id of the next record points to that it should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To the record itself.
    Itself,
    /// To the first record's id.
    Back,
    /// To 0.
    Zero,
}

/// What it writes into a record's own id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnIds {
    /// The id by which the record is asked for.
    #[default]
    Right,
    /// 1, 1, 2, 3...
    FirstTwice,
    /// What the sender of the record had there: 0.
    Senders,
    /// One more.
    OffByOne,
}

/// A BMC, its switches and what has become of it.
#[derive(Clone, Debug)]
pub struct LanBmc {
    /// Its records; by their place, from 1 on, they are asked for.
    pub sel: Vec<[u8; 16]>,
    /// The ids in the records.
    pub own_ids: OwnIds,
    /// The record at this place points to a wrong one.
    pub next: Option<(usize, Next)>,
    /// The record at this place cannot be read.
    pub unreadable: Option<(usize, Unreadable)>,
    /// There is no record 0.
    pub no_first: bool,
    /// After each so many Get SEL Entry, somebody cancels the reservation.
    pub cancels_every: Option<u32>,
    /// And so many times in a row, at each record.
    pub cancels: u32,
    /// Each id has a record, for ever.
    pub endless: bool,
    /// Get SEL Info counts so many records.
    pub count: Option<u16>,
    /// Each record lacks so many bytes.
    pub lacks: usize,
    /// When the SEL was cleared last, as Get SEL Info has it.
    pub erased: u32,
    /// And that is another time whenever it is asked.
    pub erased_runs: bool,
    /// After so many Get SEL Entry it is cleared, and filled with these.
    pub cleared: Option<(u32, Vec<[u8; 16]>)>,
    /// Its clock: Get SEL Time.
    pub clock: u32,

    /// An answer takes so long, one at a time.
    pub delay: Ms,
    /// Of 100 packets so many are lost, each way.
    pub loss: u64,
    /// It forgets its sessions after so many commands.
    pub dies_after: Option<u32>,
    /// From this time on it answers nothing.
    pub gone_from: Option<Ms>,
    /// And from this one again, without the sessions of before.
    pub back_at: Option<Ms>,
    /// Until this time all of its sessions are somebody else's.
    pub full_until: Ms,

    /// The user's name and password, and the BMC's key where it has one (`Kg`).
    pub user: Vec<u8>,
    /// See `user`.
    pub password: Vec<u8>,
    /// See `user`.
    pub kg: Vec<u8>,
    /// Its answers in the handshake have tag 0.
    pub tag_zero: bool,
    /// The tag of its errors is not that of the request, and there is no session id.
    pub errors_without_tag: bool,
    /// RAKP message 4 has the whole code.
    pub rakp_4_uncut: bool,
    /// RAKP message 2 has a byte more, or is cut to so many bytes.
    pub rakp_2_longer: bool,
    /// See `rakp_2_longer`.
    pub rakp_2_cut: Option<usize>,
    /// RAKP message 1 is refused with this status.
    pub rakp_2_status: u8,
    /// RAKP message 3 is.
    pub rakp_4_status: u8,
    /// They are for suite 17 alone.
    pub refuses_sha256: bool,
    /// Checksums in its messages are wrong.
    pub wrong_checksum: bool,
    /// It refuses suite 17 with this status.
    pub no_sha256: Option<u8>,
    /// It drops what it does not know, suite 17 for example.
    pub drops_sha256: bool,
    /// It knows IPMI 1.5 alone.
    pub ipmi_15: bool,
    /// Its packets in a session have the same number.
    pub never_counts: bool,
    /// Before each answer it sends what it has sent before.
    pub replays: bool,
    /// Before each answer it sends random bytes, and 64 KiB.
    pub floods: bool,

    /// Packets that came, and that went.
    pub heard: usize,
    /// See `heard`.
    pub sent: usize,
    /// Logins that it has refused; RAKP messages 3 that it has seen; commands in sessions.
    pub refused: u32,
    /// See `refused`.
    pub rakp_3s: u32,
    /// See `refused`.
    pub commands: u32,
    /// Its memory.
    pub state: State,
}

/// What it remembers.
#[derive(Clone, Debug)]
pub struct State {
    sessions: Vec<Session>,
    last_id: u32,
    busy_until: Ms,
    random: u64,
    reservation: u16,
    reads: u32,
    cancelled: u32,
    old: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Session {
    id: [u8; 4],
    console: [u8; 4],
    sha256: bool,
    user: Vec<u8>,
    role: u8,
    console_random: [u8; 16],
    random: [u8; 16],
    sik: Vec<u8>,
    sequence: u32,
    used: Ms,
}

/// A switch's name, and what it does.
pub type Quirk = (&'static str, fn(&mut LanBmc));

/// The quirks, by name.
pub const QUIRKS: &[Quirk] = &[
    ("none", |_| {}),
    ("record ids 1, 1, 2, 3", |bmc| bmc.own_ids = OwnIds::FirstTwice),
    ("record ids as the sender had them", |bmc| bmc.own_ids = OwnIds::Senders),
    ("record ids off by one", |bmc| bmc.own_ids = OwnIds::OffByOne),
    ("last record points to itself", |bmc| bmc.next = Some((bmc.sel.len(), Next::Itself))),
    ("last record points to the first", |bmc| bmc.next = Some((bmc.sel.len(), Next::Back))),
    ("last record points to 0", |bmc| bmc.next = Some((bmc.sel.len(), Next::Zero))),
    ("a record points to itself", |bmc| bmc.next = Some((5, Next::Itself))),
    ("a record points to the first", |bmc| bmc.next = Some((5, Next::Back))),
    ("a record points to 0", |bmc| bmc.next = Some((5, Next::Zero))),
    ("a record is refused, 0xff", |bmc| bmc.unreadable = Some((5, Unreadable::Code(0xff)))),
    ("a record is refused, 0xcb", |bmc| bmc.unreadable = Some((5, Unreadable::Code(0xcb)))),
    ("a record is cut", |bmc| bmc.unreadable = Some((5, Unreadable::Short))),
    ("a record is never answered", |bmc| bmc.unreadable = Some((5, Unreadable::Silent))),
    ("all records lack their last byte", |bmc| bmc.lacks = 1),
    ("0 as last byte of all records", |bmc| bmc.sel.iter_mut().for_each(|record| record[15] = 0)),
    ("events' sender changed to 0x21", |bmc| of_events(bmc, 7, 0x21)),
    ("events' record type changed to 0x00", |bmc| of_events(bmc, 2, 0)),
    ("events' record type changed to 0x04", |bmc| of_events(bmc, 2, 4)),
    ("events' EvMRev changed to 3", |bmc| of_events(bmc, 9, 3)),
    ("twice as many records counted", |bmc| bmc.count = Some(bmc.sel.len() as u16 * 2)),
    ("one record counted", |bmc| bmc.count = Some(1)),
    ("no record 0", |bmc| bmc.no_first = true),
    ("reservation cancelled at each third record", |bmc| bmc.cancels_every = Some(3)),
    ("reservation cancelled 20 times at each third record", |bmc| {
        (bmc.cancels_every, bmc.cancels) = (Some(3), 20);
    }),
    ("session forgotten after 9 commands", |bmc| bmc.dies_after = Some(9)),
    ("answers take 1.3 s", |bmc| bmc.delay = 1300),
    ("answers take 5 s", |bmc| bmc.delay = 5000),
    ("half of all packets lost", |bmc| bmc.loss = 50),
    ("no session free for 20 s", |bmc| bmc.full_until = 20_000),
    ("tag 0 in the handshake", |bmc| bmc.tag_zero = true),
    ("RAKP 4 code not cut", |bmc| bmc.rakp_4_uncut = true),
    ("RAKP 2 code one byte longer", |bmc| bmc.rakp_2_longer = true),
    ("wrong checksum in messages", |bmc| bmc.wrong_checksum = true),
    ("suite 17 refused with 0x12", |bmc| bmc.no_sha256 = Some(0x12)),
    ("suite 17 dropped", |bmc| bmc.drops_sha256 = true),
    ("Kg set", |bmc| bmc.kg = KG.to_vec()),
    ("packets in the session not counted", |bmc| bmc.never_counts = true),
    ("answers repeated", |bmc| bmc.replays = true),
    ("random packets between", |bmc| bmc.floods = true),
    ("IPMI 1.5 alone", |bmc| bmc.ipmi_15 = true),
    ("another user's name, refused with another tag", |bmc| {
        (bmc.user, bmc.errors_without_tag) = (b"nobody".to_vec(), true);
    }),
    ("RAKP 4 with status 0x02", |bmc| bmc.rakp_4_status = 0x02),
    ("suite 17 refused in RAKP 4", |bmc| (bmc.refuses_sha256, bmc.rakp_4_status) = (true, 0x05)),
];

/// Writes into this byte of each event's record.
fn of_events(bmc: &mut LanBmc, at: usize, byte: u8) {
    bmc.sel.iter_mut().filter(|record| record[2] == 2).for_each(|record| record[at] = byte);
}

/// The user that it knows, the password, and the key where it has one.
pub const USER: &[u8] = b"reader";
/// See [`USER`].
pub const PASSWORD: &[u8] = b"secret";
/// See [`USER`].
pub const KG: &[u8] = b"a key of the BMC";

impl LanBmc {
    /// One without quirks, with these records.
    #[must_use]
    pub fn new(sel: Vec<[u8; 16]>) -> Self {
        Self {
            sel,
            own_ids: OwnIds::Right,
            next: None,
            unreadable: None,
            no_first: false,
            cancels_every: None,
            cancels: 1,
            endless: false,
            count: None,
            lacks: 0,
            erased: 0x69ff_0000,
            erased_runs: false,
            cleared: None,
            clock: 0x6a00_0000,
            delay: 0,
            loss: 0,
            dies_after: None,
            gone_from: None,
            back_at: None,
            full_until: 0,
            user: USER.to_vec(),
            password: PASSWORD.to_vec(),
            kg: Vec::new(),
            tag_zero: false,
            errors_without_tag: false,
            rakp_4_uncut: false,
            rakp_2_longer: false,
            rakp_2_cut: None,
            rakp_2_status: 0,
            rakp_4_status: 0,
            refuses_sha256: false,
            wrong_checksum: false,
            no_sha256: None,
            drops_sha256: false,
            ipmi_15: false,
            never_counts: false,
            replays: false,
            floods: false,
            heard: 0,
            sent: 0,
            refused: 0,
            rakp_3s: 0,
            commands: 0,
            state: State {
                sessions: Vec::new(),
                last_id: 0x0100_0000,
                busy_until: 0,
                random: 0x9e37_79b9_7f4a_7c15,
                reservation: 1,
                reads: 0,
                cancelled: 0,
                old: Vec::new(),
            },
        }
    }

    /// Other random numbers, and other packets lost.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.state.random ^= seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
        self
    }

    /// Takes a packet that came at this time. Returns answers, each with the time at which it goes.
    pub fn receive(&mut self, now: Ms, packet: &[u8]) -> Vec<(Ms, Vec<u8>)> {
        self.heard += 1;
        if self.back_at.is_some_and(|back| now >= back) {
            (self.gone_from, self.back_at) = (None, None);
            self.state.sessions.clear();
        }
        if self.is_lost() || self.gone_from.is_some_and(|from| now >= from) {
            return Vec::new();
        }
        let at = self.state.busy_until.max(now) + self.delay;
        self.state.busy_until = at;
        let Some(answer) = self.answer(at, packet) else { return Vec::new() };
        let mut all = Vec::new();
        if self.floods {
            for len in [0, 3, 60, LARGEST] {
                all.push((0..len).map(|_| self.draw() as u8).collect());
            }
        }
        if self.replays {
            all.extend(self.state.old.iter().rev().take(70).cloned());
            self.state.old.push(answer.clone());
        }
        all.push(answer);
        all.retain(|_| !self.is_lost());
        self.sent += all.len();
        all.into_iter().map(|packet| (at, packet)).collect()
    }

    fn draw(&mut self) -> u64 {
        self.state.random ^= self.state.random << 13;
        self.state.random ^= self.state.random >> 7;
        self.state.random ^= self.state.random << 17;
        self.state.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn is_lost(&mut self) -> bool {
        self.loss > 0 && self.draw() % 100 < self.loss
    }

    fn bytes(&mut self) -> [u8; 16] {
        std::array::from_fn(|_| self.draw() as u8)
    }

    fn answer(&mut self, now: Ms, packet: &[u8]) -> Option<Vec<u8>> {
        if packet.len() < 5 || packet[0] != 6 || packet[3] != 7 {
            return None;
        }
        self.state.sessions.retain(|session| now < session.used + SESSION_ENDS);
        match packet[4] {
            0 => {
                let answer = self.without_session(packet.get(14..)?)?;
                Some([&[6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, answer.len() as u8], &answer[..]].concat())
            }
            6 if !self.ipmi_15 => match packet.get(5)? {
                0x00 => Some(plain(0x00, &self.without_session(packet.get(HEAD..)?)?)),
                0x10 => self.open(now, packet.get(HEAD..)?),
                0x12 => self.rakp_1(now, packet.get(HEAD..)?),
                0x14 => self.rakp_3(now, packet.get(HEAD..)?),
                0xc0 => self.in_session(now, packet),
                _ => None,
            },
            _ => None,
        }
    }

    /// What is asked without a session.
    fn without_session(&self, message: &[u8]) -> Option<Vec<u8>> {
        let data: &[u8] = match (message.get(1)? >> 2, *message.get(5)?) {
            // Get Channel Authentication Capabilities (22.13).
            (6, 0x38) if self.ipmi_15 => &[0, 1, 0x04, 0x04, 0, 0, 0, 0, 0],
            (6, 0x38) => &[0, 1, 0x80, if self.kg.is_empty() { 0x04 } else { 0x24 }, 3, 0, 0, 0, 0],
            // Get Channel Cipher Suites (22.15).
            (6, 0x54) if self.no_sha256.is_some() || self.drops_sha256 => &[0, 1, 0xc0, 3, 1, 0x41, 0x81],
            (6, 0x54) => &[0, 1, 0xc0, 3, 1, 0x41, 0x81, 0xc0, 17, 3, 0x44, 0x81],
            _ => &[0xc1],
        };
        Some(self.message(message, data))
    }

    /// A message's answer: completion code and data.
    fn message(&self, request: &[u8], data: &[u8]) -> Vec<u8> {
        let mut message = vec![request[3], request[1] | 4];
        message.push(checksum(&message));
        message.extend([0x20, request[4], request[5]]);
        message.extend(data);
        message.push(checksum(&message[3..]).wrapping_add(u8::from(self.wrong_checksum)));
        message
    }

    fn head(&self, tag: u8, status: u8, console: [u8; 4]) -> Vec<u8> {
        let tag = if self.tag_zero { 0 } else { tag };
        let lost = status != 0 && self.errors_without_tag;
        let (tag, console) = if lost { (tag ^ 0x55, [0; 4]) } else { (tag, console) };
        [&[tag, status, 0, 0], &console[..]].concat()
    }

    fn open(&mut self, now: Ms, request: &[u8]) -> Option<Vec<u8>> {
        let (tag, console) = (*request.first()?, *request.get(4..)?.first_chunk()?);
        let algorithms = [12, 20, 28].map(|at| request.get(at).copied().unwrap_or(0));
        let refuse = |bmc: &Self, status| Some(plain(0x11, &bmc.head(tag, status, console)));
        let sha256 = algorithms == [3, 4, 1];
        if sha256 && self.drops_sha256 {
            return None;
        }
        match self.no_sha256 {
            Some(status) if sha256 => return refuse(self, status),
            _ if sha256 || algorithms == [1, 1, 1] => {}
            _ => return refuse(self, 0x11),
        }
        if now < self.full_until || self.state.sessions.len() >= SESSIONS {
            return refuse(self, 0x01);
        }
        self.state.last_id += 1;
        let id = self.state.last_id.to_le_bytes();
        self.state.sessions.push(Session {
            id,
            console,
            sha256,
            user: Vec::new(),
            role: 0,
            console_random: [0; 16],
            random: [0; 16],
            sik: Vec::new(),
            sequence: 0,
            used: now,
        });
        let rest = request.get(8..)?;
        let mut head = self.head(tag, 0, console);
        // Highest privilege level: administrator.
        head[2] = 4;
        Some(plain(0x11, &[&head[..], &id, rest].concat()))
    }

    fn rakp_1(&mut self, now: Ms, request: &[u8]) -> Option<Vec<u8>> {
        let (tag, id) = (*request.first()?, request.get(4..8)?);
        let random = self.bytes();
        let Some(at) =
            self.state.sessions.iter().position(|session| session.id == *id && session.sik.is_empty())
        else {
            return Some(plain(0x13, &self.head(tag, 0x02, [0; 4])));
        };
        let session = &mut self.state.sessions[at];
        session.used = now;
        session.console_random = *request.get(8..)?.first_chunk()?;
        session.random = random;
        session.role = *request.get(24)?;
        session.user = request.get(28..)?.to_vec();
        let session = session.clone();
        let is_known = session.user == self.user && self.refused < LOCKS_AFTER;
        let status = if is_known { self.status(self.rakp_2_status, &session) } else { 0x0d };
        if status != 0 {
            self.refused += u32::from(!is_known);
            self.state.sessions.remove(at);
            return Some(plain(0x13, &self.head(tag, status, session.console)));
        }
        let parts = [&session.console[..], id, &session.console_random, &random, &GUID, &session.who()];
        let mut code = session.hmac(&self.password, &parts.concat());
        code.extend(self.rakp_2_longer.then_some(0));
        code.truncate(self.rakp_2_cut.unwrap_or(code.len()));
        let head = self.head(tag, 0, session.console);
        Some(plain(0x13, &[&head[..], &random, &GUID, &code].concat()))
    }

    fn rakp_3(&mut self, now: Ms, request: &[u8]) -> Option<Vec<u8>> {
        self.rakp_3s += 1;
        let (tag, id) = (*request.first()?, request.get(4..8)?);
        let Some(at) =
            self.state.sessions.iter().position(|session| session.id == *id && session.sik.is_empty())
        else {
            return Some(plain(0x15, &self.head(tag, 0x02, [0; 4])));
        };
        let session = self.state.sessions[at].clone();
        let console = session.console;
        let expected =
            session.hmac(&self.password, &[&session.random[..], &console, &session.who()].concat());
        let is_right = request.get(8..) == Some(&expected);
        let status = if is_right { self.status(self.rakp_4_status, &session) } else { 0x0f };
        if status != 0 {
            self.refused += 1;
            self.state.sessions.remove(at);
            return Some(plain(0x15, &self.head(tag, status, console)));
        }
        let kg = if self.kg.is_empty() { &self.password } else { &self.kg };
        let sik = session.hmac(kg, &[&session.console_random[..], &session.random, &session.who()].concat());
        let mut code = session.hmac(&sik, &[&session.console_random[..], id, &GUID].concat());
        if !self.rakp_4_uncut {
            code.truncate(session.cut());
        }
        self.state.sessions[at].sik = sik;
        self.state.sessions[at].used = now;
        Some(plain(0x15, &[&self.head(tag, 0, console)[..], &code].concat()))
    }

    /// The status with which a session of this suite is refused.
    fn status(&self, status: u8, session: &Session) -> u8 {
        if self.refuses_sha256 && !session.sha256 { 0 } else { status }
    }

    fn in_session(&mut self, now: Ms, packet: &[u8]) -> Option<Vec<u8>> {
        let id = packet.get(6..10)?;
        let at =
            self.state.sessions.iter().position(|session| session.id == *id && !session.sik.is_empty())?;
        let message = self.state.sessions[at].open(packet)?;
        if message.len() < 7 {
            return None;
        }
        self.commands += 1;
        if self.dies_after.is_some_and(|after| self.commands.is_multiple_of(after)) {
            self.state.sessions.clear();
            return None;
        }
        self.state.sessions[at].used = now;
        let data = self.command(message[1] >> 2, message[5], &message[6..message.len() - 1])?;
        let answer = self.message(&message, &data);
        let iv = self.bytes();
        let never_counts = self.never_counts;
        let session = &mut self.state.sessions[at];
        session.sequence = if never_counts { 1 } else { session.sequence + 1 };
        let sealed = session.seal(&answer, iv);
        if (message[1] >> 2, message[5]) == (6, 0x3c) {
            self.state.sessions.remove(at);
        }
        Some(sealed)
    }

    /// A command's completion code and data; `None` where it is not answered.
    fn command(&mut self, net_fn: u8, command: u8, data: &[u8]) -> Option<Vec<u8>> {
        Some(match (net_fn, command) {
            (6, 0x01) => vec![0, 0x20, 0x23, 0x09, 0x08, 0x02, 0x9f, 0x91, 0x12, 0, 2, 0x0f, 0, 0, 0, 0],
            (6, 0x08 | 0x37) => [&[0], &GUID[..]].concat(),
            (6, 0x3b) => vec![0, data.first().copied().unwrap_or(2)],
            (6, 0x3c) => vec![0],
            (0x0a, 0x40) => {
                self.erased += u32::from(self.erased_runs);
                let len = self.count.unwrap_or(self.sel.len() as u16).to_le_bytes();
                let (added, erased) = (self.clock.to_le_bytes(), self.erased.to_le_bytes());
                [&[0, 0x51], &len[..], &[0, 0x10], &added, &erased, &[0x02]].concat()
            }
            (0x0a, 0x42) => {
                self.state.reservation += 1;
                [&[0], &self.state.reservation.to_le_bytes()[..]].concat()
            }
            (0x0a, 0x43) => return self.entry(data),
            (0x0a, 0x48) => [&[0], &self.clock.to_le_bytes()[..]].concat(),
            _ => vec![0xc1],
        })
    }

    fn entry(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let [reservation0, reservation1, id0, id1, _, _] = data else { return Some(vec![0xc7]) };
        let id = u16::from_le_bytes([*id0, *id1]);
        if let Some(every) = self.cancels_every {
            if self.state.reads % every == every - 1 && self.state.cancelled < self.cancels {
                self.state.cancelled += 1;
                self.state.reservation += 1;
                return Some(vec![0xc5]);
            }
            if self.state.reads > 0
                && self.state.reservation != u16::from_le_bytes([*reservation0, *reservation1])
            {
                return Some(vec![0xc5]);
            }
            self.state.cancelled = 0;
        }
        self.state.reads += 1;
        if let Some((_, records)) = self.cleared.take_if(|(after, _)| *after < self.state.reads) {
            (self.sel, self.erased) = (records, self.clock);
        }
        let last = if self.endless { usize::from(u16::MAX) - 1 } else { self.sel.len() };
        let place = match id {
            0 if self.no_first => return Some(vec![0xcb]),
            0 => 1,
            0xffff => last,
            id => usize::from(id),
        };
        if place == 0 || place > last {
            return Some(vec![0xcb]);
        }
        let mut record = if self.endless { [7; 16] } else { self.sel[place - 1] };
        let own = match self.own_ids {
            OwnIds::Right => place,
            OwnIds::FirstTwice => (place - 1).max(1),
            OwnIds::Senders => 0,
            OwnIds::OffByOne => place + 1,
        };
        record[..2].copy_from_slice(&(own as u16).to_le_bytes());
        let mut next = if place == last { 0xffff } else { place as u16 + 1 };
        match self.next {
            Some((at, to)) if at == place => {
                next = match to {
                    Next::Itself => place as u16,
                    Next::Back => 1,
                    Next::Zero => 0,
                }
            }
            _ => {}
        }
        let mut answer = [&[0], &next.to_le_bytes()[..], &record].concat();
        match self.unreadable {
            Some((at, Unreadable::Code(code))) if at == place => return Some(vec![code]),
            Some((at, Unreadable::Short)) if at == place => answer.truncate(12),
            Some((at, Unreadable::Silent)) if at == place => return None,
            _ => {}
        }
        answer.truncate(answer.len() - self.lacks);
        Some(answer)
    }
}

const GUID: [u8; 16] = *b"a BMC on the LAN";

impl Session {
    /// Role, length of the name, name: as they stand in the codes (13.31).
    fn who(&self) -> Vec<u8> {
        [&[self.role, self.user.len() as u8], &self.user[..]].concat()
    }

    fn cut(&self) -> usize {
        if self.sha256 { 16 } else { 12 }
    }

    fn hmac(&self, key: &[u8], text: &[u8]) -> Vec<u8> {
        if self.sha256 {
            let mut hmac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes every key");
            hmac.update(text);
            hmac.finalize().into_bytes().to_vec()
        } else {
            let mut hmac = <Hmac<Sha1> as KeyInit>::new_from_slice(key).expect("HMAC takes every key");
            hmac.update(text);
            hmac.finalize().into_bytes().to_vec()
        }
    }

    /// K1 and the first half of K2 (13.32).
    fn keys(&self) -> (Vec<u8>, [u8; 16]) {
        let k2 = self.hmac(&self.sik, &[2; 20]);
        (self.hmac(&self.sik, &[1; 20]), std::array::from_fn(|at| k2[at]))
    }

    fn open(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let (k1, aes) = self.keys();
        let (signed, code) = packet.split_at_checked(packet.len().checked_sub(self.cut())?)?;
        if self.hmac(&k1, signed.get(4..)?)[..self.cut()] != *code {
            return None;
        }
        let len = usize::from(u16::from_le_bytes([*signed.get(14)?, *signed.get(15)?]));
        let (iv, text) = signed.get(HEAD..HEAD + len)?.split_first_chunk::<16>()?;
        let mut text = text.to_vec();
        let text = cbc::Decryptor::<aes::Aes128>::new(&aes.into(), &(*iv).into())
            .decrypt_padded::<NoPadding>(&mut text)
            .ok()?;
        let (pad, text) = text.split_last()?;
        Some(text.get(..text.len().checked_sub(usize::from(*pad))?)?.to_vec())
    }

    fn seal(&self, message: &[u8], iv: [u8; 16]) -> Vec<u8> {
        let (k1, aes) = self.keys();
        let mut text = message.to_vec();
        let pad = (16 - (text.len() + 1) % 16) % 16;
        text.extend((1..=pad).map(|at| at as u8));
        text.push(pad as u8);
        let len = text.len();
        cbc::Encryptor::<aes::Aes128>::new(&aes.into(), &iv.into())
            .encrypt_padded::<NoPadding>(&mut text, len)
            .expect("whole blocks");
        let mut packet = vec![6, 0, 0xff, 7, 6, 0xc0];
        packet.extend(self.console);
        packet.extend(self.sequence.to_le_bytes());
        packet.extend(((len + 16) as u16).to_le_bytes());
        packet.extend(iv);
        packet.extend(text);
        while (packet.len() - 4 + 2) % 4 != 0 {
            packet.push(0xff);
        }
        let pad = (packet.len() - HEAD - len - 16) as u8;
        packet.extend([pad, 7]);
        let code = self.hmac(&k1, &packet[4..]);
        packet.extend(&code[..self.cut()]);
        packet
    }
}

/// A packet outside of sessions.
fn plain(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![6, 0, 0xff, 7, 6, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    packet.extend((payload.len() as u16).to_le_bytes());
    packet.extend(payload);
    packet
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}
