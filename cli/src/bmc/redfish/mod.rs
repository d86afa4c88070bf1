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

pub use address::Address;
pub use entry::{Entry, Kind};
pub use error::RedfishError;

use crate::machine::now;
use curl::{Answer, Curl};
use serde_json::Value;
use std::{collections::BTreeSet, fmt, path::PathBuf, time::Duration};

/// Where every service begins.
const ROOT: &str = "/redfish/v1/";
/// Time for all of it, where the user gives none. A BMC answers with 50 entries in a second or two.
pub const LIMIT: u16 = 120;
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
/// of older servers, iDRAC.
const OTHER_LOGS: [&str; 5] = ["eventlog", "iml", "platformlog", "standardlog", "lclog"];

/// Who has made the BMC, as far as it matters for what its entries leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Maker {
    Dell,
    Hpe,
    Lenovo,
    Other,
}

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

/// What it does not show.
impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dell => "iDRAC shows OEM records, which have the text of a panic, without their bytes",
            Self::Hpe => "iLO has no SEL in Redfish, and shows none of its bytes in the IML",
            Self::Lenovo => {
                "XCC has no SEL in Redfish, and shows of an event only its kind in the platform log"
            }
            Self::Other => "this BMC shows SEL records without their bytes",
        })
    }
}

/// A Redfish service that is asked.
pub struct Redfish {
    curl: Curl,
    /// Who has made it.
    pub maker: Maker,
    root: Value,
}

/// A log service of a system or manager, and how good it is for us.
struct Ranked {
    rank: usize,
    owner: String,
    log: LogService,
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
    /// How many the BMC counts, where it gave fewer.
    pub of: Option<u64>,
    /// Why the rest was not read.
    pub broken: Option<RedfishError>,
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
    pub fn open(address: &Address, asking: Asking) -> Result<Self, RedfishError> {
        let mut curl = Curl::new(address.clone(), &asking.user, asking.password, asking.limit)?;
        curl.ca_file = asking.ca_file;
        curl.insecure = asking.insecure;
        let mut service = Self { curl, maker: Maker::Other, root: Value::Null };
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
        if start["LogServices"].is_object() {
            let found = self.ranked(vec![start])?;
            return self.choose(found, "systems");
        }
        let mut best = (Vec::new(), "systems");
        for (name, plural) in [("Systems", "systems"), ("Managers", "managers")] {
            let Some(link) = link(&start[name]) else { continue };
            let path = self.path(link)?;
            // By itself: a password that is wrong is refused once.
            let collection = self.get(&path, true)?;
            let owners = self.members(&collection)?;
            let found = self.ranked(owners)?;
            let rank = |found: &[Ranked]| found.iter().map(|found| found.rank).min().unwrap_or(usize::MAX);
            if rank(&found) < rank(&best.0) {
                best = (found, plural);
            }
            if rank(&best.0) == 0 {
                break;
            }
        }
        self.choose(best.0, best.1)
    }

    /// The best logs of these systems or managers, each with its rank and its owner.
    fn ranked(&mut self, owners: Vec<Value>) -> Result<Vec<Ranked>, RedfishError> {
        let mut found = Vec::new();
        let mut failed = None;
        for owner in owners {
            let Some(link) = link(&owner["LogServices"]) else { continue };
            let path = self.path(link)?;
            let services = self.get(&path, true).and_then(|collection| self.members(&collection));
            let owner = owner["@odata.id"].as_str().unwrap_or(link).to_owned();
            match services {
                Ok(services) => found.extend(services.iter().filter_map(|service| {
                    Some(Ranked {
                        rank: rank(service)?,
                        owner: owner.clone(),
                        log: self.log_service(service)?,
                    })
                })),
                Err(error) => failed = Some(error),
            }
        }
        // Whoever fails may be without a log, as long as another has one.
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// The best ones, which are to be of one owner.
    fn choose(&self, mut found: Vec<Ranked>, plural: &'static str) -> Result<Vec<LogService>, RedfishError> {
        let address = &self.curl.address;
        let best = found.iter().map(|found| found.rank).min().unwrap_or_default();
        found.retain(|found| found.rank == best);
        if found.is_empty() {
            return Err(RedfishError::NoLog(address.to_string()));
        }
        let owners: BTreeSet<_> = found.iter().filter_map(|found| address.path_of(&found.owner)).collect();
        if owners.len() > 1 {
            let choices: Vec<_> =
                owners.iter().map(|path| format!("--redfish {}", address.url(path))).collect();
            return Err(RedfishError::Several(address.to_string(), plural, choices.join(", ")));
        }
        Ok(found.into_iter().map(|found| found.log).collect())
    }

    /// All entries of a log. Where the BMC fails in the middle, those that were read.
    ///
    /// # Errors
    /// When none could be read.
    pub fn entries(&mut self, log: &LogService) -> Result<Entries, RedfishError> {
        let mut read = Entries::default();
        let mut seen = BTreeSet::new();
        let mut pages = BTreeSet::new();
        let (mut given, mut count) = (0, None);
        let mut next = Some(log.entries.clone());
        while let Some(path) = next.take() {
            let page = self.get(&path, true).and_then(|page| {
                count = count.max(page["Members@odata.count"].as_u64());
                let members = page["Members"].as_array().map(Vec::as_slice);
                let members = members.ok_or_else(|| self.garbled(&path))?;
                given += members.len() as u64;
                // The same again, when the log has grown meanwhile.
                let is_new = |member: &&Value| {
                    member["@odata.id"].as_str().is_none_or(|id| seen.insert(id.to_owned()))
                };
                let new: Vec<Value> = members.iter().filter(is_new).cloned().collect();
                let link =
                    page["Members@odata.nextLink"].as_str().or_else(|| page["@odata.nextLink"].as_str());
                let link = link.map(|link| self.path(link));
                Ok((new, link))
            });
            pages.insert(path);
            let take = |service: &mut Self| {
                let (new, link) = page?;
                let is_same = new.is_empty();
                service.take(&new, &mut read.all)?;
                let Some(link) = link.transpose()? else { return Ok(None) };
                if is_same || pages.contains(&link) {
                    return Err(RedfishError::Circle(log.name.clone()));
                }
                if pages.len() >= MOST_PAGES {
                    return Err(RedfishError::TooMany(log.name.clone(), "300 pages"));
                }
                if read.all.len() > MOST_ENTRIES {
                    return Err(RedfishError::TooMany(log.name.clone(), "65534 entries"));
                }
                Ok(Some(link))
            };
            match take(self) {
                Ok(link) => next = link,
                Err(error) if read.all.is_empty() => return Err(error),
                Err(error) => read.broken = Some(error),
            }
        }
        read.all.truncate(MOST_ENTRIES);
        read.of = count.filter(|count| *count > given);
        oldest_first(&mut read.all);
        Ok(read)
    }

    /// Adds these entries, which may be links alone.
    fn take(&mut self, members: &[Value], entries: &mut Vec<Entry>) -> Result<(), RedfishError> {
        let is_link = |member: &Value| {
            member.as_object().is_some_and(|fields| fields.len() == 1) && link(member).is_some()
        };
        if !members.first().is_some_and(is_link) {
            entries.extend(members.iter().map(Entry::new));
            return Ok(());
        }
        let paths = members.iter().map(|member| self.path(link(member).unwrap_or_default()));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        for paths in paths.chunks(AT_ONCE) {
            for (answer, path) in self.curl.get(paths, true)?.into_iter().zip(paths) {
                match self.json(&answer, path) {
                    Ok(entry) => entries.push(Entry::new(&entry)),
                    // It has gone meanwhile.
                    Err(RedfishError::NotFound(..)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
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
        let links =
            collection["Members"].as_array().into_iter().flatten().filter_map(link).take(MOST_MEMBERS);
        let paths = links.map(|link| self.path(link)).collect::<Result<Vec<_>, _>>()?;
        let answers = self.curl.get(&paths, true)?;
        // One that fails, as of a part that is switched off, is not the one.
        let all: Vec<_> = answers.iter().zip(&paths).map(|(answer, path)| self.json(answer, path)).collect();
        if all.iter().all(Result::is_err) {
            return all.into_iter().collect();
        }
        Ok(all.into_iter().flatten().collect())
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

/// How good a log is for us: a SEL, by its type or its name, is the best. `None` is none.
fn rank(service: &Value) -> Option<usize> {
    let id = service["Id"].as_str().unwrap_or_default().to_ascii_lowercase();
    if service["LogEntryType"] == "SEL" || id == "sel" {
        return Some(0);
    }
    OTHER_LOGS.iter().position(|name| *name == id).map(|at| at + 1)
}

/// Some list the newest first, as their times tell, or their numbers where all of one crash is in the same second.
fn oldest_first(entries: &mut [Entry]) {
    let falls = |of: &dyn Fn(&Entry) -> Option<i64>| {
        let all: Vec<_> = entries.iter().filter_map(of).collect();
        let count = |is: fn(&i64, &i64) -> bool| all.windows(2).filter(|pair| is(&pair[0], &pair[1])).count();
        count(i64::gt).cmp(&count(i64::lt))
    };
    if falls(&|entry| entry.created).then_with(|| falls(&|entry| entry.number)).is_gt() {
        entries.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_log_that_is_a_sel_comes_before_others_and_many_are_none() {
        let rank = |id: &str, kind: &str| rank(&json!({"Id": id, "LogEntryType": kind}));
        assert_eq!(
            (rank("Sel", "SEL"), rank("Log1", "SEL"), rank("SEL", "Multiple")),
            (Some(0), Some(0), Some(0))
        );
        assert!(rank("EventLog", "Event") < rank("Lclog", "Event"));
        for none in ["Journal", "Dump", "PostCodes", "FaultLog", "AuditLog", "IEL", "SL", "Log1", ""] {
            assert_eq!(rank(none, "Event"), None, "{none}");
        }
    }

    #[test]
    fn a_list_with_the_newest_first_is_turned_round() {
        let of = |times: &[i64]| {
            let mut entries: Vec<_> = times
                .iter()
                .map(|time| Entry {
                    kind: Kind::Other,
                    created: Some(*time).filter(|time| *time > 0),
                    number: None,
                })
                .collect();
            oldest_first(&mut entries);
            entries.iter().map(|entry| entry.created.unwrap_or(0)).collect::<Vec<_>>()
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
