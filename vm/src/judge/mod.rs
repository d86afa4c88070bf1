//! The judge: reads what came of a scenario and holds it against what others say of the same crash.
//!
//! Written from the documents, with readers and numbers of its own: it shares no code and no constant with lastwords,
//! whose mistakes it would else repeat.

pub mod asked;
pub mod bzimage;
pub mod console;
pub mod dmesg;
pub mod dump;
pub mod dump_file;
pub mod identity;
pub mod image;
pub mod loaded;
pub mod outcome;
pub mod printk;
pub mod pstore;
pub mod ram;
pub mod reading;
pub mod sections;
pub mod segments;
pub mod sel;
pub mod sel_text;
pub mod symbols;
pub mod vmcore;
pub mod watchdog;
