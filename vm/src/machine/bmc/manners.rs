//! How a BMC of our own behaves: what it takes for a request and does with it. Faulty ones are made from the obedient one
//! (`scenarios/faults/`).

use super::recording::{Answer, Manner};

/// Network function numbers (IPMI 2.0 table 5-1).
pub mod netfn {
    /// Sensors and events: Platform Event Message among them.
    pub const SENSOR: u8 = 0x04;
    /// The BMC itself, and its watchdog.
    pub const APP: u8 = 0x06;
    /// Non-volatile storage: the SEL among it.
    pub const STORAGE: u8 = 0x0a;
}

/// A well-behaved BMC: it says what it is and takes events, SEL records and orders for the watchdog.
#[must_use]
pub fn obedient() -> Manner {
    let mut records = 0u16;
    Box::new(move |request| {
        Answer::Say(match (request.netfn, request.command) {
            // Get Device ID: has a SEL and takes events; IPMI 2.0.
            (netfn::APP, 0x01) => vec![0, 0x20, 1, 1, 0, 2, 0x24, 0, 0, 0, 0, 0],
            // Platform Event; Reset and Set Watchdog Timer.
            (netfn::SENSOR, 0x02) | (netfn::APP, 0x22 | 0x24) => vec![0],
            // Get SEL Info: version 1.5 and 2.0, how many, room for 0x1000 bytes, no operations supported.
            (netfn::STORAGE, 0x40) => {
                let [low, high] = records.to_le_bytes();
                vec![0, 0x51, low, high, 0x00, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0]
            }
            // Add SEL Entry: the new record's id.
            (netfn::STORAGE, 0x44) => {
                records += 1;
                let [low, high] = records.to_le_bytes();
                vec![0, low, high]
            }
            _ => vec![0xc1], // invalid command
        })
    })
}
