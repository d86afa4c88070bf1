//! BMCs that fall ill a second before the panic: one that had been ill since boot would have no driver in the dead
//! kernel, and Linux's own way would have nothing to lose.

use super::Fault;
use crate::machine::bmc::manners::{netfn, obedient};
use crate::machine::bmc::recording::{Answer, Manner, Request};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The state that the BMC shares with who watches the machine.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) ill: AtomicBool,
    /// The characters of platform events.
    pub(super) events: Mutex<Vec<[u8; 3]>>,
    pub(super) records: AtomicUsize,
}

impl Fault {
    /// The BMC: good until it falls ill, and counts what it takes from then on.
    pub(super) fn manner(self, shared: Arc<Shared>, tell: Sender<()>) -> Manner {
        if let Self::Bt(fault) | Self::Ssif(fault) | Self::Alone(fault) = self {
            return fault.manner(shared, tell);
        }
        let mut good = obedient();
        let mut asked = 0u32;
        Box::new(move |request: &Request| {
            if !shared.ill.load(Ordering::SeqCst) {
                return good(request);
            }
            asked += 1;
            // Nobody listens where there is no NMI to send.
            let _ = tell.send(());
            let answer = self.answer(asked, request, &mut good);
            let taken = match &answer {
                Answer::Say(said) | Answer::Late(_, said) | Answer::ToAnother(_, _, said) => {
                    said.first() == Some(&0) && self != Self::Garbage
                }
                Answer::Silence | Answer::HangUp => false,
            };
            match (request.netfn, request.command) {
                (netfn::SENSOR, 0x02) if taken => {
                    let of = |at: usize| request.data.get(at).copied().unwrap_or_default();
                    shared.events.lock().unwrap_or_else(PoisonError::into_inner).push([of(3), of(6), of(7)]);
                }
                (netfn::STORAGE, 0x44) if taken => drop(shared.records.fetch_add(1, Ordering::SeqCst)),
                _ => {}
            }
            answer
        })
    }

    /// The answer to the `asked`-th request since the BMC fell ill.
    fn answer(self, asked: u32, request: &Request, good: &mut Manner) -> Answer {
        let what = (request.netfn, request.command);
        match self {
            Self::Mute | Self::MuteAndRtcStopped => return Answer::Silence,
            Self::SilentFromThird if asked >= 3 => return Answer::Silence,
            Self::HangsUp if asked == 3 => return Answer::HangUp,
            Self::Refuses(code) => return Answer::Say(vec![code]),
            Self::RefusesRecords(code) if what == (netfn::STORAGE, 0x44) => return Answer::Say(vec![code]),
            Self::Short => return Answer::Say(Vec::new()),
            Self::Garbage => {
                // A linear congruential generator (Knuth): the same garbage in each run.
                let mut state = u64::from(asked);
                let mut byte = || {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                };
                let (netfn, command, len) = (byte() >> 2, byte(), byte() % 40);
                return Answer::ToAnother(netfn, command, (0..len).map(|_| byte()).collect());
            }
            _ => {}
        }
        let Answer::Say(mut said) = good(request) else { return Answer::Silence };
        match self {
            Self::Slow => Answer::Late(Duration::from_secs(2), said),
            Self::Traffic => Answer::Late(Duration::from_millis(50), said),
            Self::ToAnother => Answer::ToAnother(request.netfn, request.command ^ 0x10, said),
            Self::Long => {
                said.resize(said.len() + 200, 0);
                Answer::Say(said)
            }
            // No room.
            Self::RefusesRecords(0xc4) if what == (netfn::STORAGE, 0x40) => {
                said[4] = 0;
                said[5] = 0;
                Answer::Say(said)
            }
            _ => Answer::Say(said),
        }
    }
}
