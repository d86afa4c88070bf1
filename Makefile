# Every target calls cargo: what is done, and how, stands in the crates.

CARGO ?= cargo
# The demo's BMC: qemu (its simulator) or openipmi (ipmi_sim, read over the LAN).
BMC ?= qemu

# Seconds for each fuzz target.
FUZZ_TIME ?= 10
FUZZ_TARGETS = crash vmcoreinfo cause kcs plan sel bzimage

.PHONY: demo bench faults test packages check unit vm fuzz

# A real kernel panics in QEMU, and its last words are told.
demo:
	$(CARGO) run --quiet -p lastwords-vm --bin demo -- $(BMC)

test: packages check unit fuzz vm

# The Debian packages that the tests and the demo run; as root they are installed.
packages:
	$(CARGO) run --quiet -p lastwords-vm --bin packages

check:
	$(CARGO) fmt --all --check
	cd fuzz && $(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy -p lastwords-purgatory --bins --examples -- -D warnings

# Unit tests, property tests, and the tool's tests from outside.
unit:
	$(CARGO) test --workspace --exclude lastwords-purgatory --exclude lastwords-vm

# What the tool and the image read from others, by libFuzzer, from the seeds in fuzz/corpus. What is found stays in
# fuzz/artifacts.
fuzz:
	command -v cargo-fuzz >/dev/null || $(CARGO) install --quiet --locked cargo-fuzz
	cd fuzz && for target in $(FUZZ_TARGETS); do \
		mkdir -p target/corpus/$$target && \
		PATH=$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin $(CARGO) fuzz run --sanitizer none $$target target/corpus/$$target corpus/$$target -- \
			-max_total_time=$(FUZZ_TIME) -timeout=20 -rss_limit_mb=2000 -verbosity=0 -print_final_stats=0 || exit 1; \
	done

# Real kernels in QEMU.
vm:
	$(CARGO) test -p lastwords-vm

# Size, speed and time beside the stock tool's.
bench:
	$(CARGO) run --quiet -p lastwords-vm --bin bench

# Every fault beside what else there is for it: the table in docs/reliability.md. FAULTS="mute busy" makes these rows
# alone.
faults:
	$(CARGO) run --quiet -p lastwords-vm --bin faults -- $(FAULTS)
