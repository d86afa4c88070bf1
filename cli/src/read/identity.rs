//! What a crash and its cause are known by: as the image has recorded it, or made of what an older or shorter report
//! holds whole. docs/sel-format.md has both.

use super::crash::{Crash, Panicked, Text, Time};
use lastwords_core::{
    report::{Cause, Class, CpuLocation, CrashId, Fnv, ID_LEN, Line, signature, signature_text},
    store::sel,
};
use std::fmt::Write;

/// What a crash is known by, and its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The crash's id; `None` where nothing tells it from other ones.
    pub id: Option<String>,
    /// The image has recorded it. Else it is made of other records, and two machines may have the same.
    pub id_is_recorded: bool,
    /// The cause's signature.
    pub signature: Option<u32>,
    /// The image has recorded it. Else it is made of what is known of the cause, which may not be all.
    pub signature_is_recorded: bool,
    /// What the signature is a hash of, as far as that is known.
    pub text: Text,
    /// What sort of crash it was.
    pub class: Class,
}

impl Identity {
    /// Of a crash.
    #[must_use]
    pub fn of(crash: &Crash) -> Self {
        let id = crash.id.or_else(|| derived(crash)).map(text);
        let cause = cause(crash);
        let known = signature(&cause);
        let text = String::from_utf8_lossy(signature_text(&cause).as_bytes()).trim_start().to_owned();
        let value = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
        Self {
            id,
            id_is_recorded: crash.id.is_some(),
            signature: crash.signature.or(known),
            signature_is_recorded: crash.signature.is_some(),
            text: Text {
                value: text,
                headless: false,
                cut: crash.signature.is_none() || crash.signature != known,
            },
            class: match Class::of(value(&crash.cause).as_deref(), value(&crash.reason).as_deref()) {
                // What is missing of it may tell.
                Class::Other if whole_reason(crash).is_none() => Class::Unknown,
                class => class,
            },
        }
    }
}

/// What tells a crash from others: its id, else what is made of its parts and the number of its first record.
#[must_use]
pub fn key(crash: &Crash) -> String {
    if let Some(id) = Identity::of(crash).id {
        return id;
    }
    let mut lines = crash.time.as_ref().map(ToString::to_string).unwrap_or_default();
    for part in [&crash.reason, &crash.cause, &crash.location] {
        lines += "\n";
        lines += &part.as_ref().map(ToString::to_string).unwrap_or_default();
    }
    for number in [crash.build_id, crash.first_record.map(u32::from)].into_iter().flatten() {
        // A String takes everything.
        let _ = write!(lines, "\n{number:x}");
    }
    text(CrashId::new(Fnv::default().bytes(lines.as_bytes())))
}

fn text(id: CrashId) -> String {
    let mut text = lastwords_core::text::Text::<ID_LEN>::new();
    id.put(&mut text);
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

/// The id of a crash that has none recorded: of its time, which tells it from others, and what else is whole.
fn derived(crash: &Crash) -> Option<CrashId> {
    // Of what is missing it may have its own, and more that it would be made of.
    if crash.is_open {
        return None;
    }
    let (Time::Seconds(time) | Time::Uptime(time)) = crash.time.as_ref()? else { return None };
    let mut lines = format!("{time}\n{}\n", whole_reason(crash).unwrap_or_default());
    let panicked = crash.panicked.as_ref().map(|panicked| match panicked {
        Panicked::Cpu(cpu, at) => Line::Panicked(CpuLocation { cpu: *cpu, location: at.location }),
        Panicked::Unknown => Line::PanickedUnknown,
    });
    for line in [crash.build_id.map(Line::BuildId), panicked] {
        let text = line.map(sel::text);
        lines += &String::from_utf8_lossy(text.as_ref().map_or(&[], |text| text.as_bytes()));
        lines.push('\n');
    }
    Some(CrashId::new(Fnv::default().bytes(lines.as_bytes())))
}

/// The reason, where all of it is there.
fn whole_reason(crash: &Crash) -> Option<&str> {
    let reason = crash.reason.as_ref().filter(|reason| reason.is_whole())?;
    Some(&*reason.value).filter(|reason| !reason.ends_with(".."))
}

/// The cause, of what is there whole.
fn cause(crash: &Crash) -> Cause {
    let mut cause = Cause::default();
    let whole =
        |text: &Option<Text>| text.as_ref().filter(|text| text.is_whole()).map(|text| text.value.clone());
    cause.reason.str(whole_reason(crash).unwrap_or_default());
    // What led to it counts, where there was something; then the reason does not.
    if crash.cause.is_some() {
        cause.reason = lastwords_core::text::Text::new();
        cause.report.str(&whole(&crash.cause).unwrap_or_default());
    }
    cause.rip.str(&whole(&crash.location).unwrap_or_default().replacen("+0x", "+", 1));
    let callers = crash.call_trace.iter().take_while(|caller| caller.is_whole());
    for (slot, caller) in cause.callers.iter_mut().zip(callers) {
        slot.str(&caller.value);
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::{super::crash::crashes, *};
    use crate::read::Log;
    use lastwords_core::report::{Content, lines};
    use proptest::{collection::vec, prelude::*, sample::Index};

    /// What the image writes of a crash: the records of its lines, as many as the limit allows.
    fn written(cause: &Cause, id: CrashId, limit: u32) -> Vec<[u8; 16]> {
        let mut records = Vec::new();
        let mut content =
            Content { cause: Some(cause), build_id: Some(7), id: Some(id), ..Content::default() };
        lines::<sel::Records>(limit, &mut content, &mut |line, left| {
            records.extend(sel::records(sel::text(line).as_bytes(), records.len() as u8));
            left
        });
        records
    }

    fn made(report: &str, reason: &str, rip: &str, callers: &[String]) -> Cause {
        let mut cause = Cause::default();
        cause.report.str(report);
        cause.reason.str(if reason.is_empty() { report } else { reason });
        cause.rip.str(rip);
        for (slot, caller) in cause.callers.iter_mut().zip(callers) {
            slot.str(caller);
        }
        cause
    }

    /// Report, reason, location and callers.
    fn any_cause() -> impl Strategy<Value = (&'static str, &'static str, String, Vec<String>)> {
        let reports = [
            "",
            "NULL deref at 18",
            "stack overflow",
            "soft lockup CPU#1 stuck for 22s",
            "list_del corruption. next->prev should be ff",
        ];
        let reasons = [
            "",
            "Fatal exception",
            "Attempted to kill init! exitcode=0x0000000b",
            "stack-protector: Kernel stack is corrupted in: crash_init+0x12/0x34 [crash]",
        ];
        let report = (prop::sample::select(reports.to_vec()), prop::sample::select(reasons.to_vec()));
        let rip = prop_oneof![
            "",
            "[a-z_]{1,12}\\+[1-9a-f]{1,3}",
            "[a-z_]{1,12}(\\.isra\\.0)?\\+[1-9a-f]{1,3} \\[[a-z]{1,9}\\]"
        ];
        (report, rip, vec("[a-z_]{1,20}", 0..5))
            .prop_map(|((report, reason), rip, callers)| (report, reason, rip, callers))
            .prop_filter("nothing is known", |(report, reason, ..)| !report.is_empty() || !reason.is_empty())
    }

    proptest! {
        #[test]
        fn a_signature_is_right_or_marked_partial_whatever_is_lost_or_comes_twice_or_late(
            (report, reason, rip, callers) in any_cause(), hash: [u8; 8], limit in 1..40u32,
            lost in vec(any::<Index>(), 0..4), twice in vec(any::<Index>(), 0..3), moved in vec(any::<(Index, u8)>(), 0..3),
        ) {
            let cause = made(report, reason, &rip, &callers);
            let id = CrashId::new(Fnv::default().bytes(&hash));
            let mut records = written(&cause, id, limit);
            // Reason, build id, cause and location take at most 18 records.
            let whole = lost.is_empty() && limit >= 20;
            for (at, by) in moved {
                let block = at.index(records.len()) / 5 * 5;
                let end = (block + 5).min(records.len());
                records[block..end].rotate_left(usize::from(by) % (end - block));
            }
            for at in lost {
                if records.len() > 1 {
                    records.remove(at.index(records.len()));
                }
            }
            for at in twice {
                let at = at.index(records.len());
                records.insert(at, records[at]);
            }
            let crashes = crashes(&records.into_iter().collect::<Log>());
            prop_assert_eq!(crashes.len(), 1);
            let found = Identity::of(&crashes[0]);
            let right = String::from_utf8(signature_text(&cause).as_bytes().to_vec()).unwrap();
            if whole {
                prop_assert!(found.id_is_recorded && found.signature_is_recorded, "{:?}", found);
            }
            if found.signature_is_recorded {
                prop_assert_eq!(found.signature, signature(&cause));
            }
            if !found.text.cut {
                prop_assert!(found.signature_is_recorded);
                prop_assert_eq!(&found.text.value, &right);
            }
            if found.id_is_recorded {
                prop_assert_eq!(found.id.unwrap().len(), ID_LEN);
                prop_assert_eq!(crashes[0].id, Some(id));
            }
        }
    }

    fn read(records: Vec<[u8; 16]>) -> Identity {
        Identity::of(&crashes(&records.into_iter().collect::<Log>())[0])
    }

    #[test]
    fn with_all_of_its_callers_the_text_is_whole_and_without_one_it_is_marked() {
        let callers = ["one", "a_function_of_length", "a_function_of_length"].map(str::to_owned);
        let id = CrashId::new(Fnv::default());
        for (callers, text, cut) in [
            (&callers[..1], "NULL deref at < null_pointer [crash] < one", false),
            (&callers, "NULL deref at < null_pointer [crash] < one < a_function_of_length", true),
        ] {
            let cause = made("NULL deref at 18", "Fatal exception", "null_pointer+a [crash]", callers);
            let found = read(written(&cause, id, 32));
            assert_eq!((found.signature, found.signature_is_recorded), (signature(&cause), true));
            assert_eq!((&*found.text.value, found.text.cut), (text, cut));
        }
    }

    /// A report of a version that had neither line.
    fn older(time: u32, lines: &[&str]) -> Vec<[u8; 16]> {
        let begin = lines[0].as_bytes();
        let mut event = sel::event_record([begin[0], begin[1], begin[2]]);
        event[3..7].copy_from_slice(&time.to_le_bytes());
        let mut records = Vec::new();
        for line in lines {
            records.extend(sel::records(line.as_bytes(), records.len() as u8));
        }
        records.insert(0, event);
        records
    }

    #[test]
    fn an_older_report_gets_a_derived_id_as_documented_and_a_partial_signature() {
        const TIME: u32 = 1_795_364_230;
        let lines = ["Fatal exception", "id 5f3e9a1b", "1=9c2a36", "NULL deref at 18", "RIP null_pointer+a"];
        let found = read(older(TIME, &lines));
        // Computed by a script from docs/sel-format.md.
        assert_eq!((found.id.as_deref(), found.id_is_recorded), (Some("xxzhfm8tr5"), false));
        assert_eq!((&*found.text.value, found.text.cut), ("NULL deref at < null_pointer", true));
        assert!(found.signature.is_some() && !found.signature_is_recorded);
        // What the dump kernel adds changes nothing; another time, CPU, reason or kernel does.
        let with_mark = [older(TIME, &lines), vec![sel::mark(lastwords_core::report::Stage::Saved)]].concat();
        assert_eq!(read(with_mark).id, found.id);
        assert_ne!(read(older(TIME + 1, &lines)).id, found.id);
        for at in 0..3 {
            let mut other = lines;
            other[at] = ["Fatal exception in interrupt", "id 5f3e9a1c", "2=9c2a36"][at];
            assert_ne!(read(older(TIME, &other)).id, found.id);
        }
        // Without a time nothing tells a crash from the next.
        assert_eq!(read(older(TIME, &lines).split_off(1)).id, None);
    }

    #[test]
    fn of_a_reason_that_is_cut_there_is_no_signature() {
        let found = read(older(7, &["Attempted to kill init! exi..", "id 5f3e9a1b"]));
        assert_eq!((found.signature, found.text.value.as_str()), (None, ""));
        assert_eq!(found.class, Class::InitKilled);
        assert_eq!(read(older(7, &["id 5f3e9a1b"])).class, Class::Unknown);
    }
}
