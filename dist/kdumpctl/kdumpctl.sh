# shellcheck shell=bash disable=SC2034
# Read by /etc/sysconfig/kdump (Fedora, RHEL), where `lastwords enable` has put a line for it. It has kdumpctl look for the
# kernel in the folder of the wrapped ones, where one is there under the running kernel's name.
#
# Whatever is missing here, /etc/sysconfig/kdump holds as it is: plain kdump.

if [ "${0##*/}" = kdumpctl ] && [ -x /usr/sbin/lastwords ] && [ ! -e /proc/vmcore ]; then
	# Where the administrator has chosen a folder or a name, or a kernel for debugging runs, kdumpctl looks for other files.
	case ${KDUMP_BOOTDIR-}:${KDUMP_IMG-vmlinuz}:${KDUMP_IMG_EXT-}:$(uname -r) in
	*debug) ;;
	:vmlinuz::* | /boot:vmlinuz::*)
		lastwords_kernel=$(/usr/sbin/lastwords hook kdump-kernel ${KDUMP_KERNELVER:+"$KDUMP_KERNELVER"} 2>/dev/null) ||
			lastwords_kernel=
		[ ! -f "$lastwords_kernel" ] || KDUMP_BOOTDIR=${lastwords_kernel%/*}
		;;
	esac
fi
