//! The commands that are asked of a running BMC, and what its answers say: who it is, its SEL, its watchdog.
//! Section numbers are the IPMI 2.0 specification's.

use super::{Bmc, Error, Name};
use lastwords_core::plan::Action;
use std::{collections::BTreeSet, thread, time::Duration};

/// Network function codes (table 5-1), requests.
mod net_fn {
    pub const SENSOR_EVENT: u8 = 0x04;
    pub const APP: u8 = 0x06;
    pub const STORAGE: u8 = 0x0a;
}

const GET_DEVICE_ID: u8 = 0x01;
const RESET_WATCHDOG_TIMER: u8 = 0x22;
const SET_WATCHDOG_TIMER: u8 = 0x24;
const GET_WATCHDOG_TIMER: u8 = 0x25;
const PLATFORM_EVENT_MESSAGE: u8 = 0x02;
const GET_SEL_INFO: u8 = 0x40;
const RESERVE_SEL: u8 = 0x42;
const GET_SEL_ENTRY: u8 = 0x43;
const ADD_SEL_ENTRY: u8 = 0x44;
const DELETE_SEL_ENTRY: u8 = 0x46;

/// A command's name in the specification, for errors.
pub fn name(net_fn: u8, cmd: u8) -> Option<&'static str> {
    Some(match (net_fn, cmd) {
        (net_fn::SENSOR_EVENT, PLATFORM_EVENT_MESSAGE) => "Platform Event Message",
        (net_fn::APP, GET_DEVICE_ID) => "Get Device ID",
        (net_fn::APP, RESET_WATCHDOG_TIMER) => "Reset Watchdog Timer",
        (net_fn::APP, SET_WATCHDOG_TIMER) => "Set Watchdog Timer",
        (net_fn::APP, GET_WATCHDOG_TIMER) => "Get Watchdog Timer",
        (net_fn::STORAGE, GET_SEL_INFO) => "Get SEL Info",
        (net_fn::STORAGE, RESERVE_SEL) => "Reserve SEL",
        (net_fn::STORAGE, GET_SEL_ENTRY) => "Get SEL Entry",
        (net_fn::STORAGE, ADD_SEL_ENTRY) => "Add SEL Entry",
        (net_fn::STORAGE, DELETE_SEL_ENTRY) => "Delete SEL Entry",
        _ => return None,
    })
}

/// Completion code: reservation cancelled. Some BMCs want a reservation even for reading a whole record.
const RESERVATION_CANCELLED: u8 = 0xc5;
/// Completion code: the record is not present.
const NOT_PRESENT: u8 = 0xcb;

/// Record id of the first record; and of the last one, or of none behind it.
const FIRST: u16 = 0x0000;
pub const LAST: u16 = 0xffff;
/// Record type of an event, with time stamp.
const SYSTEM_EVENT: u8 = 0x02;
/// In place of an offset's length: the whole record.
const WHOLE: u8 = 0xff;

/// Timer use SMS/OS (table 27-3).
const USE_SMS_OS: u8 = 4;

/// How often a SEL that somebody clears or that drops its oldest records is read again from the beginning.
const RESTARTS: usize = 5;

/// How often a record that was added is looked for, and how long between: some BMCs write their log in the
/// background.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// One SEL record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its record id.
    pub id: u16,
    /// Its 16 bytes, the id among them (table 32-1).
    pub record: [u8; 16],
}

/// Get SEL Info's answer (31.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelInfo {
    /// Records in the SEL.
    pub entries: u16,
    /// Free bytes; 0xffff is so many or more.
    pub free_bytes: u16,
    /// Records were lost because it was full.
    pub overflow: bool,
}

impl SelInfo {
    /// How many more records fit, when the BMC knows.
    #[must_use]
    pub fn free_records(self) -> Option<u16> {
        (self.free_bytes != u16::MAX).then_some(self.free_bytes / 16)
    }
}

/// Get Device ID's answer (20.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId {
    /// IANA enterprise number of the maker.
    pub manufacturer: u32,
    /// The maker's product number.
    pub product: u16,
    /// Firmware revision: major, minor (BCD).
    pub firmware: (u8, u8),
    /// IPMI version: major, minor.
    pub ipmi: (u8, u8),
    /// Its firmware is being updated, or it is starting.
    pub updating: bool,
}

/// Get Watchdog Timer's answer (27.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchdogTimer {
    /// It counts down.
    pub running: bool,
    /// Timer use (table 27-1): 1 BIOS FRB2, 2 BIOS/POST, 3 OS load, 4 SMS/OS, 5 OEM.
    pub timer_use: u8,
    /// Timeout action: 0 none, 1 hard reset, 2 power down, 3 power cycle.
    pub action: u8,
    /// Initial countdown in tenths of a second.
    pub initial: u16,
    /// Present countdown in tenths of a second. ipmi_sim does not tell it.
    pub present: Option<u16>,
}

impl Bmc {
    /// Get Device ID (20.1).
    ///
    /// # Errors
    /// When the BMC refuses or does not answer.
    pub fn device_id(&mut self) -> Result<DeviceId, Error> {
        let answer = self.request(net_fn::APP, GET_DEVICE_ID, &[])?;
        let [_, _, major, minor, ipmi, _, maker0, maker1, maker2, product0, product1, ..] = answer[..] else {
            return Err(garbled(net_fn::APP, GET_DEVICE_ID));
        };
        Ok(DeviceId {
            manufacturer: u32::from_le_bytes([maker0, maker1, maker2 & 0xf, 0]),
            product: u16::from_le_bytes([product0, product1]),
            firmware: (major & 0x7f, minor),
            ipmi: (ipmi & 0xf, ipmi >> 4),
            updating: major & 0x80 != 0,
        })
    }

    /// Get SEL Info (31.2).
    ///
    /// # Errors
    /// When the BMC refuses or does not answer.
    pub fn sel_info(&mut self) -> Result<SelInfo, Error> {
        let answer = self.request(net_fn::STORAGE, GET_SEL_INFO, &[])?;
        let [_, entries0, entries1, free0, free1, .., support] = answer[..] else {
            return Err(garbled(net_fn::STORAGE, GET_SEL_INFO));
        };
        Ok(SelInfo {
            entries: u16::from_le_bytes([entries0, entries1]),
            free_bytes: u16::from_le_bytes([free0, free1]),
            overflow: support & 0x80 != 0,
        })
    }

    /// All records of the SEL in the log's order. Records that come while it is read are in it or not; when some that
    /// have been read go away meanwhile, it is read again.
    ///
    /// # Errors
    /// When the BMC refuses, does not answer, or its SEL changes all the time.
    pub fn sel_entries(&mut self) -> Result<Vec<Entry>, Error> {
        let mut reservation = 0;
        let mut tries = 0;
        'again: loop {
            tries += 1;
            let mut entries = Vec::new();
            let mut seen = BTreeSet::new();
            let mut id = FIRST;
            // A list of ids that comes back to itself ends there.
            while seen.insert(id) && id != LAST {
                match self.sel_entry(id, reservation) {
                    Ok((next, record)) => {
                        let own = u16::from_le_bytes([record[0], record[1]]);
                        // The first record is asked for by 0, and may be pointed to by its own id.
                        seen.insert(own);
                        entries.push(Entry { id: own, record });
                        id = next;
                    }
                    Err(error) if error.code() == Some(NOT_PRESENT) && id == FIRST => break,
                    Err(error) if error.code() == Some(NOT_PRESENT) && tries <= RESTARTS => continue 'again,
                    Err(error) if error.code() == Some(RESERVATION_CANCELLED) && tries <= RESTARTS => {
                        reservation = self.reserve_sel()?;
                        continue 'again;
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(entries);
        }
    }

    /// Get SEL Entry (31.5): the next record's id and the record, whole.
    ///
    /// # Errors
    /// When the BMC refuses or does not answer.
    pub fn sel_entry(&mut self, id: u16, reservation: u16) -> Result<(u16, [u8; 16]), Error> {
        let [r0, r1] = reservation.to_le_bytes();
        let [id0, id1] = id.to_le_bytes();
        let answer = self.request(net_fn::STORAGE, GET_SEL_ENTRY, &[r0, r1, id0, id1, 0, WHOLE])?;
        answer
            .split_first_chunk()
            .and_then(|(next, record)| Some((u16::from_le_bytes(*next), *record.first_chunk()?)))
            .ok_or_else(|| garbled(net_fn::STORAGE, GET_SEL_ENTRY))
    }

    /// Looks for a record that was added, under the id that the BMC has told, and, since not all tell the truth, at the
    /// log's end. With `patience` it looks again for a second. The BMC sets a record's id, and an event's time and
    /// sender: by these they may differ.
    ///
    /// # Errors
    /// When the BMC does not answer.
    pub fn find_sel_entry(
        &mut self,
        record: &[u8; 16],
        id: u16,
        patience: bool,
    ) -> Result<Option<Entry>, Error> {
        let from = if record[2] == SYSTEM_EVENT { 10 } else { 3 };
        let same = |found: &[u8; 16]| found[2] == record[2] && found[from..] == record[from..];
        for look in 0..if patience { LOOKS } else { 1 } {
            if look > 0 {
                thread::sleep(PAUSE);
            }
            for id in [id, LAST] {
                match self.sel_entry(id, 0) {
                    Ok((_, found)) if same(&found) => {
                        let id = u16::from_le_bytes([found[0], found[1]]);
                        return Ok(Some(Entry { id, record: found }));
                    }
                    Ok(_) => {}
                    // It is not there, or this BMC cannot say what is there.
                    Err(error) if error.code().is_some() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// Add SEL Entry (31.6): returns the new record's id.
    ///
    /// # Errors
    /// When the BMC refuses or does not answer.
    pub fn add_sel_entry(&mut self, record: &[u8; 16]) -> Result<u16, Error> {
        let answer = self.request(net_fn::STORAGE, ADD_SEL_ENTRY, record)?;
        let id = answer.first_chunk().ok_or_else(|| garbled(net_fn::STORAGE, ADD_SEL_ENTRY))?;
        Ok(u16::from_le_bytes(*id))
    }

    /// Reserve SEL (31.4).
    ///
    /// # Errors
    /// When the BMC refuses or does not answer.
    pub fn reserve_sel(&mut self) -> Result<u16, Error> {
        let answer = self.request(net_fn::STORAGE, RESERVE_SEL, &[])?;
        let id = answer.first_chunk().ok_or_else(|| garbled(net_fn::STORAGE, RESERVE_SEL))?;
        Ok(u16::from_le_bytes(*id))
    }

    /// Delete SEL Entry (31.8), under a reservation.
    ///
    /// # Errors
    /// When the BMC refuses or does not answer.
    pub fn delete_sel_entry(&mut self, reservation: u16, id: u16) -> Result<(), Error> {
        let [r0, r1] = reservation.to_le_bytes();
        let [id0, id1] = id.to_le_bytes();
        self.request(net_fn::STORAGE, DELETE_SEL_ENTRY, &[r0, r1, id0, id1]).map(drop)
    }

    /// Platform Event Message (29.3), from system software.
    ///
    /// # Errors
    /// When the BMC refuses or does not answer.
    pub fn platform_event(&mut self, message: [u8; 8]) -> Result<(), Error> {
        self.request(net_fn::SENSOR_EVENT, PLATFORM_EVENT_MESSAGE, &message).map(drop)
    }

    /// Set Watchdog Timer (27.6) for SMS/OS use. A timer that ran stands still after it.
    ///
    /// # Errors
    /// When the BMC refuses or does not answer.
    pub fn set_watchdog_timer(&mut self, seconds: u16, action: Action) -> Result<(), Error> {
        let [lsb, msb] = seconds.saturating_mul(10).to_le_bytes();
        // No pre-timeout interrupt; the SMS/OS expiration flag is cleared.
        let data = [USE_SMS_OS, action as u8, 0, 1 << USE_SMS_OS, lsb, msb];
        self.request(net_fn::APP, SET_WATCHDOG_TIMER, &data).map(drop)
    }

    /// Reset Watchdog Timer (27.5): starts it, or starts it over.
    ///
    /// # Errors
    /// When the BMC refuses, with 0x80 when the timer was never set, or does not answer.
    pub fn reset_watchdog_timer(&mut self) -> Result<(), Error> {
        self.request(net_fn::APP, RESET_WATCHDOG_TIMER, &[]).map(drop)
    }

    /// Get Watchdog Timer (27.7).
    ///
    /// # Errors
    /// When the BMC refuses or does not answer.
    pub fn watchdog_timer(&mut self) -> Result<WatchdogTimer, Error> {
        let answer = self.request(net_fn::APP, GET_WATCHDOG_TIMER, &[])?;
        let [timer_use, action, _, _, initial0, initial1, ref present @ ..] = answer[..] else {
            return Err(garbled(net_fn::APP, GET_WATCHDOG_TIMER));
        };
        Ok(WatchdogTimer {
            running: timer_use & 0x40 != 0,
            timer_use: timer_use & 0x7,
            action: action & 0x7,
            initial: u16::from_le_bytes([initial0, initial1]),
            present: present.first_chunk().map(|present| u16::from_le_bytes(*present)),
        })
    }
}

fn garbled(net_fn: u8, cmd: u8) -> Error {
    Error::Garbled(Name { net_fn, cmd })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::{NODE_BUSY, Request, Transport};
    use proptest::prelude::*;
    use std::time::Instant;

    /// A BMC that answers what the function says, completion code first.
    struct Fake<F>(F);

    impl<F: FnMut(Request<'_>) -> Vec<u8> + Send> Transport for Fake<F> {
        fn transfer(&mut self, request: Request<'_>, _: Instant) -> Result<Vec<u8>, Error> {
            Ok(self.0(request))
        }
    }

    fn bmc(answers: impl FnMut(Request<'_>) -> Vec<u8> + Send + 'static) -> Bmc {
        Bmc::new(Fake(answers), "test")
    }

    fn record(id: u16) -> [u8; 16] {
        let mut record = [7; 16];
        record[..2].copy_from_slice(&id.to_le_bytes());
        record
    }

    /// Get SEL Entry's answer from a SEL with these ids.
    fn from(sel: &[u16], request: Request<'_>) -> Vec<u8> {
        let id = u16::from_le_bytes([request.data[2], request.data[3]]);
        let at = if id == FIRST { 0 } else { sel.iter().position(|one| *one == id).unwrap_or(sel.len()) };
        match sel.get(at) {
            Some(id) => {
                let next = sel.get(at + 1).unwrap_or(&LAST).to_le_bytes();
                [&[0], &next[..], &record(*id)].concat()
            }
            None => vec![NOT_PRESENT],
        }
    }

    fn ids(entries: &[Entry]) -> Vec<u16> {
        entries.iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn what_the_bench_bmcs_say_of_themselves() {
        // ipmi_sim and QEMU 7.2, as `ipmitool -v raw` shows them.
        let id = [0, 0x20, 0x23, 0x09, 0x08, 0x02, 0x9f, 0x91, 0x12, 0x00, 0x02, 0x0f, 0, 0, 0, 0];
        let device = bmc(move |_| id.to_vec()).device_id().unwrap();
        let expected = DeviceId {
            manufacturer: 0x1291,
            product: 0xf02,
            firmware: (9, 8),
            ipmi: (2, 0),
            updating: false,
        };
        assert_eq!(device, expected);

        let info = [0, 0x51, 3, 0, 0xd0, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0x82];
        let info = bmc(move |_| info.to_vec()).sel_info().unwrap();
        assert_eq!((info.entries, info.free_records(), info.overflow), (3, Some(125), true));

        let timer = [0, 0x44, 0x01, 0, 0x10, 0xb0, 0x04, 0x6e, 0x04];
        let timer = bmc(move |_| timer.to_vec()).watchdog_timer().unwrap();
        let expected =
            WatchdogTimer { running: true, timer_use: 4, action: 1, initial: 1200, present: Some(1134) };
        assert_eq!(timer, expected);
    }

    #[test]
    fn a_busy_bmc_is_asked_again_and_a_refusal_names_the_command() {
        let mut answers = [vec![NODE_BUSY], vec![0, 5, 0]].into_iter();
        assert_eq!(bmc(move |_| answers.next().unwrap()).reserve_sel().unwrap(), 5);

        let refused = bmc(|_| vec![0xd4]).add_sel_entry(&record(0)).unwrap_err();
        assert_eq!(refused.code(), Some(0xd4));
        assert_eq!(
            refused.to_string(),
            "the BMC refused Add SEL Entry: completion code 0xd4, not allowed at this privilege or on this interface"
        );
        assert!(matches!(bmc(|_| Vec::new()).reserve_sel(), Err(Error::Garbled(_))));
        let late = bmc(|_| vec![0, 1, 0]).until(Instant::now()).reserve_sel();
        assert!(matches!(late, Err(Error::Silent(_))));
    }

    #[test]
    fn a_sel_is_read_in_its_order() {
        assert_eq!(bmc(|request| from(&[], request)).sel_entries().unwrap(), []);
        assert_eq!(
            ids(&bmc(|request| from(&[9, 2, 0xfffe], request)).sel_entries().unwrap()),
            [9, 2, 0xfffe]
        );
    }

    #[test]
    fn a_record_that_goes_away_while_it_is_read_makes_it_read_again() {
        let mut sel = vec![1, 2, 3];
        let mut asked = 0;
        let mut bmc = bmc(move |request| {
            asked += 1;
            if asked == 2 {
                sel = vec![3, 4];
            }
            from(&sel, request)
        });
        assert_eq!(ids(&bmc.sel_entries().unwrap()), [3, 4]);
    }

    #[test]
    fn a_bmc_that_wants_a_reservation_gets_one() {
        let mut bmc = bmc(|request| match request.cmd {
            RESERVE_SEL => vec![0, 0x34, 0x12],
            _ if request.data[..2] == [0x34, 0x12] => from(&[1, 2], request),
            _ => vec![RESERVATION_CANCELLED],
        });
        assert_eq!(ids(&bmc.sel_entries().unwrap()), [1, 2]);
    }

    #[test]
    fn a_list_of_records_that_runs_in_a_circle_ends() {
        let circle = |request: Request<'_>| match request.data[2] {
            0 | 1 => [&[0, 2, 0], &record(1)[..]].concat(),
            _ => [&[0, 1, 0], &record(2)[..]].concat(),
        };
        assert_eq!(ids(&bmc(circle).sel_entries().unwrap()), [1, 2]);
        let gone = bmc(
            |request| if request.data[2] == 0 { [&[0, 2, 0], &record(1)[..]].concat() } else { vec![0xcb] },
        )
        .sel_entries();
        assert_eq!(gone.unwrap_err().code(), Some(NOT_PRESENT));
    }

    proptest! {
        #[test]
        fn any_answer_is_taken_or_refused(mut answers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20)) {
            // Busy is tested above; it only waits.
            answers.iter_mut().filter(|answer| answer.first() == Some(&NODE_BUSY)).for_each(|answer| answer[0] = 0);
            let mut turn = 0;
            let mut bmc = bmc(move |_| {
                turn += 1;
                answers[turn % answers.len()].clone()
            });
            let _ = (bmc.device_id().is_ok(), bmc.sel_info().is_ok(), bmc.watchdog_timer().is_ok());
            let _ = bmc.sel_entries();
        }
    }
}
