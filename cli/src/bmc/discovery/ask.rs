//! Whether somebody is where a table or a PCI device has a BMC. Of several in tables the status registers are read. A BMC behind a PCI
//! device of the right class is asked for its device ID at each distance of its registers that Linux tries, too
//! (`drivers/char/ipmi/ipmi_si_pci.c`). No other discovered place is ever written to to find out what is there.

use super::{Found, Kind, Place, Source, best};
use crate::bmc::{Connection, NOBODY, look};
use lastwords_core::ipmi::commands::GetDeviceId;
use std::{path::Path, time::Duration};

/// Distances of the registers.
const SPACINGS: [u16; 3] = [1, 4, 16];
/// For one of them. A BMC answers this in milliseconds.
const LIMIT: Duration = Duration::from_secs(2);

/// Puts those first for which the most speaks that somebody is there. Where no driver serves one, and there are several, the status
/// register of each is read: those that somebody answers at come before those that nobody can look at, and behind them come
/// those where nobody is, who may be a BMC that is just starting. Where none is better than that, those are asked that
/// are to be asked before they are believed.
pub fn ask(root: &Path, found: &mut [Found]) {
    if best(found).is_some_and(|(at, _)| found[at].source == Source::Driver) {
        return;
    }
    look_at(root, found);
    if best(found).is_none_or(|(at, _)| found[at].nobody) {
        ask_pci(root, found);
    }
}

fn look_at(root: &Path, found: &mut [Found]) {
    let mut there: Vec<_> = found.iter().filter_map(|one| one.interface().ok()).collect();
    there.dedup();
    if there.len() + found.iter().filter(|one| one.ask.is_some()).count() < 2 {
        return;
    }
    for one in &mut *found {
        one.nobody = one.interface().is_ok_and(|interface| look(root, interface) == Some(NOBODY));
    }
    // By numbers as the driver's own devices are sorted: for each type of key there would be all of sorting once more.
    found.sort_by_cached_key(|one| match one.interface().map(|interface| look(root, interface)) {
        _ if one.nobody => 2usize,
        Ok(None) => 1,
        Ok(Some(_)) => 0,
        // It keeps its place among its like.
        Err(_) => 3,
    });
}

/// Asks until one has answered, which comes first then. None of them is a driver's.
fn ask_pci(root: &Path, found: &mut [Found]) {
    for at in 0..found.len() {
        let one = &mut found[at];
        let Some(len) = one.ask else { continue };
        let answer = candidates(one, len).find_map(|candidate| answers(root, candidate));
        match answer {
            Some(Ok(candidate)) => {
                *one = candidate;
                found[..=at].rotate_right(1);
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
    use crate::bmc::discovery::{
        interfaces,
        tests::{Root, spmi_table},
    };

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
    fn of_several_in_tables_the_one_at_which_somebody_is_comes_first_and_one_at_which_nobody_is_last() {
        let root = Root::new();
        root.i801("0000:00:1f.3", 0x700);
        let mut ssif = spmi_table(4, 8, 0x84);
        ssif[36] = 4;
        root.write("sys/firmware/acpi/tables/SPMI1", ssif);
        root.write("sys/firmware/acpi/tables/SPMI2", spmi_table(1, 8, 0xca2));
        root.write("sys/firmware/acpi/tables/SPMI3", spmi_table(1, 8, 0xca8));
        let order = || {
            let mut found = interfaces(root.path());
            ask(root.path(), &mut found);
            found.iter().map(|one| (one.value().unwrap(), one.nobody)).collect::<Vec<_>>()
        };
        let (ssif, ca2, ca8) = ("ssif:i801:0x700,0x42", "kcs:0xca2,0xca3", "kcs:0xca8,0xca9");
        let shown = |order: [(&str, bool); 3]| order.map(|(value, nobody)| (value.to_owned(), nobody));
        // Nobody can look.
        assert_eq!(order(), shown([(ssif, false), (ca2, false), (ca8, false)]));
        let mut ports = vec![0xff; 0x1_0000];
        root.write("dev/port", &ports);
        assert_eq!(order(), shown([(ssif, false), (ca2, true), (ca8, true)]));
        ports[0xca9] = 0;
        root.write("dev/port", &ports);
        assert_eq!(order(), shown([(ca8, false), (ssif, false), (ca2, true)]));
        // Nothing was written.
        assert!(std::fs::read(root.path().join("dev/port")).unwrap() == ports);
        // The driver has tried what it serves.
        root.write("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0/params", "kcs,i/o,0xcac,rsp=1");
        assert_eq!(order()[0].0, "kcs:0xcac,0xcad");
    }

    #[test]
    fn behind_a_table_at_whose_place_nobody_is_a_pci_device_is_asked_but_not_a_strangers() {
        let root = Root::new();
        root.write("dev/port", vec![0xff; 0x1_0000]);
        root.write("sys/firmware/acpi/tables/SPMI", spmi_table(1, 8, 0xca2));
        let asked = |ioports: &str| {
            root.write("proc/ioports", ioports);
            let mut found = interfaces(root.path());
            ask(root.path(), &mut found);
            let pci = found.iter().find(|one| one.source == Source::Pci).unwrap();
            (found[0].nobody, pci.value().unwrap_err())
        };
        root.pci("0000:00:04.0", 0x0c_0701, (0x1b36, 0x000d), &[(0xc080, 8, true)]);
        let (nobody, needs) = asked("");
        assert!(nobody && needs.contains("does not answer"), "{needs}");
        // Written to is none that another one's driver has.
        let ports = std::fs::read(root.path().join("dev/port")).unwrap();
        let (_, needs) = asked("c080-c087 : 0000:00:04.0\n  c084-c084 : stranger\n  c080-c081 : stranger\n");
        assert!(needs.starts_with("I/O port 0xc080 belongs to stranger (/proc/ioports)"), "{needs}");
        assert!(std::fs::read(root.path().join("dev/port")).unwrap() == ports);
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
