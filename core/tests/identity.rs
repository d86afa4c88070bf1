//! What a crash and its cause are known by: an id that no two crashes have, and a signature that one cause has on every
//! machine. The expected values were computed by a script from docs/sel-format.md.

mod logs;

use logs::{logs, parse, pick};

use lastwords_core::crash::Crash;
use lastwords_core::report::{Cause, CrashId, Fnv, signature, signature_text};
use lastwords_core::text::Text;
use lastwords_sim::{CrashedKernel, Sim};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn text_of(id: CrashId) -> String {
    let mut text = Text::<16>::new();
    id.put(&mut text);
    String::from_utf8(text.as_bytes().to_vec()).unwrap()
}

/// The docs' example of this name: what stands behind it to the line's end.
fn documented(name: &str) -> String {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sel-format.md")).unwrap();
    let begin = format!("    {name} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or_else(|| panic!("{name}"));
    line.trim().to_owned()
}

#[test]
fn the_hash_is_fnv_1a() {
    // RFC 9923, appendix C.
    for (text, hash) in
        [("", 0xcbf2_9ce4_8422_2325_u64), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
    {
        let folded = (hash ^ hash >> 32) & 0xffff_ffff;
        assert_eq!(Fnv::default().bytes(text.as_bytes()).fold(32), folded, "{text}");
    }
}

/// Puts a saved crash into memory (see `crash.rs`); returns the address of its ELF core header.
fn put(sim: &mut Sim, mut saved: &[u8]) -> u64 {
    let mut elfcorehdr = None;
    while let Some((head, rest)) = saved.split_at_checked(16) {
        let addr = u64::from_le_bytes(head[..8].try_into().unwrap());
        let len = u64::from_le_bytes(head[8..].try_into().unwrap()) as usize;
        sim.memory.put(addr, rest[..len].to_vec());
        elfcorehdr.get_or_insert(addr);
        saved = &rest[len..];
    }
    elfcorehdr.unwrap()
}

#[test]
fn the_id_of_a_real_crash_is_what_another_program_makes_of_it() {
    // Without their logs, which were not saved.
    for (saved, expected) in [
        (&include_bytes!("data/crash-6.1.bin")[..], "4n7r67st3z"),
        (include_bytes!("data/crash-6.12.bin"), "2gfmfmk0ex"),
    ] {
        let mut sim = Sim::default();
        let elfcorehdr = put(&mut sim, saved);
        let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
        assert_eq!(crash.id(&mut sim).map(text_of).as_deref(), Some(expected));
    }
}

/// The crash of a simulated kernel: VMCOREINFO, and when the newest record was written.
fn id(vmcoreinfo: &str, micros: Option<u64>) -> Option<CrashId> {
    let mut kernel = CrashedKernel::idle(2);
    kernel.vmcoreinfo = vmcoreinfo.to_owned() + "\n";
    kernel.log = micros.map(|micros| (micros, "Kernel panic".to_owned())).into_iter().collect();
    let mut sim = Sim::default();
    let elfcorehdr = kernel.put(&mut sim.memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    crash.id(&mut sim)
}

#[test]
fn the_time_is_that_of_the_newest_record_in_microseconds() {
    let mut kernel = CrashedKernel::idle(2);
    kernel.log = [(7, "first"), (5_123_456, "last")].map(|(micros, text)| (micros, text.to_owned())).into();
    let mut sim = Sim::default();
    let elfcorehdr = kernel.put(&mut sim.memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    let expected = CrashId::new(crash.info.hash.unwrap().bytes(&5_123_456_u64.to_le_bytes()));
    assert_eq!(crash.id(&mut sim), Some(expected));
}

#[test]
fn the_documents_examples_are_right() {
    let vmcoreinfo = documented("VMCOREINFO").replace("\\n", "\n");
    let stamp = documented("newest record").replace(['[', ']', ' ', '.'], "");
    let expected = documented("crash ID");
    let micros: u64 = stamp.parse().unwrap();
    let id = CrashId::new(Fnv::default().bytes(vmcoreinfo.as_bytes()).bytes(&micros.to_le_bytes()));
    assert_eq!(text_of(id), expected);
    assert_eq!(CrashId::parse(expected.as_bytes()), Some(id));
    let text = documented("signature text");
    let hash = Fnv::default().bytes(text.as_bytes()).fold(32);
    assert_eq!(format!("{hash:08x}"), documented("signature is"));
}

#[test]
fn of_a_kernel_that_tells_nothing_of_itself_there_is_no_id() {
    let mut sim = Sim::default();
    let elfcorehdr = CrashedKernel::idle(1).put(&mut sim.memory);
    // Only the first PT_NOTE, which is the CPU's.
    let mut header = sim.memory.get(elfcorehdr, 64 + 56 * 4);
    header[56..58].copy_from_slice(&1u16.to_le_bytes());
    sim.memory.put(elfcorehdr, header);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    assert_eq!(crash.id(&mut sim), None);
}

proptest! {
    #[test]
    fn crashes_that_differ_in_anything_have_other_ids(
        crashes in prop::collection::btree_set(
            ("[A-Z=\n]{1,8}", prop::option::of(1..1u64 << 50)), 1..6,
        )
    ) {
        let ids: BTreeSet<_> = crashes.iter().map(|(info, micros)| id(info, *micros)).collect();
        prop_assert_eq!(ids.len(), crashes.len());
        let again: BTreeSet<_> = crashes.iter().map(|(info, micros)| id(info, *micros)).collect();
        prop_assert_eq!(ids, again);
    }

    #[test]
    fn an_id_is_ten_characters_and_read_back(bytes: [u8; 8]) {
        let id = CrashId::new(Fnv::default().bytes(&bytes));
        let text = text_of(id);
        prop_assert_eq!(text.len(), 10);
        prop_assert!(!text.contains(['i', 'l', 'o', 'u']));
        prop_assert_eq!(CrashId::parse(text.as_bytes()), Some(id));
        prop_assert_eq!(CrashId::parse(&text.as_bytes()[1..]), None);
    }
}

/// What a log tells of the cause.
fn cause(log: &str) -> Cause {
    let (panicked, records) = parse(log);
    pick(panicked, &records)
}

fn shown(cause: &Cause) -> String {
    String::from_utf8(signature_text(cause).as_bytes().to_vec()).unwrap()
}

#[test]
fn every_kind_of_crash_has_a_signature_of_its_own() {
    let mut kinds: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for (name, log) in logs() {
        let cause = cause(&log);
        let text = shown(&cause);
        println!("{name}: {text}");
        assert!(!text.contains(|letter: char| letter.is_control()), "{text}");
        let kind = name.rsplit_once('-').unwrap().0.to_owned();
        kinds.entry(signature(&cause).unwrap()).or_default().insert(kind);
    }
    for kinds in kinds.into_values() {
        // One and the same cause: where the kernel crashes on an oops at once, where it panics of it, and whatever
        // was reported or forged before.
        let one_oops = |kind: &String| {
            ["fatal-exception", "null-pointer"].contains(&kind.as_str())
                || kind.starts_with("forged-")
                || kind.ends_with("-then-oops")
                || kind == "interleaved"
        };
        let one_lockup = |kind: &String| kind.starts_with("soft-lockup") || kind.starts_with("slow-lockup");
        assert!(kinds.len() == 1 || kinds.iter().all(one_oops) || kinds.iter().all(one_lockup), "{kinds:?}");
    }
}

#[test]
fn a_crash_at_once_on_an_oops_and_a_panic_of_it_are_one_cause() {
    let logs = logs();
    for kernel in ["6.1", "6.12"] {
        let [at_once, panic] =
            ["null-pointer", "fatal-exception"].map(|kind| cause(&logs[&format!("{kind}-{kernel}")]));
        assert_ne!(at_once.reason.as_bytes(), panic.reason.as_bytes());
        assert_eq!(shown(&at_once), shown(&panic));
        assert_eq!(signature(&at_once), signature(&panic));
    }
    assert_eq!(
        shown(&cause(&logs["null-pointer-6.1"])),
        "NULL deref at < null_pointer [crash] < crash_init < do_one_initcall < do_init_module < __do_sys_finit_modul"
    );
}

/// A text of a cause that says these.
fn made(report: &str, reason: &str, rip: &str, callers: &[&str]) -> Cause {
    let mut cause = Cause::default();
    cause.report.str(report);
    cause.reason.str(reason);
    cause.rip.str(rip);
    for (slot, caller) in cause.callers.iter_mut().zip(callers) {
        slot.str(caller);
    }
    cause
}

#[test]
fn what_differs_from_crash_to_crash_is_left_out() {
    for (report, kind) in [
        ("NULL deref at 18", "NULL deref at"),
        ("NULL deref at fe", "NULL deref at"),
        ("page fault at ffffffffdeadbeef", "page fault at"),
        ("GP fault at 0xdead4ead00000000", "GP fault at"),
        ("BUG at guest/crash.s:42", "BUG at"),
        ("soft lockup CPU#1 stuck for 22s", "soft lockup"),
        ("hard LOCKUP on CPU 3", "hard LOCKUP on CPU"),
        ("task kworker/u8:2:93 blocked", "task"),
        ("task Web Content:93 blocked", "task"),
        ("Bad page state in process a b pfn:12345", "Bad page state in process"),
        ("scheduling while atomic: insmod/312/0x00000002", "scheduling while atomic:"),
        ("machine check 5 Bank 1: b600000000000135", "machine check"),
        ("stack overflow", "stack overflow"),
        ("Attempted to kill init! exitcode=0x0000000b", "Attempted to kill init!"),
        ("VFS: Unable to mount root fs on unknown-block(0,0)", "VFS: Unable to mount root fs on"),
        ("EXT4-fs (device dm-0): panic forced after error", "EXT4-fs (device"),
        // So much as may be cut is left out: a word, or what may be the beginning of one.
        (
            "stack-protector: Kernel stack is corrupted in: crash",
            "stack-protector: Kernel stack is corrupted",
        ),
    ] {
        assert_eq!(shown(&made("", report, "", &[])), kind);
        assert_eq!(shown(&made(report, "Fatal exception", "", &[])), kind);
    }
}

#[test]
fn functions_keep_their_module_and_nothing_of_the_compiler() {
    for (rip, callers, expected) in [
        ("null_pointer+a", &["do_one_initcall"][..], "x < null_pointer < do_one_initcall"),
        ("ext4_find.isra.0+1f [ext4]", &["vfs_read"], "x < ext4_find [ext4] < vfs_read"),
        ("do_syscall_64.cold+1f", &[], "x < do_syscall_64"),
        ("folio_wait.part.1+4c [a b]", &["x.constprop.0", "y.llvm.123"], "x < folio_wait [a b] < x < y"),
        // A call to nowhere, and a module whose name is cut.
        ("0xffffffffc0123456", &["run"], "x < run"),
        ("a_function_with_a_long_name+1f [a_modu", &[], "x < a_function_with_a_long_name"),
    ] {
        assert_eq!(shown(&made("x", "y", rip, callers)), expected);
    }
    assert_eq!(signature(&Cause::default()), None);
}

proptest! {
    #[test]
    fn one_cause_on_two_machines_has_one_signature(
        kind in prop::sample::select(vec![
            ("BUG: kernel NULL pointer dereference, address: ", ""),
            ("BUG: unable to handle page fault for address: ", ""),
            ("general protection fault, probably for non-canonical address ", ": 0000 [#1] PREEMPT SMP PTI"),
        ]),
        one in machine(), other in machine(),
    ) {
        let [one, other] = [one, other].map(|machine| cause(&machine.log(kind)));
        prop_assert_eq!(shown(&one), shown(&other));
        prop_assert_eq!(signature(&one), signature(&other));
    }

    #[test]
    fn another_function_or_caller_is_another_cause(rip in "[a-z_]{1,30}", other in "[a-z_]{1,30}", caller in "[a-z_]{1,20}") {
        prop_assume!(rip != other);
        let of = |rip: &str, caller: &str| signature(&made("NULL deref at 18", "", &format!("{rip}+a"), &[caller]));
        prop_assert_ne!(of(&rip, &caller), of(&other, &caller));
        prop_assert_ne!(of(&rip, &caller), of(&rip, ""));
    }

    #[test]
    fn of_any_cause_there_is_a_text(report in "[ -~]{0,60}", rip in "[ -~]{0,60}", callers in prop::collection::vec("[ -~]{0,30}", 0..5)) {
        let callers: Vec<_> = callers.iter().map(String::as_str).collect();
        let cause = made(&report, "", &rip, &callers);
        prop_assert_eq!(signature(&cause).is_some(), !shown(&cause).is_empty());
    }
}

/// What is not the cause's own.
#[derive(Clone, Debug)]
struct Machine {
    cpu: u32,
    pid: u32,
    comm: String,
    address: u64,
    registers: u64,
    seconds: u32,
    panics: bool,
    tainted: bool,
}

fn machine() -> impl Strategy<Value = Machine> {
    let comm = prop_oneof!["[a-z]{1,15}", "[ -~]{1,15}"];
    (0..4096u32, 1..4_194_304u32, comm, 0x1000u64.., any::<u64>(), any::<u16>(), any::<[bool; 2]>()).prop_map(
        |(cpu, pid, comm, address, registers, seconds, [panics, tainted])| Machine {
            cpu,
            pid,
            comm,
            address,
            registers,
            seconds: seconds.into(),
            panics,
            tainted,
        },
    )
}

impl Machine {
    /// The log of a crash, as a kernel writes it.
    fn log(&self, (begin, end): (&str, &str)) -> String {
        let Self { cpu, pid, comm, address, registers, .. } = self;
        let taint = if self.tainted { "Kdump: loaded Tainted: G           OE" } else { "Not tainted" };
        let mut lines = vec![
            format!("{begin}{}{address:016x}{end}", if end.is_empty() { "" } else { "0x" }),
            "Oops: 0000 [#1] PREEMPT SMP PTI".to_owned(),
            format!("CPU: {cpu} PID: {pid} Comm: {comm} {taint} 6.1.0-56-amd64 #1"),
            "RIP: 0010:do_work.isra.0+0x1c/0x90".to_owned(),
            format!("RSP: 0018:{registers:016x} EFLAGS: 00010246"),
            "Call Trace:".to_owned(),
            " <TASK>".to_owned(),
            " process_one_work+0x1c7/0x380".to_owned(),
            format!(" ? guess_{pid}+0x1/0x2"),
            " worker_thread+0x4d/0x380".to_owned(),
            " </TASK>".to_owned(),
        ];
        if self.panics {
            lines.push("Kernel panic - not syncing: Fatal exception".to_owned());
        }
        let stamp = format!("[{:5}.{:06}] ", self.seconds, pid % 1_000_000);
        lines.into_iter().map(|line| stamp.clone() + &line + "\n").collect()
    }
}
