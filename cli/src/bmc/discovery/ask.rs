//! Whether a BMC is behind a PCI device of the right class, and how far its registers lie apart: it is asked for its device
//! ID at each distance that Linux tries, too (`drivers/char/ipmi/ipmi_si_pci.c`). No other discovered place is ever written to
//! to find out what is there.

use super::{Found, Kind, Place, best};
use crate::bmc::Connection;
use lastwords_core::ipmi::commands::GetDeviceId;
use std::{path::Path, time::Duration};

/// Distances of the registers.
const SPACINGS: [u16; 3] = [1, 4, 16];
/// For one of them. A BMC answers this in milliseconds.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks those that are to be asked before they are believed, where nothing better was found. None of them is a driver's.
pub fn ask(root: &Path, found: &mut [Found]) {
    if best(found).is_some() {
        return;
    }
    for one in found.iter_mut() {
        let Some(len) = one.ask else { continue };
        let answer = candidates(one, len).find_map(|candidate| answers(root, candidate));
        match answer {
            Some(Ok(candidate)) => {
                *one = candidate;
                return;
            }
            Some(Err(error)) => one.needs = Some(format!("it cannot be asked: {error}")),
            None => one.needs = Some("it does not answer Get Device ID".to_owned()),
        }
    }
}

/// It at each distance at which its registers are within the so many ports that it has.
fn candidates(found: &Found, len: u16) -> impl Iterator<Item = Found> + use<> {
    let found = found.clone();
    let registers = if found.kind == Kind::Kcs { 2 } else { 3 };
    let at = move |spacing: u16| {
        let Place::Io { address, .. } = found.place else { return None };
        let place = Place::Io { address, spacing };
        ((registers - 1) * spacing < len).then(|| Found { needs: None, ask: None, place, ..found.clone() })
    };
    SPACINGS.into_iter().filter_map(at)
}

/// Does a BMC answer there? The error is one for which nobody could be asked at all.
fn answers(root: &Path, candidate: Found) -> Option<Result<Found, String>> {
    let interface = candidate.interface().ok()?;
    match Connection::at(root, interface) {
        Ok(bmc) => bmc.within(LIMIT).send(&GetDeviceId).is_ok().then_some(Ok(candidate)),
        Err(error) => Some(Err(crate::message::fact(&error.to_string()).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::{interfaces, tests::Root};

    #[test]
    fn a_pci_device_is_asked_at_each_distance_that_its_ports_have_room_for() {
        let root = Root::new();
        root.pci("0000:00:04.0", 0x0c_0701, (0x1b36, 0x000d), &[(0xc080, 8, true)]);
        root.pci("0000:00:05.0", 0x0c_0702, (0x1b36, 0x000e), &[(0xc100, 32, true)]);
        let found = interfaces(root.path());
        let values = |found: &Found| -> Vec<_> {
            candidates(found, found.ask.unwrap()).map(|found| found.value().unwrap()).collect()
        };
        assert_eq!(values(&found[0]), ["kcs:0xc080,0xc081", "kcs:0xc080,0xc084"]);
        assert_eq!(values(&found[1]), ["bt:0xc100", "bt:0xc100,4"]);
    }

    #[test]
    fn one_that_cannot_be_asked_or_does_not_answer_is_not_believed() {
        let root = Root::new();
        root.pci("0000:00:04.0", 0x0c_0701, (0x1b36, 0x000d), &[(0xc080, 8, true)]);
        let mut found = interfaces(root.path());
        ask(root.path(), &mut found);
        let needs = found[0].value().unwrap_err();
        assert!(needs.contains("cannot be asked"), "{needs}");
        // A file in the place of the ports: what is read there is 0xff.
        root.write("dev/port", vec![0xff; 0x1_0000]);
        let mut found = interfaces(root.path());
        ask(root.path(), &mut found);
        let needs = found[0].value().unwrap_err();
        assert!(needs.contains("does not answer"), "{needs}");
    }
}
