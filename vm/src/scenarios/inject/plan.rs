//! The cases: which event at which instruction, and which byte is flipped. The same ones for the same image.

use super::bench::{Act, Bench, End, Event, Instruction};
use super::code::{Code, Place};
use super::state::{State, Way};
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many of the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every instruction of the assembly, which has the way in, the way out and the handlers, and every byte of the header
    /// and the way in; of the rest every eighth instruction.
    Whole,
    /// Some of them, for CI.
    Sample,
}

impl Extent {
    /// Of so many instructions of the assembly, and of the rest, one.
    fn strides(self) -> [u64; 2] {
        match self {
            Self::Whole => [1, 8],
            Self::Sample => [6, 480],
        }
    }
}

/// One run of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is done, as the list of what is lost names it.
    pub what: String,
    /// Where.
    pub place: Place,
    /// Bytes there.
    pub len: u64,
    /// How it is done.
    pub acts: Vec<Act>,
}

/// What the cases are made of: the image's instructions.
struct Reached {
    /// In the order of the first time, the dump kernel's behind them.
    all: Vec<Instruction>,
    /// In the middle of the report.
    middle: Instruction,
    code: Code,
}

impl Reached {
    fn get(bench: &mut Bench) -> Result<Self> {
        let code = Code::get()?;
        let all = bench.reached(&[])?;
        let inside: Vec<_> = all.iter().filter(|one| one.at < code.end()).copied().collect();
        let middle = *inside.get(inside.len() / 2).context("no instruction is reached")?;
        Ok(Self { all, middle, code })
    }

    /// The assembly's functions have this prefix, and Rust's have a path. The dump kernel's instructions, which come next,
    /// count as well.
    fn is_assembly(&self, at: u64) -> bool {
        let symbol = self.code.place(at).symbol;
        at >= self.code.end() || symbol.starts_with("lastwords_") && !symbol.contains("::")
    }

    /// The name of an instruction's place.
    fn place(&self, at: u64) -> Place {
        if at < self.code.end() {
            return self.code.place(at);
        }
        // It is entered at its lowest address.
        let entry = self.all.iter().map(|one| one.at).filter(|at| *at >= self.code.end()).min().unwrap_or(at);
        Place { symbol: "the dump kernel".to_owned(), offset: at - entry }
    }

    /// One of so many instructions of the assembly, and one of so many others.
    fn some(&self, [assembly, rest]: [u64; 2]) -> impl Iterator<Item = Instruction> {
        let stride = move |at| if self.is_assembly(at) { assembly } else { rest };
        self.all.iter().copied().filter(move |one| is_chosen(one.at, stride(one.at)))
    }

    /// Instructions that are only reached when something comes from outside in the middle of the report.
    fn handler(&self, bench: &mut Bench, event: Event) -> Result<Vec<Instruction>> {
        let with = bench.reached(&[Act::Until(self.middle.at), Act::Event(event)])?;
        Ok(with
            .into_iter()
            .filter(|one| !self.all.contains(one))
            .filter(|one| self.is_assembly(one.at))
            .collect())
    }
}

/// Which ones are taken depends on their place alone, and one of 400 is among one of 8. Knuth's multiplicative hash.
fn is_chosen(at: u64, of: u64) -> bool {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).is_multiple_of(of)
}

/// The cases of a way.
fn cases(bench: &mut Bench, way: Way, extent: Extent) -> Result<Vec<Case>> {
    let reached = Reached::get(bench)?;
    let [assembly, rest] = extent.strides();
    let mut cases = Vec::new();
    let mut add = |what: String, one: Instruction, acts: Vec<Act>| {
        cases.push(Case { what, place: reached.place(one.at), len: one.len, acts });
    };
    if way == Way::TwoCpus {
        for one in reached.some([2 * assembly, (rest / 8).max(8)]) {
            add(Event::Broadcast.to_string(), one, vec![Act::Until(one.at), Act::Event(Event::Broadcast)]);
        }
        return Ok(cases);
    }
    for event in [Event::Nmi, Event::Restartable, Event::Fatal] {
        for one in reached.some([assembly, rest]) {
            add(event.to_string(), one, vec![Act::Until(one.at), Act::Event(event)]);
        }
    }
    // The second one at the beginning of the next step, or on the way out.
    let next =
        Act::UntilOneOf(reached.code.symbol("lastwords_guarded")?, reached.code.symbol("lastwords_resume")?);
    for one in reached.some([2 * assembly, 4 * rest]) {
        let acts = [Act::Until(one.at), Act::Event(Event::Fatal), next, Act::Event(Event::Fatal)];
        add("mc-fatal twice".to_owned(), one, acts.to_vec());
    }
    for first in [Event::Nmi, Event::Restartable, Event::Fatal] {
        for one in reached.handler(bench, first)?.into_iter().filter(|one| is_chosen(one.at, assembly)) {
            for second in [Event::Nmi, Event::Restartable, Event::Fatal] {
                let begin = [Act::Until(reached.middle.at), Act::Event(first)];
                let acts = [begin, [Act::Until(one.at), Act::Event(second)]].concat();
                add(format!("{second} in the handler of {first}"), one, acts);
            }
        }
    }
    if way == Way::Purgatory {
        for at in (0..reached.code.symbol("lastwords_guarded")?).step_by(if extent == Extent::Whole {
            1
        } else {
            17
        }) {
            // Which bit: Knuth's multiplicative hash of the place.
            let bit = (at as u32).wrapping_mul(0x9e37_79b1) >> 29;
            let acts = vec![Act::Flip(at, 1 << bit)];
            add("flip".to_owned(), Instruction { at, len: 1 }, acts);
        }
    }
    Ok(cases)
}

/// Runs the cases of a way with so many machines at a time; `done` hears of each.
///
/// # Errors
/// When QEMU fails.
pub fn run(
    way: Way,
    extent: Extent,
    machines: usize,
    done: impl Fn(&Case, End) + Sync,
) -> Result<Vec<(Case, End)>> {
    let state = State::get(way)?;
    let cases = cases(&mut Bench::start(&state)?, way, extent)?;
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        let mut bench = Bench::start(&state)?;
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let end = bench.run(&case.acts).with_context(|| format!("{way}: {case:x?}"))?;
            done(case, end);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((case.clone(), end));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..machines).map(|_| scope.spawn(work)).collect();
        let mut worked = vec![work()];
        worked.extend(others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a machine's thread has panicked")))
        }));
        worked.into_iter().collect::<Result<()>>()
    })?;
    Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
}
