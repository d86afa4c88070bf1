//! Makes the dump kernel's command line: what is reused of the running kernel's, what the user gives, the options'
//! parameters, and what the SMBIOS and ACPI tables have, in this order, since the last one wins.

use lastwords_core::{
    cmdline,
    plan::{PREFIX, Plan},
};
use thiserror::Error;

/// What kexec_file_load(2) asks to be left free for the `elfcorehdr=0x… ` that it puts in front, in bytes.
const ELFCOREHDR_LEN: usize = 30;

/// Parameters of the running kernel that are not for the dump kernel: they belong to this boot, or would make the dump
/// kernel reserve memory that it has not got.
const NOT_REUSED: [&str; 4] = ["BOOT_IMAGE=", "initrd=", "crashkernel=", "elfcorehdr="];

/// Why a command line cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CmdlineError {
    /// It has more bytes than the dump kernel takes.
    #[error(
        "the command line is {len} bytes long, but this kernel accepts {most}\n  {line}\nhint: leave something out"
    )]
    TooLong {
        /// Bytes that it has.
        len: usize,
        /// Bytes that it may have.
        most: usize,
        /// The line.
        line: String,
    },
    /// A `lastwords.` parameter that the image would not understand.
    #[error("{word}: {why}")]
    Parameter {
        /// The word on the line.
        word: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A quotation mark that would swallow what follows.
    #[error("a quotation mark on the command line is not closed")]
    Quote,
    /// A NUL, which would end it.
    #[error("the command line has a NUL byte in it")]
    Nul,
}

/// A command line that grows. What stands behind `--` is for init and stays at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmdline {
    line: String,
    for_init: String,
    most: usize,
}

impl Cmdline {
    /// An empty one, for a kernel with this `cmdline_size`.
    pub fn new(cmdline_size: u32) -> Self {
        // kexec_file_load(2) counts the NUL, too.
        let most = (cmdline_size as usize).saturating_sub(ELFCOREHDR_LEN + 1);
        Self { line: String::new(), for_init: String::new(), most }
    }

    /// Adds to the end.
    pub fn append(&mut self, text: &str) {
        let (words, for_init) = split_init(text);
        join(&mut self.line, words);
        join(&mut self.for_init, for_init);
    }

    /// Adds what is to be reused of the running kernel's command line.
    pub fn reuse(&mut self, running: &str) {
        let (words, for_init) = split_init(running);
        for word in cmdline::words(words) {
            if !NOT_REUSED.iter().any(|name| word.starts_with(name)) {
                join(&mut self.line, word);
            }
        }
        join(&mut self.for_init, for_init);
    }

    /// Adds `lastwords.NAME=VALUE`, unless the line or what is embedded in the image has it already. False when it
    /// has no room, or when the image would not understand it: what only helps must not keep anything from loading.
    pub fn append_unless_given(&mut self, embedded: &str, name: &str, value: &str) -> bool {
        if self.has(name, embedded) {
            return true;
        }
        let full = format!("{PREFIX}{name}");
        let mut longer = self.clone();
        join(&mut longer.line, &format!("{full}={value}"));
        let fits = Plan::default().set(name, Some(value)).is_ok() && longer.clone().finish().is_ok();
        if fits {
            *self = longer;
        }
        fits
    }

    /// Is there a parameter of this name, on the line or among those that are embedded in the image?
    pub fn has(&self, name: &str, embedded: &str) -> bool {
        let full = format!("{PREFIX}{name}");
        [embedded, &self.line].into_iter().any(|line| cmdline::last_value(line, &full).is_some())
    }

    /// The plan that the image will find, with these parameters embedded.
    ///
    /// # Errors
    /// [`CmdlineError::Parameter`].
    pub fn plan<'a>(&'a self, embedded: &'a str) -> Result<Plan<'a>, CmdlineError> {
        let plan = Plan::new(embedded, &self.line);
        match plan.bad[0] {
            None => Ok(plan),
            Some(bad) => Err(CmdlineError::Parameter { word: bad.word.to_owned(), why: bad.why }),
        }
    }

    /// The whole line, with the core header's physical address: what kexec_file_load(2) adds by itself.
    ///
    /// # Errors
    /// [`CmdlineError::TooLong`], [`CmdlineError::Quote`], [`CmdlineError::Nul`].
    pub fn finish_with_elfcorehdr(mut self, addr: u64) -> Result<String, CmdlineError> {
        let word = format!("elfcorehdr={addr:#x}");
        // The room that is left free for it is enough for any address.
        self.most += ELFCOREHDR_LEN;
        // Behind one that the user may have given: the last one wins.
        join(&mut self.line, &word);
        self.finish()
    }

    /// The whole line.
    ///
    /// # Errors
    /// [`CmdlineError::TooLong`], [`CmdlineError::Quote`], [`CmdlineError::Nul`].
    pub fn finish(mut self) -> Result<String, CmdlineError> {
        if !self.for_init.is_empty() {
            join(&mut self.line, "--");
            join(&mut self.line, &self.for_init);
        }
        if self.line.contains('\0') {
            return Err(CmdlineError::Nul);
        }
        if self.line.matches('"').count() % 2 == 1 {
            return Err(CmdlineError::Quote);
        }
        if self.line.len() > self.most {
            return Err(CmdlineError::TooLong { len: self.line.len(), most: self.most, line: self.line });
        }
        Ok(self.line)
    }
}

/// Splits a line at the word `--`, which goes away.
fn split_init(line: &str) -> (&str, &str) {
    let line = line.trim_ascii();
    // `words` ends at `--`: what it has not given lies behind the end of the last word.
    let kernel_end = cmdline::words(line)
        .last()
        .map_or(0, |word| word.as_ptr() as usize + word.len() - line.as_ptr() as usize);
    let (kernel, rest) = line.split_at(kernel_end);
    (kernel, rest.trim_ascii_start().strip_prefix("--").unwrap_or("").trim_ascii_start())
}

fn join(line: &mut String, text: &str) {
    if !line.is_empty() && !text.is_empty() {
        line.push(' ');
    }
    line.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(parts: &[&str]) -> Cmdline {
        let mut cmdline = Cmdline::new(2047);
        for part in parts {
            cmdline.append(part);
        }
        cmdline
    }

    #[test]
    fn what_belongs_to_this_boot_is_not_reused() {
        let mut cmdline = Cmdline::new(2047);
        cmdline.reuse(
            "BOOT_IMAGE=/vmlinuz root=UUID=1 ro crashkernel=256M-:192M crashkernel=64M,low initrd=\\i.img quiet\n",
        );
        cmdline.append("irqpoll");
        assert_eq!(cmdline.finish().unwrap(), "root=UUID=1 ro quiet irqpoll");
    }

    #[test]
    fn parameters_stay_before_what_is_for_init() {
        let mut cmdline = Cmdline::new(2047);
        cmdline.reuse("quiet -- single");
        cmdline.append("nr_cpus=1 -- debug");
        cmdline.append("lastwords.ipmi_handle_panic");
        assert!(cmdline.plan("").unwrap().handle_panic);
        let whole = "quiet nr_cpus=1 lastwords.ipmi_handle_panic -- single debug";
        assert_eq!(cmdline.finish().unwrap(), whole);
    }

    #[test]
    fn what_the_user_gives_is_not_overruled() {
        let mut cmdline = line(&["quiet lastwords.tsc_khz=1000000"]);
        assert!(cmdline.append_unless_given("", "tsc_khz", "2000000"));
        assert!(cmdline.append_unless_given("lastwords.apic_ids=0", "apic_ids", "0-3"));
        assert_eq!(cmdline.clone().finish().unwrap(), "quiet lastwords.tsc_khz=1000000");
        assert!(cmdline.append_unless_given("", "apic_ids", "0-3"));
        assert_eq!(cmdline.finish().unwrap(), "quiet lastwords.tsc_khz=1000000 lastwords.apic_ids=0-3");
    }

    #[test]
    fn what_only_helps_is_left_out_where_it_does_not_fit() {
        let long = "x".repeat(2000);
        let mut cmdline = line(&[&long]);
        assert!(!cmdline.append_unless_given("", "apic_ids", "0-3"));
        assert!(!line(&["quiet"]).append_unless_given("", "tsc_khz", "1"));
        assert_eq!(cmdline.finish(), Ok(long));
    }

    #[test]
    fn a_parameter_that_the_image_would_not_understand_is_refused() {
        let error = line(&["quiet lastwords.budget=soon"]).plan("").unwrap_err();
        assert_eq!(error.to_string(), "lastwords.budget=soon: takes 1 to 600 seconds");
    }

    #[test]
    fn the_longest_line_leaves_room_for_elfcorehdr() {
        let longest = "x".repeat(2047 - 30 - 1);
        assert_eq!(line(&[&longest]).finish(), Ok(longest.clone()));
        let error = line(&[&longest, "y"]).finish().unwrap_err();
        assert!(matches!(error, CmdlineError::TooLong { len: 2018, most: 2016, .. }), "{error}");
        assert_eq!(line(&["a\0b"]).finish(), Err(CmdlineError::Nul));
        assert_eq!(line(&["dyndbg=\"file a"]).finish(), Err(CmdlineError::Quote));
    }

    #[test]
    fn elfcorehdr_is_the_last_one_before_what_is_for_init() {
        let whole = line(&["quiet elfcorehdr=1K -- single"]).finish_with_elfcorehdr(0x3eff_f000);
        assert_eq!(whole.unwrap(), "quiet elfcorehdr=1K elfcorehdr=0x3efff000 -- single");
        let longest = "x".repeat(2047 - 30 - 1);
        assert!(line(&[&longest]).finish_with_elfcorehdr(u64::MAX).is_ok());
        assert!(line(&[&longest, "y".repeat(30).as_str()]).finish_with_elfcorehdr(0).is_err());
    }

    proptest! {
        #[test]
        fn any_lines_are_joined_without_loss(lines in prop::collection::vec("([a-z= \n-]|\"[a-z -]{0,4}\"){0,12}", 1..4)) {
            let mut cmdline = Cmdline::new(2047);
            for line in &lines {
                cmdline.append(line);
            }
            let letters = |line: &str| line.chars().filter(char::is_ascii_lowercase).count();
            let all: usize = lines.iter().map(|line| letters(line)).sum();
            prop_assert_eq!(letters(&cmdline.finish().unwrap()), all);
        }
    }
}
