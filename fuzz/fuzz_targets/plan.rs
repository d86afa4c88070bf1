//! A command line: whatever stands on it, a plan comes of it, and what is printed of that is read as the same plan.
#![no_main]

use lastwords_core::cmdline;
use lastwords_core::plan::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let _ = cmdline::elfcorehdr(line);
    let plan = Plan::new("", line);
    let printed = plan.to_string();
    let again = Plan::new("", &printed);
    assert_eq!(Plan { bad: plan.bad, ..again }, plan, "{printed}");
    assert_eq!(again.bad, [None; 4], "{printed}");
});
