//! `lastwords read --redfish` against a BMC of our own (`redfish/bmc.py`), over HTTPS with a certificate that openssl makes: what
//! makers' BMCs answer, page by page (`redfish/README.md`), and what one answers that means harm. Needs Debian's packages
//! curl, openssl and python3.

use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;

const LOGIN: &str = "reader:se\"cr\\et:#";
const SERVICE: &str = "/redfish/v1/Systems/1/LogServices/SEL";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn recorded(name: &str) -> Vec<Value> {
    serde_json::from_slice(&fs::read(data("redfish").join(name)).unwrap()).unwrap()
}

/// A BMC that runs.
struct Bmc {
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Drop for Bmc {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

impl Bmc {
    /// With these answers, and a certificate for this name.
    fn named(name: &str, answers: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("answers.json"), answers.to_string()).unwrap();
        fs::write(folder.path().join("password"), LOGIN.split_once(':').unwrap().1).unwrap();
        let made = Command::new("openssl")
            .current_dir(folder.path())
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-noenc",
                "-days",
                "10",
            ])
            .args(["-keyout", "key", "-out", "cert", "-subj", "/CN=bmc", "-addext"])
            .arg(format!("subjectAltName={name}"))
            .output()
            .expect("openssl: install openssl");
        assert!(made.status.success(), "{made:?}");
        let mut child = Command::new("python3")
            .arg(data("redfish/bmc.py"))
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3: install python3");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { folder, child, port: port.trim().parse().expect("bmc.py prints its port") }
    }

    fn new(answers: &Value) -> Self {
        Self::named("IP:127.0.0.1", answers)
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// `lastwords read --redfish` with these options.
    fn command(&self, path: &str, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastwords"));
        command.args([
            "read",
            "--redfish",
            &format!("https://127.0.0.1:{}{path}", self.port),
            "--user",
            "reader",
        ]);
        command.args(["--password-file", &self.file("password")]).args(options);
        command
    }

    /// With its certificate trusted.
    fn read(&self, options: &[&str]) -> Output {
        let trusted = self.file("cert");
        self.command("", &[&["--ca-file", &trusted], options].concat()).output().unwrap()
    }

    fn requests(&self) -> Vec<String> {
        fs::read_to_string(self.file("requests")).unwrap().lines().map(str::to_owned).collect()
    }
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What was told. Where reading ended early a newer crash may be missing, and the exit status says so.
fn json_of(output: &Output) -> Value {
    assert!(!output.stdout.is_empty(), "{}", text(output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = i32::from(!json["sel"]["error"].is_null());
    assert_eq!(output.status.code(), Some(expected), "{}", text(output));
    json
}

/// Fails with this exit status and these words, without control characters, in so many requests at most.
fn fails(bmc: &Bmc, options: &[&str], words: &[&str], requests: usize) {
    let output = bmc.read(options);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    assert!(bmc.requests().len() <= requests, "{:?}", bmc.requests());
}

fn link(path: &str) -> Value {
    json!({"@odata.id": path})
}

/// A service with one system that has one log, in these pages.
fn service(pages: &[Value]) -> Value {
    let collection = |path: &str, member: &str| json!({"json": {"@odata.id": path, "Members": [link(member)], "Members@odata.count": 1}});
    let entries = format!("{SERVICE}/Entries");
    let mut answers = json!({
        "login": LOGIN,
        "/redfish/v1/": {"json": {"@odata.id": "/redfish/v1/", "Systems": link("/redfish/v1/Systems")}},
        "/redfish/v1/Systems": collection("/redfish/v1/Systems", "/redfish/v1/Systems/1"),
        "/redfish/v1/Systems/1": {"json": {"@odata.id": "/redfish/v1/Systems/1",
            "LogServices": link("/redfish/v1/Systems/1/LogServices")}},
        "/redfish/v1/Systems/1/LogServices": collection("/redfish/v1/Systems/1/LogServices", SERVICE),
        SERVICE: {"json": {"@odata.id": SERVICE, "Id": "SEL", "LogEntryType": "SEL", "Entries": link(&entries)}},
    });
    for (number, page) in pages.iter().enumerate() {
        let path = if number == 0 { entries.clone() } else { format!("{entries}?$skip={number}") };
        let mut page = page.clone();
        if number + 1 < pages.len() && page["json"]["Members@odata.nextLink"].is_null() {
            page["json"]["Members@odata.nextLink"] = json!(format!("{entries}?$skip={}", number + 1));
        }
        answers[path] = page;
    }
    answers
}

fn page(entries: &[Value]) -> Value {
    json!({"json": {"@odata.id": format!("{SERVICE}/Entries"), "Members": entries}})
}

/// An entry of OpenBMC's (see `redfish/README.md`), and its number.
fn openbmc(number: usize, record: &[u8], created: &str) -> Value {
    let hex = record.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02X}"));
    json!({
        "@odata.id": format!("{SERVICE}/Entries/{number}"), "@odata.type": "#LogEntry.v1_9_0.LogEntry", "Created": created,
        "EntryType": "Event", "Id": number.to_string(), "Message": format!("SEL Entry Added: {hex}"), "MessageArgs": [hex],
        "MessageId": "OpenBMC.0.1.SELEntryAdded", "Name": "System Event Log Entry", "Severity": "OK",
    })
}

/// The records of the SEL that the other forms are of, as Add SEL Entry hands them over: without number and time.
fn sel() -> Vec<([u8; 16], String)> {
    let bytes = fs::read(data("read/ipmitool-writeraw.bin")).unwrap();
    let (records, _) = bytes.as_chunks::<16>();
    let mut time = String::from("2026-11-22T16:17:10+00:00");
    let mut sent = Vec::new();
    for record in records {
        let mut record = *record;
        record[..2].fill(0);
        if record[2] == 2 {
            let seconds = u32::from_le_bytes(record[3..7].try_into().unwrap());
            let date =
                Command::new("date").args(["-u", &format!("-d@{seconds}"), "+%FT%T+00:00"]).output().unwrap();
            time = String::from_utf8_lossy(&date.stdout).trim().to_string();
            record[3..7].fill(0);
        }
        sent.push((record, time.clone()));
    }
    sent
}

/// The crashes that are read of a file.
fn of_file() -> Value {
    let file = data("read/ipmitool-writeraw.bin");
    let output = Command::new(env!("CARGO_BIN_EXE_lastwords"))
        .args(["read", "--json", "--file"])
        .arg(file)
        .output()
        .unwrap();
    json_of(&output)["crashes"].clone()
}

#[test]
fn openbmcs_log_reads_as_the_sel_page_by_page_forwards_and_backwards() {
    let entries: Vec<_> =
        sel().iter().enumerate().map(|(number, (record, time))| openbmc(number, record, time)).collect();
    let backwards: Vec<_> = entries.iter().rev().cloned().collect();
    for entries in [&entries, &backwards] {
        let pages: Vec<_> = entries.chunks(20).map(page).collect();
        let bmc = Bmc::new(&service(&pages));
        assert_eq!(json_of(&bmc.read(&["--json"]))["crashes"], of_file());
        // Root, systems, system, log services, log: then one for each page, and the first one again.
        assert_eq!(bmc.requests().len(), 6 + pages.len(), "{:?}", bmc.requests());
    }
}

#[test]
fn a_list_of_links_is_read_entry_by_entry() {
    let entries: Vec<_> =
        sel().iter().enumerate().map(|(number, (record, time))| openbmc(number, record, time)).collect();
    let links: Vec<_> = entries.iter().map(|entry| link(entry["@odata.id"].as_str().unwrap())).collect();
    let mut answers = service(&[page(&links)]);
    for entry in &entries {
        answers[entry["@odata.id"].as_str().unwrap()] = json!({"json": entry});
    }
    let bmc = Bmc::new(&answers);
    assert_eq!(json_of(&bmc.read(&["--json"]))["crashes"], of_file());
    assert_eq!(bmc.requests().len(), 6 + entries.len());
}

/// What iDRAC makes of the platform event of a panic, by the rule of `redfish/idrac.json`: event data in hex without leading zeros.
fn stop_of_idrac(number: usize) -> Value {
    json!({
        "@odata.id": format!("/redfish/v1/Managers/iDRAC.Embedded.1/Logs/Sel/{number}"), "Created": "2026-11-22T20:13:20-06:00",
        "EntryCode": "Assert", "EntryType": "SEL", "Id": number.to_string(), "Message": "A runtime critical stop occurred.",
        "MessageId": "a16174", "SensorNumber": 0x46, "SensorType": "OS Stop/Shutdown", "Severity": "Critical",
    })
}

/// And of the records of its text.
fn oem_of_idrac(number: usize) -> Value {
    json!({
        "@odata.id": format!("/redfish/v1/Managers/iDRAC.Embedded.1/Logs/Sel/{number}"), "Created": "2026-11-22T20:13:20-06:00",
        "EntryType": "SEL", "Id": number.to_string(), "Message": "An OEM diagnostic event occurred.", "Severity": "OK",
    })
}

/// iDRAC's service: the log is the manager's.
fn idrac(entries: &[Value]) -> Value {
    let mut answers = service(&[]);
    answers["/redfish/v1/"]["json"]["Oem"] = json!({"Dell": {}});
    answers["/redfish/v1/"]["json"]["Managers"] = link("/redfish/v1/Managers");
    answers["/redfish/v1/Systems/1"]["json"]["LogServices"] = Value::Null;
    let log = "/redfish/v1/Managers/iDRAC.Embedded.1/LogServices/Sel";
    let owner = "/redfish/v1/Managers/iDRAC.Embedded.1";
    answers["/redfish/v1/Managers"] = json!({"json": {"Members": [link(owner)]}});
    answers[owner] = json!({"json": {"LogServices": link(&format!("{owner}/LogServices"))}});
    answers[format!("{owner}/LogServices")] = json!({"json": {"Members": [link(log)]}});
    answers[log] =
        json!({"json": {"Id": "Sel", "LogEntryType": "SEL", "Entries": link(&format!("{log}/Entries"))}});
    answers[format!("{log}/Entries")] = page(entries);
    answers
}

#[test]
fn idrac_shows_the_platform_event_and_a_note_says_what_is_missing() {
    let recorded = recorded("idrac.json");
    let entries = [vec![oem_of_idrac(60), oem_of_idrac(59), stop_of_idrac(58)], recorded.clone()].concat();
    let bmc = Bmc::new(&idrac(&entries));
    let report = text(&bmc.read(&["--all"]));
    assert!(
        report.starts_with(&format!("PANIC on 127.0.0.1:{}, 2026-11-23 02:13:20 (BMC clock)", bmc.port)),
        "{report}"
    );
    assert!(report.contains("\nFat... (only the platform event is recorded)"), "{report}");
    assert!(report.contains("iDRAC shows OEM records") && report.contains("--host"), "{report}");
    assert_eq!(json_of(&bmc.read(&["--json"]))["notes"], json!(["no-raw-data"]));

    // Without any, there is none: all of what it shows is known.
    for entries in [recorded.clone(), self::recorded("idrac8.json"), self::recorded("bluefield.json"), vec![]]
    {
        let output = Bmc::new(&idrac(&entries)).read(&[]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        assert!(text(&output).starts_with("No panic report in https://127.0.0.1:"), "{}", text(&output));
    }
    // Records that may be a panic's are no "none".
    let bmc = Bmc::new(&idrac(&[vec![oem_of_idrac(59)], recorded].concat()));
    fails(&bmc, &[], &["cannot be told", "iDRAC", "1 of 5 entries", "hint: read the SEL with --host"], 20);
}

#[test]
fn where_a_maker_shows_no_bytes_that_is_said_and_not_that_there_is_no_report() {
    for (maker, log, file, words) in [
        ("Hpe", "IML", "ilo.json", "iLO has no SEL"),
        ("Lenovo", "PlatformLog", "xcc.json", "XCC has no SEL"),
    ] {
        let mut answers = service(&[page(&recorded(file))]);
        answers["/redfish/v1/"]["json"]["Oem"] = json!({maker: {}});
        answers[SERVICE]["json"]["Id"] = json!(log);
        answers[SERVICE]["json"]["LogEntryType"] = json!("OEM");
        fails(&Bmc::new(&answers), &[], &["cannot be told", words, "2 of 2 entries"], 6);
    }
}

#[test]
fn a_wrong_password_is_refused_once() {
    let mut answers = service(&[page(&[])]);
    answers["login"] = json!("reader:another");
    let bmc = Bmc::new(&answers);
    fails(&bmc, &[], &["refuses the login", "hint: check user and password"], 2);
    assert_eq!(bmc.requests(), ["200 /redfish/v1/", "401 /redfish/v1/Systems login"]);
}

#[test]
fn a_certificate_is_checked_with_its_name_and_not_checking_it_is_said() {
    let answers = service(&[page(&[])]);
    let bmc = Bmc::new(&answers);
    let output = bmc.command("", &[]).output().unwrap();
    assert!(
        text(&output).contains("not trusted") && text(&output).contains("--ca-file FILE"),
        "{}",
        text(&output)
    );
    assert_eq!((output.status.code(), bmc.requests()), (Some(1), vec![]));

    let other = Bmc::named("DNS:another", &answers);
    fails(&other, &[], &["not trusted, or is for another name"], 0);
    let output = bmc.command("", &["--ca-file", "/nonexistent"]).output().unwrap();
    let missing = "--ca-file: /nonexistent: no such file or directory";
    assert!(text(&output).contains(missing), "{}", text(&output));
    let output = bmc.command("", &["--ca-file", &bmc.file("password")]).output().unwrap();
    assert!(text(&output).contains("--ca-file: there is no certificate in it"), "{}", text(&output));

    let entries: Vec<_> =
        sel().iter().enumerate().map(|(number, (record, time))| openbmc(number, record, time)).collect();
    let bmc = Bmc::new(&service(&[page(&entries)]));
    let output = bmc.command("", &["--insecure", "--json"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("warning: --insecure: the certificate of 127.0.0.1"),
        "{}",
        text(&output)
    );
    assert_eq!(json_of(&output)["notes"], json!(["certificate-not-checked", "no-symbols"]));
}

/// A curl that writes down how it was called.
fn spy(folder: &Path) -> String {
    let curl = folder.join("curl");
    let real = Command::new("sh").args(["-c", "command -v curl"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    let real = real.trim();
    fs::write(
        &curl,
        format!("#!/bin/sh\n{{ echo \"$@\"; env; }} >>{}/called\nexec {real} \"$@\"\n", folder.display()),
    )
    .unwrap();
    fs::set_permissions(&curl, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn the_password_is_in_no_argument_and_no_variable_and_curls_own_settings_do_not_count() {
    let bmc = Bmc::new(&service(&[page(&[])]));
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".curlrc"), "url = \"https://127.0.0.1:1/\"\ninsecure\n").unwrap();
    let output = bmc
        .command("", &["--ca-file", &bmc.file("cert")])
        .env("PATH", spy(home.path()))
        .env("HOME", home.path())
        .env("https_proxy", "http://127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let called = fs::read_to_string(home.path().join("called")).unwrap();
    assert!(called.contains("-q --config -\n") && !called.contains("se\"cr"), "{called}");
    // From the environment it goes no further.
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastwords"));
    command.args([
        "read",
        "--redfish",
        &format!("https://127.0.0.1:{}", bmc.port),
        "-U",
        "reader",
        "--ca-file",
        &bmc.file("cert"),
    ]);
    let output = command
        .env("PATH", spy(home.path()))
        .env("LASTWORDS_PASSWORD", LOGIN.split_once(':').unwrap().1)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let called = fs::read_to_string(home.path().join("called")).unwrap();
    assert!(!called.contains("se\"cr"), "{called}");
}

#[test]
fn without_curl_the_package_is_named() {
    let bmc = Bmc::new(&service(&[]));
    let empty = tempfile::tempdir().unwrap();
    let output = bmc.command("", &[]).env("PATH", empty.path()).output().unwrap();
    assert!(
        text(&output).contains("curl, which is missing\nhint: install the package curl"),
        "{}",
        text(&output)
    );
}

#[test]
fn of_several_systems_one_is_chosen_by_its_address() {
    let mut answers = service(&[page(&[stop_of_idrac(1)])]);
    answers["/redfish/v1/Systems"]["json"]["Members"] =
        json!([link("/redfish/v1/Systems/1"), link("/redfish/v1/Systems/2")]);
    for path in ["", "/LogServices", "/LogServices/SEL"] {
        let one =
            answers[format!("/redfish/v1/Systems/1{path}")].to_string().replace("Systems/1", "Systems/2");
        answers[format!("/redfish/v1/Systems/2{path}")] = serde_json::from_str(&one).unwrap();
    }
    answers["/redfish/v1/Systems/2/LogServices/SEL/Entries"] = page(&[]);
    let bmc = Bmc::new(&answers);
    let choice = |number| format!("--redfish https://127.0.0.1:{}/redfish/v1/Systems/{number}", bmc.port);
    fails(&bmc, &[], &["logs of several systems", &choice(1), &choice(2)], 20);
    for (path, status) in [
        ("/redfish/v1/Systems/1", 0),
        ("/redfish/v1/Systems/2", 3),
        ("/redfish/v1/Systems/1/LogServices/SEL", 0),
        ("/redfish/v1/Systems/3", 1),
    ] {
        let output = bmc.command(path, &["--ca-file", &bmc.file("cert")]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{path}: {}", text(&output));
    }
}

/// The first page is good, and has a report. What follows is not: what was read is shown, and that it is not all.
fn goes_on_with(next: &Value, link_to_it: Option<&str>, options: &[&str], words: &str, requests: usize) {
    let mut first = page(&[stop_of_idrac(1)]);
    if let Some(link) = link_to_it {
        first["json"]["Members@odata.nextLink"] = json!(link);
    }
    let bmc = Bmc::new(&service(&[first, next.clone()]));
    let json = json_of(&bmc.read(&[&["--json"], options].concat()));
    assert_eq!((json["crashes"].as_array().unwrap().len(), &json["sel"]["read"]), (1, &json!(1)), "{json:#}");
    assert!(json["sel"]["error"].as_str().is_some_and(|error| error.contains(words)), "{json:#}");
    assert!(bmc.requests().len() <= requests, "{:?}", bmc.requests());
}

#[test]
fn what_was_read_is_shown_when_the_rest_does_not_come() {
    let entries = format!("{SERVICE}/Entries");
    let good = page(&[stop_of_idrac(2)]);
    goes_on_with(&good, Some(&entries), &[], "goes on with what has been read", 6);
    goes_on_with(&good, Some("https://evil.example/redfish"), &[], "is not on it and is not followed", 6);
    goes_on_with(&good, Some("//evil.example/x"), &[], "is not followed", 6);
    let mut again = page(&[stop_of_idrac(1)]);
    again["json"]["Members@odata.nextLink"] = json!(format!("{entries}?$skip=9"));
    goes_on_with(&again, None, &[], "goes on with what has been read", 7);
    goes_on_with(&json!({"redirect": "https://evil.example/"}), None, &[], "redirects", 7);
    goes_on_with(&json!({"status": 500}), None, &[], "HTTP status 500", 7);
    goes_on_with(&json!({"text": "{\"Members\": ["}), None, &[], "no Redfish resource", 7);
    goes_on_with(&json!({"megabytes": 100}), None, &[], "longer than 8 MiB", 7);
    goes_on_with(&json!({"megabytes": 100, "chunked": true}), None, &[], "longer than 8 MiB", 7);
    goes_on_with(&json!({"drip": 1, "megabytes": 1}), None, &["--timeout", "3"], "did not answer in time", 7);
}

#[test]
fn a_log_without_an_end_ends_and_what_is_no_log_is_refused() {
    let of = |entries: Value| {
        let mut answers = service(&[]);
        answers[format!("{SERVICE}/Entries")] = entries;
        Bmc::new(&answers)
    };
    fails(
        &of(json!({"endless": 3000})),
        &["--timeout", "600"],
        &["65534 SEL records read: ", "more answers than a log can"],
        27,
    );
    fails(&of(json!({"megabytes": 100})), &[], &["longer than 8 MiB"], 6);
    fails(
        &of(json!({"drip": 1, "megabytes": 1})),
        &["--timeout", "2"],
        &["did not answer in time", "--timeout"],
        6,
    );
    fails(&of(json!({"text": "[".repeat(4 << 20)})), &[], &["longer than 8 MiB"], 6);
    fails(&of(json!({"text": "[[[["})), &[], &["no Redfish resource"], 6);
    fails(&of(json!({"text": ""})), &[], &["no Redfish resource"], 6);
    fails(&of(json!({"json": {}})), &[], &["no Redfish resource"], 6);
    fails(&of(json!({"redirect": "https://evil.example/"})), &[], &["redirects", "not followed"], 7);
    fails(&of(page(&[link("https://evil.example/1")])), &[], &["is not on it and is not followed"], 6);
    fails(&of(json!({"status": 503})), &[], &["HTTP status 503"], 6);
    fails(&of(json!({"status": 403})), &[], &["does not let this user read"], 6);
}

#[test]
#[ignore = "make test-all: half a minute; a_log_without_an_end_ends shows the same by its entries"]
fn pages_without_an_end_end() {
    let mut answers = service(&[]);
    answers[format!("{SERVICE}/Entries")] = json!({"endless": 1});
    fails(
        &Bmc::new(&answers),
        &["--timeout", "600"],
        &["300 SEL records read: ", "more answers than a log can take"],
        305,
    );
}

#[test]
fn what_leads_to_no_log_is_told() {
    let root = "/redfish/v1/";
    fails(&Bmc::new(&json!({})), &[], &["has nothing at /redfish/v1/"], 1);
    fails(&Bmc::new(&json!({root: {"json": {}}})), &[], &["no log of system events in Redfish"], 1);
    fails(&Bmc::new(&json!({root: {"text": "<html>"}})), &[], &["no Redfish resource"], 1);
    fails(&Bmc::new(&json!({root: {"redirect": "https://evil.example/"}})), &[], &["redirects"], 1);
    let elsewhere = json!({root: {"json": {"Systems": link("http://evil.example/\u{1b}[2J")}}});
    fails(&Bmc::new(&elsewhere), &[], &["links to", "is not followed"], 1);
    let mut answers = service(&[page(&[])]);
    answers[SERVICE]["json"]["Id"] = json!("Journal");
    answers[SERVICE]["json"]["LogEntryType"] = json!("Event");
    fails(&Bmc::new(&answers), &[], &["no log of system events in Redfish", "hint: use --host"], 5);
    // A thousand systems are not looked at.
    let mut answers = service(&[page(&[])]);
    let many: Vec<_> = (0..1000).map(|number| link(&format!("/redfish/v1/Systems/x{number}"))).collect();
    answers["/redfish/v1/Systems"]["json"]["Members"] = json!(many);
    fails(&Bmc::new(&answers), &[], &["has nothing at"], 40);
}

#[test]
fn entries_without_fields_or_with_control_characters_are_no_reports_and_not_printed_raw() {
    let odd = "\u{1b}[2J\u{9b}\u{202e}";
    let entries = [
        json!({}),
        json!(null),
        json!([1]),
        json!("x"),
        json!({"Message": odd, "MessageId": odd, "SensorType": odd, "Created": odd}),
        json!({"MessageId": "OpenBMC.0.1.SELEntryAdded", "MessageArgs": [odd]}),
        json!({"EntryType": "SEL", "SensorType": "OS Stop/Shutdown", "MessageId": odd, "SensorNumber": -1}),
    ];
    let mut answers = service(&[page(&entries)]);
    answers["/redfish/v1/"]["json"]["Vendor"] = json!(odd);
    answers[SERVICE]["json"]["Id"] = json!("SEL");
    fails(&Bmc::new(&answers), &[], &["cannot be told", "6 of 7 entries"], 6);
    // In the records themselves, too.
    let record = *b"\0\0\xf0\x20\x80ab\x1b[2J\x9b\xe2\x80\xaec";
    let output = Bmc::new(&service(&[page(&[openbmc(1, &record, odd)])])).read(&["--all"]);
    assert!(
        output.status.success() && text(&output).chars().all(|letter| letter == '\n' || !letter.is_control()),
        "{}",
        text(&output)
    );
}

#[test]
fn entries_that_the_bmc_counts_and_does_not_give_are_told() {
    let mut first = page(&[stop_of_idrac(1)]);
    first["json"]["Members@odata.count"] = json!(3639);
    let bmc = Bmc::new(&service(&[first]));
    let report = text(&bmc.read(&[]));
    assert!(report.contains("1 of 3639 SEL records read: the BMC does not show the others."), "{report}");
    let part = json!({"read": 1, "counted": 3639, "missing": 3638, "newest_only": false, "error": null});
    assert_eq!(json_of(&bmc.read(&["--json"]))["sel"], part);
}

#[test]
fn a_log_by_the_name_of_the_examples_whose_list_goes_round_is_whole_once_all_is_read() {
    // As DMTF's mockup of a rack server has it: no type, and a next page that is the first one.
    let mut first = page(&[stop_of_idrac(1), stop_of_idrac(2)]);
    first["json"]["Members@odata.count"] = json!(2);
    first["json"]["@odata.nextLink"] = json!(format!("{SERVICE}/Entries?$skiptoken=2"));
    let mut answers = service(&[first]);
    answers[SERVICE]["json"]["Id"] = json!("Log1");
    answers[SERVICE]["json"]["LogEntryType"] = Value::Null;
    let bmc = Bmc::new(&answers);
    let json = json_of(&bmc.read(&["--json"]));
    assert_eq!((&json["sel"]["read"], &json["sel"]["error"]), (&json!(2), &Value::Null));
    assert_eq!(bmc.requests().len(), 7, "{:?}", bmc.requests());
}

#[test]
fn where_the_newest_come_first_no_more_pages_are_read_than_are_wanted() {
    let fan = |number: usize| {
        let created = format!("2026-10-{:02}T{:02}:00:00+00:00", 1 + number / 24, number % 24);
        let id = format!("{SERVICE}/Entries/f{number}");
        json!({"@odata.id": id, "Created": created, "Id": number.to_string(), "SensorType": "Fan"})
    };
    let of_crash = sel();
    let crash = of_crash.iter().enumerate().map(|(at, (record, time))| openbmc(1000 + at, record, time));
    let forwards: Vec<_> = (0..600).map(fan).chain(crash).collect();
    let backwards: Vec<_> = forwards.iter().rev().cloned().collect();
    let newest = |crashes: &Value| crashes.as_array().unwrap().last().unwrap().clone();
    for (entries, is_backwards) in [(&backwards, true), (&forwards, false)] {
        let mut pages: Vec<_> = entries.chunks(50).map(page).collect();
        pages[0]["json"]["Members@odata.count"] = json!(entries.len());
        for options in [&["-n", "1"][..], &["--since", "2026-11-01"]] {
            let bmc = Bmc::new(&service(&pages));
            let json = json_of(&bmc.read(&[&["--json"], options].concat()));
            assert_eq!(newest(&json["crashes"]), newest(&of_file()));
            assert_eq!(
                (&json["sel"]["newest_only"], &json["sel"]["missing"]),
                (&json!(is_backwards), &json!(0))
            );
            let read = bmc.requests().len() - 5;
            assert_eq!(read < pages.len(), is_backwards, "{options:?}: {read} pages of {}", pages.len());
            assert!(!is_backwards || read <= 3, "{options:?}: {read} pages of {}", pages.len());
        }
    }
}

#[test]
fn records_without_bytes_that_are_older_than_what_is_wanted_do_not_count() {
    let mut old = oem_of_idrac(1);
    old["Created"] = json!("2026-01-01T00:00:00Z");
    let recorded = recorded("idrac.json");
    let of = |entries: &[Vec<Value>], since: &str| {
        Bmc::new(&idrac(&entries.concat())).read(&["--since", since]).status.code()
    };
    assert_eq!(of(&[vec![old.clone()], recorded.clone()], "2026-11-01"), Some(3));
    assert_eq!(of(&[vec![old.clone()], recorded.clone()], "2025-11-01"), Some(1));
    // A crash before them is none of these.
    assert_eq!(of(&[vec![oem_of_idrac(3), stop_of_idrac(2), old], recorded], "2026-12-01"), Some(3));
}

#[test]
fn a_resource_behind_a_slash_is_found_as_ilo_has_it() {
    let mut answers = service(&[page(&[stop_of_idrac(1)])]);
    for path in ["/redfish/v1/Systems", &format!("{SERVICE}/Entries")] {
        answers[format!("{path}/")] = answers[path].take();
        answers[path] = json!({"redirect": format!("{path}/")});
    }
    let bmc = Bmc::new(&answers);
    assert_eq!(json_of(&bmc.read(&["--json"]))["crashes"].as_array().unwrap().len(), 1);
    assert_eq!(bmc.requests().len(), 8, "{:?}", bmc.requests());
}

/// An entry that is none of a crash.
fn fan(number: usize) -> Value {
    json!({"@odata.id": format!("{SERVICE}/Entries/{number}"), "Created": "2026-11-01T00:00:00Z", "Id": number.to_string(),
        "SensorType": "Fan"})
}

/// Of a log without a crash: the exit status, and what is printed of the log.
fn part_of(answers: &Value) -> (Option<i32>, Value) {
    let output = Bmc::new(answers).read(&["--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!(json["crashes"], json!([]));
    (output.status.code(), json["sel"].clone())
}

#[test]
fn where_fewer_entries_come_than_are_counted_nobody_says_that_there_is_no_report() {
    let of = |pages: [usize; 2], count: Value| {
        let mut number = 0;
        let mut pages =
            pages.map(|len| page(&(0..len).map(|_| (number += 1, fan(number)).1).collect::<Vec<_>>()));
        pages[0]["json"]["Members@odata.count"] = count.clone();
        pages[1]["json"]["Members@odata.count"] = count;
        let pages = if pages[1]["json"]["Members"] == json!([]) { &pages[..1] } else { &pages[..] };
        let (status, part) = part_of(&service(pages));
        assert_eq!((&part["error"], &part["read"]), (&Value::Null, &json!(number)));
        (status, part["counted"].clone(), part["missing"].clone())
    };
    for (pages, counted, missing) in [([0, 0], 1, 1), ([0, 0], 3639, 3639), ([2, 0], 5, 3), ([4, 3], 8, 1)] {
        assert_eq!(
            of(pages, json!(counted)),
            (Some(1), json!(counted), json!(missing)),
            "{pages:?} of {counted}"
        );
    }
    // It is a claim: more do no harm, and what is no number is none.
    for (pages, count) in [([0, 0], json!(0)), ([2, 0], json!(1)), ([4, 3], json!(4)), ([4, 3], json!(7))] {
        assert_eq!(of(pages, count.clone()), (Some(3), count, json!(0)), "{pages:?}");
    }
    for count in [json!(null), json!("9"), json!(-9), json!([9])] {
        assert_eq!(of([4, 3], count.clone()), (Some(3), json!(null), json!(0)), "{count}");
    }
}

#[test]
fn an_entry_that_cannot_be_read_is_missing_with_the_reason_and_the_others_are_read() {
    let records = sel();
    let entries = (1..=10)
        .map(fan)
        .chain(records.iter().enumerate().map(|(at, (record, time))| openbmc(11 + at, record, time)));
    let entries: Vec<_> = entries.collect();
    let links = |entries: &[Value]| {
        entries.iter().map(|entry| link(entry["@odata.id"].as_str().unwrap())).collect::<Vec<_>>()
    };
    let of = |entries: &[Value], broken: &[(usize, Value)]| {
        let mut answers = service(&[page(&links(entries))]);
        for entry in entries {
            answers[entry["@odata.id"].as_str().unwrap()] = json!({"json": entry});
        }
        for (number, answer) in broken {
            answers[format!("{SERVICE}/Entries/{number}")] = answer.clone();
        }
        answers
    };
    let kinds = [
        (json!({"status": 404}), "has nothing at"),
        (json!({"status": 500}), "HTTP status 500"),
        (json!({"status": 403}), "does not let this user read"),
        (json!({"text": "{\"Id\":"}), "no Redfish resource"),
        (json!({"text": "[]"}), "no Redfish resource"),
        (json!({"json": fan(1), "cut": 3}), "broke the connection off"),
        (json!({"drop": 1}), "broke the connection off"),
        (json!({"redirect": "https://evil.example/"}), "redirects"),
        (json!({"megabytes": 9}), "longer than 8 MiB"),
        (json!({"json": fan(1), "packed": "br"}), "curl failed"),
    ];
    // The first, one in the middle, and the last.
    for ((answer, words), number) in kinds.iter().zip([1, 2, 4].into_iter().cycle()) {
        let (status, part) = part_of(&of(&entries[..4], &[(number, answer.clone())]));
        assert_eq!(
            (status, &part["read"], &part["missing"]),
            (Some(1), &json!(3), &json!(1)),
            "{words}: {part}"
        );
        assert!(part["error"].as_str().unwrap().contains(words), "{words}: {part}");
    }
    // A link that is not followed.
    let mut answers = of(&entries[..4], &[]);
    answers[format!("{SERVICE}/Entries")]["json"]["Members"][3] = link("https://evil.example/1");
    let (status, part) = part_of(&answers);
    assert_eq!((status, &part["read"], &part["missing"]), (Some(1), &json!(3), &json!(1)), "{part}");

    // All at once, and the crash behind them is told.
    let broken: Vec<_> =
        [1, 3, 5, 7, 9].into_iter().zip(kinds.iter().map(|(answer, _)| answer.clone())).collect();
    let json = json_of(&Bmc::new(&of(&entries, &broken)).read(&["--json"]));
    assert_eq!(json["crashes"].as_array().unwrap().len(), of_file().as_array().unwrap().len());
    assert_eq!((&json["sel"]["missing"], &json["sel"]["read"]), (&json!(5), &json!(entries.len() - 5)));
    // Where nobody answers any more, not each of them is tried.
    let gone: Vec<_> = (1..=10).map(|number| (number, json!({"drop": 1}))).collect();
    let bmc = Bmc::new(&of(&entries[..10], &gone));
    let output = bmc.read(&["--json"]);
    let part = serde_json::from_slice::<Value>(&output.stdout).unwrap()["sel"].clone();
    assert_eq!((output.status.code(), &part["read"], &part["missing"]), (Some(1), &json!(0), &json!(10)));
    assert!(bmc.requests().len() <= 10, "{:?}", bmc.requests());
}

#[test]
fn a_sel_that_fails_is_not_replaced_by_another_log() {
    let mut answers = service(&[page(&[])]);
    let other = "/redfish/v1/Systems/1/LogServices/EventLog";
    answers["/redfish/v1/Systems/1/LogServices"]["json"]["Members"] = json!([link(SERVICE), link(other)]);
    answers[other] = json!({"json": {"Id": "EventLog", "Entries": link(&format!("{other}/Entries"))}});
    answers[format!("{other}/Entries")] = json!({"json": {"Members": []}});
    answers[SERVICE] = json!({"status": 500});
    fails(&Bmc::new(&answers), &[], &["HTTP status 500", "LogServices/SEL"], 6);
    // One that is none is not missed.
    answers["/redfish/v1/Systems/1/LogServices"]["json"]["Members"] =
        json!([link("/redfish/v1/Journal"), link(other)]);
    assert_eq!(Bmc::new(&answers).read(&[]).status.code(), Some(3));
}

#[test]
fn a_log_whose_entries_move_between_pages_is_read_again_and_one_that_never_settles_is_said() {
    let entries = format!("{SERVICE}/Entries");
    let next = format!("{entries}?$skip=1");
    let at = |mut entry: Value, time: &str| {
        entry["Created"] = json!(time);
        entry
    };
    let first = |list: &[Value], count: Value| {
        let mut page = page(list);
        page["json"]["Members@odata.nextLink"] = json!(next);
        page["json"]["Members@odata.count"] = count;
        page
    };
    let stop = || stop_of_idrac(3);
    let before = first(&[fan(1), fan(2)], json!(4));
    let read = |before: Value, after: Value, second: Value, third: Value| {
        let mut answers = service(&[after]);
        answers[&entries]["first"] = json!([before]);
        answers[&next] = third;
        answers[&next]["first"] = json!([second]);
        let bmc = Bmc::new(&answers);
        let output = bmc.read(&["--json"]);
        let json: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        let crashes = json["crashes"].as_array().unwrap().len();
        (crashes, json["sel"]["read"].clone(), json["sel"]["error"].clone(), bmc.requests().len() - 5)
    };
    // Two are dropped: the third one is on the first page now.
    let after = first(&[stop(), fan(4)], json!(4));
    let rest = page(&[fan(5), fan(6)]);
    assert_eq!(read(before.clone(), after, rest.clone(), rest), (1, json!(4), Value::Null, 6));
    // It is cleared, and has others by the same names; or fewer; or none.
    let other = || at(fan(1), "2026-11-22T00:00:00Z");
    let uncounted = first(&[fan(1), fan(2)], Value::Null);
    let after = page(&[other(), stop()]);
    assert_eq!(read(uncounted.clone(), after, page(&[]), page(&[])), (1, json!(2), Value::Null, 4));
    let mut after = page(&[fan(1), stop()]);
    after["json"]["Members@odata.count"] = json!(2);
    assert_eq!(read(before.clone(), after, page(&[]), page(&[])), (1, json!(2), Value::Null, 4));
    assert_eq!(read(uncounted, page(&[]), page(&[]), page(&[])), (0, json!(0), Value::Null, 4));
    // What is new in front of it has moved nothing away.
    let after = first(&[fan(6), fan(1)], json!(5));
    assert_eq!(
        read(before.clone(), after, page(&[fan(2), stop()]), page(&[])),
        (1, json!(3), Value::Null, 3)
    );

    // It is cleared again and again.
    let mut answers = service(&[page(&[])]);
    let each: Vec<_> =
        (0..12).map(|time| first(&[at(fan(1), &format!("2026-11-01T00:00:{time:02}Z"))], json!(2))).collect();
    answers[&entries]["first"] = json!(each);
    answers[&next] = page(&[fan(2)]);
    let bmc = Bmc::new(&answers);
    fails(&bmc, &[], &["2 SEL records read", "was cleared or lost old"], 5 + 18);
    assert_eq!(bmc.requests().len(), 5 + 18);
    // It fails while it is read again: what was read before counts.
    answers[&entries] = json!({"status": 500, "first": [before, first(&[fan(7)], json!(4))]});
    answers[&next] = page(&[stop(), fan(4)]);
    let json = json_of(&Bmc::new(&answers).read(&["--json"]));
    assert_eq!((json["crashes"].as_array().unwrap().len(), &json["sel"]["read"]), (1, &json!(4)));
    assert!(json["sel"]["error"].as_str().unwrap().contains("HTTP status 500"), "{json}");
}

#[test]
fn a_failure_that_has_the_http_status_of_success_is_one_with_the_bmcs_words() {
    let info = |message: Value| json!({"@Message.ExtendedInfo": [message]});
    let internal = json!({"MessageId": "Base.1.8.InternalError", "Message": "An internal\u{1b}[2J error."});
    let critical = json!({"MessageId": "X.1.0.Busy", "Severity": "Critical"});
    let success = json!({"MessageId": "Base.1.8.Success", "Severity": "OK"});
    let entries = format!("{SERVICE}/Entries");
    for (said, words) in [
        (json!({"error": {"code": "Base.1.0.GeneralError", "message": "log is busy"}}), "log is busy"),
        (json!({"error": info(internal.clone())}), "An internal"),
        (json!({"error": {}}), "with an error"),
        (info(internal.clone()), "An internal"),
        (info(critical), "X.1.0.Busy"),
        (info(success.clone()), ""),
        (json!({"error": info(success)}), ""),
        (json!({"error": null}), ""),
    ] {
        let with = |mut answer: Value| {
            answer.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
            answer
        };
        let mut answers = service(&[page(&[])]);
        answers[&entries]["json"] = with(page(&[])["json"].clone());
        let bmc = Bmc::new(&answers);
        if words.is_empty() {
            assert_eq!(bmc.read(&[]).status.code(), Some(3), "{said}");
            continue;
        }
        fails(&bmc, &[], &["SEL/Entries with an error: ", words, "hint: retry"], 6);
        // In an entry of the list, and in one that it links to; the others count.
        answers[&entries]["json"] =
            page(&[with(fan(1)), link(&format!("{entries}/2")), fan(3)])["json"].clone();
        answers[format!("{entries}/2")] = json!({"json": with(json!({}))});
        let (status, part) = part_of(&answers);
        assert_eq!((status, &part["read"], &part["missing"]), (Some(1), &json!(1), &json!(2)), "{part}");
        assert!(part["error"].as_str().unwrap().contains(words), "{part}");
    }
    // What comes with it counts.
    let mut answers = service(&[page(&[stop_of_idrac(1)])]);
    answers[&entries]["json"]["error"] = json!({"message": "busy"});
    let json = json_of(&Bmc::new(&answers).read(&["--json"]));
    assert_eq!(json["crashes"].as_array().unwrap().len(), 1);
    assert!(json["sel"]["error"].as_str().unwrap().contains("busy"), "{json}");
}

const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

/// [`service`] with sessions.
fn with_sessions(pages: &[Value]) -> Value {
    let mut answers = service(pages);
    answers["/redfish/v1/"]["json"]["Links"] = json!({"Sessions": link(SESSIONS)});
    answers["sessions"] = json!(SESSIONS);
    answers
}

/// How many requests went with a login, with a token, and how many opened and closed a session.
fn logins(bmc: &Bmc) -> [usize; 4] {
    let requests = bmc.requests();
    let count = |is: &dyn Fn(&str) -> bool| requests.iter().filter(|request| is(request)).count();
    [
        count(&|request| request.ends_with(" login")),
        count(&|request| request.ends_with(" token") && !request.contains(" DELETE ")),
        count(&|request| request.contains(" POST ")),
        count(&|request| request.starts_with("204 DELETE ") && request.ends_with(" token")),
    ]
}

#[test]
fn one_login_opens_a_session_which_is_closed_whatever_the_end() {
    let entries: Vec<_> =
        sel().iter().enumerate().map(|(number, (record, time))| openbmc(number, record, time)).collect();
    let pages: Vec<_> = entries.chunks(20).map(page).collect();
    let mut answers = with_sessions(&pages);
    answers["no_basic"] = json!(true);
    let bmc = Bmc::new(&answers);
    assert_eq!(json_of(&bmc.read(&["--json"]))["crashes"], of_file());
    assert_eq!(logins(&bmc), [0, 5 + pages.len(), 1, 1], "{:?}", bmc.requests());

    for (end, options) in [
        (json!({"status": 500}), &[][..]),
        (json!({"text": "x"}), &[]),
        (json!({"drop": 1}), &[]),
        (json!({"megabytes": 100}), &[]),
        (json!({"drip": 1, "megabytes": 1}), &["--timeout", "2"]),
    ] {
        let mut answers = answers.clone();
        answers[format!("{SERVICE}/Entries")] = end.clone();
        let bmc = Bmc::new(&answers);
        assert_eq!(bmc.read(options).status.code(), Some(1), "{end}");
        assert_eq!(logins(&bmc), [0, 5, 1, 1], "{end}: {:?}", bmc.requests());
    }
    // Behind a slash, as iLO has it; and in a list of several systems.
    let mut answers = with_sessions(&pages);
    answers[format!("POST {SESSIONS}")] = json!({"redirect": format!("{SESSIONS}/"), "status": 308});
    answers["sessions"] = json!(format!("{SESSIONS}/"));
    let bmc = Bmc::new(&answers);
    assert_eq!(json_of(&bmc.read(&["--json"]))["crashes"], of_file());
    assert_eq!(logins(&bmc), [0, 5 + pages.len(), 2, 1], "{:?}", bmc.requests());
}

#[test]
fn without_sessions_each_request_has_the_login() {
    for refusal in [
        json!({"status": 404}),
        json!({"status": 405}),
        json!({"status": 501}),
        json!({"status": 503}),
        json!({"redirect": "https://evil.example/"}),
        json!({"status": 201, "headers": {"X-Auth-Token": "", "Location": format!("{SESSIONS}/1")}}),
        json!({"status": 201, "headers": {"Location": format!("{SESSIONS}/1")}}),
    ] {
        let mut answers = with_sessions(&[page(&[stop_of_idrac(1)])]);
        answers[format!("POST {SESSIONS}")] = refusal.clone();
        let bmc = Bmc::new(&answers);
        assert_eq!(json_of(&bmc.read(&["--json"]))["crashes"].as_array().unwrap().len(), 1, "{refusal}");
        let [with_login, with_token, _, closed] = logins(&bmc);
        assert_eq!((with_login, with_token, closed), (5, 0, 0), "{refusal}: {:?}", bmc.requests());
    }
    // What JSON has escapes for, and links to sessions elsewhere.
    let mut answers = with_sessions(&[page(&[stop_of_idrac(1)])]);
    answers["login"] = json!("reader:se\tcret");
    let bmc = Bmc::new(&answers);
    fs::write(bmc.file("password"), "se\tcret").unwrap();
    json_of(&bmc.read(&["--json"]));
    assert_eq!(logins(&bmc), [5, 0, 0, 0], "{:?}", bmc.requests());
    let mut answers = with_sessions(&[page(&[stop_of_idrac(1)])]);
    answers["/redfish/v1/"]["json"]["Links"] = json!({"Sessions": link("https://evil.example/Sessions")});
    let bmc = Bmc::new(&answers);
    json_of(&bmc.read(&["--json"]));
    assert_eq!(logins(&bmc), [5, 0, 0, 0], "{:?}", bmc.requests());
}

#[test]
fn no_login_is_refused_twice() {
    let mut wrong = with_sessions(&[page(&[])]);
    wrong["login"] = json!("reader:another");
    let bmc = Bmc::new(&wrong);
    fails(&bmc, &[], &["refuses the login", "hint: check user and password"], 2);
    assert_eq!(bmc.requests(), ["200 /redfish/v1/", &format!("401 POST {SESSIONS}")]);
    for status in [400, 401, 403, 404, 405, 429, 500, 501, 503] {
        let mut answers = wrong.clone();
        answers[format!("POST {SESSIONS}")] = json!({"status": status});
        let bmc = Bmc::new(&answers);
        fails(&bmc, &[], &["refuses the login"], 3);
        let refused = |request: &&String| {
            request.starts_with("401 ") || request.starts_with("403 ") || request.starts_with("400 ")
        };
        assert_eq!(bmc.requests().iter().filter(refused).count(), 1, "{:?}", bmc.requests());
    }
}

#[test]
fn a_password_that_has_to_be_changed_is_named() {
    let words = ["wants a new password of this user first", "hint: change it"];
    let message =
        json!({"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.10.PasswordChangeRequired"}]}});
    let refusal = json!({"status": 403, "json": message});
    let mut answers = with_sessions(&[page(&[])]);
    answers[format!("POST {SESSIONS}")] = refusal.clone();
    fails(&Bmc::new(&answers), &[], &words, 2);
    let mut answers = with_sessions(&[page(&[])]);
    answers["/redfish/v1/Systems"] = refusal;
    let bmc = Bmc::new(&answers);
    fails(&bmc, &[], &words, 4);
    assert_eq!(logins(&bmc), [0, 1, 1, 1], "{:?}", bmc.requests());
    // The session has the message, and what is refused then has none.
    let mut answers = with_sessions(&[page(&[])]);
    answers[format!("POST {SESSIONS}")] = json!({"status": 201, "json": message, "headers": {"X-Auth-Token": "a", "Location": format!("{SESSIONS}/1")}});
    answers["login"] = Value::Null;
    answers["/redfish/v1/Systems"] = json!({"status": 403});
    fails(&Bmc::new(&answers), &[], &words, 4);
}

#[test]
fn a_session_that_the_bmc_forgets_is_opened_again_once() {
    let pages = [page(&[stop_of_idrac(1)]), page(&[fan(2)]), page(&[fan(3)])];
    let forgets = json!({"forget": 1});
    let mut answers = with_sessions(&pages);
    answers[format!("{SERVICE}/Entries?$skip=1")]["first"] = json!([forgets]);
    let bmc = Bmc::new(&answers);
    let json = json_of(&bmc.read(&["--json"]));
    assert_eq!((&json["sel"]["read"], &json["sel"]["error"]), (&json!(3), &Value::Null), "{json}");
    assert_eq!(logins(&bmc)[2..], [2, 1], "{:?}", bmc.requests());
    // Not for ever, and never with a login that may be refused.
    answers[format!("{SERVICE}/Entries?$skip=1")]["first"] = json!([forgets, forgets, forgets]);
    let bmc = Bmc::new(&answers);
    let json = json_of(&bmc.read(&["--json"]));
    assert!(json["sel"]["error"].as_str().unwrap().contains("refuses the login"), "{json}");
    assert_eq!((logins(&bmc)[0], logins(&bmc)[2]), (0, 2), "{:?}", bmc.requests());
    let mut answers = with_sessions(&pages);
    answers[format!("{SERVICE}/Entries?$skip=1")]["first"] = json!([forgets]);
    answers[format!("POST {SESSIONS}")] = json!({"status": 404, "first": [
        {"status": 201, "headers": {"X-Auth-Token": "a", "Location": format!("{SESSIONS}/1")}}]});
    answers["login"] = Value::Null;
    answers[format!("{SERVICE}/Entries?$skip=1")] = json!({"status": 401});
    let bmc = Bmc::new(&answers);
    assert!(json_of(&bmc.read(&["--json"]))["sel"]["error"].as_str().unwrap().contains("refuses the login"));
    assert_eq!((logins(&bmc)[0], logins(&bmc)[2]), (0, 2), "{:?}", bmc.requests());
}

#[test]
fn neither_password_nor_token_is_in_an_argument_or_goes_to_another_host() {
    let mut answers = with_sessions(&[page(&[])]);
    let other = Bmc::new(&json!({}));
    let elsewhere = format!("https://127.0.0.1:{}/redfish/v1/x", other.port);
    for redirected in ["/redfish/v1/Systems/1", &format!("{SERVICE}/Entries"), &format!("POST {SESSIONS}")] {
        let before = answers[redirected].take();
        answers[redirected] = json!({"redirect": elsewhere, "status": 307});
        let bmc = Bmc::new(&answers);
        let both = bmc.file("both");
        fs::write(
            &both,
            [fs::read(bmc.file("cert")).unwrap(), fs::read(other.file("cert")).unwrap()].concat(),
        )
        .unwrap();
        let home = tempfile::tempdir().unwrap();
        let output = bmc.command("", &["--ca-file", &both]).env("PATH", spy(home.path())).output().unwrap();
        assert!(matches!(output.status.code(), Some(1 | 3)), "{}", text(&output));
        assert_eq!(other.requests(), [""; 0], "{redirected}");
        let called = fs::read_to_string(home.path().join("called")).unwrap();
        assert!(
            !called.contains("se\"cr") && !called.contains("to\"ken") && called.contains("-q --config -\n"),
            "{called}"
        );
        answers[redirected] = before;
    }
    // A session's address is one of a session, whatever the BMC says.
    for place in ["/redfish/v1/Systems/1", "https://evil.example/x", "/redfish/v1/Sessions/\u{e4}"] {
        answers[format!("POST {SESSIONS}")] =
            json!({"status": 201, "headers": {"X-Auth-Token": "a", "Location": place}});
        answers["login"] = Value::Null;
        let bmc = Bmc::new(&answers);
        assert_eq!(bmc.read(&[]).status.code(), Some(3), "{place}");
        assert!(!bmc.requests().iter().any(|request| request.contains("DELETE")), "{:?}", bmc.requests());
    }
}

#[test]
fn a_busy_bmc_is_asked_again_when_it_says() {
    let busy = |status: u16, after: &str| json!({"status": status, "headers": {"Retry-After": after}});
    let entries = format!("{SERVICE}/Entries");
    let mut answers = with_sessions(&[page(&[link(&format!("{entries}/1")), link(&format!("{entries}/2"))])]);
    answers[format!("{entries}/1")] = json!({"json": stop_of_idrac(1)});
    answers[format!("{entries}/2")] = json!({"json": fan(2), "first": [busy(503, "1")]});
    answers["/redfish/v1/"]["first"] = json!([busy(503, "0")]);
    answers["/redfish/v1/Systems/1"]["first"] = json!([busy(429, "1")]);
    let bmc = Bmc::new(&answers);
    let json = json_of(&bmc.read(&["--json"]));
    assert_eq!((&json["sel"]["read"], &json["sel"]["missing"]), (&json!(2), &json!(0)), "{json}");
    assert_eq!(
        bmc.requests()
            .iter()
            .filter(|request| request.starts_with("503") || request.starts_with("429"))
            .count(),
        3
    );
    // Not longer than there is time, nor for ever; a date is a while.
    for (after, most) in
        [("100", 6), ("18446744073709551615", 6), ("Fri, 31 Dec 2027 23:59:59 GMT", 6), ("1", 9)]
    {
        let mut answers = service(&[page(&[])]);
        answers[&entries] = busy(503, after);
        fails(&Bmc::new(&answers), &["--timeout", "4"], &["HTTP status 503"], most);
    }
    // A session that is not free yet.
    let mut answers = with_sessions(&[page(&[stop_of_idrac(1)])]);
    answers[format!("POST {SESSIONS}")] = json!({"first": [busy(503, "1")],
        "status": 201, "headers": {"X-Auth-Token": "a", "Location": format!("{SESSIONS}/1")}});
    answers["login"] = Value::Null;
    let bmc = Bmc::new(&answers);
    json_of(&bmc.read(&["--json"]));
    assert_eq!(logins(&bmc)[..3], [0, 5, 2], "{:?}", bmc.requests());
}

#[test]
fn an_answer_may_be_packed_or_in_chunks() {
    for form in
        [json!({"packed": "gzip"}), json!({"chunked": true}), json!({"packed": "gzip", "chunked": true})]
    {
        let mut answers = with_sessions(&[page(&[stop_of_idrac(1)])]);
        for answer in answers.as_object_mut().unwrap().values_mut().filter_map(Value::as_object_mut) {
            answer.extend(form.as_object().unwrap().clone());
        }
        let json = json_of(&Bmc::new(&answers).read(&["--json"]));
        assert_eq!(json["crashes"].as_array().unwrap().len(), 1, "{form}");
    }
    let mut answers = service(&[page(&[])]);
    // A small answer that is a large one.
    answers[format!("{SERVICE}/Entries")] = json!({"text": " ".repeat(64 << 20), "packed": "gzip"});
    fails(&Bmc::new(&answers), &[], &["longer than 8 MiB"], 6);
}
