//! The built program, from outside: what it prints and how it ends, for good input and for bad.

use lastwords_boot::synthetic::Kernel;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

/// Runs the program in a folder.
fn lastwords(folder: &TempDir, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lastwords"))
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .output()
        .expect("it has been built")
}

/// A folder with a kernel in it.
fn folder(kernel: &Kernel) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("kernel"), kernel.build()).expect("a file");
    folder
}

/// Asserts that it failed with this exit code, that it prints this, and that it has left nothing behind.
fn refuses(folder: &TempDir, arguments: &str, code: i32, what: &str) {
    let files = || fs::read_dir(folder).unwrap().count();
    let before = files();
    let output = lastwords(folder, arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
    assert!(text.contains(what), "{arguments}: {text}");
    assert_eq!(files(), before, "{arguments} has left a file behind");
}

#[test]
fn wrap_writes_a_kernel_with_the_bits_of_the_old_one() {
    let folder = folder(&Kernel { certificates: 0x100, ..Kernel::default() });
    fs::set_permissions(folder.path().join("kernel"), fs::Permissions::from_mode(0o640)).unwrap();
    let output = lastwords(&folder, "wrap kernel -o out --ipmi-handle-panic");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("signature removed"), "{text}");
    let out = folder.path().join("out");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o640);

    // Replacing what is in it by the same makes the same file.
    let wrapped = fs::read(&out).unwrap();
    assert!(lastwords(&folder, "wrap --force out -o out --ipmi-handle-panic").status.success());
    assert_eq!(fs::read(&out).unwrap(), wrapped);
    assert!(lastwords(&folder, "wrap --force out -o out").status.success());
    assert_ne!(fs::read(&out).unwrap(), wrapped);
}

#[test]
fn wrap_follows_a_link_and_replaces_no_device() {
    let folder = folder(&Kernel::default());
    std::os::unix::fs::symlink("target", folder.path().join("link")).unwrap();
    fs::write(folder.path().join("target"), "").unwrap();
    assert!(lastwords(&folder, "wrap kernel -o link").status.success());
    assert!(fs::symlink_metadata(folder.path().join("link")).unwrap().is_symlink());
    assert_ne!(fs::metadata(folder.path().join("target")).unwrap().len(), 0);
    std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
    refuses(&folder, "wrap kernel -o dangling", 1, "dangling: a symbolic link that leads to no file");
    assert!(fs::symlink_metadata(folder.path().join("dangling")).unwrap().is_symlink());
    refuses(&folder, "wrap kernel -o /dev/null", 1, "/dev/null: not a regular file");
    refuses(&folder, "wrap kernel -o ./kernel", 1, "this is KERNEL itself");
}

#[test]
fn bad_kernels_are_refused() {
    let good = folder(&Kernel::default());
    assert!(lastwords(&good, "wrap kernel -o wrapped").status.success());
    refuses(
        &good,
        "wrap wrapped -o out",
        1,
        "lastwords: error: wrapped: already wrapped\nhint: use the original kernel",
    );
    refuses(&good, "wrap nonesuch -o out", 1, "lastwords: error: nonesuch: no such file or directory\n");
    refuses(
        &good,
        "wrap kernel -o nonesuch/out",
        1,
        "lastwords: error: nonesuch/out: no such file or directory\n",
    );
    fs::write(good.path().join("elf"), b"\x7fELF").unwrap();
    refuses(&good, "wrap elf -o out", 1, "not a bzImage");
    let kernel = fs::read(good.path().join("kernel")).unwrap();
    fs::write(good.path().join("cut"), &kernel[..kernel.len() - 100]).unwrap();
    refuses(&good, "wrap cut -o out", 1, "truncated");

    for (kernel, what) in [
        (Kernel { xloadflags: 0, ..Kernel::default() }, "a 32-bit kernel"),
        (Kernel { version: 0x209, ..Kernel::default() }, "boot protocol 2.09"),
        (Kernel { init_size: 0x4_0000, ..Kernel::default() }, "init_size"),
        (Kernel { padding: 0x1ff, ..Kernel::default() }, "no room for the hook"),
    ] {
        refuses(&folder(&kernel), "wrap kernel -o out", 1, what);
    }
}

#[test]
fn wrong_usage_is_not_failure() {
    let folder = folder(&Kernel::default());
    refuses(&folder, "wrap kernel", 2, "--output <OUT>");
    refuses(&folder, "wrap kernel -o out --ipmi-watchdog soon", 2, "takes start=SECONDS");
    refuses(&folder, "wrap kernel -o out --ipmi-magic", 2, "unexpected argument '--ipmi-magic'");
    refuses(&folder, "wrap kernel -o out --serial-baud 9600", 2, "--serial <PORT>");
    refuses(&folder, "load kernel", 2, "--append <STRING>");
    refuses(&folder, "arm", 2, "lastwords: error: unrecognized subcommand");
    refuses(&folder, "statu", 2, "\nhint: a similar subcommand exists: 'status'");
    refuses(
        &folder,
        "load kernel --output-cpu-ip sel",
        2,
        "\nhint: --output-cpu-ip takes its value behind a '='",
    );
    refuses(&folder, "mark half", 2, "[possible values: started, saved, failed]");
}

#[test]
fn the_version_has_the_images_checksum() {
    let output = lastwords(&tempfile::tempdir().unwrap(), "--version");
    let text = String::from_utf8(output.stdout).unwrap();
    let checksum = text.trim().strip_prefix("lastwords 0.1.0\nimage SHA-256: ").unwrap();
    assert!(checksum.len() == 64 && checksum.bytes().all(|digit| digit.is_ascii_hexdigit()), "{text}");
    let short = lastwords(&tempfile::tempdir().unwrap(), "-V");
    assert_eq!(String::from_utf8(short.stdout).unwrap(), "lastwords 0.1.0\n");
}

/// Whatever machine this is: the exit status is that of the first line and the JSON.
#[test]
fn status_has_one_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let output = lastwords(&folder, "status");
    let text = String::from_utf8(output.stdout).unwrap();
    let ready = text.starts_with("READY");
    let unknown = text.starts_with("UNKNOWN");
    assert!(ready || unknown || text.starts_with("NOT READY"), "{text}");
    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80), "{text}");
    assert_eq!(output.status.code(), Some(if ready { 0 } else { 3 }), "{text}");
    let json = lastwords(&folder, "status --json");
    assert_eq!(json.status.code(), output.status.code());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let expected = if unknown { serde_json::Value::Null } else { ready.into() };
    assert_eq!((&json["schema"], &json["ready"]), (&1.into(), &expected));
    let quiet = lastwords(&folder, "status -q");
    assert_eq!((quiet.status.code(), quiet.stdout.len()), (output.status.code(), 0));
    refuses(&folder, "status --json --quiet", 2, "cannot be used with");
}

#[test]
fn each_subcommand_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    assert!(lastwords(&folder, "man --out .").status.success());
    for command in COMMANDS {
        let name = if command.is_empty() { "lastwords".to_owned() } else { format!("lastwords-{command}") };
        let page = fs::read_to_string(folder.path().join(format!("{name}.8"))).expect(command);
        let mut sections: Vec<_> = page.lines().filter(|line| line.starts_with(".SH")).collect();
        sections.retain(|line| !line.ends_with("OPTIONS\"") && !line.contains("OPTIONS OF"));
        for section in
            ["NAME", "SYNOPSIS", "\"EXIT STATUS\"", "FILES", "ENVIRONMENT", "EXAMPLES", "\"SEE ALSO\""]
        {
            assert!(
                sections.contains(&format!(".SH {section}").as_str()),
                "{command}: {section}: {sections:?}"
            );
        }
        assert!(page.is_ascii() && !page.contains("docs/"), "{command}");
        // The page's footer has the version, and not the image's checksum.
        let title = page.lines().find(|line| line.starts_with(".TH")).expect(command);
        assert!(title.contains("\"lastwords 0.1.0\"") && !page.contains("SHA-256"), "{title}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), COMMANDS.len());
    let load = fs::read_to_string(folder.path().join("lastwords-load.8")).unwrap();
    assert!(load.contains("\\fIFILE\\fR"), "no value in the synopsis: {load}");
}

/// All commands; the empty one is the program itself.
const COMMANDS: [&str; 13] = [
    "", "enable", "disable", "status", "test", "list", "read", "probe", "load", "unload", "wrap", "mark",
    "report",
];

#[test]
fn help_is_plain_and_narrow() {
    let folder = tempfile::tempdir().unwrap();
    for command in COMMANDS {
        let output = lastwords(&folder, &format!("{command} --help"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.is_ascii() && !text.contains("docs/"), "{text}");
        // An option's name and its values are not broken.
        let wide = text.lines().find(|line| line.len() > 100);
        assert_eq!(wide, None, "{command}");
        let first = text.lines().next().unwrap();
        assert!(first.len() <= 70 && !first.ends_with('.'), "{command}: {first}");
        assert!(first.starts_with(|letter: char| letter.is_ascii_uppercase()), "{command}: {first}");
    }
    let text = String::from_utf8(lastwords(&folder, "load --help").stdout).unwrap();
    let headings: Vec<_> =
        text.lines().filter(|line| line.ends_with("ptions:") || line.starts_with("Options of")).collect();
    assert_eq!(
        headings,
        ["Options:", "Reporting options:", "Loading options:", "Signing options:", "Options of kexec(8):"]
    );
}

#[test]
fn completions_know_the_values() {
    let folder = tempfile::tempdir().unwrap();
    let text = String::from_utf8(lastwords(&folder, "completions bash").stdout).unwrap();
    for values in [
        "started saved failed",
        "purgatory wrap",
        "oem system event",
        "reset halt boot",
        "auto always never",
        "ttyS0 ttyS1 ttyS2 ttyS3",
        "feed stop",
    ] {
        assert!(text.contains(values), "{values}");
    }
    // What is for scripts, and for those who make packages.
    for hidden in ["hook", "completions"] {
        assert!(!text.contains(hidden), "{hidden}");
    }
}

#[test]
fn bash_offers_values_behind_an_equals_sign_where_only_that_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let script = lastwords(&folder, "completions bash").stdout;
    fs::write(folder.path().join("script"), script).unwrap();
    // As bash calls it (COMP_WORDBREAKS has `=`): the words, the one that is completed, the one before.
    for (words, last, before, offered) in [
        ("--output-cpu-ip ''", "", "--output-cpu-ip", None),
        ("--output-log ''", "", "--output-log", None),
        ("--output-cpu-ip =", "", "--output-cpu-ip", Some("sel console sel,console")),
        ("--output-cpu-ip = co", "co", "=", Some("console")),
        ("--sel-type ''", "", "--sel-type", Some("oem system event")),
        ("--sel-type = o", "o", "=", Some("oem")),
    ] {
        let bash = format!(
            "source ./script; COMP_WORDS=(lastwords test {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _lastwords lastwords '{last}' '{before}'; echo \"${{COMPREPLY[*]}}\""
        );
        let output = Command::new("bash").current_dir(&folder).args(["-c", &bash]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        match offered {
            Some(offered) => assert_eq!(text.trim(), offered, "{words}"),
            None => assert!(text.contains("--sel-type") && !text.contains("sel,console"), "{words}: {text}"),
        }
    }
}

/// sbsign and sbverify, which know nothing of us, take a wrapped kernel for a good PE file. Needs Debian's packages
/// sbsigntool and openssl.
#[test]
fn a_wrapped_kernel_can_be_signed_again() {
    let run = |folder: &Path, program: &str, arguments: &str| {
        let output = Command::new(program)
            .current_dir(folder)
            .args(arguments.split_whitespace())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}: install sbsigntool and openssl"));
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&text));
    };
    let folder = folder(&Kernel { certificates: 0x100, ..Kernel::default() });
    let path = folder.path();
    run(path, "openssl", "req -new -x509 -newkey rsa:2048 -noenc -keyout key -out crt -subj /CN=test");
    assert!(lastwords(&folder, "wrap kernel -o out").status.success());
    run(path, "sbsign", "--key key --cert crt --output signed out");
    run(path, "sbverify", "--cert crt signed");

    // What was signed is the image, too: one changed byte of it, and the signature is void.
    let mut signed = fs::read(path.join("signed")).unwrap();
    let image = signed.windows(8).rposition(|bytes| bytes == b"lastword").unwrap();
    signed[image + 0x300] ^= 1;
    fs::write(path.join("changed"), signed).unwrap();
    let verify =
        Command::new("sbverify").current_dir(path).args(["--cert", "crt", "changed"]).output().unwrap();
    assert!(!verify.status.success());

    // And unsigned again, it is the same file as before.
    assert!(lastwords(&folder, "wrap --force signed -o again").status.success());
    assert_eq!(fs::read(path.join("again")).unwrap(), fs::read(path.join("out")).unwrap());
}

/// Runs the program by the name `kexec`, beside a real kexec that prints its arguments and exits with 7.
fn kexec(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, real) = (folder.path().join("kexec"), folder.path().join("real"));
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lastwords"), &ours).expect("a link");
    fs::write(&real, "#!/bin/sh\nprintf '[%s]' \"$@\"\nexit 7\n").expect("a file");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    Command::new(&ours)
        .current_dir(&folder)
        .args(arguments)
        .env("LASTWORDS_KEXEC", &real)
        .output()
        .expect("it has been built")
}

#[test]
fn calls_that_are_not_about_the_dump_kernel_reach_the_real_kexec_unchanged() {
    for arguments in
        [&["-l", "K", "--append=a  b", "--initrd", ""][..], &["-e"], &["--version"], &["-l", "-S"]]
    {
        let output = kexec(arguments);
        let all: String = arguments.iter().flat_map(|argument| ["[", argument, "]"]).collect();
        assert_eq!(output.status.code(), Some(7), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), all);
        assert!(output.stderr.is_empty(), "{arguments:?}");
    }
}

/// A log on a full disk, a reader that has gone.
#[test]
fn nothing_that_is_printed_keeps_the_real_kexec_from_being_called() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [&["-p", "missing", "--append=a"][..], &["-p", "missing", "--no-such-option"], &["-p", "-d", "-s"]]
    {
        let called = folder.path().join("called");
        let real = folder.path().join("real");
        fs::write(&real, format!("#!/bin/sh\necho \"$@\" > {}\n", called.display())).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
        let link = folder.path().join("kexec");
        let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lastwords"), &link);
        let full = || fs::File::options().write(true).open("/dev/full").unwrap();
        let status = Command::new(&link)
            .args(arguments)
            .env("LASTWORDS_KEXEC", &real)
            .stdout(full())
            .stderr(full())
            .status();
        assert!(status.unwrap().success(), "{arguments:?}");
        assert!(fs::remove_file(called).is_ok(), "{arguments:?}: the real kexec was not called");
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let unknown =
        Command::new(env!("CARGO_BIN_EXE_lastwords")).arg("nonsense").stderr(full).status().unwrap();
    assert_eq!(unknown.code(), Some(2));
}

#[test]
fn a_dump_kernel_without_panic_reporting_is_loaded_by_the_real_kexec() {
    for arguments in [&["-p", "missing", "--append=a"][..], &["missing", "-ps", "--no-such-option"]] {
        let output = kexec(arguments);
        let all: String = arguments.iter().flat_map(|argument| ["[", argument, "]"]).collect();
        assert_eq!(output.status.code(), Some(7), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), all);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.starts_with("lastwords: warning: no panic reporting, calling the real kexec instead: "),
            "{text}"
        );
    }
}

/// What would hang, never end, or take all memory.
#[test]
fn what_is_no_file_is_refused_as_a_kernel() {
    let folder = folder(&Kernel::default());
    assert!(Command::new("mkfifo").arg(folder.path().join("fifo")).status().unwrap().success());
    fs::write(folder.path().join("nothing"), "").unwrap();
    let huge = fs::File::create(folder.path().join("huge")).unwrap();
    huge.set_len(1 << 42).unwrap();
    refuses(&folder, "wrap fifo -o out", 1, "lastwords: error: fifo: not a regular file\nhint: ");
    refuses(&folder, "wrap /dev/zero -o out", 1, "/dev/zero: not a regular file\nhint: ");
    refuses(&folder, "wrap . -o out", 1, ".: not a regular file\nhint: ");
    refuses(&folder, "wrap nothing -o out", 1, "nothing: empty file");
    refuses(&folder, "wrap huge -o out", 1, "huge: 4194304 MiB are too many");
    refuses(&folder, "wrap kernel -o fifo", 1, "fifo: not a regular file");
    refuses(&folder, "wrap kernel -o .", 1, ".: not a regular file");
}

#[test]
fn wrap_keeps_the_mode_and_the_owner_of_what_it_replaces() {
    use std::os::unix::fs::{MetadataExt, chown};
    let folder = folder(&Kernel::default());
    let out = folder.path().join("out");
    fs::write(&out, "").unwrap();
    // Root can give it away, everybody else has it.
    let _ = chown(&out, Some(12), Some(34));
    fs::set_permissions(&out, fs::Permissions::from_mode(0o400)).unwrap();
    let properties = || {
        let metadata = fs::metadata(&out).unwrap();
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
    };
    let before = properties();
    assert!(lastwords(&folder, "wrap kernel -o out").status.success());
    assert_eq!(properties(), before);
    assert_ne!(fs::metadata(&out).unwrap().len(), 0);
}

/// A limit for the size of files ends it in the middle of OUT, which has no name yet. tmpfs has such files.
#[test]
fn wrap_that_is_cut_off_leaves_nothing_behind() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(folder.path().join("kernel"), Kernel::default().build()).unwrap();
    let words = format!("ulimit -f 1; exec {} wrap kernel -o out", env!("CARGO_BIN_EXE_lastwords"));
    let cut_off = Command::new("sh").args(["-c", &words]).current_dir(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&cut_off.stderr);
    assert!(cut_off.status.code() == Some(1) && said.contains("out: file too large"), "{said}");
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["kernel"]);
}

#[test]
fn a_named_bmc_interface_is_embedded_and_two_names_for_it_exclude_each_other() {
    let folder = folder(&Kernel::default());
    for (options, embedded) in [
        ("--ipmi-interface bt:0xe4", "lastwords.ipmi_interface=bt:0xe4"),
        ("--ipmi-interface=ssif:i801:0x700,0x42", "lastwords.ipmi_interface=ssif:i801:0x700,0x42"),
        // Older images know this one, too.
        ("--ipmi-interface kcs:0xca8,0xcac", "lastwords.ipmi_kcs_ports=0xca8,0xcac"),
        ("--ipmi-kcs-ports 0xca8,0xcac", "lastwords.ipmi_kcs_ports=0xca8,0xcac"),
    ] {
        let output = lastwords(&folder, &format!("wrap kernel -o out --ipmi-handle-panic {options}"));
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success() && stderr.is_empty(), "{options}: {stderr}");
        // What is named is not this machine's.
        assert!(!stdout.contains("BMC:"), "{stdout}");
        let wrapped = fs::read(folder.path().join("out")).unwrap();
        let parameters = lastwords_boot::embedded_parameters(&wrapped).unwrap();
        assert_eq!(parameters, format!("{embedded} lastwords.ipmi_handle_panic"));
    }
    let both = "--ipmi-interface bt:0xe4 --ipmi-kcs-ports 0xca2";
    for command in [
        "wrap kernel -o new",
        "load kernel --append a",
        "probe",
        "mark saved",
        "read",
        "test",
        "read --host h",
    ] {
        refuses(&folder, &format!("{command} {both}"), 2, "cannot be used with");
        refuses(&folder, &format!("{command} --ipmi-interface smic:0xca9"), 2, "takes kcs:");
    }
    refuses(&folder, "read --file sel --ipmi-interface bt:0xe4", 2, "cannot be used with");
}
