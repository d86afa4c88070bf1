//! By the name `kexec`: whatever becomes of our own work, the real kexec is called with the same arguments.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Read, Write, pipe},
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    },
    path::Path,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// What the tests call: the folder has us by the name `kexec`, and a real kexec that writes its arguments into the file
/// `called` and exits with 7.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().join("real");
    symlink(env!("CARGO_BIN_EXE_lastwords"), folder.path().join("kexec")).expect("a link");
    fs::write(&real, "#!/bin/sh\nprintf '[%s]' \"$@\" >called\nexit 7\n").expect("a file");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    folder
}

const ARGUMENTS: [&str; 4] = ["-p", "missing", "--append=a  b", "--initrd="];
const CALLED: &str = "[-p][missing][--append=a  b][--initrd=]";

/// Runs a shell's words in front of us; `$@` are the arguments.
fn run(folder: &TempDir, words: &str) -> Output {
    Command::new("sh")
        .args(["-c", words, "sh"])
        .args(ARGUMENTS)
        .current_dir(folder)
        .env("LASTWORDS_KEXEC", folder.path().join("real"))
        .output()
        .expect("there is a shell")
}

/// Was the real kexec called?
fn called(folder: &TempDir) -> bool {
    let path = folder.path().join("called");
    let text = fs::read_to_string(&path);
    let _ = fs::remove_file(path);
    assert!(text.as_ref().map_or(true, |text| text == CALLED), "{text:?}");
    text.is_ok()
}

/// The state of a process, as in proc_pid_stat(5), and its children.
fn state(pid: u32) -> Option<(char, Vec<u32>)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    let is_child = |other: &u32| {
        let stat = fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        parent == Some(pid)
    };
    let all = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Some((state, all.filter(is_child).collect()))
}

/// With kexec it depends on the order whether that loads or unloads.
#[test]
fn unload_with_a_kernel_is_left_to_the_real_kexec() {
    let folder = folder();
    for arguments in ["-u -p missing --append=x", "-p -u missing --append=x"] {
        let output = Command::new("sh")
            .args(["-c", &format!("exec ./kexec {arguments}")])
            .current_dir(&folder)
            .env("LASTWORDS_KEXEC", folder.path().join("real"))
            .output()
            .expect("there is a shell");
        assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::remove_file(folder.path().join("called")).is_ok(), "{arguments}");
    }
}

/// `kexec -p -S` is ours alone: it asks whether a dump kernel is loaded. The real one is not needed for that, whatever
/// our caller has done with SIGCHLD.
#[test]
fn a_caller_that_ignores_sigchld_keeps_our_work() {
    let folder = folder();
    let output = Command::new("sh")
        .args(["-c", "trap '' CHLD; exec ./kexec -p -S"])
        .current_dir(&folder)
        .env("LASTWORDS_KEXEC", folder.path().join("real"))
        .output()
        .expect("there is a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!folder.path().join("called").exists(), "the real kexec was called: {said}");
    assert!(!said.contains("no process"), "{said}");
    // kexec's own, where nothing shows it.
    let loaded = fs::read_to_string("/sys/kernel/kexec_crash_loaded").ok();
    let status = loaded.map_or(255, |text| i32::from(text.trim() == "1"));
    assert_eq!((output.status.code(), said.as_ref()), (Some(status), ""));
}

/// It waits for a standard error that nobody reads; there it is killed.
#[test]
fn a_process_that_is_killed_ends_in_the_real_kexec() {
    let folder = folder();
    let (mut reader, writer) = pipe().unwrap();
    let full = Path::new("/proc/self/fd").join(writer.as_raw_fd().to_string());
    let mut full = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(full).unwrap();
    let error = loop {
        if let Err(error) = full.write_all(b".") {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    drop(full);
    let mut kexec = Command::new(folder.path().join("kexec"))
        .args(ARGUMENTS)
        .current_dir(&folder)
        .env("LASTWORDS_KEXEC", folder.path().join("real"))
        .stderr(Stdio::from(writer))
        .spawn()
        .unwrap();
    let child = loop {
        let (own, children) = state(kexec.id()).unwrap();
        match children[..] {
            [child] if state(child).is_some_and(|(state, _)| state == 'S') => break child,
            [] if own == 'S' => {
                kexec.kill().unwrap();
                panic!("it does everything itself");
            }
            _ => std::thread::yield_now(),
        }
    };
    assert!(Command::new("kill").args(["-9", &child.to_string()]).status().unwrap().success());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(kexec.wait().unwrap().code(), Some(7), "{text}");
    let warning = "lastwords: warning: no panic reporting, calling the real kexec instead: lastwords was ended by signal 9\n";
    assert!(text.ends_with(warning), "{text}");
    assert!(called(&folder));
}

/// The limit grows from what is too little even for the program to start, to what is enough for all: in between are those
/// with which our own work ends at any point.
#[test]
fn without_stack_or_memory_the_real_kexec_is_called() {
    let mut ended = 0;
    for (limit, least, step) in [("-s", 32, 8), ("-v", 2500, 100)] {
        let folder = folder();
        let mut started = false;
        for size in (0..160).map(|turn| least + turn * step) {
            let output = run(&folder, &format!("ulimit {limit} {size}; exec ./kexec \"$@\""));
            let text = String::from_utf8_lossy(&output.stderr);
            // Once it is enough for the program to start, it is so for good.
            started |= text.contains("calling the real kexec instead");
            ended += u32::from(text.contains("was ended by signal"));
            assert_eq!(called(&folder), started, "ulimit {limit} {size}: {text}");
        }
        assert!(started, "ulimit {limit}");
    }
    assert!(ended > 0, "all of them were enough");
}

#[test]
fn whatever_is_closed_or_full_the_real_kexec_is_called() {
    for words in [
        "exec ./kexec \"$@\" <&-",
        "exec ./kexec \"$@\" >&-",
        "exec ./kexec \"$@\" 2>&-",
        "exec ./kexec \"$@\" <&- >&- 2>&-",
        "exec ./kexec \"$@\" >/dev/full 2>&1",
        // No file can be written.
        "ulimit -f 0; exec ./kexec \"$@\"",
    ] {
        let folder = folder();
        // What the real one is called with does not go through a file then.
        fs::write(folder.path().join("real"), "#!/bin/sh\n>called.empty\nexit 7\n").unwrap();
        let output = run(&folder, words);
        assert_eq!(output.status.code(), Some(7), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(folder.path().join("called.empty").exists(), "{words}");
    }
}

/// What is said when the real kexec is called, and with which arguments.
fn handed_on(arguments: &str) -> (String, String) {
    let folder = folder();
    let output = Command::new(folder.path().join("kexec"))
        .args(arguments.split(' '))
        .current_dir(&folder)
        .env("LASTWORDS_KEXEC", folder.path().join("real"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "{arguments}");
    let called = fs::read_to_string(folder.path().join("called")).expect(arguments);
    (String::from_utf8(output.stderr).unwrap(), called)
}

#[test]
fn what_cannot_be_honoured_goes_on_with_a_warning_that_names_it() {
    const INSTEAD: &str = "lastwords: warning: no panic reporting, calling the real kexec instead: ";
    for (arguments, reason) in [
        ("-p --reset-vga missing", "--reset-vga is an option that only kexec-tools have\n"),
        ("-p --entry-32bit missing", "--entry-32bit is an option that only kexec-tools have\n"),
        ("-p -f missing", "-f behind -p starts a kernel at once\n"),
        ("-p --no-such missing", "--no-such is unknown\n"),
    ] {
        let (said, called) = handed_on(arguments);
        assert_eq!(said, format!("{INSTEAD}{reason}"));
        assert_eq!(called, format!("[{}]", arguments.replace(' ', "][")));
    }
    // Nothing is said of what is no dump kernel's.
    assert_eq!(handed_on("-l --reset-vga missing"), (String::new(), "[-l][--reset-vga][missing]".to_owned()));
}

/// It does not know them, and would load nothing.
#[test]
fn the_real_kexec_is_not_called_with_options_of_ours() {
    let (said, called) =
        handed_on("-p --via wrap --output-cpu-ip missing --append=--via --ipmi-handle-panic");
    assert_eq!(called, "[-p][missing][--append=--via]");
    assert!(said.contains("calling the real kexec instead"), "{said}");
}

#[test]
fn wrong_usage_and_help_are_the_real_kexecs() {
    let folder = folder();
    for arguments in [&["-p", "--no-such-option"][..], &["-p", "--help"], &["-p"], &["-p", "--via=none", "K"]]
    {
        let output = Command::new(folder.path().join("kexec"))
            .args(arguments)
            .current_dir(&folder)
            .env("LASTWORDS_KEXEC", folder.path().join("real"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(7), "{arguments:?}");
        assert!(fs::remove_file(folder.path().join("called")).is_ok(), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
