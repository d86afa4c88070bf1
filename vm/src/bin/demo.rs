//! `make demo`: a kernel panics, and what came of it is told.

use anyhow::{Result, bail};
use lastwords_vm::scenarios::story::{self, Which};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["qemu"] => story::tell(Which::Simulator),
        ["openipmi"] => story::tell(Which::OpenIpmi),
        _ => bail!("the BMC is one of: qemu, openipmi"),
    }
}
