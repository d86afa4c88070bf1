//! The scripts in dist/ that kdump's own scripts read and call, run by the shells of the distributions, with a tool that only
//! writes down how it is called.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

fn dist(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("dist").join(path)
}

/// A folder in the place of /, in which the scripts find their files.
struct System(TempDir);

impl System {
    fn new() -> Self {
        let system = Self(tempfile::tempdir().unwrap());
        // Which prints a kernel's path, and fails where it is told to. The BMC answers the first mark late.
        let tool = format!(
            "#!/bin/sh\n[ \"$2\" != started ] || sleep 0.1\necho \"$*\" >> {log}\n[ \"$2\" != kdump-kernel ] || [ ! -e {kernel} ] || echo {kernel}\n",
            log = system.path("calls").display(),
            kernel = system.path("wrapped").display(),
        );
        system.program("usr/sbin/lastwords", &tool);
        system
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, path: &str, text: &str) {
        self.put(path, text);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// One of our scripts, that looks for its files here.
    fn script(&self, from: &str, to: &str) {
        let mut text = fs::read_to_string(dist(from)).unwrap();
        for path in [
            "/usr/sbin/lastwords",
            "/proc/vmcore",
            "/sys/kernel/kexec_crash_loaded",
            "/var/lib/lastwords",
            "/var/lib/kdump/kernel-version",
        ] {
            text = text.replace(path, &format!("{}{path}", self.0.path().display()));
        }
        self.program(to, &text);
    }

    fn run(&self, shell: &str, program: &str, arguments: &[&str]) -> Output {
        Command::new(shell).arg(self.path(program)).args(arguments).output().unwrap()
    }

    /// How the tool was called since the last time.
    fn calls(&self) -> String {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        calls
    }
}

/// In the way of kdump-config: settings, then a command that ends in the exit status of `result`.
fn kdump_config(system: &System) {
    system.script("kdump-tools/kdump-tools.sh", "kdump-tools.sh");
    let root = system.0.path().display();
    let text = format!(
        "KDUMP_KERNEL=/var/lib/kdump/vmlinuz\n[ ! -r {root}/kdump-tools.sh ] || . {root}/kdump-tools.sh\necho \"kernel $KDUMP_KERNEL\"\n\
         KDUMP_COREFILE={root}/dump\nexit $(cat {root}/result)\n"
    );
    system.put("kdump-config", &text);
    system.put("set-e/kdump-config", &format!("set -e\n{text}"));
    system.put("init", &text);
    system.put("result", "0");
}

const SHELLS: [&str; 2] = ["dash", "bash"];

#[test]
fn kdump_tools_loads_the_wrapped_kernel_where_there_is_one() {
    for (shell, program) in
        SHELLS.into_iter().flat_map(|shell| [(shell, "kdump-config"), (shell, "set-e/kdump-config")])
    {
        let system = System::new();
        kdump_config(&system);
        let kernel = |command: &str| {
            let output = system.run(shell, program, &[command]);
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(kernel("load"), "kernel /var/lib/kdump/vmlinuz\n");
        assert_eq!(system.calls(), "hook kdump-kernel\nhook loaded\n");
        system.put("wrapped", "");
        let wrapped = system.path("wrapped");
        assert_eq!(kernel("reload"), format!("kernel {}\n", wrapped.display()));
        assert_eq!(system.calls(), "hook kdump-kernel\nhook loaded\n");
        // What the administrator has chosen is not exchanged.
        let text = fs::read_to_string(system.path(program)).unwrap();
        system.put(program, &text.replace("=/var/lib/kdump/vmlinuz", "=/boot/mine"));
        let output = system.run(shell, program, &["load"]);
        assert_eq!(output.stdout, b"kernel /boot/mine\n");
        assert!(String::from_utf8(output.stderr).unwrap().contains("no panic reporting"));
        assert_eq!(system.calls(), "hook loaded\n");
        system.put(program, &text);
        assert_eq!(kernel("unload"), "kernel /var/lib/kdump/vmlinuz\n");
        assert_eq!(system.calls(), "");
        fs::remove_file(system.path("usr/sbin/lastwords")).unwrap();
        assert_eq!(kernel("load"), "kernel /var/lib/kdump/vmlinuz\n");
        fs::remove_file(system.path("kdump-tools.sh")).unwrap();
        assert_eq!(kernel("load"), "kernel /var/lib/kdump/vmlinuz\n");
    }
}

#[test]
fn what_kdump_tools_cannot_load_is_checked_at_once() {
    let system = System::new();
    kdump_config(&system);
    system.put("result", "1");
    // A plain one: nothing can be done about it.
    assert_eq!(system.run("dash", "kdump-config", &["reload"]).status.code(), Some(1));
    assert_eq!(system.calls(), "hook kdump-kernel\n");
    system.put("wrapped", "");
    for (loaded, status) in [("1\n", 0), ("0\n", 1)] {
        system.put("sys/kernel/kexec_crash_loaded", loaded);
        assert_eq!(system.run("dash", "kdump-config", &["reload"]).status.code(), Some(status));
        assert_eq!(system.calls(), "hook kdump-kernel\nhook check\n");
    }
}

#[test]
fn the_dump_kernel_records_how_the_dump_ends_and_keeps_its_exit_status() {
    for (shell, program) in
        SHELLS.into_iter().flat_map(|shell| [(shell, "kdump-config"), (shell, "set-e/kdump-config")])
    {
        let system = System::new();
        kdump_config(&system);
        system.put("proc/vmcore", "core");
        let failed = format!("mark failed --why no dump in {}\n", system.path("dump").display());
        for (dump, result, end) in [
            ("dump", 0, "mark saved\n"),
            ("", 0, failed.as_str()),
            ("dump", 3, "mark failed --why kdump-config savecore: exit status 3\n"),
        ] {
            system.put("dump", dump);
            system.put("result", &result.to_string());
            let output = system.run(shell, program, &["savecore"]);
            assert_eq!(output.status.code(), Some(result), "{output:?}");
            assert_eq!(system.calls(), format!("mark started --timeout 60\n{end}"));
        }
        // Neither the init script, which reads the settings before, nor other commands.
        assert!(system.run(shell, "init", &["savecore"]).status.code() == Some(3));
        system.run(shell, program, &["status"]);
        assert_eq!(system.calls(), "");
    }
}

#[test]
fn kdumpctl_gets_the_folder_of_the_wrapped_kernel_where_nothing_else_is_chosen() {
    let system = System::new();
    system.script("kdumpctl/kdumpctl.sh", "kdumpctl.sh");
    let root = system.0.path().display();
    let folder = |settings: &str| {
        system.put("kdumpctl", &format!("{settings}\n. {root}/kdumpctl.sh\necho \"$KDUMP_BOOTDIR\"\n"));
        let output = system.run("bash", "kdumpctl", &["start"]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(folder("KDUMP_IMG=vmlinuz"), "");
    system.put("wrapped", "");
    let wrapped = root.to_string();
    assert_eq!(folder("KDUMP_IMG=vmlinuz\nKDUMP_IMG_EXT="), wrapped);
    assert_eq!(folder(""), wrapped);
    system.calls();
    assert_eq!(folder("KDUMP_KERNELVER=6.1"), wrapped);
    assert_eq!(system.calls(), "hook kdump-kernel 6.1\n");
    for settings in ["KDUMP_BOOTDIR=/mine", "KDUMP_IMG=Image\nKDUMP_BOOTDIR=", "uname() { echo 6.1+debug; }"]
    {
        assert_ne!(folder(settings), wrapped, "{settings}");
    }
    system.put("proc/vmcore", "core");
    assert_eq!(folder(""), "");
}

#[test]
fn suse_loads_the_wrapped_kernel_that_the_ram_disk_was_made_for() {
    let system = System::new();
    system.script("suse/suse-kdump.sh", "suse-kdump.sh");
    let root = system.0.path().display();
    let text = format!(
        "kdump_kernel=plain\nKDUMP_PRESCRIPT=mine\n. {root}/suse-kdump.sh\necho \"$kdump_kernel\"\n\
         VMCORE_STATUS=\"$1\"\neval \"$KDUMP_PRESCRIPT\"\neval \"$KDUMP_POSTSCRIPT\"\n"
    );
    system.put("load.sh", &text);
    system.put("kdump-read-config.sh", &text);
    let kernel = || {
        let output = system.run("bash", "load.sh", &[]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    system.put("wrapped", "");
    assert_eq!(kernel(), "plain");
    system.put("var/lib/kdump/kernel-version", "6.4.0-default\n");
    assert_eq!(kernel(), system.path("wrapped").display().to_string());
    assert_eq!(system.calls(), "hook kdump-kernel 6.4.0-default\n");
    for (status, end) in [("saved successfully", "mark saved"), ("skipped", "mark failed --why skipped")] {
        system.run("bash", "kdump-read-config.sh", &[status]);
        assert_eq!(system.calls(), format!("mark started --timeout 60\n{end}\n"));
    }
}

#[test]
fn hooks_of_packages_never_fail_and_say_nothing_where_it_is_not_enabled() {
    for (script, arguments, call) in [
        (
            "kernel/postinst.d-lastwords",
            ["6.1", "/boot/vmlinuz-6.1", ""],
            "hook kernel-installed 6.1 /boot/vmlinuz-6.1",
        ),
        ("kernel/postrm.d-lastwords", ["6.1", "/boot/vmlinuz-6.1", ""], "hook kernel-removed 6.1"),
        ("kernel-install/90-lastwords.install", ["add", "6.1", "/boot/x"], "hook kernel-installed 6.1"),
        ("kernel-install/90-lastwords.install", ["remove", "6.1", "/boot/x"], "hook kernel-removed 6.1"),
    ] {
        let arguments: Vec<_> = arguments.into_iter().filter(|argument| !argument.is_empty()).collect();
        let system = System::new();
        system.script(script, "hook");
        let run = || {
            let output = system.run("dash", "hook", &arguments);
            assert!(
                output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
                "{output:?}"
            );
        };
        run();
        assert_eq!(system.calls(), "");
        system.put("var/lib/lastwords/enabled.json", "");
        run();
        assert_eq!(system.calls().trim_end(), call);
        system.program("usr/sbin/lastwords", "#!/bin/sh\nkill -9 $$\n");
        assert!(system.run("dash", "hook", &arguments).status.success());
        fs::remove_file(system.path("usr/sbin/lastwords")).unwrap();
        run();
    }
}
