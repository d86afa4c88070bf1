//! The built program, from outside: what it says and how it ends, for good input and for bad.

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

/// Asserts that it failed with this exit code, that it says this, and that it has left nothing behind.
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
    assert!(output.status.success() && text.contains("signature is taken off"), "{text}");
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
    refuses(&folder, "wrap kernel -o /dev/null", 1, "/dev/null: not a regular file");
    refuses(&folder, "wrap kernel -o ./kernel", 1, "this is KERNEL itself");
}

#[test]
fn bad_kernels_are_refused() {
    let good = folder(&Kernel::default());
    assert!(lastwords(&good, "wrap kernel -o wrapped").status.success());
    refuses(&good, "wrap wrapped -o out", 1, "wrapped: already wrapped");
    refuses(&good, "wrap nonesuch -o out", 1, "nonesuch: No such file");
    refuses(&good, "wrap kernel -o nonesuch/out", 1, "nonesuch/out: No such file");
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
fn wrong_usage_is_told_apart_from_failure() {
    let folder = folder(&Kernel::default());
    refuses(&folder, "wrap kernel", 2, "--output <OUT>");
    refuses(&folder, "wrap kernel -o out --ipmi-watchdog soon", 2, "takes start=SECONDS");
    refuses(&folder, "wrap kernel -o out --ipmi-magic", 2, "unexpected argument '--ipmi-magic'");
    refuses(&folder, "wrap kernel -o out --serial-baud 9600", 2, "--serial <PORT>");
    refuses(&folder, "load kernel", 2, "--append <STRING>");
    refuses(&folder, "arm", 2, "unrecognized subcommand");
}

#[test]
fn the_version_tells_which_image_it_carries() {
    let output = lastwords(&tempfile::tempdir().unwrap(), "--version");
    let text = String::from_utf8(output.stdout).unwrap();
    let digest =
        text.trim().strip_prefix("lastwords 0.1.0 (image sha256 ").unwrap().strip_suffix(')').unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|digit| digit.is_ascii_hexdigit()), "{text}");
}

/// Whatever machine this is: the exit status says what the first line and the JSON say.
#[test]
fn status_has_one_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let output = lastwords(&folder, "status");
    let text = String::from_utf8(output.stdout).unwrap();
    let ready = text.starts_with("READY");
    assert!(ready || text.starts_with("NOT READY"), "{text}");
    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80), "{text}");
    assert_eq!(output.status.code(), Some(if ready { 0 } else { 3 }), "{text}");
    let json = lastwords(&folder, "status --json");
    assert_eq!(json.status.code(), output.status.code());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["schema"], &json["ready"]), (&1.into(), &ready.into()));
    let quiet = lastwords(&folder, "status -q");
    assert_eq!((quiet.status.code(), quiet.stdout.len()), (output.status.code(), 0));
    refuses(&folder, "status --json --quiet", 2, "cannot be used with");
}

#[test]
fn each_subcommand_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    assert!(lastwords(&folder, "man --out .").status.success());
    for command in ["load", "unload", "status", "wrap", "completions", "man"] {
        let page = fs::read_to_string(folder.path().join(format!("lastwords-{command}.8"))).expect(command);
        assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{command}");
    }
    assert!(fs::read_to_string(folder.path().join("lastwords.8")).unwrap().contains("Exit status"));
    let bash = lastwords(&folder, "completions bash");
    assert!(String::from_utf8(bash.stdout).unwrap().contains("--ipmi-handle-panic"));
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

#[test]
fn a_dump_kernel_that_gets_no_last_words_is_loaded_by_the_real_kexec() {
    for arguments in [&["-p", "missing", "--append=a"][..], &["missing", "-ps", "--no-such-option"]] {
        let output = kexec(arguments);
        let all: String = arguments.iter().flat_map(|argument| ["[", argument, "]"]).collect();
        assert_eq!(output.status.code(), Some(7), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), all);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("lastwords: warning: no last words"), "{text}");
    }
}
