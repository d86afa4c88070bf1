//! What goes wrong on a real Debian while lastwords is enabled there: whatever it is, kdump has the running kernel loaded,
//! wrapped and whole or plain, and the journal says which.

use anyhow::{Result, ensure};
use lastwords_vm::machine::debian::{Debian, Suite};
use lastwords_vm::scenarios::debian::{
    WRAPPED, crash, enable, installed, journal_of, plain_is_loaded, wrapped_is_loaded,
};

const RELOAD: &str = "kdump-config reload";

/// What kdump has loaded in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Wrapped,
    Plain,
}

/// Trouble: how it is made, what it ends in, and how it is over.
struct Trouble {
    name: &'static str,
    make: &'static str,
    ends: Ends,
    over: &'static str,
}

/// A folder that cannot be written to, as a file system is after an error.
macro_rules! read_only {
    ($folder:literal) => {
        concat!("mount --bind ", $folder, " ", $folder, " && mount -o remount,bind,ro ", $folder)
    };
}

/// The next reload wraps anew.
macro_rules! stale {
    ($($then:expr),*) => {
        concat!("rm -f /var/lib/kdump/lastwords/vmlinuz-*", $("; ", $then),*)
    };
}

const TROUBLES: [Trouble; 11] = [
    Trouble {
        name: "the wrapped kernel is half written",
        make: "truncate --size=1M /var/lib/kdump/lastwords/vmlinuz-*",
        ends: Ends::Wrapped,
        over: "",
    },
    Trouble {
        name: "a byte of the wrapped kernel is another one",
        make: "printf x | dd of=$(echo /var/lib/kdump/lastwords/vmlinuz-*) bs=1 seek=3000000 conv=notrunc status=none",
        ends: Ends::Wrapped,
        over: "",
    },
    Trouble {
        name: "the record is no record",
        make: "for file in /var/lib/kdump/lastwords/*.json; do echo '{\"schema\": ' >$file; done",
        ends: Ends::Wrapped,
        over: "",
    },
    Trouble {
        name: "/boot is read-only",
        make: stale!(read_only!("/boot")),
        ends: Ends::Wrapped,
        over: "umount /boot",
    },
    Trouble {
        name: "/var/lib is read-only",
        make: stale!(read_only!("/var/lib")),
        ends: Ends::Plain,
        over: "umount /var/lib",
    },
    Trouble {
        name: "the disk is full",
        make: stale!("mount -t tmpfs -o size=2M tmpfs /var/lib/kdump/lastwords"),
        ends: Ends::Plain,
        over: "umount /var/lib/kdump/lastwords",
    },
    Trouble {
        name: "the program is gone",
        make: "mv /usr/sbin/lastwords /usr/sbin/lastwords.away",
        ends: Ends::Plain,
        over: "mv /usr/sbin/lastwords.away /usr/sbin/lastwords",
    },
    Trouble {
        name: "the program fails",
        make: "mv /usr/sbin/lastwords /usr/sbin/lastwords.away; ln -s /bin/false /usr/sbin/lastwords",
        ends: Ends::Plain,
        over: "mv -f /usr/sbin/lastwords.away /usr/sbin/lastwords",
    },
    Trouble {
        name: "the configuration is not understood",
        make: "echo 'report = 1' >/etc/lastwords.conf.d/zz.conf",
        ends: Ends::Wrapped,
        over: "rm /etc/lastwords.conf.d/zz.conf",
    },
    Trouble {
        name: "kexec does not take the wrapped kernel",
        make: "kexec=$(dpkg --listfiles kexec-tools | grep 'bin/kexec$'); \
               dpkg-divert --quiet --local --rename --add $kexec; \
               printf '#!/bin/sh\\ncase \"$*\" in *lastwords*) exit 1 ;; esac\\nexec %s.distrib \"$@\"\\n' $kexec >$kexec; \
               chmod 755 $kexec",
        ends: Ends::Plain,
        over: "kexec=$(dpkg --listfiles kexec-tools | grep 'bin/kexec$'); rm $kexec; \
               dpkg-divert --quiet --local --rename --remove $kexec; rm -rf /run/lastwords/plain /var/lib/kdump/lastwords/*",
    },
    Trouble {
        name: "two hooks run at a time",
        make: stale!(
            "for hook in 1 2 3; do lastwords hook kdump-kernel & done; kdump-config try-reload & kdump-config try-reload & wait"
        ),
        ends: Ends::Wrapped,
        over: "",
    },
];

/// Is what is loaded what it has to be?
fn holds(debian: &mut Debian, ends: Ends) -> Result<()> {
    match ends {
        Ends::Wrapped => wrapped_is_loaded(debian),
        Ends::Plain => plain_is_loaded(debian),
    }
}

/// Makes the trouble, reloads, and looks; in trouble, a kernel is installed, too.
fn goes_through(debian: &mut Debian, trouble: &Trouble, whole: &str) -> Result<()> {
    debian.run(trouble.make)?;
    let journal = journal_of(debian, RELOAD)?;
    holds(debian, trouble.ends)?;
    let path = if trouble.ends == Ends::Plain {
        "/var/lib/kdump/vmlinuz"
    } else {
        "/var/lib/kdump/lastwords/vmlinuz-"
    };
    ensure!(journal.contains(path), "the journal does not say what was loaded: {journal}");
    if trouble.ends == Ends::Wrapped {
        let sum = debian.run(&format!("sha256sum <{WRAPPED}"))?;
        ensure!(sum == whole, "another wrapped kernel");
    } else if !trouble.name.starts_with("the program") {
        ensure!(journal.contains("lastwords["), "the journal does not say why: {journal}");
    }
    // As dpkg runs the hooks when a kernel is installed and removed: those of others would take minutes.
    for (hooks, call) in [("postinst.d", "configure"), ("postrm.d", "remove")] {
        debian.run(&format!(
            "for hook in /etc/kernel/{hooks}/*lastwords*; do \
             DEB_MAINT_PARAMS=\"'{call}' ''\" $hook 0.0-none /boot/vmlinuz-0.0-none || exit; done"
        ))?;
    }
    let (status, _) = debian.try_run(
        "for hook in /etc/kernel/postinst.d/*lastwords*; do $hook $(uname -r) /boot/vmlinuz-$(uname -r) || exit; done",
    )?;
    ensure!(status == 0, "a kernel's installation fails");
    debian.run(if trouble.over.is_empty() { "true" } else { trouble.over })?;
    debian.run(RELOAD)?;
    wrapped_is_loaded(debian)
}

fn trouble_ends_in_a_loaded_kernel(suite: Suite) -> Result<()> {
    let mut debian = installed(suite)?;
    enable(&mut debian, 900)?;
    wrapped_is_loaded(&mut debian)?;
    let whole = debian.run(&format!("sha256sum <{WRAPPED}"))?;
    let mut failed = Vec::new();
    for trouble in &TROUBLES {
        println!("bench: trouble: {}", trouble.name);
        if let Err(error) = goes_through(&mut debian, trouble, &whole) {
            println!("bench: trouble: {}: FAILED: {error:#}", trouble.name);
            failed.push(format!("{}: {error:#}", trouble.name));
            debian.try_run(trouble.over)?;
            debian.try_run(RELOAD)?;
        }
    }
    // Killed at any time in the middle.
    for tenths in [0, 1, 2, 3, 5, 8, 13, 21] {
        debian.run(&format!(
            "rm -f {WRAPPED}; lastwords hook kdump-kernel & sleep {}.{}; kill -KILL $!; wait; true",
            tenths / 10,
            tenths % 10
        ))?;
        debian.run(RELOAD)?;
        wrapped_is_loaded(&mut debian)?;
        ensure!(debian.run(&format!("sha256sum <{WRAPPED}"))? == whole);
    }
    ensure!(failed.is_empty(), "{failed:#?}");
    crash(&mut debian)?.reported()?;
    Ok(())
}

#[test]
#[ignore = "make test-all: debian::an_enabled_debian_12_reports_dumps_and_tells_at_the_next_boot is the way without trouble"]
fn on_debian_12_trouble_ends_in_a_loaded_kernel() -> Result<()> {
    trouble_ends_in_a_loaded_kernel(Suite::Bookworm)
}

#[test]
#[ignore = "make test-all: debian::an_enabled_debian_12_reports_dumps_and_tells_at_the_next_boot is the way without trouble"]
fn on_debian_13_trouble_ends_in_a_loaded_kernel() -> Result<()> {
    trouble_ends_in_a_loaded_kernel(Suite::Trixie)
}
