//! How both sides prove to each other that they know the password, without sending it: RAKP (IPMI 2.0 section 13.31).

use super::suite::Suite;

/// Privilege level User: enough to read the SEL.
pub const USER: u8 = 2;
/// Role in RAKP message 1: the user is looked up by the name alone.
pub const BY_NAME: u8 = 0x10;

/// What both sides put in the pot while a session is opened (13.31).
pub struct Handshake<'a> {
    pub suite: Suite,
    /// Role in RAKP message 1: how the user is looked up, and the highest privilege level wanted.
    pub role: u8,
    pub user: &'a [u8],
    pub password: &'a [u8],
    /// Session ids as they stand in a packet: ours, which the BMC uses, and the BMC's, which we use.
    pub console_id: [u8; 4],
    pub bmc_id: [u8; 4],
    pub console_random: [u8; 16],
    pub bmc_random: [u8; 16],
    pub bmc_guid: [u8; 16],
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

    /// Takes RAKP message 2, from behind its status. False when the BMC does not know the password.
    pub fn rakp_2(&mut self, message: &[u8]) -> bool {
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
    pub fn rakp_3(&self) -> Vec<u8> {
        let parts = [&self.bmc_random[..], &self.console_id, &self.role(), self.user];
        let code = self.suite.hmac(self.password, &parts);
        [&[0, 0, 0], &self.bmc_id[..], &code].concat()
    }

    /// The session integrity key.
    pub fn sik(&self) -> Vec<u8> {
        let parts = [&self.console_random[..], &self.bmc_random, &self.role(), self.user];
        self.suite.hmac(self.password, &parts)
    }

    /// Is this RAKP message 4, from behind its status?
    pub fn rakp_4(&self, message: &[u8]) -> bool {
        let Some(code) = message.get(6..) else { return false };
        let parts = [&self.console_random[..], &self.bmc_id, &self.bmc_guid];
        code.len() == self.suite.cut() && self.suite.verify(&self.sik(), &parts, code)
    }
}
