# shellcheck shell=sh
# Read by /etc/default/kdump-tools (Debian, Ubuntu), where `lastwords enable` has put a line for it. It has kdump-config load
# the wrapped kernel, where there is one, and records in the BMC's event log how the dump ends.
#
# Whatever is missing here, /etc/default/kdump-tools holds as it is: plain kdump. It is read with and without `set -e`.

# The init script, debconf and others read the settings, too: nothing is theirs but $1.
if [ "${0##*/}" = kdump-config ] && [ -x /usr/sbin/lastwords ]; then
	if [ -s /proc/vmcore ]; then
		# The dump kernel. The init script's next command is `reboot -f`, so the end is recorded here.
		if [ "${1-}" = savecore ]; then
			lastwords_end() {
				lastwords_status=$?
				trap - EXIT
				wait "$lastwords_started" || :
				# Only the status of the last command of a pipe counts there, which may have written nothing.
				if [ "$lastwords_status" -eq 0 ] && [ -z "${NFS-}${SSH-}${FTP-}" ] &&
					[ -n "${KDUMP_COREFILE-}" ] && [ ! -s "$KDUMP_COREFILE" ]; then
					/usr/sbin/lastwords mark failed --why "no dump in $KDUMP_COREFILE" || :
				elif [ "$lastwords_status" -eq 0 ]; then
					/usr/sbin/lastwords mark saved || :
				else
					/usr/sbin/lastwords mark failed --why "kdump-config savecore: exit status $lastwords_status" || :
				fi
				exit "$lastwords_status"
			}
			# The dump does not wait for the BMC, which may answer late.
			/usr/sbin/lastwords mark started --timeout 60 &
			lastwords_started=$!
			trap lastwords_end EXIT
		fi
	else
		case ${1-} in
		load | reload | condreload | try-reload | test | show | status)
			# A kernel or a RAM disk of the administrator's own choice stays: one does not fit another.
			case "${KDUMP_KERNEL-}:${KDUMP_INITRD-}" in
			: | :/var/lib/kdump/initrd.img | /var/lib/kdump/vmlinuz: | /var/lib/kdump/vmlinuz:/var/lib/kdump/initrd.img)
				lastwords_kernel=$(/usr/sbin/lastwords hook kdump-kernel 2>/dev/null) || lastwords_kernel=
				[ ! -f "$lastwords_kernel" ] || KDUMP_KERNEL=$lastwords_kernel
				;;
			*)
				echo "lastwords: KDUMP_KERNEL or KDUMP_INITRD is set to another file: no panic reporting" >&2
				;;
			esac
			;;
		esac
		case ${1-} in
		load | reload | condreload | try-reload)
			# What kexec refuses is put aside, and plain kdump is loaded.
			lastwords_loaded() {
				lastwords_status=$?
				trap - EXIT
				if [ "$lastwords_status" -eq 0 ]; then
					/usr/sbin/lastwords hook loaded 2>/dev/null || :
				elif [ -f "${lastwords_kernel-}" ]; then
					/usr/sbin/lastwords hook check || :
					[ "$(cat /sys/kernel/kexec_crash_loaded 2>/dev/null)" != 1 ] || lastwords_status=0
				fi
				exit "$lastwords_status"
			}
			trap lastwords_loaded EXIT
			;;
		esac
	fi
fi
