//! How both sides prove to each other that they know the password, without sending it: RAKP (IPMI 2.0 section 13.31).

use super::suite::Suite;

/// Privilege level User: enough to read the SEL.
pub const USER: u8 = 2;
/// Role in RAKP message 1: the user is looked up by the name alone.
pub const BY_NAME: u8 = 0x10;

/// What both sides put in the pot while a session is opened (13.31).
#[derive(Clone)]
pub struct Handshake<'a> {
    pub suite: Suite,
    /// Role in RAKP message 1: how the user is looked up, and the highest privilege level wanted.
    pub role: u8,
    pub user: &'a [u8],
    pub password: &'a [u8],
    /// The BMC's key, `Kg`; the password where there is none.
    pub kg: &'a [u8],
    /// Session ids as they stand in a packet: ours, which the BMC uses, and the BMC's, which we use.
    pub console_id: [u8; 4],
    pub bmc_id: [u8; 4],
    pub console_random: [u8; 16],
    pub bmc_random: [u8; 16],
    pub bmc_guid: [u8; 16],
}

/// What a code proves of who has sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It knows the password, or the key.
    Right,
    /// It does not.
    Wrong,
    /// Nothing: the message has no whole code.
    Short,
}

impl Handshake<'_> {
    fn role(&self) -> [u8; 2] {
        [self.role, self.user.len() as u8]
    }

    /// RAKP message 1, behind its tag.
    pub fn rakp_1(&self) -> Vec<u8> {
        let role = [self.role()[0], 0, 0, self.role()[1]];
        [&[0, 0, 0], &self.bmc_id[..], &self.console_random, &role, self.user].concat()
    }

    /// Takes RAKP message 2, from behind its status. Only a whole code proves that the BMC knows the password: of a byte of it
    /// one in 256 is right. Some BMCs send a byte more.
    pub fn rakp_2(&mut self, message: &[u8]) -> Proof {
        let Some((random, rest)) = message.get(6..).and_then(<[u8]>::split_first_chunk) else {
            return Proof::Short;
        };
        let Some((guid, code)) = rest.split_first_chunk() else { return Proof::Short };
        let Some(code) = code.get(..self.suite.whole()) else { return Proof::Short };
        (self.bmc_random, self.bmc_guid) = (*random, *guid);
        let is_right = self.suite.verify(
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
        );
        if is_right { Proof::Right } else { Proof::Wrong }
    }

    /// RAKP message 3, behind its tag.
    pub fn rakp_3(&self) -> Vec<u8> {
        let parts = [&self.bmc_random[..], &self.console_id, &self.role(), self.user];
        let code = self.suite.hmac(self.password, &parts);
        [&[0, 0, 0], &self.bmc_id[..], &code].concat()
    }

    /// The session integrity key.
    pub fn sik(&self) -> Vec<u8> {
        let parts = [&self.console_random[..], &self.bmc_random, &self.role(), self.user];
        self.suite.hmac(self.kg, &parts)
    }

    /// Takes RAKP message 4, from behind its status. Some BMCs do not cut its code.
    pub fn rakp_4(&self, message: &[u8]) -> Proof {
        let Some(code) = message.get(6..).and_then(|code| code.get(..self.suite.cut())) else {
            return Proof::Short;
        };
        let parts = [&self.console_random[..], &self.bmc_id, &self.bmc_guid];
        if self.suite.verify(&self.sik(), &parts, code) { Proof::Right } else { Proof::Wrong }
    }
}
