//! The crashed kernel's names for its code, from its own /proc/kallsyms.

use crate::judge::outcome::Outcome;
use crate::machine::process;
use anyhow::Result;
use std::fs;
use std::ops::Range;
use std::process::Command;

/// The crashed kernel's names for its code, as it listed them itself (section `kallsyms` of the guest).
#[derive(Clone, Debug)]
pub struct Kallsyms {
    /// The list.
    pub text: String,
    image: Range<u64>,
}

impl Kallsyms {
    /// The names of the kernel that crashed.
    ///
    /// # Errors
    /// When it did not list them.
    pub fn get(outcome: &Outcome) -> Result<Self> {
        let packed = tempfile::Builder::new().suffix(".gz").tempfile()?;
        fs::write(&packed, outcome.bytes("kallsyms")?)?;
        let text = process::text(Command::new("gzip").args(["--decompress", "--stdout"]).arg(packed.path()))?;
        Ok(Self { text, image: outcome.notes()?.image()? })
    }

    /// As the kernel prints an address: `panic+0x16`, `deaf+0x9 [crash]`. `None`: it is in no code that is listed.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<String> {
        let in_image = self.image.contains(&address);
        let mut best: Option<(u64, &str, Option<&str>)> = None;
        for line in self.text.lines() {
            let mut words = line.split_whitespace();
            let at = u64::from_str_radix(words.next()?, 16).ok()?;
            let name = words.nth(1)?;
            let module = words.next();
            // Of several at one address the kernel takes the first.
            if at <= address && module.is_none() == in_image && best.is_none_or(|(best, ..)| at > best) {
                best = Some((at, name, module));
            }
        }
        let (at, name, module) = best?;
        let module = module.map_or(String::new(), |module| format!(" {module}"));
        Some(format!("{name}+{:#x}{module}", address - at))
    }
}
