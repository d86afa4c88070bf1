//! A BT interface: IPMI 2.0 section 11, with what the host may not do written down.
//!
//! It holds no commands: what was asked is carried out by the BMC behind it, after that one's `answer_us`. It can be mute, keep its
//! busy bits, be found in the middle of somebody else's request or answer, or answer what nobody has asked.

use crate::bmc::Ask;

const CLR_WR_PTR: u8 = 0x01;
const CLR_RD_PTR: u8 = 0x02;
const H2B_ATN: u8 = 0x04;
const B2H_ATN: u8 = 0x08;
const H_BUSY: u8 = 0x40;
const B_BUSY: u8 = 0x80;

/// The interface.
pub struct Bt {
    /// Nobody there.
    pub absent: bool,
    /// BT_CTRL reads this, whatever happens.
    pub stuck: Option<u8>,
    /// Microseconds from H2B_ATN until the request is taken, and from there until B_BUSY clears.
    pub take_us: u64,
    /// B_BUSY stays as long as an answer is there that nobody takes.
    pub waits_for_host: bool,
    /// So often B2H_ATN must be cleared.
    pub hits: u32,
    /// The sequence number of answers is changed by this.
    pub wrong_seq: u8,
    /// The length of answers is this.
    pub wrong_len: Option<u8>,
    /// What the host did that it may not.
    pub violations: Vec<String>,
    /// Sequence numbers of the requests.
    pub seqs: Vec<u8>,
    control: u8,
    host2bt: Vec<u8>,
    /// The write pointer was set back, and it is our turn.
    begun: bool,
    bt2host: Vec<u8>,
    at: usize,
    left_hits: u32,
    /// When the request in HOST2BT is taken.
    taken_us: Option<u64>,
    /// When B_BUSY clears.
    free_us: Option<u64>,
    /// When these answers are there.
    coming: Vec<(u64, Vec<u8>)>,
}

impl Default for Bt {
    fn default() -> Self {
        Self {
            absent: false,
            stuck: None,
            take_us: 20,
            waits_for_host: false,
            hits: 1,
            wrong_seq: 0,
            wrong_len: None,
            violations: Vec::new(),
            seqs: Vec::new(),
            control: 0,
            host2bt: Vec::new(),
            begun: false,
            bt2host: Vec::new(),
            at: 0,
            left_hits: 0,
            taken_us: None,
            free_us: None,
            coming: Vec::new(),
        }
    }
}

impl Bt {
    /// Leaves it as a kernel that died in the middle of reading an answer would.
    pub fn leave_reading(&mut self, answer: &[u8]) {
        self.control |= H_BUSY;
        self.bt2host = answer.to_vec();
        self.at = 2;
    }

    /// The same, of one that has not begun to read.
    pub fn leave_answer(&mut self, answer: &[u8]) {
        self.put_answer(answer.to_vec());
    }

    /// Leaves it as a kernel that died in the middle of writing a request would.
    pub fn leave_writing(&mut self, begun: &[u8]) {
        self.host2bt = begun.to_vec();
    }

    /// Leaves it as a kernel that died as soon as its request was there would: the BMC takes it after `us` microseconds.
    pub fn leave_attention(&mut self, us: u64, message: &[u8]) {
        self.control |= H2B_ATN;
        self.host2bt = message.to_vec();
        self.taken_us = Some(us);
    }

    /// Leaves it as a kernel that died waiting for an answer would: the BMC can take the next request after `free_us`
    /// microseconds, and the answer comes after `us`.
    pub fn leave_request(&mut self, free_us: u64, us: u64, answer: &[u8]) {
        self.control |= B_BUSY;
        self.free_us = Some(free_us);
        self.coming.push((us, answer.to_vec()));
    }

    /// Is the host's busy bit set?
    #[must_use]
    pub fn is_host_busy(&self) -> bool {
        self.control & H_BUSY != 0
    }

    fn put_answer(&mut self, answer: Vec<u8>) {
        self.control |= B2H_ATN;
        self.left_hits = self.hits;
        self.bt2host = answer;
    }

    fn violation(&mut self, what: &str) {
        self.violations.push(what.to_owned());
    }

    /// What happens by itself until this microsecond; `ask` carries a request out, its second value is the microseconds until the
    /// answer.
    fn go_on(&mut self, us: u64, ask: Ask) {
        if let Some(at) = self.taken_us.take_if(|at| *at <= us) {
            self.control = self.control & !H2B_ATN | B_BUSY;
            self.free_us = Some(at + self.take_us);
            let message = std::mem::take(&mut self.host2bt);
            if let [len, net_fn, seq, rest @ ..] = &message[..]
                && usize::from(*len) == message.len() - 1
                && !rest.is_empty()
            {
                self.seqs.push(*seq);
                let (answer, later) = ask(&[&[*net_fn], rest].concat());
                if let Some([net_fn, rest @ ..]) = answer.as_deref() {
                    let len = self.wrong_len.unwrap_or((rest.len() + 2).min(255) as u8);
                    let head = [len, *net_fn, seq.wrapping_add(self.wrong_seq)];
                    self.coming.push((at + later, [&head, rest].concat()));
                }
            } else {
                self.violation(&format!("message {message:02x?}"));
            }
        }
        let is_held = self.waits_for_host && self.control & (B2H_ATN | H_BUSY) != 0;
        if self.free_us.take_if(|at| *at <= us && !is_held).is_some() {
            self.control &= !B_BUSY;
        }
        // BT2HOST holds one answer, and is the host's while that is busy.
        if self.control & (B2H_ATN | H_BUSY) == 0
            && let Some(at) = self.coming.iter().position(|(at, _)| *at <= us)
        {
            let (_, answer) = self.coming.remove(at);
            self.put_answer(answer);
        }
    }

    pub(crate) fn read(&mut self, register: u16, us: u64, ask: Ask) -> u8 {
        if self.absent {
            return 0xff;
        }
        self.go_on(us, ask);
        match register {
            0 => self.stuck.unwrap_or(self.control),
            1 => {
                if self.control & H_BUSY == 0 {
                    self.violation("BT2HOST read without H_BUSY");
                }
                self.at += 1;
                self.bt2host.get(self.at - 1).copied().unwrap_or(0)
            }
            _ => {
                self.violation("INTMASK read");
                0
            }
        }
    }

    pub(crate) fn write(&mut self, register: u16, value: u8, us: u64, ask: Ask) {
        if self.absent {
            return;
        }
        self.go_on(us, ask);
        match register {
            0 => self.write_control(value, us),
            1 => {
                if self.control & (B_BUSY | H2B_ATN) != 0 {
                    self.violation("HOST2BT written while it is the BMC's");
                }
                if !self.begun {
                    self.violation("HOST2BT written without CLR_WR_PTR");
                }
                self.host2bt.push(value);
            }
            _ => self.violation("INTMASK written"),
        }
    }

    fn write_control(&mut self, value: u8, us: u64) {
        if value & B_BUSY != 0 || value & 0x30 != 0 {
            self.violation(&format!("BT_CTRL written with {value:#04x}"));
        }
        if value & CLR_WR_PTR != 0 {
            self.host2bt.clear();
            self.begun = true;
        }
        if value & CLR_RD_PTR != 0 {
            self.at = 0;
        }
        if value & B2H_ATN != 0 {
            self.left_hits = self.left_hits.saturating_sub(1);
            if self.left_hits == 0 {
                self.control &= !B2H_ATN;
            }
        }
        if value & H_BUSY != 0 {
            self.control ^= H_BUSY;
        }
        if value & H2B_ATN != 0 {
            if self.control & (B_BUSY | H2B_ATN) != 0 {
                self.violation("H2B_ATN written while the BMC is busy");
            }
            self.begun = false;
            self.control |= H2B_ATN;
            self.taken_us = Some(us + self.take_us);
        }
    }
}
