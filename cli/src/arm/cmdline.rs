//! Makes the dump kernel's command line: what is reused of the running kernel's, what the user gives, the options'
//! parameters, and what the SMBIOS and ACPI tables have, in this order, since the last one wins.
//!
//! Our parameters never keep a line from being loaded that would do without them: where it has no room for them, they are
//! embedded in the image, or left out.

use lastwords_core::{
    abi::PARAMETERS_LEN,
    cmdline,
    plan::{PREFIX, Plan},
};
use thiserror::Error;

/// What kexec_file_load(2) asks to be left free for the `elfcorehdr=0x… ` that it puts in front, in bytes.
const ELFCOREHDR_LEN: usize = 30;
/// What our parameters leave free: for `elfcorehdr=`, `acpi_rsdp=`, and what the running kernel may add to them.
const LEFT_FREE: usize = 64;

/// Parameters of the running kernel that are not for the dump kernel: they belong to this boot, or would make the dump
/// kernel reserve memory that it has not got.
const NOT_REUSED: [&str; 4] = ["BOOT_IMAGE=", "initrd=", "crashkernel=", "elfcorehdr="];

/// Why a command line cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CmdlineError {
    /// It has more bytes than the dump kernel takes.
    #[error(
        "the command line is {len} bytes long, {} too many: this kernel accepts {most}\n  {line}\n\
         hint: leave something out", .len - .most
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
    /// Bytes that the dump kernel takes, without the NUL.
    size: usize,
    /// Parameters on the line that only help, those that help most first.
    helpful: Vec<String>,
}

/// A command line, and where our parameters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The line.
    pub cmdline: Cmdline,
    /// Parameters to embed in the image.
    pub embedded: String,
    /// So many bytes the line was too long with all of them.
    pub over: usize,
    /// Those that found no room.
    pub left_out: Vec<String>,
}

impl Cmdline {
    /// An empty one, for a kernel with this `cmdline_size`.
    pub fn new(cmdline_size: u32) -> Self {
        let size = cmdline_size as usize;
        Self { line: String::new(), for_init: String::new(), size, helpful: Vec::new() }
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

    /// Adds `lastwords.NAME=VALUE`, which only helps, unless the line or what is embedded in the image has it already, or
    /// the image would not understand it. What is added later helps less.
    pub fn append_unless_given(&mut self, embedded: &str, name: &str, value: &str) {
        if !self.has(name, embedded) && Plan::default().set(name, Some(value)).is_ok() {
            let word = format!("{PREFIX}{name}={value}");
            join(&mut self.line, &word);
            self.helpful.push(word);
        }
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
            Some(bad) => Err(CmdlineError::Parameter { word: bad.word.to_owned(), why: bad.why() }),
        }
    }

    /// What stands before `--`.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Finds room for our parameters: on the line, else all together in the image, where these are embedded and where
    /// it is ours to fill in. What has no room there is left out, what only helps first.
    pub fn place(mut self, embedded: &str, can_embed: bool) -> Placed {
        let most = self.size.saturating_sub(LEFT_FREE);
        let over = self.len().saturating_sub(most);
        let mut in_image = embedded.to_owned();
        let mut left_out = Vec::new();
        if over > 0 && can_embed {
            let all = [embedded, &self.line].join(" ");
            in_image = last_of_each_name(&all);
            while in_image.len() >= PARAMETERS_LEN
                && let Some(word) = self.least_needed(&in_image)
            {
                in_image = without(&in_image, |other| other == word);
                left_out.push(word);
            }
            self.line = without(&self.line, |word| word.starts_with(PREFIX));
        }
        while !can_embed
            && self.len() > most
            && let Some(word) = self.least_needed(&self.line.clone())
        {
            self.line = without(&self.line, |other| other == word);
            left_out.push(word);
        }
        Placed { cmdline: self, embedded: in_image, over, left_out }
    }

    /// The one of our parameters on a line that is left out next.
    fn least_needed(&mut self, line: &str) -> Option<String> {
        self.helpful.pop().or_else(|| ours(line).last().map(str::to_owned))
    }

    fn len(&self) -> usize {
        let for_init = if self.for_init.is_empty() { 0 } else { " -- ".len() + self.for_init.len() };
        self.line.len() + for_init
    }

    /// The whole line, with the core header's physical address: what kexec_file_load(2) adds by itself.
    ///
    /// # Errors
    /// [`CmdlineError::TooLong`], [`CmdlineError::Quote`], [`CmdlineError::Nul`].
    pub fn finish_with_elfcorehdr(mut self, addr: u64) -> Result<String, CmdlineError> {
        // As short as it can be. Behind one that the user may have given: the last one wins.
        let word = match addr {
            addr if addr.is_multiple_of(1024) => format!("elfcorehdr={}K", addr / 1024),
            addr => format!("elfcorehdr={addr:#x}"),
        };
        join(&mut self.line, &word);
        let most = self.size;
        self.whole(most)
    }

    /// The whole line, with room for what kexec_file_load(2) adds.
    ///
    /// # Errors
    /// [`CmdlineError::TooLong`], [`CmdlineError::Quote`], [`CmdlineError::Nul`].
    pub fn finish(self) -> Result<String, CmdlineError> {
        // It counts the NUL, too.
        let most = self.size.saturating_sub(ELFCOREHDR_LEN + 1);
        self.whole(most)
    }

    fn whole(mut self, most: usize) -> Result<String, CmdlineError> {
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
        if self.line.len() > most {
            return Err(CmdlineError::TooLong { len: self.line.len(), most, line: self.line });
        }
        Ok(self.line)
    }
}

/// Our parameters on a line.
fn ours(line: &str) -> impl Iterator<Item = &str> {
    cmdline::words(line).filter(|word| word.starts_with(PREFIX))
}

/// Our parameters on a line, of each name the one that counts.
fn last_of_each_name(line: &str) -> String {
    let name = |word: &str| word.split('=').next().map(str::to_owned);
    let all: Vec<_> = ours(line).collect();
    let counts = |(at, word): (usize, &&str)| all[at + 1..].iter().all(|other| name(other) != name(word));
    let words = all.iter().enumerate().filter(|(at, word)| counts((*at, word)));
    words.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

/// The line without these words.
fn without(line: &str, is_one: impl Fn(&str) -> bool) -> String {
    cmdline::words(line).filter(|word| !is_one(word)).collect::<Vec<_>>().join(" ")
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
        cmdline.append_unless_given("", "tsc_khz", "2000000");
        cmdline.append_unless_given("lastwords.apic_ids=0", "apic_ids", "0-3");
        assert_eq!(cmdline.clone().finish().unwrap(), "quiet lastwords.tsc_khz=1000000");
        cmdline.append_unless_given("", "apic_ids", "0-3");
        // The image would not understand it.
        cmdline.append_unless_given("", "budget", "soon");
        assert_eq!(cmdline.finish().unwrap(), "quiet lastwords.tsc_khz=1000000 lastwords.apic_ids=0-3");
    }

    /// A line of so many bytes without our parameters, and three of them: one that was asked for, two that help.
    fn long(len: usize) -> Cmdline {
        let mut cmdline = line(&["x ", &"x".repeat(len - 2), "lastwords.budget=9 -- single"]);
        cmdline.for_init.clear();
        cmdline.append_unless_given("", "apic_ids", "0-3");
        cmdline.append_unless_given("", "tsc_khz", "2000000");
        cmdline
    }

    #[test]
    fn parameters_without_room_on_the_line_are_embedded_whole() {
        let fits = long(1900).place("lastwords.budget=7", true);
        assert_eq!((fits.over, fits.embedded.as_str()), (0, "lastwords.budget=7"));
        assert_eq!(fits.cmdline, long(1900));

        // The last one of a name counts, as it does on the line.
        let placed = long(2000).place("lastwords.budget=7 lastwords.sel_records=8", true);
        let all =
            "lastwords.sel_records=8 lastwords.budget=9 lastwords.apic_ids=0-3 lastwords.tsc_khz=2000000";
        assert_eq!((placed.embedded.as_str(), placed.left_out.len()), (all, 0));
        assert_eq!(placed.cmdline.finish().unwrap().len(), 2000);
    }

    #[test]
    fn where_parameters_cannot_be_embedded_what_only_helps_is_left_out_first() {
        let left_out = |len: usize, embedded: &str, can_embed| {
            let placed = long(len).place(embedded, can_embed);
            assert!(placed.cmdline.clone().finish().is_ok(), "{placed:?}");
            placed.left_out.iter().map(|word| word["lastwords.".len()..].to_owned()).collect::<Vec<_>>()
        };
        assert!(left_out(1900, "", false).is_empty());
        assert_eq!(left_out(1930, "", false), ["tsc_khz=2000000"]);
        assert_eq!(left_out(1950, "", false), ["tsc_khz=2000000", "apic_ids=0-3"]);
        assert_eq!(left_out(2000, "", false), ["tsc_khz=2000000", "apic_ids=0-3", "budget=9"]);
        let full = format!("lastwords.console=0x3f8,{}vga", "vga,".repeat(113));
        assert_eq!(left_out(2000, &full, true), ["tsc_khz=2000000", "apic_ids=0-3"]);
        assert_eq!(left_out(1900, &full, true), [""; 0]);
    }

    #[test]
    fn our_parameters_never_keep_a_line_from_being_loaded() {
        // As long as stock kexec takes it, by kexec_load(2).
        let longest = 2047 - " elfcorehdr=1032188K".len();
        let whole = long(longest).place("", true).cmdline.finish_with_elfcorehdr(0x3eff_f000).unwrap();
        assert_eq!(whole.len(), 2047);
        let error =
            long(longest + 1).place("", true).cmdline.finish_with_elfcorehdr(0x3eff_f000).unwrap_err();
        assert!(error.to_string().contains("2048 bytes long, 1 too many"), "{error}");
    }

    #[test]
    fn a_parameter_that_the_image_would_not_understand_is_refused() {
        let error = line(&["quiet lastwords.budget=soon"]).plan("").unwrap_err();
        assert_eq!(error.to_string(), "lastwords.budget=soon: takes 1 to 600 seconds");
    }

    #[test]
    fn the_longest_line_leaves_room_for_what_kexec_file_load_adds() {
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
        assert_eq!(whole.unwrap(), "quiet elfcorehdr=1K elfcorehdr=1032188K -- single");
        let whole = line(&["quiet"]).finish_with_elfcorehdr(0x3eff_f200);
        assert_eq!(whole.unwrap(), "quiet elfcorehdr=0x3efff200");
    }

    fn parameters() -> impl Strategy<Value = Vec<&'static str>> {
        let words = [
            "lastwords.ipmi_handle_panic",
            "lastwords.ipmi_handle_panic=0",
            "lastwords.output_cpu_ip=sel",
            "lastwords.output_cpu_ip",
            "lastwords.budget=9",
            "lastwords.budget=15",
            "lastwords.console=none",
            "lastwords.console=ttyS1,9600",
        ];
        prop::collection::vec(prop::sample::select(words.to_vec()), 0..6)
    }

    proptest! {
        /// Wherever the parameters are, the image finds the same plan, unless something is left out; and it is loaded.
        #[test]
        fn placed_parameters_make_the_same_plan(
            embedded in parameters(), given in parameters(), len in 1700usize..2010, can_embed: bool,
        ) {
            let embedded = embedded.join(" ");
            let mut cmdline = line(&["console=ttyS0", &given.join(" "), &"x".repeat(len)]);
            cmdline.append_unless_given(&embedded, "tsc_khz", "2000000");
            let placed = cmdline.clone().place(&embedded, can_embed);
            prop_assert!(placed.cmdline.line().ends_with(&"x".repeat(len)) || placed.over == 0);
            prop_assert!(placed.embedded.len() < PARAMETERS_LEN);
            prop_assert_eq!(placed.left_out.is_empty(), can_embed || placed.over == 0);
            if placed.left_out.is_empty() {
                let plan = placed.cmdline.plan(&placed.embedded);
                prop_assert_eq!(plan, cmdline.plan(&embedded));
            }
            prop_assert!(placed.cmdline.finish_with_elfcorehdr(0x3eff_f000).is_ok());
        }

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
