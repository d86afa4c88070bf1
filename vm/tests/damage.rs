//! One bit of each region of what was loaded: with none does stock come to the dump and we do not. `make damage` takes
//! more of them.

use anyhow::{Result, ensure};
use lastwords_vm::judge::loaded::Region;
use lastwords_vm::scenarios::damage::{Case, End, Way, run, worse};

fn of(way: Way) -> Result<Vec<(Case, End)>> {
    let ends = run(way, 1, 1, |_, _| {})?;
    println!("{way}: {ends:?}");
    Ok(ends)
}

/// Nothing that is our own costs the dump, nor does what has a copy; and what has none is named.
#[test]
fn as_the_purgatory_only_a_damaged_kernel_or_initrd_is_not_started() -> Result<()> {
    for (case, end) in of(Way::Purgatory)? {
        // Where a bit of it costs the dump stands in vm/lost.txt.
        if case.region == Region::Entry {
            continue;
        }
        let has_no_copy = matches!(case.region, Region::Kernel | Region::Initrd);
        let expected = if has_no_copy { End::Report } else { End::Dump };
        ensure!(end == expected, "{}: {end:?}", case.region);
    }
    Ok(())
}

#[test]
#[ignore = "make test-all: the other one shows ours; beside stock most cases stand still until that is sure"]
fn stock_never_dumps_where_we_do_not() -> Result<()> {
    let results: Vec<_> = Way::ALL.into_iter().map(|way| Ok((way, of(way)?))).collect::<Result<_>>()?;
    let worse = worse(&results);
    ensure!(worse.is_empty(), "{worse:?}");
    Ok(())
}
