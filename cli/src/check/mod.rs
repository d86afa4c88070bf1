//! Checking the reports before they are needed, and recording how a dump goes: `probe` asks the BMC what it can, `test`
//! reports a crash that did not happen, `mark` is for the dump kernel's scripts.

pub mod mark;
pub mod probe;
pub mod test;
pub mod tested;
