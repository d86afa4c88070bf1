# Every target calls cargo: what is done, and how, stands in the crates.

CARGO ?= cargo
# The demo's BMC: qemu (its simulator) or openipmi (ipmi_sim, read over the LAN).
BMC ?= qemu

.PHONY: demo bench test packages check unit vm

# A real kernel panics in QEMU, and its last words are told.
demo:
	$(CARGO) run --quiet -p lastwords-vm --bin demo -- $(BMC)

test: packages check unit vm

# The Debian packages that the tests and the demo run; as root they are installed.
packages:
	$(CARGO) run --quiet -p lastwords-vm --bin packages

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy -p lastwords-purgatory --bins --examples -- -D warnings

# Unit tests, property tests, and the tool's tests from outside.
unit:
	$(CARGO) test --workspace --exclude lastwords-purgatory --exclude lastwords-vm

# Real kernels in QEMU.
vm:
	$(CARGO) test -p lastwords-vm

# Size, speed and time beside the stock tool's.
bench:
	$(CARGO) run --quiet -p lastwords-vm --bin bench
