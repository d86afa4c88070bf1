//! Trying the words out before they are needed, and marking how a dump goes: `probe` asks the BMC what it can,
//! `rehearse` says the words of a crash that is none, `mark` is for the dump kernel's scripts.

pub mod mark;
pub mod probe;
pub mod rehearse;
