# shellcheck shell=bash disable=SC2034
# Read by /etc/sysconfig/kdump (SUSE), where `lastwords enable` has put a line for it. It has load.sh load the wrapped kernel,
# where there is one of the kernel that the RAM disk was made for, and the RAM disk record how the dump ends.
#
# Whatever is missing here, /etc/sysconfig/kdump holds as it is: plain kdump.

if [ -x /usr/sbin/lastwords ] && [ ! -e /proc/vmcore ]; then
	case ${0##*/} in
	load.sh)
		# mkdumprd has made the RAM disk for this kernel, which need not be the running one.
		lastwords_version=$(cat /var/lib/kdump/kernel-version 2>/dev/null) || lastwords_version=
		if [ -n "$lastwords_version" ]; then
			lastwords_kernel=$(/usr/sbin/lastwords hook kdump-kernel "$lastwords_version" 2>/dev/null) ||
				lastwords_kernel=
			[ ! -f "$lastwords_kernel" ] || kdump_kernel=$lastwords_kernel
		fi
		;;
	dracut | mkdumprd | kdump-read-config.sh)
		# Run by `eval` in the RAM disk, before and after the dump, beside what is set already.
		KDUMP_REQUIRED_PROGRAMS="${KDUMP_REQUIRED_PROGRAMS:+$KDUMP_REQUIRED_PROGRAMS }/usr/sbin/lastwords"
		# The dump does not wait for the BMC, which may answer late.
		# shellcheck disable=SC2016
		lastwords_start='/usr/sbin/lastwords mark started --timeout 60 & lastwords_started=$!'
		KDUMP_PRESCRIPT="$lastwords_start${KDUMP_PRESCRIPT:+; $KDUMP_PRESCRIPT}"
		# shellcheck disable=SC2016
		lastwords_end='wait "${lastwords_started-}" 2>/dev/null || :; if [ "$VMCORE_STATUS" = "saved successfully" ]; then /usr/sbin/lastwords mark saved; else /usr/sbin/lastwords mark failed --why "$VMCORE_STATUS"; fi'
		KDUMP_POSTSCRIPT="$lastwords_end${KDUMP_POSTSCRIPT:+; $KDUMP_POSTSCRIPT}"
		;;
	esac
fi
