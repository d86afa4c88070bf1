//! The dead kernel's log as `vmcore-dmesg` prints it: what lastwords says of the reason is checked against it.

/// The log of one crash.
#[derive(Clone, Debug)]
pub struct Dmesg<'a> {
    lines: Vec<&'a str>,
}

impl<'a> Dmesg<'a> {
    /// Takes it apart; the time stamps go.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let lines = text.lines().filter_map(|line| line.strip_prefix('['));
        Self { lines: lines.filter_map(|line| Some(line.split_once("] ")?.1)).collect() }
    }

    /// The time stamp of a log's last record, in microseconds.
    #[must_use]
    pub fn last_stamp(text: &str) -> Option<u64> {
        let stamp = |line: &str| {
            let (seconds, micros) = line.strip_prefix('[')?.split_once(']')?.0.trim().split_once('.')?;
            Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
        };
        text.lines().rev().find_map(stamp)
    }

    /// The text of the panic: of the last record that begins so, for nothing of the kernel's follows on its panic. `None`
    /// after an oops on which the kernel crashes at once (`panic_on_oops`).
    #[must_use]
    pub fn panic(&self) -> Option<&'a str> {
        self.lines.iter().rev().find_map(|line| line.strip_prefix("Kernel panic - not syncing: "))
    }

    /// The first place in the kernel's code that it shows: `RIP: 0010:symbol+0x12/0x34 [module]` as `symbol+12 [module]`,
    /// or a machine check's `RIP 10:<address> {symbol+0x12/0x34}`. What the panic itself shows is only what it came in
    /// between.
    #[must_use]
    pub fn rip(&self) -> Option<String> {
        let place = |line: &&'a str| {
            line.strip_prefix("RIP: 0010:").or_else(|| {
                let check = line.strip_prefix("mce: [Hardware Error]: RIP")?;
                check.split_once('{')?.1.strip_suffix('}')
            })
        };
        let before = self.lines.iter().take_while(|line| !line.starts_with("Kernel panic - not syncing: "));
        let (symbol, size) = before.into_iter().find_map(place)?.split_once('/')?;
        let module = size.split_once(' ').map(|(_, module)| format!(" {module}")).unwrap_or_default();
        Some(symbol.replace("+0x", "+") + &module)
    }

    /// Where in the source an array's index was too large: `UBSAN: array-index-out-of-bounds in folder/file.c:44:5` as
    /// `file.c:44:5`.
    #[must_use]
    pub fn source(&self) -> Option<&'a str> {
        let line = self.lines.iter().find_map(|line| line.strip_prefix("UBSAN: "))?;
        line.rsplit(['/', ' ']).next()
    }

    /// The first process that it names: one that hangs, or one that runs.
    #[must_use]
    pub fn comm(&self) -> Option<&'a str> {
        let hangs =
            |line: &&'a str| line.strip_prefix("INFO: task ")?.split_once(" blocked")?.0.rsplit_once(':');
        if let Some((hangs, _)) = self.lines.iter().find_map(hangs) {
            return Some(hangs);
        }
        let line = self.lines.iter().find_map(|line| Some(line.split_once(" Comm: ")?.1))?;
        line.split([' ', '\n']).next()
    }

    /// The CPU that it names last, the one that panicked, and its process: `CPU: 1 UID: 0 PID: 93 Comm: insmod`.
    #[must_use]
    pub fn panicked(&self) -> Option<(usize, u32)> {
        self.lines.iter().rev().filter(|line| line.contains(" Comm: ")).find_map(|line| {
            let cpu = line.strip_prefix("CPU: ")?.split(' ').next()?.parse().ok()?;
            Some((cpu, line.split_once(" PID: ")?.1.split(' ').next()?.parse().ok()?))
        })
    }

    /// Is there a function in a call trace whose name begins so?
    #[must_use]
    pub fn calls(&self, name: &str) -> bool {
        let mut entries = self.lines.iter().filter_map(|line| line.strip_prefix(' ')?.split_once("+0x"));
        entries.any(|(function, _)| function.starts_with(name))
    }
}

/// Of a log that tells who wrote what, the part that tells of the crash: from the last record that begins with these
/// words on, what the same process wrote. `None` when there is no such record.
#[must_use]
pub fn from(log: &str, begins: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().collect();
    let start =
        lines.iter().rposition(|line| caller(line).is_some_and(|(_, text)| text.starts_with(begins)))?;
    let (by, _) = caller(lines[start])?;
    let same = |line: &&str| caller(line).is_some_and(|(caller, _)| caller == by);
    Some(lines[start..].iter().copied().filter(same).flat_map(|line| [line, "\n"]).collect())
}

/// Who wrote a record, and its text: `[    4.271538][   T93] text`.
fn caller(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('[')?.split_once("][")?.1.split_once("] ")
}

#[cfg(test)]
mod tests {
    use super::{Dmesg, from};

    #[test]
    fn of_two_reports_that_lie_in_each_other_the_one_that_is_asked_for_is_taken() {
        let log = "[    1.000000][   T93] BUG: x\n[    2.000000][  T101] WARNING: a\n[    2.000001][   T93] BUG: x\n\
                   [    2.000002][  T101] RIP: 0010:a+0x1/0x2\n[    2.000003][   T93] RIP: 0010:x+0x3/0x4\nKernel panic\n";
        let part = from(log, "BUG: ").unwrap();
        assert_eq!(part, "[    2.000001][   T93] BUG: x\n[    2.000003][   T93] RIP: 0010:x+0x3/0x4\n");
        assert_eq!(Dmesg::parse(&part).rip().as_deref(), Some("x+3"));
        assert_eq!(from(log, "Kernel panic"), None);
    }

    #[test]
    fn the_last_panic_is_the_real_one() {
        let log = "[    1.0] x: bad\nKernel panic - not syncing: a\n[    2.0] Kernel panic - not syncing: b\n[    3.0] \
                   Kernel panic - not syncing: c\n";
        assert_eq!(Dmesg::parse(log).panic(), Some("c"));
    }

    #[test]
    fn what_matters_is_found() {
        assert_eq!(Dmesg::last_stamp("[    5.000001] a\n[   12.345678] b\nmore of b\n"), Some(12_345_678));
        let log = Dmesg::parse(include_str!("../../../core/tests/data/log-rcu-stall-6.1.txt"));
        assert_eq!(log.panic(), Some("RCU Stall"));
        assert_eq!(log.rip().as_deref(), Some("deaf+9 [crash]"));
        assert_eq!(log.comm(), Some("insmod"));
        assert_eq!(log.panicked(), Some((1, 0)));
        assert!(log.calls("crash_init") && !log.calls("init_crash"));
    }

    #[test]
    fn an_oops_has_no_panic() {
        let log = Dmesg::parse(include_str!("../../../core/tests/data/log-null-pointer-6.12.txt"));
        assert_eq!((log.panic(), log.rip().as_deref()), (None, Some("null_pointer+a [crash]")));
    }
}
