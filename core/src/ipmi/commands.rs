//! The IPMI commands that are used, each with the bytes of its request and what its answer says. The image uses the
//! first few, the tool all of them. Section and table numbers are the IPMI 2.0 specification's.

use super::message::NetFn;

/// A command.
pub trait Command {
    /// Its network function.
    const NET_FN: NetFn;
    /// Its number (appendix G).
    const CMD: u8;
    /// Its name in the specification, for errors.
    const NAME: &'static str;
    /// The request's data.
    type Data: AsRef<[u8]>;
    /// What the answer says.
    type Answer;

    /// The request's data.
    fn data(&self) -> Self::Data;
    /// Reads an answer's data, behind the completion code. `None` when it is too short.
    fn answer(data: &[u8]) -> Option<Self::Answer>;
}

/// Chassis Control (28.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChassisControl {
    /// Power down.
    PowerDown = 0,
    /// Power cycle.
    PowerCycle = 2,
    /// Hard reset.
    HardReset = 3,
}

impl Command for ChassisControl {
    const NET_FN: NetFn = NetFn::CHASSIS;
    const CMD: u8 = 0x02;
    const NAME: &'static str = "Chassis Control";
    type Data = [u8; 1];
    type Answer = ();

    fn data(&self) -> [u8; 1] {
        [*self as u8]
    }

    fn answer(_: &[u8]) -> Option<()> {
        Some(())
    }
}

/// The watchdog's timeout action, with the specification's numbers (27.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// No action (the expiry is logged).
    None = 0,
    /// Hard reset.
    Reset = 1,
    /// Power down.
    PowerOff = 2,
    /// Power cycle.
    PowerCycle = 3,
}

/// Watchdog timer use SMS/OS (table 27-3).
const USE_SMS_OS: u8 = 4;

/// Set Watchdog Timer (27.6) for SMS/OS use. A timer that ran is stopped by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetWatchdogTimer {
    /// Initial countdown in seconds (1 to 6553: the field has 16 bits of 100 ms).
    pub seconds: u16,
    /// What the BMC does when it runs out.
    pub action: Action,
}

impl SetWatchdogTimer {
    /// Stops the timer. The countdown then means nothing, but 0 would be "at once" to some BMCs.
    pub const STOP: Self = Self { seconds: 600, action: Action::None };
    /// The timer use that it sets.
    pub const USE: u8 = USE_SMS_OS;
}

impl Command for SetWatchdogTimer {
    const NET_FN: NetFn = NetFn::APP;
    const CMD: u8 = 0x24;
    const NAME: &'static str = "Set Watchdog Timer";
    type Data = [u8; 6];
    type Answer = ();

    fn data(&self) -> [u8; 6] {
        let [lsb, msb] = self.seconds.saturating_mul(10).to_le_bytes();
        // No pre-timeout interrupt; clear the SMS/OS expiration flag, so that what is found there later is ours.
        [USE_SMS_OS, self.action as u8, 0, 1 << USE_SMS_OS, lsb, msb]
    }

    fn answer(_: &[u8]) -> Option<()> {
        Some(())
    }
}

/// Reset Watchdog Timer (27.5): starts it, or starts it over. Refused with
/// [`WATCHDOG_UNINITIALIZED`](super::message::CompletionCode::WATCHDOG_UNINITIALIZED) when it was never set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetWatchdogTimer;

impl Command for ResetWatchdogTimer {
    const NET_FN: NetFn = NetFn::APP;
    const CMD: u8 = 0x22;
    const NAME: &'static str = "Reset Watchdog Timer";
    type Data = [u8; 0];
    type Answer = ();

    fn data(&self) -> [u8; 0] {
        []
    }

    fn answer(_: &[u8]) -> Option<()> {
        Some(())
    }
}

/// Get Watchdog Timer (27.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetWatchdogTimer;

/// Get Watchdog Timer's answer.
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

impl Command for GetWatchdogTimer {
    const NET_FN: NetFn = NetFn::APP;
    const CMD: u8 = 0x25;
    const NAME: &'static str = "Get Watchdog Timer";
    type Data = [u8; 0];
    type Answer = WatchdogTimer;

    fn data(&self) -> [u8; 0] {
        []
    }

    fn answer(data: &[u8]) -> Option<WatchdogTimer> {
        let [timer_use, action, _, _, initial0, initial1, present @ ..] = data else { return None };
        Some(WatchdogTimer {
            running: timer_use & 0x40 != 0,
            timer_use: timer_use & 0x7,
            action: action & 0x7,
            initial: u16::from_le_bytes([*initial0, *initial1]),
            present: present.first_chunk().map(|present| u16::from_le_bytes(*present)),
        })
    }
}

/// System software 0x20 in an event's generator id (table 32-1), as Linux has it.
pub const GENERATOR: u8 = 0x41;
/// Event message format revision of IPMI 1.5 and later. OpenBMC refuses the 3 that Linux sends.
const EVM_REV: u8 = 0x04;
/// Event type: sensor-specific, assertion.
pub const SENSOR_SPECIFIC: u8 = 0x6f;
/// Record type of a system event (32.1).
pub const SYSTEM_EVENT: u8 = 0x02;

/// What system software reports of itself: the event of a Platform Event Message, or of a system event record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Sensor type (table 42-3).
    pub sensor_type: u8,
    /// Sensor number.
    pub sensor_number: u8,
    /// Event data 1 to 3 (table 29-6).
    pub data: [u8; 3],
}

impl Event {
    /// As a system event record (32.1) for Add SEL Entry. The BMC fills in id and time.
    #[must_use]
    pub fn record(self) -> [u8; 16] {
        let [generator, version, sensor_type, number, event_type, data1, data2, data3] = self.data();
        [
            0,
            0,
            SYSTEM_EVENT,
            0,
            0,
            0,
            0,
            generator,
            0,
            version,
            sensor_type,
            number,
            event_type,
            data1,
            data2,
            data3,
        ]
    }
}

/// Sent as it is: Platform Event Message (29.3), from system software.
impl Command for Event {
    const NET_FN: NetFn = NetFn::SENSOR_EVENT;
    const CMD: u8 = 0x02;
    const NAME: &'static str = "Platform Event Message";
    type Data = [u8; 8];
    type Answer = ();

    fn data(&self) -> [u8; 8] {
        let [data1, data2, data3] = self.data;
        [GENERATOR, EVM_REV, self.sensor_type, self.sensor_number, SENSOR_SPECIFIC, data1, data2, data3]
    }

    fn answer(_: &[u8]) -> Option<()> {
        Some(())
    }
}

/// Get SEL Info (31.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetSelInfo;

/// Get SEL Info's answer.
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

impl Command for GetSelInfo {
    const NET_FN: NetFn = NetFn::STORAGE;
    const CMD: u8 = 0x40;
    const NAME: &'static str = "Get SEL Info";
    type Data = [u8; 0];
    type Answer = SelInfo;

    fn data(&self) -> [u8; 0] {
        []
    }

    fn answer(data: &[u8]) -> Option<SelInfo> {
        // What a short answer leaves out is nothing: no free space, in which a report still gets a few records.
        let byte = |at: usize| data.get(at).copied().unwrap_or(0);
        Some(SelInfo {
            entries: u16::from_le_bytes([byte(1), byte(2)]),
            free_bytes: u16::from_le_bytes([byte(3), byte(4)]),
            overflow: byte(13) & 0x80 != 0,
        })
    }
}

/// Get SEL Info (31.2) for who reads the SEL: how many records there are, and when it was cleared last. Of no use to the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetSelCount;

impl Command for GetSelCount {
    const NET_FN: NetFn = GetSelInfo::NET_FN;
    const CMD: u8 = GetSelInfo::CMD;
    const NAME: &'static str = GetSelInfo::NAME;
    type Data = [u8; 0];
    /// Records, and the time by the BMC's clock, where it tells one.
    type Answer = (u16, Option<u32>);

    fn data(&self) -> [u8; 0] {
        []
    }

    fn answer(data: &[u8]) -> Option<Self::Answer> {
        let erased = data.get(9..).and_then(<[u8]>::first_chunk).map(|time| u32::from_le_bytes(*time));
        Some((GetSelInfo::answer(data)?.entries, erased))
    }
}

/// Add SEL Entry (31.6): a record of 16 bytes, whose id the BMC fills in and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddSelEntry<'a>(pub &'a [u8; 16]);

impl<'a> Command for AddSelEntry<'a> {
    const NET_FN: NetFn = NetFn::STORAGE;
    const CMD: u8 = 0x44;
    const NAME: &'static str = "Add SEL Entry";
    type Data = &'a [u8; 16];
    /// The record's id, where the BMC tells it.
    type Answer = Option<u16>;

    fn data(&self) -> &'a [u8; 16] {
        self.0
    }

    fn answer(data: &[u8]) -> Option<Option<u16>> {
        Some(data.first_chunk().map(|id| u16::from_le_bytes(*id)))
    }
}

/// Reserve SEL (31.4): the answer is the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReserveSel;

impl Command for ReserveSel {
    const NET_FN: NetFn = NetFn::STORAGE;
    const CMD: u8 = 0x42;
    const NAME: &'static str = "Reserve SEL";
    type Data = [u8; 0];
    type Answer = u16;

    fn data(&self) -> [u8; 0] {
        []
    }

    fn answer(data: &[u8]) -> Option<u16> {
        Some(u16::from_le_bytes(*data.first_chunk()?))
    }
}

/// Record id of the SEL's first record.
pub const FIRST_RECORD: u16 = 0x0000;
/// Record id of its last record; in an answer: none follows.
pub const LAST_RECORD: u16 = 0xffff;

/// Get SEL Entry (31.5), the whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetSelEntry {
    /// Reservation; 0 where none is needed.
    pub reservation: u16,
    /// Record id, [`FIRST_RECORD`] or [`LAST_RECORD`].
    pub id: u16,
}

impl Command for GetSelEntry {
    const NET_FN: NetFn = NetFn::STORAGE;
    const CMD: u8 = 0x43;
    const NAME: &'static str = "Get SEL Entry";
    type Data = [u8; 6];
    /// The next record's id and the record.
    type Answer = (u16, [u8; 16]);

    fn data(&self) -> [u8; 6] {
        /// In place of a length: the whole record.
        const WHOLE: u8 = 0xff;
        let [reservation0, reservation1] = self.reservation.to_le_bytes();
        let [id0, id1] = self.id.to_le_bytes();
        [reservation0, reservation1, id0, id1, 0, WHOLE]
    }

    fn answer(data: &[u8]) -> Option<(u16, [u8; 16])> {
        let (next, record) = data.split_first_chunk()?;
        let mut whole = [0; 16];
        match record.first_chunk() {
            Some(record) => whole = *record,
            // Some BMCs cut the last byte. A text shows that it is not whole.
            None => *whole.first_chunk_mut::<15>()? = *record.first_chunk()?,
        }
        Some((u16::from_le_bytes(*next), whole))
    }
}

/// Delete SEL Entry (31.8), under a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteSelEntry {
    /// Reservation.
    pub reservation: u16,
    /// Record id.
    pub id: u16,
}

impl Command for DeleteSelEntry {
    const NET_FN: NetFn = NetFn::STORAGE;
    const CMD: u8 = 0x46;
    const NAME: &'static str = "Delete SEL Entry";
    type Data = [u8; 4];
    type Answer = ();

    fn data(&self) -> [u8; 4] {
        let [reservation0, reservation1] = self.reservation.to_le_bytes();
        let [id0, id1] = self.id.to_le_bytes();
        [reservation0, reservation1, id0, id1]
    }

    fn answer(_: &[u8]) -> Option<()> {
        Some(())
    }
}

/// Get SEL Time (31.10): seconds since 1970, in the time zone of the BMC's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetSelTime;

impl Command for GetSelTime {
    const NET_FN: NetFn = NetFn::STORAGE;
    const CMD: u8 = 0x48;
    const NAME: &'static str = "Get SEL Time";
    type Data = [u8; 0];
    type Answer = u32;

    fn data(&self) -> [u8; 0] {
        []
    }

    fn answer(data: &[u8]) -> Option<u32> {
        Some(u32::from_le_bytes(*data.first_chunk()?))
    }
}

/// Get Device ID (20.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetDeviceId;

/// Get Device ID's answer.
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

impl Command for GetDeviceId {
    const NET_FN: NetFn = NetFn::APP;
    const CMD: u8 = 0x01;
    const NAME: &'static str = "Get Device ID";
    type Data = [u8; 0];
    type Answer = DeviceId;

    fn data(&self) -> [u8; 0] {
        []
    }

    fn answer(data: &[u8]) -> Option<DeviceId> {
        let [_, _, major, minor, ipmi, _, maker0, maker1, maker2, product0, product1, ..] = data else {
            return None;
        };
        Some(DeviceId {
            manufacturer: u32::from_le_bytes([*maker0, *maker1, maker2 & 0xf, 0]),
            product: u16::from_le_bytes([*product0, *product1]),
            firmware: (major & 0x7f, *minor),
            ipmi: (ipmi & 0xf, ipmi >> 4),
            updating: major & 0x80 != 0,
        })
    }
}
