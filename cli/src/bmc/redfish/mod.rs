//! The event log of a BMC that has Redfish (DMTF DSP0266) instead of IPMI over LAN: its entries as SEL records.
//!
//! `address` is where it is and what of it is followed, `curl` the connection, `entry` what an entry stands for. Here is the
//! way to the entries: service root, systems and managers, their log services, page after page.
//!
//! Whatever the BMC answers, this ends: there are limits for time, bytes and requests (`curl`), for entries, and for what
//! one answer can hold. Nothing is followed to another host, no redirect either.

mod address;
mod curl;
mod entry;
mod error;
mod maker;

use address::Address;
pub use entry::{Entry, Kind};
pub use error::RedfishError;
pub use maker::Maker;

use super::{Enough, Progress, sel::RESTARTS};
use crate::{machine::now, sort};
use curl::{Answer, Curl};
use serde_json::{Map, Value};
use std::{fs::File, path::PathBuf, time::Duration};

/// An address that a user gives, once it has been looked at. It stays a text: for each type that the command line has, its
/// parser gets larger.
pub fn checked(text: &str) -> Result<String, &'static str> {
    text.parse::<Address>().map(|_| text.to_owned())
}

/// Where every service begins.
const ROOT: &str = "/redfish/v1/";
/// Most systems, managers, and log services of one that are looked at.
const MOST_MEMBERS: usize = 32;
/// Most pages of a log: iDRAC has 50 entries on one.
const MOST_PAGES: usize = 300;
/// Most entries: a SEL has at most 65,534 records.
const MOST_ENTRIES: usize = 65_534;
/// So many entries are asked for at once, where the list has only links to them.
const AT_ONCE: usize = 50;
/// Most objects and values of one answer: an object takes much more memory than its text.
const MOST_OBJECTS: usize = 1 << 16;
const MOST_VALUES: usize = 1 << 20;

/// The logs that can hold a SEL's records where no log is one by its type or name, the best first: OpenBMC, iLO, XCC, XCC
/// of older servers, iDRAC; Supermicro and others that have the name from DMTF's examples.
const OTHER_LOGS: [&str; 7] = ["eventlog", "iml", "platformlog", "standardlog", "lclog", "log1", "log"];

impl Maker {
    /// By the service root.
    fn new(root: &Value) -> Self {
        let vendor = root["Vendor"].as_str().unwrap_or_default().to_ascii_lowercase();
        let is = |name: &str| vendor.starts_with(&name.to_ascii_lowercase()) || !root["Oem"][name].is_null();
        match () {
            () if is("Dell") => Self::Dell,
            () if is("Hpe") || is("Hp") => Self::Hpe,
            () if is("Lenovo") => Self::Lenovo,
            () => Self::Other,
        }
    }
}

/// A Redfish service that is asked.
pub struct Redfish {
    curl: Curl,
    /// Who has made it.
    pub maker: Maker,
    root: Value,
    /// Is told how many entries were read.
    pub progress: Option<Progress>,
}

/// The best logs that were found, and whose they are.
struct Best {
    rank: usize,
    logs: Vec<LogService>,
    owners: Vec<String>,
    /// Why one that would be better by its name could not be looked at, and how much better.
    failed: Option<(usize, RedfishError)>,
}

impl Best {
    /// By its address it is a SEL, or none.
    fn fail(&mut self, path: &str, error: RedfishError) {
        let end = path.as_bytes().last_chunk::<4>();
        let rank = if end.is_some_and(|end| end.eq_ignore_ascii_case(b"/sel")) { 0 } else { NO_RANK };
        if self.failed.as_ref().is_none_or(|(than, _)| rank < *than) {
            self.failed = Some((rank, error));
        }
    }
}

/// A log.
#[derive(Clone, Debug)]
pub struct LogService {
    /// Where its entries are.
    entries: String,
    /// Its address, for people.
    pub name: String,
    /// By how many seconds its clock is ahead of this machine's.
    pub ahead: Option<i64>,
}

/// A log's entries.
#[derive(Debug, Default)]
pub struct Entries {
    /// The oldest first.
    pub all: Vec<Entry>,
    /// How many the BMC counts.
    pub count: Option<usize>,
    /// How many it has listed.
    pub given: usize,
    /// How many of these could not be read.
    pub lost: usize,
    /// Are older ones left out, because they were not wanted?
    pub newest_only: bool,
    /// Why the rest was not read.
    pub ended_by: Option<RedfishError>,
    /// The first page: how many there were by its count, and the first entry that is more than a link, or the first link.
    pub first: Option<(Option<u64>, Value)>,
}

/// How the service is to be asked.
pub struct Asking {
    pub user: String,
    pub password: Vec<u8>,
    pub ca_file: Option<PathBuf>,
    pub insecure: bool,
    pub limit: Duration,
}

impl Redfish {
    /// Finds the service. The root is there for everybody: so a wrong password is refused once, and not here.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(address: &str, asking: Asking) -> Result<Self, RedfishError> {
        let address = address.parse().map_err(|_| RedfishError::Characters)?;
        let mut curl = Curl::new(address, &asking.user, asking.password, asking.limit)?;
        // curl says the same of all that is wrong with it.
        if let Some(file) = &asking.ca_file {
            File::open(file).map_err(|error| RedfishError::CaFileOpen(file.clone(), error))?;
        }
        curl.ca_file = asking.ca_file;
        curl.insecure = asking.insecure;
        let mut service = Self { curl, maker: Maker::Other, root: Value::Null, progress: None };
        service.root = service.get(ROOT, false)?;
        service.maker = Maker::new(&service.root);
        let sessions = link(&service.root["Links"]["Sessions"]);
        if let Some(sessions) = sessions.and_then(|link| service.curl.address.path_of(link)) {
            service.curl.log_in(sessions)?;
        }
        Ok(service)
    }

    /// The BMC's name or address, as the user has given it.
    pub fn host(&self) -> String {
        self.curl.address.to_string()
    }

    /// Is nobody's certificate checked?
    pub fn is_insecure(&self) -> bool {
        self.curl.insecure
    }

    /// The logs that have the SEL's records: those of the system, else those of the manager.
    ///
    /// # Errors
    /// When there are none, or several systems with one each.
    pub fn logs(&mut self) -> Result<Vec<LogService>, RedfishError> {
        let start = match self.curl.address.path.clone() {
            Some(path) if path != ROOT && format!("{path}/") != ROOT => self.get(&path, true)?,
            _ => self.root.clone(),
        };
        if let Some(log) = self.log_service(&start) {
            return Ok(vec![log]);
        }
        let mut best = Best { rank: NO_RANK, logs: Vec::new(), owners: Vec::new(), failed: None };
        if start["LogServices"].is_object() {
            self.look(&[start], &mut best)?;
            return self.choose(best);
        }
        for name in ["Systems", "Managers"] {
            let Some(link) = link(&start[name]) else { continue };
            let path = self.path(link)?;
            // By itself: a password that is wrong is refused once.
            let collection = self.get(&path, true)?;
            let owners = self.members(&collection, &mut best);
            match best.failed.take() {
                Some((_, error)) if owners.is_empty() => return Err(error),
                failed => best.failed = failed,
            }
            self.look(&owners, &mut best)?;
            if best.rank == 0 {
                break;
            }
        }
        self.choose(best)
    }

    /// The logs of these systems or managers, where they are better than what was found.
    fn look(&mut self, owners: &[Value], best: &mut Best) -> Result<(), RedfishError> {
        let mut rank = best.rank;
        for owner in owners {
            let Some(link) = link(&owner["LogServices"]) else { continue };
            let path = self.path(link)?;
            let services = match self.get(&path, true) {
                Ok(collection) => self.members(&collection, best),
                // Whoever fails may be without a log, as long as another has one.
                Err(error) => {
                    best.fail(&path, error);
                    continue;
                }
            };
            let owner = self.path(owner["@odata.id"].as_str().unwrap_or(link))?;
            for service in services {
                let of = self::rank(&service);
                let Some(log) = self.log_service(&service).filter(|_| of <= rank && of < best.rank) else {
                    continue;
                };
                if of < rank {
                    rank = of;
                    best.logs.clear();
                    best.owners.clear();
                }
                best.logs.push(log);
                if best.owners.last() != Some(&owner) {
                    best.owners.push(owner.clone());
                }
            }
        }
        best.rank = rank;
        Ok(())
    }

    /// The best ones, which are to be of one owner.
    fn choose(&self, best: Best) -> Result<Vec<LogService>, RedfishError> {
        match best.failed {
            // "None found" in another log would be wrong.
            Some((rank, error)) if rank < best.rank || best.logs.is_empty() => return Err(error),
            _ => {}
        }
        if best.logs.is_empty() {
            return Err(RedfishError::NoLog(self.host()));
        }
        if best.owners.len() == 1 {
            return Ok(best.logs);
        }
        let mut choices = String::new();
        for owner in &best.owners {
            choices += " --redfish ";
            choices += &self.curl.address.url(owner);
        }
        Err(RedfishError::Several(self.host(), choices))
    }

    /// All entries of a log; or, where `enough` is given and the BMC lists the newest first, these up to those that are. Where
    /// the BMC fails in the middle, those that were read. A log that drops its oldest entries meanwhile, or is cleared, has
    /// moved others to pages that have been read: so it is read again.
    ///
    /// # Errors
    /// When none could be read.
    pub fn entries(
        &mut self,
        log: &LogService,
        mut enough: Option<&mut Enough<'_>>,
    ) -> Result<Entries, RedfishError> {
        let mut read = self.pages(log, &mut enough)?;
        for _ in 0..RESTARTS {
            if !matches!(read.ended_by, Some(RedfishError::Moved(_))) {
                break;
            }
            match self.pages(log, &mut enough) {
                Ok(again) if again.ended_by.is_none() || again.all.len() >= read.all.len() => read = again,
                // More was read before.
                Ok(again) => read.ended_by = again.ended_by,
                Err(error) => read.ended_by = Some(error),
            }
        }
        oldest_first(&mut read.all);
        Ok(read)
    }

    /// As the BMC lists them.
    fn pages(
        &mut self,
        log: &LogService,
        enough: &mut Option<&mut Enough<'_>>,
    ) -> Result<Entries, RedfishError> {
        let mut read = Entries::default();
        let mut seen = Map::new();
        let mut pages = Vec::new();
        let mut next = Some(log.entries.clone());
        while let Some(path) = next.take() {
            match self.page(path, &mut pages, &mut seen, &mut read) {
                Ok(link) => next = link,
                Err(error) if read.all.is_empty() => return Err(error),
                Err(error) => read.ended_by = Some(error),
            }
            if let Some(progress) = &mut self.progress {
                progress(read.all.len(), read.count.and_then(|count| count.try_into().ok()));
            }
            if next.is_some()
                && enough.as_mut().is_some_and(|enough| are_enough(&read.all, read.count, enough))
            {
                (read.newest_only, next) = (true, None);
            }
        }
        if pages.len() > 1 && read.ended_by.is_none() && !read.newest_only {
            read.ended_by = match self.is_as_before(&log.entries, &read) {
                Ok(true) => None,
                Ok(false) => Some(RedfishError::Moved(self.host())),
                Err(error) => Some(error),
            };
        }
        Ok(read)
    }

    /// Is the first entry still on the first page, in a log that is no shorter? New ones in front of it do no harm: then the
    /// other pages had some again.
    fn is_as_before(&mut self, path: &str, read: &Entries) -> Result<bool, RedfishError> {
        let Some((count, first)) = &read.first else { return Ok(true) };
        let page = self.get(path, true)?;
        let members = page["Members"].as_array().map_or(&[][..], Vec::as_slice);
        let is_first =
            |member: &Value| link(member) == link(first) && Entry::new(member) == Entry::new(first);
        Ok(page["Members@odata.count"].as_u64() >= *count && members.iter().any(is_first))
    }

    /// Adds the entries of a page that are new: it may have some again, when the log has grown meanwhile. Is there another
    /// page?
    fn page(
        &mut self,
        path: String,
        pages: &mut Vec<String>,
        seen: &mut Map<String, Value>,
        read: &mut Entries,
    ) -> Result<Option<String>, RedfishError> {
        let page = self.get(&path, true)?;
        let members = page["Members"].as_array().map_or(&[][..], Vec::as_slice);
        let failure = match self.failure(&page, &path) {
            None if !page["Members"].is_array() => Some(self.garbled(&path)),
            failure => failure,
        };
        if let Some(error) = failure {
            if members.is_empty() {
                return Err(error);
            }
            read.ended_by = Some(error);
        }
        if pages.is_empty() {
            let first = members.iter().find(|member| !is_link(member)).or(members.first());
            read.first = first.map(|first| (page["Members@odata.count"].as_u64(), first.clone()));
        }
        pages.push(path);
        read.count =
            read.count.max(page["Members@odata.count"].as_u64().and_then(|count| count.try_into().ok()));
        let (mut is_same, mut links) = (true, Vec::new());
        for member in members {
            let id = link(member);
            if id.is_some_and(|id| seen.insert(id.to_owned(), Value::Null).is_some()) {
                continue;
            }
            is_same = false;
            read.given += 1;
            let failure = self.failure(member, id.unwrap_or_default());
            if failure.is_some() {
                read.lost += 1;
                read.ended_by = failure;
                continue;
            }
            match id {
                Some(id) if is_link(member) => {
                    read.lost += 1;
                    match self.path(id) {
                        Ok(path) => links.push(path),
                        Err(error) => read.ended_by = Some(error),
                    }
                }
                _ => read.all.push(Entry::new(member)),
            }
        }
        'links: for paths in links.chunks(AT_ONCE) {
            let mut answers = self.curl.get_all(paths).into_iter();
            for path in paths {
                let Some(answer) = answers.next() else { break 'links };
                let entry = answer.and_then(|answer| self.json(&answer, path));
                match entry.and_then(|entry| self.failure(&entry, path).map_or(Ok(entry), Err)) {
                    Ok(entry) => {
                        read.lost -= 1;
                        read.all.push(Entry::new(&entry));
                    }
                    // The others may come.
                    Err(error) => read.ended_by = Some(error),
                }
            }
        }
        let link = page["Members@odata.nextLink"].as_str().or_else(|| page["@odata.nextLink"].as_str());
        let next = match link {
            Some(link) => Some(self.path(link)?),
            None => None,
        };
        if next.as_ref().is_some_and(|next| is_same || pages.contains(next)) {
            let is_all = read.count.is_some_and(|count| count <= read.given);
            if is_same {
                // One of the others, by another address.
                pages.pop();
            }
            return if is_all { Ok(None) } else { Err(RedfishError::Circle(self.host())) };
        }
        if read.all.len() > MOST_ENTRIES || next.is_some() && pages.len() >= MOST_PAGES {
            read.all.truncate(MOST_ENTRIES);
            return Err(RedfishError::TooMany(self.host(), "300 pages, 65,534 entries"));
        }
        Ok(next)
    }

    /// A log service, if it is one.
    fn log_service(&self, json: &Value) -> Option<LogService> {
        let entries = self.curl.address.path_of(link(&json["Entries"])?)?;
        let own = json["@odata.id"].as_str().and_then(|link| self.curl.address.path_of(link));
        let name = self.curl.address.url(own.as_ref().unwrap_or(&entries));
        let ahead = json["DateTime"].as_str().and_then(entry::seconds).map(|time| time - now());
        Some(LogService { entries, name, ahead })
    }

    /// What a collection has. One that fails, as of a part that is switched off, is not the one, or it has the name of one.
    fn members(&mut self, collection: &Value, best: &mut Best) -> Vec<Value> {
        let (mut found, mut paths) = (Vec::new(), Vec::new());
        let members = collection["Members"].as_array().map_or(&[][..], Vec::as_slice);
        for member in members.iter().take(MOST_MEMBERS) {
            match self.path(link(member).unwrap_or_default()) {
                Ok(path) => paths.push(path),
                Err(error) => best.fail("", error),
            }
        }
        let mut answers = self.curl.get_all(&paths).into_iter();
        for path in paths {
            let answer = answers.next().unwrap_or_else(|| Err(RedfishError::Broken(self.host())));
            match answer.and_then(|answer| self.json(&answer, &path)) {
                Ok(member) => found.push(member),
                Err(error) => best.fail(&path, error),
            }
        }
        found
    }

    fn get(&mut self, path: &str, login: bool) -> Result<Value, RedfishError> {
        let answer = self.curl.get(path, login)?;
        self.json(&answer, path)
    }

    /// The resource in an answer.
    fn json(&self, answer: &Answer, path: &str) -> Result<Value, RedfishError> {
        if answer.status != 200 {
            return Err(self.curl.refusal(answer.status, path));
        }
        let count = |of: &[u8]| answer.body.iter().filter(|byte| of.contains(byte)).count();
        if count(b"{[") > MOST_OBJECTS || count(b",") > MOST_VALUES {
            return Err(RedfishError::TooLong(self.host()));
        }
        let json = serde_json::from_slice(&answer.body).ok().filter(Value::is_object);
        json.ok_or_else(|| self.garbled(path))
    }

    fn path(&self, link: &str) -> Result<String, RedfishError> {
        let elsewhere =
            || RedfishError::Elsewhere(self.curl.address.to_string(), link.chars().take(100).collect());
        self.curl.address.path_of(link).ok_or_else(elsewhere)
    }

    /// Why it failed, where it says so and its HTTP status does not.
    fn failure(&self, json: &Value, path: &str) -> Option<RedfishError> {
        let said = failure(json)?.chars().take(200).collect();
        Some(RedfishError::Said(self.host(), path.to_owned(), said))
    }

    fn garbled(&self, path: &str) -> RedfishError {
        RedfishError::Garbled(self.curl.address.to_string(), path.to_owned())
    }
}

fn link(json: &Value) -> Option<&str> {
    json["@odata.id"].as_str()
}

fn is_link(member: &Value) -> bool {
    link(member).is_some() && member.as_object().is_some_and(|fields| fields.len() == 1)
}

/// Messages (DSP0266, section 9.6) that are failures without a severity, by the end of their ids.
const FAILURES: &str = "Error|Unavailable|UnknownState|ShuttingDown|AccessDenied|InsufficientPrivilege";

const MESSAGES: &str = "@Message.ExtendedInfo";

/// What the BMC says of a failure: in an error that is more than "success", or a message that is critical.
fn failure(json: &Value) -> Option<&str> {
    let ends = |message: &Value, with: &str| {
        message["MessageId"].as_str().is_some_and(|id| with.split('|').any(|end| id.ends_with(end)))
    };
    let critical = |message: &&Value| {
        let is = |name: &str| message[name] == "Critical";
        is("Severity") || is("MessageSeverity") || ends(message, FAILURES)
    };
    let error = &json["error"];
    let message = match error[MESSAGES].as_array() {
        Some(messages) => messages.iter().find(|message| !ends(message, "Success")),
        None => Some(error).filter(|error| error.is_object()),
    };
    let message = message.or_else(|| json[MESSAGES].as_array()?.iter().find(critical))?;
    let text = ["Message", "message", "MessageId", "code"].iter().find_map(|name| message[*name].as_str());
    Some(text.unwrap_or_default())
}

/// The rank of a log that is none for us.
const NO_RANK: usize = OTHER_LOGS.len() + 1;

/// How good a log is for us: a SEL, by its type or its name, is the best.
fn rank(service: &Value) -> usize {
    let id = service["Id"].as_str().unwrap_or_default().to_ascii_lowercase();
    if service["LogEntryType"] == "SEL" || id == "sel" {
        return 0;
    }
    OTHER_LOGS.iter().position(|name| *name == id).map_or(NO_RANK, |at| at + 1)
}

/// How often a key of these falls, and how often it rises.
fn falls_and_rises(entries: &[Entry], key: fn(&Entry) -> Option<i64>) -> (usize, usize) {
    let (mut last, mut falls, mut rises) = (None, 0, 0);
    for key in entries.iter().filter_map(key) {
        if let Some(last) = last.replace(key) {
            falls += usize::from(key < last);
            rises += usize::from(key > last);
        }
    }
    (falls, rises)
}

fn time(entry: &Entry) -> Option<i64> {
    entry.created.filter(|time| *time > entry::LAST_UPTIME)
}

fn number(entry: &Entry) -> Option<i64> {
    entry.number
}

/// Some list the newest first, as their times show, or their numbers where all of one crash is in the same second.
fn trend(entries: &[Entry]) -> (usize, usize) {
    let times = falls_and_rises(entries, time);
    if times.0 == times.1 { falls_and_rises(entries, number) } else { times }
}

/// Puts them in the order in which they were written. A list may have the newest first, be sorted by ids as texts ("10" before
/// "9"), or be in no order. Numbers show the order, and times which end is the newest: some count from there. Where a clock was
/// set, times fall and numbers do not; where numbers begin anew, it is the other way round.
fn oldest_first(entries: &mut [Entry]) {
    turn(entries, trend(entries));
    let (falls, _) = falls_and_rises(entries, time);
    let is_numbered = entries.iter().all(|entry| entry.number.is_some());
    // One without a time stays behind the one before it.
    let (mut last, mut sorted) = (0, entries.to_vec());
    sort::by_cached_key(&mut sorted, |entry| {
        last = if is_numbered { entry.number } else { time(entry) }.unwrap_or(last);
        last
    });
    let order = falls_and_rises(&sorted, time);
    turn(&mut sorted, order);
    let is_better = if is_numbered { falls > 0 || order.0.min(order.1) == 0 } else { falls > 1 };
    if is_better {
        entries.copy_from_slice(&sorted);
    }
}

fn turn(entries: &mut [Entry], (falls, rises): (usize, usize)) {
    if falls > rises {
        // Smaller than the library's, for other sizes.
        for at in 0..entries.len() / 2 {
            entries.swap(at, entries.len() - 1 - at);
        }
    }
}

/// Are these, the first of a log of so many, the newest, and all that are wanted?
fn are_enough(entries: &[Entry], count: Option<usize>, enough: &mut Enough<'_>) -> bool {
    let (falls, rises) = trend(entries);
    // Sorted by ids as texts, the last one first, it begins with 9, 99 or 999, and those with more digits come later.
    let is_short = |number: i64| {
        let first = number >> 16;
        count.is_some_and(|count| usize::try_from(first).is_ok_and(|first| first < count))
            || [9, 99, 999, 9999].contains(&first)
    };
    if falls == 0 || rises > 0 || entries.first().and_then(number).is_some_and(is_short) {
        return false;
    }
    // By a number of ours, since many have none.
    let (mut numbered, mut id) = (Vec::new(), u16::MAX);
    for entry in entries {
        let mut record = entry.record();
        record[..2].copy_from_slice(&id.to_le_bytes());
        numbered.push(super::Entry { id, record });
        id = id.wrapping_sub(1);
    }
    enough(&numbered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_log_that_is_a_sel_comes_before_others_and_many_are_none() {
        let rank = |id: &str, kind: &str| rank(&json!({"Id": id, "LogEntryType": kind}));
        assert_eq!((rank("Sel", "SEL"), rank("Log1", "SEL"), rank("SEL", "Multiple")), (0, 0, 0));
        assert!(rank("EventLog", "Event") < rank("Lclog", "Event"));
        assert!(rank("Lclog", "Event") < rank("Log1", "Multiple") && rank("Log", "") < NO_RANK);
        for none in ["Journal", "Dump", "PostCodes", "FaultLog", "AuditLog", "IEL", "SL", ""] {
            assert_eq!(rank(none, "Event"), NO_RANK, "{none}");
        }
    }

    #[test]
    fn a_list_with_the_newest_first_is_turned_round() {
        const BASE: i64 = 0x6a00_0000;
        let of = |times: &[i64]| {
            let mut entries: Vec<_> = times
                .iter()
                .map(|time| Entry {
                    kind: Kind::Other,
                    created: (*time > 0).then_some(BASE + time),
                    number: None,
                })
                .collect();
            oldest_first(&mut entries);
            entries.iter().map(|entry| entry.created.map_or(0, |time| time - BASE)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[9, 5, 0, 5, 1]), [1, 5, 0, 5, 9]);
        assert_eq!(of(&[1, 5, 0, 5, 9, 2]), [1, 5, 0, 5, 9, 2]);
        assert_eq!((of(&[]), of(&[3, 3])), (vec![], vec![3, 3]));
        let mut entries =
            [3, 2, 1].map(|number| Entry { kind: Kind::Other, created: Some(7), number: Some(number) });
        oldest_first(&mut entries);
        assert_eq!(entries.map(|entry| entry.number), [Some(1), Some(2), Some(3)]);
    }

    /// Entries 1 to 120 by these ids and times, as a list gives them; their numbers in the order that they are put in.
    fn ordered(list: &[usize], id: &dyn Fn(usize) -> String, time: &dyn Fn(usize) -> i64) -> Vec<usize> {
        let entry = |number: usize| {
            // Which one it is shows in its record.
            let mut record = [0; 16];
            record[2] = 0xf0;
            record[15] = number as u8;
            let json = Entry::new(&json!({"Id": id(number)}));
            let created = Some(time(number)).filter(|time| *time > 0);
            Entry { kind: Kind::Record(record), created, ..json }
        };
        let mut entries: Vec<_> = list.iter().map(|number| entry(*number)).collect();
        oldest_first(&mut entries);
        entries.iter().map(|entry| usize::from(entry.record()[15])).collect()
    }

    /// Ascending, descending, sorted by their ids as texts, forwards and backwards, and shuffled.
    fn lists(id: &dyn Fn(usize) -> String) -> [Vec<usize>; 5] {
        let ascending: Vec<_> = (1..=120).collect();
        let mut by_text = ascending.clone();
        by_text.sort_by_key(|number| id(*number));
        // 7 and 121 have no common divisor.
        let shuffled = (1..=120).map(|number| number * 7 % 121).collect();
        let turned = |list: &[usize]| list.iter().rev().copied().collect();
        [turned(&ascending), turned(&by_text), ascending, by_text, shuffled]
    }

    const SINCE: i64 = 0x6a00_0000;

    fn time_of(number: usize) -> i64 {
        number.try_into().unwrap()
    }

    #[test]
    fn entries_are_in_the_order_they_were_written_in_however_a_list_has_them() {
        let numeric: [&dyn Fn(usize) -> String; 6] = [
            &|number| number.to_string(),
            &|number| format!("{}", number + 1880),
            &|number| format!("SEL-{number}"),
            &|number| format!("/Entries/{number:03}"),
            &|number| format!("{}_{}", 1_763_827_030 + number / 12, number % 12),
            &|number| format!("{}", number + 65_500),
        ];
        let times: [&dyn Fn(usize) -> i64; 6] = [
            // An hour, or a dozen in a second; a crash in a second, none, and some without.
            &|number| SINCE + 3600 * time_of(number),
            &|number| SINCE + time_of(number) / 12,
            &|_| SINCE,
            &|_| 0,
            &|number| if number % 3 == 0 { 0 } else { SINCE + time_of(number) },
            // The clock was set back, and forth again.
            &|number| SINCE + time_of(number) - if (50..60).contains(&number) { 1000 } else { 0 },
        ];
        let expected: Vec<_> = (1..=120).collect();
        for (of, id) in numeric.into_iter().enumerate() {
            for (at, time) in times.into_iter().enumerate() {
                for (kind, list) in lists(id).iter().enumerate() {
                    assert_eq!(ordered(list, id, time), expected, "ids {of}, times {at}, list {kind}");
                }
            }
        }
        // Those that count from the newest, whose times show it.
        for list in lists(&|number| (200 - number).to_string()) {
            for time in &times[..2] {
                let ordered = ordered(&list, &|number| (200 - number).to_string(), *time);
                assert_eq!(ordered, expected);
            }
        }
        // Those that begin anew behind 65,534, forwards and backwards.
        let anew = |number: usize| {
            if number > 60 { (number - 60).to_string() } else { (65_474 + number).to_string() }
        };
        for list in [expected.clone(), expected.iter().rev().copied().collect()] {
            assert_eq!(ordered(&list, &anew, times[0]), expected);
        }
    }

    #[test]
    fn ids_that_are_no_numbers_are_ordered_by_their_times_and_else_as_they_are_given() {
        let expected: Vec<_> = (1..=120).collect();
        let no_numbers: [&dyn Fn(usize) -> String; 3] = [
            &|number| format!("{:08x}-e29b-41d4", number * 0x0123_4567 % 0xffff_fff1),
            &|number| "x".repeat(number),
            &|_| String::new(),
        ];
        for (of, id) in no_numbers.into_iter().enumerate() {
            for (kind, list) in lists(id).iter().enumerate() {
                let ordered = |time| ordered(list, id, time);
                assert_eq!(ordered(&|number| SINCE + time_of(number)), expected, "ids {of}, list {kind}");
                assert_eq!(ordered(&|_| SINCE), *list, "ids {of}, list {kind}");
                assert_eq!(ordered(&|_| 0), *list, "ids {of}, list {kind}");
            }
        }
        // Of each second as they are given, and one without a time behind the one before it.
        let time = |number| if number % 5 == 0 { 0 } else { SINCE + time_of(number) / 10 };
        for list in [&expected, &expected.iter().rev().copied().collect()] {
            assert_eq!(ordered(list, &|_| "x".to_owned(), &time), expected);
        }
        // A number in one and none in another.
        let some = |number: usize| if number == 7 { "x".to_owned() } else { (121 - number).to_string() };
        assert_eq!(ordered(&lists(&some)[4], &some, &|number| SINCE + time_of(number)), expected);
    }

    #[test]
    fn an_id_has_one_number_or_two() {
        let number =
            |id: &str| Entry::new(&json!({"Id": id})).number.map(|number| (number >> 16, number & 0xffff));
        for (id, expected) in [
            ("12", Some((12, 0))),
            ("SEL-12", Some((12, 0))),
            ("1763827030_2", Some((1_763_827_030, 2))),
            ("1763827030_65536", None),
            ("12-13-14", None),
            ("12a", None),
            ("550e8400-e29b-41d4-a716-446655440000", None),
            ("99999999999999999999", None),
            ("9223372036854775807", None),
            ("1_", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(number(id), expected, "{id}");
        }
        let of = |json: Value| Entry::new(&json).number.map(|number| number >> 16);
        assert_eq!(of(json!({})), None);
        assert_eq!(of(json!({"Id": 12})), None);
    }

    #[test]
    fn a_list_by_ids_as_texts_does_not_pass_for_one_with_the_newest_first() {
        let entries = |numbers: &[usize]| {
            let entry = |number: &usize| {
                Entry::new(&json!({"Id": number.to_string(), "Created": "2026-11-22T16:17:10Z"}))
            };
            numbers.iter().map(entry).collect::<Vec<_>>()
        };
        let are = |numbers: &[usize], count| {
            are_enough(&entries(numbers), count, &mut |_: &[super::super::Entry]| true)
        };
        assert!(are(&[120, 119, 118], Some(120)) && are(&[1120, 1119], Some(120)) && are(&[98, 97], None));
        // What comes later: 120 and others, 1100, 100.
        assert!(!are(&[99, 98, 97], Some(120)) && !are(&[999, 998], Some(201)) && !are(&[99, 98], None));
        assert!(!are(&[1, 2, 3], Some(3)) && !are(&[3, 2, 4], Some(3)) && !are(&[], Some(3)));
    }

    #[test]
    fn a_maker_is_known_by_its_name_or_what_it_adds() {
        for (root, maker) in [
            (json!({"Vendor": "Dell"}), Maker::Dell),
            (json!({"Oem": {"Dell": {}}}), Maker::Dell),
            (json!({"Oem": {"Hpe": {}}, "Vendor": "HPE"}), Maker::Hpe),
            (json!({"Oem": {"Hp": {}}}), Maker::Hpe),
            (json!({"Oem": {"Lenovo": {}}}), Maker::Lenovo),
            (json!({"Vendor": "Supermicro"}), Maker::Other),
            (json!({}), Maker::Other),
        ] {
            assert_eq!(Maker::new(&root), maker, "{root}");
        }
    }
}
