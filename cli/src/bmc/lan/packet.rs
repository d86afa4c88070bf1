//! Packets of RMCP+ (IPMI 2.0 section 13.6): plain while a session is opened, encrypted and signed from then on.

use super::suite::Suite;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::NoPadding};
use lastwords_core::ipmi::message::CompletionCode;

/// The head of every packet: RMCP 1.0, no RMCP acknowledge, class IPMI.
pub const RMCP: [u8; 4] = [6, 0, 0xff, 7];
/// Authentication type in the session header: RMCP+ (table 13-8).
pub const RMCP_PLUS: u8 = 6;
/// The session header's payload type: the payload is encrypted, the packet authenticated.
pub const SEALED: u8 = 0xc0;
/// Bytes of RMCP and session header.
pub const HEAD_LEN: usize = 16;

/// Payload types (table 13-16).
pub mod payload {
    pub const IPMI: u8 = 0x00;
    pub const OPEN_SESSION_REQUEST: u8 = 0x10;
    pub const OPEN_SESSION_RESPONSE: u8 = 0x11;
    pub const RAKP_1: u8 = 0x12;
    pub const RAKP_2: u8 = 0x13;
    pub const RAKP_3: u8 = 0x14;
    pub const RAKP_4: u8 = 0x15;
}

/// A packet without a signature.
pub fn packet(payload_type: u8, session: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = RMCP.to_vec();
    packet.extend([RMCP_PLUS, payload_type]);
    packet.extend(session.to_le_bytes());
    packet.extend(sequence.to_le_bytes());
    packet.extend((payload.len() as u16).to_le_bytes());
    packet.extend(payload);
    packet
}

/// The payload of a packet of this type and session. `None` when it is anything else.
pub fn contents(payload_type: u8, session: u32, packet: &[u8]) -> Option<&[u8]> {
    let (head, rest) = packet.split_at_checked(HEAD_LEN)?;
    let ours = head[0] == RMCP[0] && head[3] == RMCP[3] && head[4..6] == [RMCP_PLUS, payload_type];
    let len = usize::from(u16::from_le_bytes([head[14], head[15]]));
    rest.get(..len).filter(|_| ours && head[6..10] == session.to_le_bytes())
}

/// The number of a packet in its session.
pub fn sequence(packet: &[u8]) -> u32 {
    packet.get(10..).and_then(<[u8]>::first_chunk).map_or(0, |number| u32::from_le_bytes(*number))
}

/// Get Channel Authentication Capabilities (22.13) for this channel, as it is asked without a session, in the form of IPMI
/// 1.5 (13.6): what every BMC answers.
pub const CAPABILITIES: [u8; 23] = [
    6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, // RMCP; no authentication, no session; length
    0x20, 0x18, 0xc8, 0x81, 0, 0x38, 0x8e, 0x02,
    0xb7, // the message: IPMI 2.0 data, for privilege level User
];

/// Does this answer to [`CAPABILITIES`] say that there is no RMCP+? `None` when it is anything else.
pub fn are_1_5_alone(packet: &[u8]) -> Option<bool> {
    let (head, message) = packet.split_at_checked(14)?;
    let ours = head[0] == RMCP[0] && head[3] == RMCP[3] && head[4] == 0;
    match message {
        [0x81, 0x1c, _, _, _, 0x38, 0, _, types, _, versions, ..] if ours => {
            // Whether the byte with the versions counts, and in it whether RMCP+ is there.
            Some(types & 0x80 == 0 || versions & 0x02 == 0)
        }
        // It does not know the bit that asks for them.
        [0x81, 0x1c, _, _, _, 0x38, code, ..] if ours && *code == CompletionCode::INVALID_DATA_FIELD.0 => {
            Some(true)
        }
        _ => None,
    }
}

/// What the session's packets are signed and encrypted with.
#[derive(Clone)]
pub struct Keys {
    pub suite: Suite,
    pub k1: Vec<u8>,
    /// The first half of K2.
    aes: [u8; 16],
}

impl Keys {
    /// The keys of a session integrity key (13.32).
    pub fn new(suite: Suite, sik: &[u8]) -> Self {
        let k2 = suite.hmac(sik, &[&[2; 20]]);
        let mut aes = [0; 16];
        aes.copy_from_slice(&k2[..16]);
        Self { suite, k1: suite.hmac(sik, &[&[1; 20]]), aes }
    }

    /// A packet with this message, encrypted and signed (13.6, 13.28, 13.29).
    pub fn seal(&self, session: u32, sequence: u32, message: &[u8], iv: [u8; 16]) -> Vec<u8> {
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
    pub fn open(&self, session: u32, packet: &[u8]) -> Option<Vec<u8>> {
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
