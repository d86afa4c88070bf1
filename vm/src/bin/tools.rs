//! `make tools`: installs the Debian packages that the bench and the tests run.

use anyhow::Result;

fn main() -> Result<()> {
    lastwords_vm::machine::packages::install()
}
