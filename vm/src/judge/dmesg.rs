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

    /// The text of the panic. `None` after an oops on which the kernel crashes at once (`panic_on_oops`).
    #[must_use]
    pub fn panic(&self) -> Option<&'a str> {
        self.lines.iter().find_map(|line| line.strip_prefix("Kernel panic - not syncing: "))
    }

    /// The first place in the kernel's code that it shows: `RIP: 0010:symbol+0x12/0x34 [module]` as `symbol+12 [module]`,
    /// or a machine check's `RIP 10:<address> {symbol+0x12/0x34}`.
    #[must_use]
    pub fn rip(&self) -> Option<String> {
        let place = |line: &&'a str| {
            line.strip_prefix("RIP: 0010:").or_else(|| {
                let check = line.strip_prefix("mce: [Hardware Error]: RIP")?;
                check.split_once('{')?.1.strip_suffix('}')
            })
        };
        let (symbol, size) = self.lines.iter().find_map(place)?.split_once('/')?;
        let module = size.split_once(' ').map(|(_, module)| format!(" {module}")).unwrap_or_default();
        Some(symbol.replace("+0x", "+") + &module)
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

    /// The CPU that it names last: the one that panicked.
    #[must_use]
    pub fn panicked(&self) -> Option<usize> {
        self.lines
            .iter()
            .rev()
            .filter(|line| line.contains(" Comm: "))
            .find_map(|line| line.strip_prefix("CPU: ")?.split(' ').next()?.parse().ok())
    }

    /// Is there a function in a call trace whose name begins so?
    #[must_use]
    pub fn calls(&self, name: &str) -> bool {
        let mut entries = self.lines.iter().filter_map(|line| line.strip_prefix(' ')?.split_once("+0x"));
        entries.any(|(function, _)| function.starts_with(name))
    }
}

#[cfg(test)]
mod tests {
    use super::Dmesg;

    #[test]
    fn what_matters_is_found() {
        let log = Dmesg::parse(include_str!("../../../core/tests/data/log-rcu-stall-6.1.txt"));
        assert_eq!(log.panic(), Some("RCU Stall"));
        assert_eq!(log.rip().as_deref(), Some("deaf+9 [crash]"));
        assert_eq!(log.comm(), Some("insmod"));
        assert_eq!(log.panicked(), Some(1));
        assert!(log.calls("crash_init") && !log.calls("init_crash"));
    }

    #[test]
    fn an_oops_has_no_panic() {
        let log = Dmesg::parse(include_str!("../../../core/tests/data/log-null-pointer-6.12.txt"));
        assert_eq!((log.panic(), log.rip().as_deref()), (None, Some("null_pointer+a [crash]")));
    }
}
