//! A LAN with one simulated BMC, and the time that passes on it: waiting takes none. What happens is the same every time.

use super::{Link, Login, Session, reason};
use crate::bmc::{BmcError, Connection, System};
use lastwords_sim::lan::{LanBmc, PASSWORD, USER};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The LAN, seen from our side.
#[derive(Clone)]
pub struct Lan {
    pub bmc: Arc<Mutex<LanBmc>>,
    /// Nanoseconds.
    clock: Arc<AtomicU64>,
    /// What is under way to us: when it comes, and a number that keeps the order.
    coming: BTreeMap<(u64, u64), Vec<u8>>,
    number: u64,
    /// Packets that came, whatever they are.
    pub came: u64,
}

/// A packet takes so long.
const TRAVELS: u64 = 100_000;

impl Lan {
    pub fn new(bmc: LanBmc) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        Self { bmc: Arc::new(Mutex::new(bmc)), clock, coming: BTreeMap::new(), number: 0, came: 0 }
    }

    /// What `look` finds in the BMC.
    pub fn bmc<T>(&self, look: impl FnOnce(&mut LanBmc) -> T) -> T {
        look(&mut self.bmc.lock().unwrap())
    }

    /// The time so far.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.load(Ordering::Relaxed))
    }

    /// A session with the BMC, opened within this time.
    pub fn open(&self, login: Login, limit: Duration) -> Result<Session<Self>, BmcError> {
        let mut session = Session::new(self.clone(), login);
        session.open(limit).map(|()| session).map_err(|error| reason("bmc".to_owned(), error))
    }

    /// A connection, with this time for all of it.
    pub fn connect_as(&self, login: Login, limit: Duration) -> Result<Connection, BmcError> {
        let mut system = System::new(None);
        system.simulated = Some(Arc::clone(&self.clock));
        Connection::opened(system, "bmc", limit, || self.open(login, limit))
    }

    /// The same, by the user that the BMC knows.
    pub fn connect(&self, limit: Duration) -> Result<Connection, BmcError> {
        self.connect_as(login(), limit)
    }
}

/// Of the user that the BMC knows.
pub fn login() -> Login {
    Login { user: USER.to_vec(), password: PASSWORD.to_vec(), kg: None }
}

impl Link for Lan {
    fn now(&mut self) -> Duration {
        self.elapsed()
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        let now = self.clock.load(Ordering::Relaxed) + TRAVELS;
        for (at, answer) in self.bmc.lock().unwrap().receive(now / 1_000_000, packet) {
            self.number += 1;
            self.coming.insert(((at * 1_000_000).max(now) + TRAVELS, self.number), answer);
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], until: Duration) -> io::Result<Option<usize>> {
        let until = until.as_nanos() as u64;
        match self.coming.first_entry() {
            Some(entry) if entry.key().0 < until => {
                let ((at, _), packet) = entry.remove_entry();
                self.clock.fetch_max(at, Ordering::Relaxed);
                self.came += 1;
                let len = packet.len().min(buffer.len());
                buffer[..len].copy_from_slice(&packet[..len]);
                Ok(Some(len))
            }
            _ => {
                self.clock.fetch_max(until, Ordering::Relaxed);
                Ok(None)
            }
        }
    }

    fn random(&mut self) -> io::Result<[u8; 32]> {
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            self.number += 1;
            *byte = (self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8;
        }
        Ok(bytes)
    }
}
