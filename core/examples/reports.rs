//! Picks the cause out of every log of a folder and holds it against the title that somebody gave the log: `make
//! reports DIR=FOLDER`.
//!
//! The folder is syzkaller's `pkg/report/testdata/linux/report`, or one like it: a file begins with lines as `TITLE: KASAN:
//! use-after-free Read in f`, ends its head with an empty line, and then has the log. What counts as right:
//!
//! - **kind**: the cause begins with the short form that [`KINDS`] has for the title.
//! - **function**: the title's function is that of the location; or it is the location's or one of the callers'.
//! - **silent**: a log without a title, or of something on which no kernel panics (lockdep, leaks), has no reason.
//!
//! The logs are of machines that went on: most have no panic, and several reports. The panic is put where the second report
//! begins, as on a machine that panics on warnings and on oopses. Who wrote the first report has panicked. Left out are
//! logs that are marked as corrupt, those of other architectures, and those of kernels before 4.11.

use lastwords_core::crash::{CauseReader, Panicked};
use lastwords_core::report::Cause;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::{env, fs};

/// How titles begin, and the short forms that are right for them.
const KINDS: [(&str, &[&str]); 47] = [
    ("KASAN: ", &["KASAN "]),
    ("KMSAN: ", &["KMSAN "]),
    ("KFENCE: ", &["KFENCE "]),
    ("KCSAN: ", &["KCSAN "]),
    ("UBSAN: ", &["UBSAN "]),
    (
        "general protection fault in ",
        &["GP fault", "Oops general protection", "Oops segment-related general protection"],
    ),
    ("BUG: unable to handle kernel paging request in ", &["page fault at "]),
    ("BUG: unable to handle kernel NULL pointer dereference in ", &["NULL deref at "]),
    ("BUG: unable to handle kernel access to user memory in ", &["page fault at "]),
    ("BUG: stack guard page was hit in ", &["stack overflow"]),
    ("kernel stack overflow in ", &["stack overflow", "Oops kernel stack overflow"]),
    ("PANIC: double fault in ", &["double fault"]),
    ("kernel BUG ", &["BUG at ", "skbuff ", "buffer overflow", "usercopy "]),
    ("BUG: corrupted list in ", &["list corruption ", "BUG at list_debug.c"]),
    ("BUG: bad usercopy in ", &["usercopy "]),
    ("divide error in ", &["Oops divide error", "Oops divide_error"]),
    ("stack segment fault in ", &["Oops stack segment"]),
    ("int3 in ", &["Oops int3"]),
    ("invalid opcode in ", &["Oops invalid opcode"]),
    ("attempt to ", &["Rust panic at "]),
    ("BUG: soft lockup in ", &["soft lockup CPU#"]),
    ("INFO: rcu detected stall in ", &["RCU stall"]),
    ("INFO: task hung in ", &["hung task"]),
    ("BUG: scheduling while atomic in ", &["scheduling while atomic"]),
    ("BUG: Bad page ", &["Bad page"]),
    ("BUG: Object already free", &["slab "]),
    ("INFO: Allocated in ", &["slab "]),
    ("INFO: Freed in ", &["slab "]),
    ("WARNING in ", &["WARNING at "]),
    ("WARNING: refcount bug in ", &["refcount ", "WARNING at "]),
    ("WARNING: ODEBUG bug in ", &["WARNING at "]),
    ("WARNING: kmalloc bug in ", &["WARNING at "]),
    ("WARNING: locking bug in ", &["WARNING at "]),
    ("WARNING: zero-size vmalloc in ", &["WARNING at "]),
    ("WARNING: proc registration bug in ", &["WARNING at "]),
    ("WARNING: kobject bug in ", &["WARNING at "]),
    ("WARNING: bad usercopy in ", &["WARNING at "]),
    ("WARNING: corrupted list in ", &["list corruption "]),
    ("WARNING: bad unlock balance in ", &[]),
    ("kernel panic: Attempted to kill init", &[]),
    ("kernel panic: sysrq triggered crash", &[]),
    ("kernel panic: stack is corrupted in ", &[]),
    ("kernel panic: corrupted stack end in ", &[]),
    ("kernel panic: hung_task: blocked tasks", &["hung task"]),
    ("kernel panic: panic_on_warn set", &["WARNING at "]),
    ("kernel panic: ", &[]),
    ("BUG: Dentry still in use in ", &["WARNING at ", "BUG at "]),
];

/// Where something hangs. The titles' functions are those that syzkaller takes for guilty, from all CPUs' traces.
const HANGS: [&str; 3] = ["BUG: soft lockup in ", "INFO: rcu detected stall in ", "INFO: task hung in "];

/// What only logs of other architectures have.
const FOREIGN: [&str; 13] = [
    "pc : ",
    "PC is at",
    "Call trace:",
    "epc : ",
    "epc: ",
    "$ 0   :",
    "NIP [",
    "PSW : ",
    "EIP: ",
    "Backtrace:",
    " SMP ARM",
    "linux,dummy-virt",
    "dump_backtrace",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file: what its head says, and the log behind it.
struct File {
    title: String,
    corrupt: bool,
    lines: Vec<Line>,
}

/// A record of the log.
struct Line {
    ts_nsec: u64,
    caller_id: Option<u32>,
    text: String,
}

impl File {
    fn parse(content: &str) -> Option<Self> {
        let (head, log) = content.split_once("\n\n").or_else(|| Some(("", content.strip_prefix('\n')?)))?;
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let log = log.split("\nREPORT:\n").next().unwrap_or(log);
        // Some have no times, or lost them; a console has a prompt before some lines.
        let untimed = log.lines().any(|line| line == "Call Trace:") || !log.contains("\n[");
        let mut lines = Vec::<Line>::new();
        for line in log.lines() {
            let timed = line.match_indices('[').find_map(|(at, _)| Line::parse(&line[at..]));
            let Some(line) = timed.or_else(|| untimed.then(|| Line::untimed(line))) else { continue };
            match lines.last_mut() {
                // The panic of Rust code is one record of several lines.
                Some(last) if last.ts_nsec == line.ts_nsec && last.text.starts_with("rust_kernel: ") => {
                    last.text.push('\n');
                    last.text.push_str(&line.text);
                }
                _ => lines.push(line),
            }
        }
        let title = value("TITLE:").unwrap_or_default().trim().to_owned();
        Some(Self { title, corrupt: value("CORRUPTED:").is_some(), lines })
    }

    /// The kernel's version, from the first line that has one behind the taint.
    fn version(&self) -> Option<(u32, u32)> {
        self.lines.iter().find_map(|line| {
            let at = line.text.find("ainted")?;
            line.text[at..].split(' ').find_map(|word| {
                let mut numbers = word.split(['.', '-', '+']);
                Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
            })
        })
    }
}

impl Line {
    /// `[   12.345678][  T123] text`
    fn parse(line: &str) -> Option<Self> {
        let (time, rest) = line.strip_prefix('[')?.split_once(']')?;
        let (seconds, micros) = time.trim().split_once('.')?;
        let ts_nsec = seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000;
        let caller = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let caller = caller.and_then(|(caller, rest)| {
            let (kind, number) = caller.trim().split_at_checked(1)?;
            let number: u32 = number.parse().ok()?;
            match kind {
                "T" => Some((number, rest)),
                "C" => Some((number | 1 << 31, rest)),
                _ => None,
            }
        });
        let (caller_id, rest) = caller.map_or((None, rest), |(caller, rest)| (Some(caller), rest));
        Some(Self { ts_nsec, caller_id, text: rest.strip_prefix(' ').unwrap_or(rest).to_owned() })
    }

    fn untimed(line: &str) -> Self {
        Self { ts_nsec: 0, caller_id: None, text: line.to_owned() }
    }

    fn panicked(&self) -> Option<Panicked> {
        match self.caller_id? {
            caller_id if caller_id >> 31 == 0 => Some(Panicked { cpu: u32::MAX >> 1, pid: Some(caller_id) }),
            caller_id => Some(Panicked { cpu: caller_id & !(1 << 31), pid: Some(u32::MAX) }),
        }
    }
}

/// What is picked of a log.
fn pick(file: &File) -> Cause {
    let (mut reader, mut panicked) = (CauseReader::new(None), None);
    for line in &file.lines {
        let before = reader.cause;
        let mut next = reader;
        next.text(line.ts_nsec, line.caller_id, line.text.as_bytes());
        let is_new = before.report.as_bytes() != next.cause.report.as_bytes();
        if is_new && before.report.is_empty() && panicked.is_none() {
            // From here on it is known who panics.
            panicked = line.panicked();
            next = CauseReader::new(panicked);
            next.text(line.ts_nsec, line.caller_id, line.text.as_bytes());
        } else if is_new && !next.cause.report.as_bytes().starts_with(before.report.as_bytes()) {
            let [caller, ..] = &before.callers;
            if !caller.is_empty() || !before.comm.is_empty() {
                return before;
            }
        }
        reader = next;
    }
    reader.cause
}

/// The functions that are told: the location's, then the callers.
fn functions(cause: &Cause) -> Vec<String> {
    let names =
        [cause.rip.as_bytes()].into_iter().chain(cause.callers.iter().map(|caller| caller.as_bytes()));
    names.map(|name| text(name).split(['+', '.', ' ']).next().unwrap_or_default().to_owned()).collect()
}

/// Is this the function, maybe cut? A system call has several.
fn is(told: &str, function: &str) -> bool {
    let bare = |name: &str| {
        let call = ["__se_sys_", "__x64_sys_", "__do_sys_", "sys_"]
            .iter()
            .find_map(|begin| name.strip_prefix(begin));
        call.unwrap_or(name).to_owned()
    };
    let function = bare(function);
    !told.is_empty() && (bare(told) == function || told.len() >= 20 && function.starts_with(&bare(told)))
}

#[derive(Default)]
struct Count {
    all: u32,
    kind: u32,
    functions: u32,
    location: u32,
    told: u32,
}

fn main() -> ExitCode {
    let Some(folder) = env::args().nth(1) else {
        eprintln!("usage: make reports DIR=FOLDER");
        return ExitCode::FAILURE;
    };
    let mut names: Vec<_> = match fs::read_dir(&folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => {
            eprintln!("{folder}: {error}");
            return ExitCode::FAILURE;
        }
    };
    names.sort();
    let (mut counts, mut left_out) = (BTreeMap::<_, Count>::new(), BTreeMap::<_, u32>::new());
    let (mut silent, mut quiet) = (0, 0);
    for path in names {
        let Ok(content) = fs::read(&path) else { continue };
        let content = text(&content).replace('\r', "");
        let Some(file) = File::parse(&content) else { continue };
        let why = match file.version() {
            _ if file.corrupt => Some("marked as corrupt"),
            _ if FOREIGN.iter().any(|line| content.contains(line)) => Some("another architecture"),
            Some(version) if version < (4, 11) => Some("before 4.11"),
            _ => None,
        };
        if let Some(why) = why {
            *left_out.entry(why).or_default() += 1;
            continue;
        }
        let cause = pick(&file);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let report = text(cause.report.as_bytes());
        let Some((kind, right)) =
            KINDS.iter().find(|(kind, right)| file.title.starts_with(kind) && !right.is_empty())
        else {
            silent += 1;
            quiet += u32::from(report.is_empty());
            if !report.is_empty() {
                println!("{name}: [{}]: {report}", file.title);
            }
            continue;
        };
        let count = counts.entry(*kind).or_default();
        count.all += 1;
        let is_kind = right.iter().any(|short| report.starts_with(short));
        count.kind += u32::from(is_kind);
        let functions = functions(&cause);
        let function = file.title.rsplit_once(" in ").map(|(_, function)| function);
        let cut = |told: &String| {
            function.is_some_and(|function| function.split('/').any(|function| is(told, function.trim())))
        };
        if function.is_some() {
            count.functions += 1;
            count.location += u32::from(functions.first().is_some_and(cut));
            count.told += u32::from(functions.iter().any(cut));
        }
        if !is_kind || function.is_some() && !functions.iter().any(cut) {
            println!("{name}: {}: {report}; {}", file.title, functions.join(" "));
        }
    }
    println!(
        "\n{:58} {:>5} {:>5} {:>9} {:>9} {:>5}",
        "title", "logs", "kind", "functions", "location", "told"
    );
    let (mut sum, mut hangs) = (Count::default(), Count::default());
    for (kind, count) in &counts {
        let sum = if HANGS.contains(kind) { &mut hangs } else { &mut sum };
        println!(
            "{kind:58} {:5} {:5} {:9} {:9} {:5}",
            count.all, count.kind, count.functions, count.location, count.told
        );
        sum.all += count.all;
        sum.kind += count.kind;
        sum.functions += count.functions;
        sum.location += count.location;
        sum.told += count.told;
    }
    for (name, sum) in [("what hangs", hangs), ("all others", sum)] {
        println!(
            "{name:58} {:5} {:5} {:9} {:9} {:5}",
            sum.all, sum.kind, sum.functions, sum.location, sum.told
        );
    }
    println!("no crash: {silent} logs, silent in {quiet}");
    for (why, count) in &left_out {
        println!("left out, {why}: {count}");
    }
    ExitCode::SUCCESS
}
