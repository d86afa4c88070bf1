//! The platform's error store (ACPI ERST), where the report goes that outlasts the reset: what this machine's table says of
//! it, and what speaks against its use.

use super::ranges::IoMem;
use anyhow::{Error, anyhow};
use lastwords_core::{
    cmdline,
    hw::{Memory, Register, Registers, Wide},
    plan::Plan,
    store::erst::{Actions, ErstError, Facts, NVRAM, RANGE_LEN, SLOW},
};
use serde::Serialize;
use std::{fs, fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path};

/// The name that Linux has for the store, as a backend of pstore and in /proc/iomem.
const BACKEND: &str = "erst";
const IOMEM: &str = "APEI ERST";

/// An operation that may take longer is warned of, in microseconds: Linux waits for a millisecond, and then gives it up.
const LONG_US: u32 = 100_000;

/// What this machine's store is, as far as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Store {
    /// Can the report go there, as far as is known?
    pub usable: bool,
    /// Why it cannot, or why Linux would not show it.
    pub why: Option<String>,
    /// The exchange range's address and length.
    pub address: Option<u64>,
    /// Its length in bytes: a record has no more.
    pub length: Option<u64>,
    /// Does the table call the store slow?
    pub slow: Option<bool>,
    /// Typical and longest time of an operation by the table, in microseconds.
    pub typical_us: Option<u32>,
    /// The same.
    pub maximum_us: Option<u32>,
    /// What Linux's pstore writes to and shows.
    pub backend: Option<String>,
    /// How many records Linux's pstore shows.
    pub records: Option<usize>,
}

/// The table's file, and the registers that it names, as far as the kernel lets them be read. Nothing is written.
struct Shown {
    table: Vec<u8>,
    memory: Option<File>,
    /// A register could not be read, or one would have to be written before.
    failed: bool,
}

/// Where the table is taken to lie: core has it that at 0 there is none.
const TABLE: u64 = 0x1000;

impl Memory for Shown {
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        let at = (addr - TABLE) as usize;
        let from = self.table.get(at..).and_then(|bytes| bytes.get(..buf.len()));
        from.map(|bytes| buf.copy_from_slice(bytes)).is_some()
    }

    fn write(&mut self, _: u64, _: &[u8]) {}
}

impl Registers for Shown {
    fn get(&mut self, _: Register) -> u8 {
        0xff
    }

    fn put(&mut self, _: Register, _: u8) {}

    fn get_wide(&mut self, register: &Wide) -> u64 {
        let mut value = [0; 8];
        let place = &mut value[..usize::from(register.bytes)];
        let memory = self.memory.as_ref().filter(|_| !register.is_port);
        self.failed |= memory.is_none_or(|memory| memory.read_exact_at(place, register.addr).is_err());
        u64::from_le_bytes(value)
    }

    /// What has to be written for is not asked.
    fn put_wide(&mut self, _: &Wide, _: u64) {
        self.failed = true;
    }
}

/// What is wrong, for people.
fn text_of(error: ErstError) -> &'static str {
    match error {
        ErstError::Instruction => "the ERST table has an unknown instruction",
        ErstError::Register => "the ERST table names a register that is not the firmware's",
        ErstError::Nvram => "the error store is in NVRAM mode, which Linux does not write to either",
        ErstError::Range => "the exchange range is shorter than 1 KiB",
        _ => "the ERST table is malformed",
    }
}

impl Store {
    /// Finds out; `None` where there is no ERST table.
    pub fn find(root: &Path) -> Option<Self> {
        let table = fs::read(root.join("sys/firmware/acpi/tables/ERST"));
        let table = match table {
            // Who may not read it does not load a dump kernel either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            table => table.unwrap_or_default(),
        };
        let iomem = IoMem::parse(&fs::read_to_string(root.join("proc/iomem")).unwrap_or_default());
        let text = |file: &str| {
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text != "(null)")
        };
        let mut store = Self {
            backend: text("sys/module/pstore/parameters/backend"),
            records: fs::read_dir(root.join("sys/fs/pstore")).ok().map(Iterator::count),
            ..Self::default()
        };
        // Without the driver nothing has shown these registers; with it they may be kept from us.
        if let Some(range) = iomem.named(IOMEM).max_by_key(|range| range.end - range.start) {
            (store.address, store.length) = (Some(range.start), Some(range.end - range.start));
        }
        let mut shown = Shown { table, memory: File::open(root.join("dev/mem")).ok(), failed: false };
        let mut actions = Actions::NONE;
        let mut why = actions.read(&mut shown, TABLE).err();
        let is_ram = |register: Range<u64>| {
            iomem.system_ram().any(|ram| ram.start < register.end && register.start < ram.end)
        };
        if why.is_none() && actions.registers().any(is_ram) {
            why = Some(ErstError::Register);
        }
        if why.is_none() {
            let facts = Facts::ask(&actions, &mut shown);
            if !shown.failed {
                why = store.add(&facts);
            }
        }
        store.usable = why.is_none();
        let cmdline = text("proc/cmdline").unwrap_or_default();
        store.why = match (why, &store.backend) {
            (Some(error), _) => Some(text_of(error).to_owned()),
            _ if cmdline::words(&cmdline).any(|word| word == "erst_disable") => {
                Some("erst_disable is on the kernel's command line, and Linux shows no records".to_owned())
            }
            (None, Some(backend)) if backend != BACKEND => {
                Some(format!("pstore is {backend} here, and Linux shows no records of ERST"))
            }
            _ => None,
        };
        Some(store)
    }

    fn add(&mut self, facts: &Facts) -> Option<ErstError> {
        let range = &facts.range;
        (self.address, self.length) = (Some(range.start), Some(range.end - range.start));
        self.slow = Some(facts.attributes & SLOW != 0);
        if facts.timings != (0, 0) {
            let (typical, longest) = facts.timings;
            (self.typical_us, self.maximum_us) = (Some(typical), Some(longest));
        }
        match range.end - range.start {
            _ if facts.attributes & NVRAM != 0 => Some(ErstError::Nvram),
            len if len < *RANGE_LEN.start() => Some(ErstError::Range),
            _ => None,
        }
    }

    /// For people, in a line.
    pub fn text(&self) -> String {
        let mut parts = vec!["ERST".to_owned()];
        if let (Some(address), Some(length)) = (self.address, self.length) {
            parts.push(format!("records of up to {length} bytes at {address:#x}"));
        }
        if self.slow == Some(true) {
            parts.push("slow".to_owned());
        }
        if let (Some(typical), Some(longest)) = (self.typical_us, self.maximum_us) {
            parts.push(format!("{typical} us an operation, {longest} us at most"));
        }
        parts.extend(self.records.map(|records| format!("{records} records in /sys/fs/pstore")));
        parts.join(", ")
    }
}

/// The parameter by which the image takes the place of Linux's own pstore, which does not run without a dump kernel; `None` where
/// the log would not have gone to ERST.
pub fn in_place_of_linux(root: &Path) -> Option<&'static str> {
    let backend = fs::read_to_string(root.join("sys/module/pstore/parameters/backend")).ok()?;
    (backend.trim() == BACKEND).then_some("lastwords.output_pstore")
}

/// What there is to warn of where the plan wants to have the store written to.
pub fn warning(root: &Path, plan: &Plan) -> Option<Error> {
    if plan.pstore == 0 {
        return None;
    }
    let Some(store) = Store::find(root) else {
        return Some(anyhow!(
            "pstore will not be written at a panic: this machine has no ERST table\n\
             hint: leave --output-pstore out"
        ));
    };
    if let Some(why) = store.why {
        return Some(if store.usable {
            anyhow!("what is written to pstore at a panic will not be found: {why}")
        } else {
            anyhow!("pstore will not be written at a panic: {why}\nhint: leave --output-pstore out")
        });
    }
    let longest = store.maximum_us.unwrap_or(0);
    (store.slow == Some(true) || longest > LONG_US).then(|| {
        anyhow!(
            "the firmware calls its error store slow (up to {longest} us an operation): nothing can limit the time that it takes \
             at a panic\n\
             hint: try it without a panic (docs/pstore.md)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::Root;

    /// A table of 13 instructions whose registers are at 0xfed00000.
    fn table() -> Vec<u8> {
        let actions = [(0, 3), (1, 3), (3, 3), (4, 2), (5, 3), (6, 1), (7, 0), (9, 2), (13, 0), (14, 0)];
        let mut table = vec![0; 36];
        table[4..6].copy_from_slice(&(48 + 32 * actions.len() as u16).to_le_bytes());
        table.extend([12, 0, 0, 0, 0, 0, 0, 0, actions.len() as u8, 0, 0, 0]);
        for (action, opcode) in actions {
            table.extend([action, opcode, 0, 0, 0, 64, 0, 4, 0, 0, 0xd0, 0xfe, 0, 0, 0, 0]);
            table.extend([0xff; 16]);
        }
        table
    }

    fn warns(root: &Root) -> String {
        let plan = Plan::new("", "lastwords.output_pstore");
        warning(root.path(), &plan).map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_keeps_pstore_from_being_written_or_found_is_warned_of() {
        let root = Root::new();
        assert!(
            warns(&root).starts_with("pstore will not be written at a panic: this machine has no ERST table")
        );
        assert_eq!(Store::find(root.path()), None);
        root.write("sys/firmware/acpi/tables/ERST", table());
        root.write(
            "proc/iomem",
            "00100000-7fffffff : System RAM\nfed00000-fed00fff : APEI ERST\nfed10000-fed11fff : APEI ERST\n",
        );
        root.write("sys/module/pstore/parameters/backend", "erst\n");
        let store = Store::find(root.path()).unwrap();
        assert!(store.usable && store.why.is_none(), "{store:?}");
        assert_eq!((store.address, store.length), (Some(0xfed1_0000), Some(0x2000)));
        assert_eq!(warns(&root), "");
        assert!(warning(root.path(), &Plan::default()).is_none());
        root.write("sys/module/pstore/parameters/backend", "efi_pstore\n");
        assert!(warns(&root).ends_with("pstore is efi_pstore here, and Linux shows no records of ERST"));
        root.write("proc/cmdline", "quiet erst_disable");
        assert!(warns(&root).contains("erst_disable"));
        let mut unknown = table();
        unknown[49] = 0x12;
        root.write("sys/firmware/acpi/tables/ERST", unknown);
        assert!(warns(&root).contains("an unknown instruction"), "{}", warns(&root));
        // A register in RAM.
        let mut in_ram = table();
        in_ram[56..64].copy_from_slice(&0x20_0000u64.to_le_bytes());
        root.write("sys/firmware/acpi/tables/ERST", in_ram);
        assert!(warns(&root).contains("a register that is not the firmware's"), "{}", warns(&root));
    }
}
