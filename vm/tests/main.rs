//! Real kernels in QEMU: each module says what it shows.
//!
//! A test that is `#[ignore]`d is one of `make test-all`; the reason says which other one stands for it in `make test`.

mod bad_input;
mod boots;
mod cpus;
mod crashes;
mod damage;
mod debian;
mod debian_trouble;
mod debian_watchdog;
mod faults;
mod figures;
mod growth;
mod hypervisor;
mod image;
mod inject;
mod interfaces;
mod kexec;
mod loading;
mod log;
mod mark;
mod mmio;
mod nmis;
mod no_dump_kernel;
mod options;
mod packages;
mod probe;
mod pstore;
mod purgatory;
mod reading;
mod reasons;
mod secure_boot;
mod shapes;
mod side_by_side;
mod stack;
mod status;
mod test_report;
mod trouble;
mod watchdog;
