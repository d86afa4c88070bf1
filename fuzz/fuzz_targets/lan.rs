//! A session over the LAN with a BMC that answers what it should, and in between, and instead, anything: also under the right
//! keys.
#![no_main]
#![allow(dead_code)]

#[path = "../../cli/src/bmc/lan/handshake.rs"]
mod handshake;
#[path = "../../cli/src/bmc/lan/message.rs"]
mod message;
#[path = "../../cli/src/bmc/lan/packet.rs"]
mod packet;
#[path = "../../cli/src/bmc/lan/session.rs"]
mod session;
#[path = "../../cli/src/bmc/lan/suite.rs"]
mod suite;

use lastwords_core::ipmi::message::{NetFn, Request};
use lastwords_sim::lan::{LanBmc, PASSWORD, USER};
use libfuzzer_sys::fuzz_target;
use session::{Link, Login, Session};
use std::{collections::VecDeque, io, time::Duration};

/// The LAN: the input says what becomes of each of the BMC's packets.
struct Wire<'a> {
    bmc: LanBmc,
    input: &'a [u8],
    coming: VecDeque<Vec<u8>>,
    now: Duration,
    sent: usize,
    drawn: u8,
}

impl Wire<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.input.split_first()?;
        self.input = rest;
        Some(*byte)
    }
}

impl Link for Wire<'_> {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.sent += 1;
        for (_, mut answer) in self.bmc.receive(self.now.as_millis() as u64, packet) {
            match self.byte() {
                // As it is.
                None | Some(0..=127) => self.coming.push_back(answer),
                // Lost.
                Some(128..=143) => {}
                // Twice.
                Some(144..=159) => self.coming.extend([answer.clone(), answer]),
                // Cut.
                Some(160..=191) => {
                    let len = usize::from(self.byte().unwrap_or(0));
                    answer.truncate(len);
                    self.coming.push_back(answer);
                }
                // Changed at a place.
                Some(192..=239) => {
                    let at = usize::from(self.byte().unwrap_or(0)) % answer.len().max(1);
                    let change = self.byte().unwrap_or(1);
                    if let Some(byte) = answer.get_mut(at) {
                        *byte ^= change;
                    }
                    self.coming.push_back(answer);
                }
                // Another one.
                Some(_) => {
                    let len = usize::from(self.byte().unwrap_or(0)).min(self.input.len());
                    let (packet, rest) = self.input.split_at(len);
                    (self.input, answer) = (rest, packet.to_vec());
                    self.coming.push_back(answer);
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], until: Duration) -> io::Result<Option<usize>> {
        let Some(packet) = self.coming.pop_front() else {
            self.now = self.now.max(until);
            return Ok(None);
        };
        self.now += Duration::from_millis(1);
        let len = packet.len().min(buffer.len());
        buffer[..len].copy_from_slice(&packet[..len]);
        Ok(Some(len))
    }

    fn random(&mut self) -> io::Result<[u8; 32]> {
        self.drawn = self.drawn.wrapping_add(1);
        Ok([self.drawn; 32])
    }
}

fuzz_target!(|input: &[u8]| {
    let bmc = LanBmc::new(vec![[7; 16]; 3]);
    let wire = Wire { bmc, input, coming: VecDeque::new(), now: Duration::ZERO, sent: 0, drawn: 0 };
    let login = Login { user: USER.to_vec(), password: PASSWORD.to_vec(), kg: None };
    let mut session = Session::new(wire, login);
    let limit = Duration::from_secs(100);
    for id in 1..4 {
        let request = Request { net_fn: NetFn(0x0a), cmd: 0x43, data: &[0, 0, id, 0, 0, 0xff] };
        if let Ok(Some(answer)) = session.ask(request, limit) {
            // Nobody but the BMC can make an answer, and it answers what it was asked.
            assert_eq!((answer[0], answer[3]), (0, id));
        }
    }
    assert!(session.link.now <= limit + Duration::from_secs(1));
    assert!(session.link.sent < 400, "{} packets", session.link.sent);
    assert!(session.link.bmc.refused <= 1, "{} refused logins", session.link.bmc.refused);
});
