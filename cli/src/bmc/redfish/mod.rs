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

use super::{Enough, Progress};
use crate::machine::now;
use curl::{Answer, Curl};
use serde_json::{Map, Value};
use std::{path::PathBuf, time::Duration};

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
    /// How many it has given; one that is a link to what has gone meanwhile among them.
    pub given: usize,
    /// Are older ones left out, because they were not wanted?
    pub newest_only: bool,
    /// Why the rest was not read.
    pub ended_by: Option<RedfishError>,
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
        curl.ca_file = asking.ca_file;
        curl.insecure = asking.insecure;
        let mut service = Self { curl, maker: Maker::Other, root: Value::Null, progress: None };
        service.root = service.get(ROOT, false)?;
        service.maker = Maker::new(&service.root);
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
        let mut best = Best { rank: NO_RANK, logs: Vec::new(), owners: Vec::new() };
        if start["LogServices"].is_object() {
            self.look(&[start], &mut best)?;
            return self.choose(best);
        }
        for name in ["Systems", "Managers"] {
            let Some(link) = link(&start[name]) else { continue };
            let path = self.path(link)?;
            // By itself: a password that is wrong is refused once.
            let collection = self.get(&path, true)?;
            let owners = self.members(&collection)?;
            self.look(&owners, &mut best)?;
            if best.rank == 0 {
                break;
            }
        }
        self.choose(best)
    }

    /// The logs of these systems or managers, where they are better than what was found.
    fn look(&mut self, owners: &[Value], best: &mut Best) -> Result<(), RedfishError> {
        let (mut failed, mut rank) = (None, best.rank);
        for owner in owners {
            let Some(link) = link(&owner["LogServices"]) else { continue };
            let path = self.path(link)?;
            let services = match self.get(&path, true).and_then(|collection| self.members(&collection)) {
                Ok(services) => services,
                // Whoever fails may be without a log, as long as another has one.
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            let owner = self.path(owner["@odata.id"].as_str().unwrap_or(link))?;
            for service in &services {
                let of = self::rank(service);
                let Some(log) = self.log_service(service).filter(|_| of <= rank && of < best.rank) else {
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
        match failed {
            Some(error) if best.logs.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// The best ones, which are to be of one owner.
    fn choose(&self, best: Best) -> Result<Vec<LogService>, RedfishError> {
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
    /// the BMC fails in the middle, those that were read.
    ///
    /// # Errors
    /// When none could be read.
    pub fn entries(
        &mut self,
        log: &LogService,
        mut enough: Option<&mut Enough<'_>>,
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
            if next.is_some() && enough.as_mut().is_some_and(|enough| are_enough(&read.all, enough)) {
                (read.newest_only, next) = (true, None);
            }
        }
        oldest_first(&mut read.all);
        Ok(read)
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
        let Some(members) = page["Members"].as_array() else { return Err(self.garbled(&path)) };
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
            match id {
                // A link alone.
                Some(id) if member.as_object().is_some_and(|fields| fields.len() == 1) => {
                    links.push(self.path(id)?);
                }
                _ => read.all.push(Entry::new(member)),
            }
        }
        for paths in links.chunks(AT_ONCE) {
            for (answer, path) in self.curl.get(paths, true)?.iter().zip(paths) {
                match self.json(answer, path) {
                    Ok(entry) => read.all.push(Entry::new(&entry)),
                    // It has gone meanwhile.
                    Err(RedfishError::NotFound(..)) => {}
                    Err(error) => return Err(error),
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

    /// What a collection has.
    fn members(&mut self, collection: &Value) -> Result<Vec<Value>, RedfishError> {
        let mut paths = Vec::new();
        for member in
            collection["Members"].as_array().map_or(&[][..], Vec::as_slice).iter().take(MOST_MEMBERS)
        {
            paths.push(self.path(link(member).unwrap_or_default())?);
        }
        let (mut found, mut failed) = (Vec::new(), None);
        for (answer, path) in self.curl.get(&paths, true)?.iter().zip(&paths) {
            match self.json(answer, path) {
                Ok(member) => found.push(member),
                // One that fails, as of a part that is switched off, is not the one.
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    fn get(&mut self, path: &str, login: bool) -> Result<Value, RedfishError> {
        let ask = |curl: &mut Curl, path: &str| {
            let answer = curl.get(&[path.to_owned()], login)?.pop();
            answer.ok_or_else(|| RedfishError::Broken(curl.address.to_string()))
        };
        let answer = ask(&mut self.curl, path)?;
        // iLO has its resources behind a slash, and its links without it.
        if is_redirect(answer.status) && !path.ends_with('/') && !path.contains('?') {
            let behind = ask(&mut self.curl, &format!("{path}/"))?;
            if behind.status == 200 {
                return self.json(&behind, path);
            }
        }
        self.json(&answer, path)
    }

    /// The resource in an answer.
    fn json(&self, answer: &Answer, path: &str) -> Result<Value, RedfishError> {
        let (host, path) = (self.curl.address.to_string(), path.to_owned());
        match answer.status {
            200 => {}
            401 => return Err(RedfishError::Login(host)),
            403 => return Err(RedfishError::Forbidden(host, path)),
            404 => return Err(RedfishError::NotFound(host, path)),
            status if is_redirect(status) => return Err(RedfishError::Redirect(host, path)),
            status => return Err(RedfishError::Status(host, path, status)),
        }
        let count = |of: &[u8]| answer.body.iter().filter(|byte| of.contains(byte)).count();
        if count(b"{[") > MOST_OBJECTS || count(b",") > MOST_VALUES {
            return Err(RedfishError::TooLong(host));
        }
        let json = serde_json::from_slice(&answer.body).ok().filter(Value::is_object);
        json.ok_or_else(|| self.garbled(&path))
    }

    fn path(&self, link: &str) -> Result<String, RedfishError> {
        let elsewhere =
            || RedfishError::Elsewhere(self.curl.address.to_string(), link.chars().take(100).collect());
        self.curl.address.path_of(link).ok_or_else(elsewhere)
    }

    fn garbled(&self, path: &str) -> RedfishError {
        RedfishError::Garbled(self.curl.address.to_string(), path.to_owned())
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

fn link(json: &Value) -> Option<&str> {
    json["@odata.id"].as_str()
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

/// Some list the newest first, as their times tell, or their numbers where all of one crash is in the same second. How often
/// they fall, and how often they rise: a clock may have been set.
fn falls_and_rises(entries: &[Entry]) -> (usize, usize) {
    let of = |key: fn(&Entry) -> Option<i64>| {
        let (mut last, mut falls, mut rises) = (None, 0, 0);
        for key in entries.iter().filter_map(key) {
            if let Some(last) = last.replace(key) {
                falls += usize::from(key < last);
                rises += usize::from(key > last);
            }
        }
        (falls, rises)
    };
    let times = of(|entry| entry.created.filter(|time| *time > entry::LAST_UPTIME));
    if times.0 == times.1 { of(|entry| entry.number) } else { times }
}

fn oldest_first(entries: &mut [Entry]) {
    let (falls, rises) = falls_and_rises(entries);
    if falls > rises {
        entries.reverse();
    }
}

/// Are these, the first of a log, the newest, and all that are wanted?
fn are_enough(entries: &[Entry], enough: &mut Enough<'_>) -> bool {
    let (falls, rises) = falls_and_rises(entries);
    if falls == 0 || rises > 0 {
        return false;
    }
    // By a number of ours, since many have none.
    let numbers = (1..=u16::MAX).rev();
    let numbered = entries.iter().zip(numbers).map(|(entry, id)| {
        let mut record = entry.record();
        record[..2].copy_from_slice(&id.to_le_bytes());
        super::Entry { id, record }
    });
    enough(&numbered.collect::<Vec<_>>())
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
