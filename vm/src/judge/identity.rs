//! The id of a crash, computed anew from its dump, and the signature of its cause from vmcore-dmesg: what the SEL and
//! `lastwords read` have is held against it.
//!
//! Written from docs/sel-format.md and not with core's own code, which this is to judge.

use crate::judge::dmesg::Dmesg;
use crate::judge::outcome::Outcome;
use crate::judge::sel_text;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// FNV-1a of 64 bits (RFC 9923), so many bits of it by xor-folding.
#[must_use]
pub fn fnv(bytes: &[u8], bits: u32) -> u64 {
    let mut hash: u64 = 0xcbf29ce484222325;
    for byte in bytes {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x100000001b3);
    }
    ((hash >> bits) ^ hash) & ((1 << bits) - 1)
}

/// The id of a crash with this VMCOREINFO, whose log ends at so many microseconds.
fn id(vmcoreinfo: &[u8], micros: u64) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let hash = fnv(&[vmcoreinfo, &micros.to_le_bytes()].concat(), 50);
    (0..10).map(|letter| LETTERS[(hash >> (45 - 5 * letter)) as usize & 31] as char).collect()
}

/// The crash's id, as its dump has it.
///
/// # Errors
/// When the dump does not have what it is made of.
pub fn of_dump(outcome: &Outcome) -> Result<String> {
    let micros = Dmesg::last_stamp(outcome.text("dmesg")?).context("no time stamp in vmcore-dmesg")?;
    Ok(id(&outcome.notes()?.vmcoreinfo, micros))
}

/// Checks what the SEL, the console and `lastwords read --json` (`told`) have: the dump's id, the same in all of them,
/// and a signature that is the hash of the text that `read` has for it, where that text is whole.
///
/// # Errors
/// When they differ.
pub fn check(outcome: &Outcome, told: &Value) -> Result<()> {
    let expected = of_dump(outcome)?;
    let said = sel_text::said(&outcome.sel()?)?;
    ensure!(said.crash_id.as_ref() == Some(&expected), "the dump's id is {expected}, the SEL says {said:?}");
    let crash = &told["crashes"][0];
    ensure!(crash["id"] == expected && crash["id_source"] == "recorded", "not {expected}: {crash:#}");
    let signature = said.signature.as_deref().context("no signature in the SEL")?;
    ensure!(crash["signature"] == signature && crash["signature_partial"] == false, "{crash:#}");
    let words = format!("crash ID {expected}, signature {signature}");
    let console = crate::judge::console::lines(outcome);
    ensure!(
        console.iter().any(|line| line.ends_with(&words)),
        "the console does not have {words:?}: {console:?}"
    );

    let text = crash["signature_text"].as_str().context("no text of the signature")?;
    let rip = Dmesg::parse(outcome.text("dmesg")?).rip();
    let function = rip.as_deref().and_then(|rip| rip.split(['+', '.']).next()).unwrap_or_default();
    ensure!(text.contains(function), "the function {function:?} is not in {text:?}");
    let hash = |text: &str| format!("{:08x}", fnv(text.as_bytes(), 32));
    match text.strip_suffix('…') {
        None => ensure!(hash(text) == signature, "{text:?} is not {signature}'s"),
        Some(part) => ensure!(hash(part) != signature, "{text:?} is whole"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_example() {
        let vmcoreinfo = b"OSRELEASE=6.1.0-56-amd64\nBUILD-ID=eb4fbcd037e7253717950bf2b93bd5566f47c56f\n\
            SYMBOL(_stext)=ffffffffb7200000\nCRASHTIME=1795364771\n";
        assert_eq!(id(vmcoreinfo, 5123456), "06bz7sfyrb");
        let text = b"NULL deref at < null_pointer [crash] < crash_init < do_one_initcall < do_init_module";
        assert_eq!(fnv(text, 32), 0xe86e5dd9);
    }
}
