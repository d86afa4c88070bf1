//! A KCS interface that forgives nothing: IPMI 2.0 section 9 figure by figure. Each step takes it a while, and what the
//! system side may not do is written down.
//!
//! It holds no commands: what was asked is carried out by the BMC behind it.

use crate::bmc::{ERROR, IBF, IDLE, OBF, READ, WRITE};

/// What goes on in a WRITE_STATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Bytes of a request come.
    Request,
    /// The next byte is its last (WRITE_END was written).
    LastByte,
    /// The request is being carried out.
    Working,
    /// GET_STATUS/ABORT was written, 0 comes.
    Aborting,
    /// The error status is read.
    Status,
    /// An answer is read.
    Answer,
    /// Nothing.
    Quiet,
}

/// The interface.
#[derive(Clone, Debug)]
pub struct StrictKcs {
    /// Nanoseconds from a write until IBF clears, and the state with it.
    pub take_ns: u64,
    /// Nanoseconds from there until a byte of an answer is in the output buffer.
    pub fill_ns: u64,
    /// Nanoseconds from the request's last byte until the state changes to READ_STATE.
    pub answer_ns: u64,
    /// It puts a byte into the output buffer for whatever it takes, as the figures have it.
    pub dummies: bool,
    /// Nanoseconds from IDLE_STATE until the last of those is there.
    pub last_dummy_ns: u64,
    /// What the system side did that it may not.
    pub violations: Vec<String>,
    /// How often it was aborted.
    pub aborts: u32,
    state: u8,
    phase: Phase,
    /// What was written and not taken yet: when it will be, to the command register?, the byte.
    written: Option<(u64, bool, u8)>,
    out: Option<u8>,
    /// That was the dead kernel's doing.
    forgiven: bool,
    /// What comes into the output buffer, and when.
    coming: Option<(u64, u8)>,
    /// When the answer is there, and the answer.
    answer: Option<(u64, Vec<u8>)>,
    reply: std::collections::VecDeque<u8>,
    request: Vec<u8>,
}

impl Default for StrictKcs {
    fn default() -> Self {
        Self {
            take_ns: 3_000,
            fill_ns: 2_000,
            answer_ns: 300_000,
            dummies: true,
            last_dummy_ns: 0,
            violations: Vec::new(),
            aborts: 0,
            state: IDLE,
            phase: Phase::Quiet,
            written: None,
            forgiven: false,
            out: None,
            coming: None,
            answer: None,
            reply: std::collections::VecDeque::new(),
            request: Vec::new(),
        }
    }
}

impl StrictKcs {
    /// What was done so far, and what was written last, was somebody else's.
    pub fn forgive(&mut self) {
        self.violations.clear();
        self.forgiven = self.written.is_some();
    }

    fn violation(&mut self, what: &str) {
        let (state, phase) = (self.state, self.phase);
        self.violations.push(format!("{what} (state {state:#04x}, {phase:?})"));
    }

    /// Reads a register at this nanosecond. `obey` carries a request out.
    pub(crate) fn read(&mut self, command: bool, ns: u64, obey: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> u8 {
        self.go_on(ns, obey);
        if command {
            let ibf = if self.written.is_some() { IBF } else { 0 };
            return self.state | ibf | if self.out.is_some() { OBF } else { 0 };
        }
        if self.out.is_none() {
            self.violation("Data_Out read without OBF");
        }
        self.out.take().unwrap_or(0)
    }

    /// Writes a register at this nanosecond.
    pub(crate) fn write(
        &mut self,
        command: bool,
        value: u8,
        ns: u64,
        obey: &mut dyn FnMut(&[u8]) -> Vec<u8>,
    ) {
        self.go_on(ns, obey);
        if self.written.is_some() {
            self.violation(&format!("{value:#04x} written with IBF set"));
        }
        // Figure 9-8 alone begins without a look at OBF.
        if self.out.is_some() && !(command && value == 0x60) {
            self.violation(&format!("{value:#04x} written with OBF set"));
        }
        self.written = Some((ns + self.take_ns, command, value));
    }

    /// What happens by itself until this nanosecond.
    fn go_on(&mut self, ns: u64, obey: &mut dyn FnMut(&[u8]) -> Vec<u8>) {
        if let Some((at, command, value)) = self.written
            && at <= ns
        {
            self.written = None;
            if command {
                self.control_code(value);
            } else {
                self.data(value, at, obey);
            }
            if std::mem::take(&mut self.forgiven) {
                self.violations.clear();
            }
        }
        if let Some((at, answer)) = self.answer.take_if(|(at, _)| *at <= ns) {
            self.reply = answer.into();
            (self.state, self.phase) = (READ, Phase::Answer);
            self.next_byte(at);
        }
        if let Some((_, byte)) = self.coming.take_if(|(at, _)| *at <= ns) {
            self.out = Some(byte);
        }
    }

    fn next_byte(&mut self, ns: u64) {
        if let Some(byte) = self.reply.pop_front() {
            self.coming = Some((ns + self.fill_ns, byte));
        } else {
            (self.state, self.phase) = (IDLE, Phase::Quiet);
            self.coming = self.dummies.then_some((ns + self.last_dummy_ns, 0));
        }
    }

    fn dummy(&mut self) {
        if self.dummies {
            self.out = Some(0);
        }
    }

    fn control_code(&mut self, code: u8) {
        match code {
            0x60 => {
                self.aborts += 1;
                (self.answer, self.coming) = (None, None);
                self.reply.clear();
                (self.state, self.phase) = (WRITE, Phase::Aborting);
                self.dummy();
            }
            0x61 => {
                if self.state != IDLE {
                    self.violation("WRITE_START outside IDLE_STATE");
                }
                self.request.clear();
                self.coming = None;
                (self.state, self.phase) = (WRITE, Phase::Request);
                self.dummy();
            }
            0x62 if self.phase == Phase::Request => {
                self.phase = Phase::LastByte;
                self.dummy();
            }
            _ => {
                self.violation(&format!("control code {code:#04x}"));
                (self.state, self.phase) = (ERROR, Phase::Quiet);
            }
        }
    }

    fn data(&mut self, byte: u8, ns: u64, obey: &mut dyn FnMut(&[u8]) -> Vec<u8>) {
        match (self.phase, byte) {
            (Phase::Request, _) => {
                self.request.push(byte);
                self.dummy();
            }
            (Phase::LastByte, _) => {
                self.request.push(byte);
                let request = std::mem::take(&mut self.request);
                self.answer = Some((ns + self.answer_ns, obey(&request)));
                self.phase = Phase::Working;
            }
            (Phase::Aborting, 0) => {
                (self.state, self.phase) = (READ, Phase::Status);
                // No error.
                self.coming = Some((ns + self.fill_ns, 0));
            }
            (Phase::Status | Phase::Answer, 0x68) => {
                if self.coming.is_some() {
                    self.violation("READ before the byte was there");
                }
                self.next_byte(ns);
            }
            _ => {
                self.violation(&format!("data {byte:#04x}"));
                (self.state, self.phase) = (ERROR, Phase::Quiet);
            }
        }
    }
}
