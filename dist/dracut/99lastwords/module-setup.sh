#!/bin/bash
# dracut.modules(7): the BMC's driver and lastwords for kdump's RAM disk, and for no other.

check() {
	[[ -x /usr/sbin/lastwords && -e /var/lib/lastwords/enabled.json ]] || return 1
	# kdumpctl's mkdumprd. SUSE's names the tool itself, and asks for the module by its own.
	[[ -n ${IN_KDUMP-} ]] || return 255
}

depends() {
	return 0
}

installkernel() {
	hostonly='' instmods ipmi_si ipmi_devintf
	# A BMC on the SMBus.
	[[ -e /sys/module/ipmi_ssif ]] && hostonly='' instmods i2c_i801 ipmi_ssif
	return 0
}

install() {
	# The record shows `lastwords mark` whether a crash starts the watchdog.
	inst_multiple -o /usr/sbin/lastwords /var/lib/lastwords/watchdog.json
	# Where ipmi_ssif is there before the controller of its bus, the kernel can hang.
	[[ -e /sys/module/ipmi_ssif ]] && mkdir -p "${initdir-}/etc/modprobe.d" &&
		echo "softdep ipmi_ssif pre: i2c_i801" >"${initdir-}/etc/modprobe.d/lastwords.conf"
	return 0
}
