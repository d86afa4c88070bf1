# What scenarios are written with: the words that a guest's script may use.

# step WORDS: a line on the console, which the host stamps with the time.
step() {
    echo "bench: $*" >/dev/console
}

# orders: waits until there is an archive on the disk, and unpacks it. Here a snapshot is taken and gone on from.
orders() {
    _modules=
    for _module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
        [ -e "/modules/$_module.ko" ] || continue
        insmod "/modules/$_module.ko"
        _modules="$_module $_modules"
    done
    [ -e /dev/vda ] || { step "no disk for the orders"; poweroff -f; }
    step "the first kernel waits for its orders"
    # "070701" begins an archive; what was read before is forgotten.
    until [ "$(dd if=/dev/vda bs=6 count=1 2>/dev/null)" = 070701 ]; do
        usleep 50000
        blockdev --flushbufs /dev/vda
    done
    (cd / && cpio -i -d -u </dev/vda 2>/dev/null)
    # From here on the kernel is as if it had had no disk.
    for _module in $_modules; do
        rmmod "$_module" || { step "$_module stays loaded"; poweroff -f; }
    done
    # The clock has stood still in a snapshot.
    hwclock -s -u
}

# section NAME COMMAND...: runs the command; its output and its status go to the host over ttyS1.
section() {
    _name=$1
    shift
    {
        echo "== begin $_name"
        "$@" 2>&1 </dev/null
        _status=$?
        printf '\n== end %s %d\n' "$_name" "$_status"
    } >/dev/ttyS1
    return "$_status"
}

# on_cpu N COMMAND...: runs the command on CPU N.
on_cpu() {
    _cpu=$1
    shift
    taskset "$(printf '%x' $((1 << _cpu)))" "$@"
}

# panic_on N: the kernel panics, on CPU N.
panic_on() {
    step "panic on CPU $1"
    on_cpu "$1" sh -c 'echo c >/proc/sysrq-trigger'
}

# spin_on N: CPU N runs in a loop with interrupts off from here on.
spin_on() {
    step "CPU $1 goes into a loop with interrupts off"
    occupy "$1" deaf
}

# loop_on N: CPU N runs in a loop in the module from here on, and is lent to others now and then.
loop_on() {
    step "CPU $1 goes into a loop"
    occupy "$1" busy
}

# occupy N WAY [PARAMETER]: a way of the module (crash.s) that holds CPU N for ever. This shell must not be on it, nor
# wait for anything that could be: no sleep.
occupy() {
    _others=$(($(printf '%d' "0x$(taskset -p $$ | sed 's/.*: //')") & ~(1 << $1)))
    taskset -p "$(printf '%x' "$_others")" $$ >/dev/null
    on_cpu "$1" insmod "/modules/$2.ko" $3 &
    until grep -q Loading /proc/modules; do :; done
}

# carry PATH...: the dump kernel gets these files and folders, too. It needs the folders that they are in.
carry() {
    (cd / && find "$@" | cpio -o -H newc) >>/boot/initrd 2>/dev/null
}

# The kernel's names for its code.
kallsyms() {
    grep ' [tTwW] ' /proc/kallsyms | gzip -1 | base64
}

# kernel NAME VALUE: sets /proc/sys/NAME.
kernel() {
    echo "$2" >"/proc/sys/$1"
}

# crash_KIND N: the kernel dies in this way, on CPU N, or because of it.

crash_sysrq() {
    panic_on "$1"
}

# oops N WAY: what the kernel could survive, if it were not told not to.
oops() {
    kernel kernel/panic_on_oops 1
    step "panic on CPU $1"
    on_cpu "$1" insmod "/modules/$2.ko"
}

crash_null_pointer() {
    oops "$1" null_pointer
}

# An oops goes straight to the dump kernel, unless this makes it go through panic().
crash_fatal_exception() {
    echo Y >/sys/module/kernel/parameters/crash_kexec_post_notifiers
    oops "$1" null_pointer
}

# This shell is the first process.
crash_killed_init() {
    step "panic on any CPU"
    exit 1
}

crash_protection_fault() {
    oops "$1" protection_fault
}

crash_bug() {
    oops "$1" bug
}

crash_stack_overflow() {
    oops "$1" stack_overflow
}

# Warnings are as bad.
warn() {
    kernel kernel/panic_on_warn 1
    step "panic on CPU $1"
    on_cpu "$1" insmod "/modules/$2.ko"
}

crash_warning() {
    warn "$1" warning
}

crash_refcount() {
    warn "$1" refcount
}

crash_ubsan() {
    warn "$1" ubsan
}

crash_list_corruption() {
    oops "$1" list_corruption
}

# What the kernel reports and survives, and then another thing that it does not.

crash_oom_then_oops() {
    on_cpu "$1" tail /dev/zero
    step "a process was killed"
    oops "$1" null_pointer
}

crash_hung_task_then_oops() {
    kernel kernel/hung_task_timeout_secs 2
    insmod /modules/hung_task.ko &
    said "blocked for more than"
    oops "$1" null_pointer
}

crash_user_fault_then_oops() {
    as_user /bin/privileged
    oops "$1" null_pointer
}

# The host injects the corrected one.
crash_machine_check_then_oops() {
    echo 1 >/sys/devices/system/machinecheck/machinecheck0/check_interval
    step "a machine check may come"
    said "Machine check events logged"
    oops "$1" null_pointer
}

# said WORDS: waits until the kernel's log has them.
said() {
    until dmesg | grep -q "$1"; do
        sleep 1
    done
}

# The other CPU warns all the time.
crash_interleaved() {
    occupy $((1 - $1)) warnings
    oops "$1" null_pointer
}

# A user wants to be heard in the kernel's log.

FORGED="Kernel panic - not syncing: disk on fire"

# forge_mount: an option of a mount has two lines.
forge_mount() {
    as_user /bin/unshare -U -r -m mount -t tmpfs -o "bad
$FORGED" none /mnt
}

# Before, meanwhile and after.
crash_forged_mount() {
    mkdir /mnt
    forge_mount
    said "$FORGED"
    while :; do forge_mount; done >/dev/null 2>&1 &
    oops "$1" null_pointer
}

# A process with such a name dies.
crash_forged_name() {
    cp /bin/segfault "/tmp/BUG: by alice"
    as_user "/tmp/BUG: by alice"
    said "BUG: by alice"
    oops "$1" null_pointer
}

# The kernel warns of a program whose path has two lines.
crash_forged_path() {
    mkdir -p "/tmp/bad
$FORGED"
    cp /bin/idle "/tmp/bad
$FORGED"
    as_user "/tmp/bad
$FORGED/idle"
    said "$FORGED"
    oops "$1" null_pointer
}

crash_soft_lockup() {
    kernel kernel/watchdog_thresh 1
    kernel kernel/softlockup_panic 1
    step "panic on CPU $1"
    on_cpu "$1" insmod /modules/soft_lockup.ko
}

# All CPUs' traces stand between the lockup and the panic, and the line to the console is slow: two seconds for a record,
# until it is more than half a minute.
crash_slow_lockup() {
    kernel kernel/softlockup_all_cpu_backtrace 1
    kernel kernel/printk_delay 2000
    # Or else another CPU finds the stall meanwhile, and its report stands in the middle.
    echo 300 >/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout
    on_cpu $((1 - $1)) sh -c '. /guest.sh; said "soft lockup"; sleep 35; kernel kernel/printk_delay 0' &
    crash_soft_lockup "$1"
}

crash_hard_lockup_everywhere() {
    kernel kernel/hardlockup_all_cpu_backtrace 1
    crash_hard_lockup "$1"
}

# The host sends the NMIs of the detector.
crash_hard_lockup() {
    kernel kernel/watchdog_thresh 1
    kernel kernel/hardlockup_panic 1
    occupy "$1" hard_lockup "detector=0x$(sed -n 's/ t watchdog_overflow_callback$//p' /proc/kallsyms)"
    step "panic on CPU $1"
    wait
}

# Another CPU finds that this one is stuck.
crash_rcu_stall() {
    echo 3 >/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout
    kernel kernel/panic_on_rcu_stall 1
    occupy "$1" deaf
    step "panic on another CPU"
    wait
}

crash_hung_task() {
    kernel kernel/hung_task_timeout_secs 2
    kernel kernel/hung_task_panic 1
    step "panic on any CPU"
    on_cpu "$1" insmod /modules/hung_task.ko
}

crash_out_of_memory() {
    kernel vm/panic_on_oom 1
    step "panic on any CPU"
    on_cpu "$1" tail /dev/zero
}

# The host sends it.
crash_nmi() {
    kernel kernel/unknown_nmi_panic 1
    step "panic on CPU $1"
    sleep 60
}

# The host injects it.
crash_machine_check() {
    step "panic on CPU $1"
    sleep 60
}

# grow MIB: the initial RAM disk gets so long, by zeros, which are passed over when it is unpacked. They are written: where a
# file in memory has a hole, a reader is charged for it.
grow() {
    _more=$(($1 * 1048576 - $(stat -c %s /boot/initrd)))
    [ $_more -ge 0 ] || { step "the initial RAM disk is larger than $1 MiB"; poweroff -f; }
    head -c $_more /dev/zero >>/boot/initrd
}

# cgroups: memory can be measured from here on.
cgroups() {
    mkdir /cgroup
    mount -t cgroup2 cgroup /cgroup
    echo +memory >/cgroup/cgroup.subtree_control
}

# measured NAME COMMAND...: its instructions and memory are counted, while it runs in a memory cgroup of its own. Sections
# NAME and NAME-memory.
measured() {
    mkdir "/cgroup/$1"
    section "$1" sh -c 'echo 0 >"/cgroup/$0/cgroup.procs"; exec counted "$@"' "$@"
    section "$1-memory" cat "/cgroup/$1/memory.peak"
}

# ipmi: the kernel's IPMI driver up to /dev/ipmi0, for whatever interface the BMC has.
ipmi() {
    [ -e /dev/ipmi0 ] && return
    _interface=ipmi_si
    # Interface type of SMBIOS type 38.
    if [ "$(dd if=/sys/firmware/dmi/entries/38-0/raw bs=1 skip=4 count=1 2>/dev/null)" = "$(printf '\004')" ]; then
        smbus
        _interface=ipmi_ssif
    fi
    for _module in ipmi_msghandler $_interface ipmi_devintf; do
        insmod "/modules/$_module.ko"
    done
    for _turn in 1 2 3 4 5 6 7 8 9 10; do
        [ -e /dev/ipmi0 ] && return
        sleep 1
    done
    echo "no /dev/ipmi0"
    return 1
}

# smbus: the driver of the SMBus's controller, and /dev/i2c-0.
smbus() {
    for _module in i2c-smbus i2c-i801 i2c-dev; do
        [ ! -e "/modules/$_module.ko" ] || insmod "/modules/$_module.ko" 2>/dev/null
    done
}

# eeproms: what the memory's EEPROMs hold, behind the BMC on the SMBus.
eeproms() {
    smbus
    for _address in 0x50 0x51 0x52 0x53 0x54 0x55 0x56 0x57; do
        i2cdump -y -r 0-127 0 "$_address" b
    done
}

# The BMC as ipmitool sees it from this machine.
collect_bmc() {
    section ipmi ipmi
    section sel ipmitool sel elist
    section sel-raw sel_raw
    section watchdog ipmitool mc watchdog get
    step "the BMC is read"
}

sel_raw() {
    rm -f /tmp/sel
    ipmitool sel writeraw /tmp/sel >/dev/null 2>&1
    [ ! -e /tmp/sel ] || base64 /tmp/sel
}

# The dead kernel as the tools see it through /proc/vmcore: what lastwords said is checked against it.
collect_vmcore() {
    section cmdline cat /proc/cmdline
    section vmcore-head sh -c "head -c $VMCORE_HEAD /proc/vmcore | base64"
    section readelf readelf -lnW /proc/vmcore
    section dmesg vmcore-dmesg /proc/vmcore
    step "/proc/vmcore is read"
}

# What the platform's error store kept, as Linux shows it.
collect_pstore() {
    mount -t pstore pstore /sys/fs/pstore
    section pstore pstore_files
}

pstore_files() {
    for _file in /sys/fs/pstore/*; do
        [ ! -e "$_file" ] || { echo "-- ${_file##*/}"; cat "$_file"; }
    done
}

# A real dump, and the log read back out of it.
collect_dump() {
    # The root may have half of the memory, which some dumps do not fit into: what the first kernel has in its own root is in
    # them.
    mount -t tmpfs -o size=90% tmpfs /tmp
    section makedumpfile makedumpfile --message-level 5 -d 31 -l /proc/vmcore /tmp/dump
    section dump-dmesg makedumpfile --message-level 5 --dump-dmesg /tmp/dump /tmp/dump-dmesg
    section dump-log tail -n 200 /tmp/dump-dmesg
    section dump-size stat -c %s /tmp/dump
    step "the dump is written"
}
