# Every target calls cargo: what is done, and how, stands in the crates.
#
#   make quick      the unit tests and one machine                       3 minutes on a built tree
#   make test       what CI runs (.ci/run)                              20 minutes on two quiet cores, clean checkout
#   make test-all   every test, each machine booted anew, more fuzzing   an hour
#
# Each prints the seconds that its parts took. vm/README.md tells what is in them.

CARGO ?= cargo
# The demo's BMC: qemu (its simulator) or openipmi (ipmi_sim, read over the LAN).
BMC ?= qemu

# Seconds for each fuzz target.
FUZZ_TIME ?= 3
FUZZ_TARGETS = crash vmcoreinfo cause kcs bt ssif erst plan sel lan text symbols bzimage

# Machines at a time. Each takes one core, when it does not wait: for a watchdog, a lockup, an answer that does not come.
MACHINES ?= 3
VM = $(CARGO) test -p lastwords-vm --test vm -- --test-threads=$(MACHINES)

STARTED := $(shell date +%s)

# What is built once is not built again in parts: a gigabyte less on the disk. And half of what the tests of the tool do is waiting.
test test-all no-machine: export CARGO_INCREMENTAL = 0
unit: export RUST_TEST_THREADS = 4

# $(call timed,NAME,COMMAND): runs a part, and tells how long it took.
define timed
@began=$$(date +%s); ( $(2) ); status=$$?; \
	echo "make: $(1): $$(($$(date +%s) - began)) s"; exit $$status
endef

# Parts follow each other, but for those of `no-machine`.
.NOTPARALLEL:
.PHONY: demo bench damage faults inject readers reports quick test test-all no-machine tools packages check unit unit-all fuzz mutants vm vm-one vm-all

# A real kernel panics in QEMU, and its last words are told.
demo:
	$(CARGO) run --quiet -p lastwords-vm --bin demo -- $(BMC)

quick: tools unit vm-one
	@echo "make: quick: $$(($$(date +%s) - $(STARTED))) s in all"

test: tools no-machine vm
	@echo "make: test: $$(($$(date +%s) - $(STARTED))) s in all"

test-all: FUZZ_TIME = 60
test-all: MUTANTS = 0/8
test-all: tools no-machine unit-all mutants vm-all
	@echo "make: test-all: $$(($$(date +%s) - $(STARTED))) s in all"

# Two rows beside each other: each part takes one core for a good deal of its time, where it downloads, links or is one long
# test. The rows build in folders of their own, so that neither waits for the other's lock. What the second one prints comes
# at the end.
no-machine: tools
	@$(MAKE) --no-print-directory FUZZ_TIME=$(FUZZ_TIME) packages fuzz >target/packages-fuzz.log 2>&1 & second=$$!; \
	$(MAKE) --no-print-directory check unit; status=$$?; \
	wait $$second || status=$$?; cat target/packages-fuzz.log; exit $$status

# The Debian packages that the tests and the demo run; as root they are installed.
tools:
	$(call timed,tools,$(CARGO) run --quiet -p lastwords-vm --bin tools)

# target/packages: our own packages, a .deb and an .rpm, from one binary for glibc 2.28 (dist/packages). zig comes from
# PyPI into target/zig.
packages:
	$(call timed,packages,CARGO=$(CARGO) dist/packages)

check:
	$(call timed,check, \
		$(CARGO) fmt --all --check && \
		(cd fuzz && $(CARGO) fmt --check) && \
		$(CARGO) clippy --all-targets -- -D warnings && \
		$(CARGO) clippy --profile purgatory -p lastwords-purgatory --bins --examples -- -D warnings && \
		.ci/check-aarch64)

# Unit tests, property tests, the tool's tests from outside, and the bench's own.
unit:
	$(call timed,unit, \
		$(CARGO) test --workspace --exclude lastwords-purgatory --exclude lastwords-vm && \
		$(CARGO) test -p lastwords-vm --lib)

# What takes minutes: 10^8 random damages, each of which the checksum has to find; and a log of 300 pages.
unit-all:
	$(call timed,unit-all, \
		$(CARGO) test -p lastwords-core --lib -- --ignored && \
		$(CARGO) test -p lastwords --test redfish -- --ignored)

# What the tool and the image read from others, by libFuzzer, from the seeds in fuzz/corpus. What is found stays in
# fuzz/artifacts. Of what works it prints a hundred lines that say nothing: they stay in a log.
fuzz:
	$(call timed,fuzz, \
		(command -v cargo-fuzz >/dev/null || $(CARGO) install --quiet --locked cargo-fuzz) && \
		cd fuzz && for target in $(FUZZ_TARGETS); do \
			mkdir -p target/corpus/$$target && \
			PATH=$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin $(CARGO) fuzz run --sanitizer none $$target target/corpus/$$target corpus/$$target -- \
				-max_total_time=$(FUZZ_TIME) -timeout=20 -rss_limit_mb=2000 -verbosity=0 -print_final_stats=0 \
				>target/$$target.log 2>&1 || { tail -n 100 target/$$target.log; exit 1; }; \
		done)

# What of core's waits, clocks, digests and IPMI can be changed without a test that notices, by cargo-mutants: all
# of it, or with MUTANTS=PART/PARTS a part.
MUTANTS ?= 0/1
mutants:
	$(call timed,mutants,.ci/mutants $(MUTANTS))

# Real kernels in QEMU.
vm:
	$(call timed,vm,$(VM))

# One of them: eight CPUs, one in a loop, everything asked for.
vm-one:
	$(call timed,vm-one,$(VM) crashes::new_simulator_lastwords)

# All of them, each machine booted anew: its addresses are drawn anew, too.
vm-all:
	$(call timed,vm-all,LASTWORDS_VM_BOOT=1 $(VM) --include-ignored)

# What loading, reporting and reading cost beside the stock tools: docs/performance.md. It fails when an aim is missed.
# BENCH="load read" measures these parts alone, and writes to target/vm/bench.
bench:
	$(CARGO) run --quiet -p lastwords-vm --bin bench -- $(BENCH)

# Every fault beside what else there is for it: the table in docs/reliability.md. FAULTS="mute busy" makes these rows
# alone.
faults:
	$(CARGO) run --quiet -p lastwords-vm --bin faults -- $(FAULTS)

# An NMI, a machine check or a flipped bit at every instruction of the way in and out, and whether the dump kernel is
# reached. It fails when the dump is lost at more places than vm/lost.txt has; INJECT=--write makes that list, and the
# table in docs/reliability.md.
inject:
	$(CARGO) run --quiet -p lastwords-vm --bin inject -- $(INJECT)

# One bit of what was loaded changes, in each region, with a dump kernel loaded in each way: the table in
# docs/reliability.md. BITS=1 takes one bit of each region instead of ten.
damage:
	$(CARGO) run --quiet -p lastwords-vm --bin damage -- $(BITS)

# What lastwords, ipmitool and ipmi-sel read from a BMC with each quirk: the table in docs/reading.md. It fails where another
# tool reads more.
readers:
	$(CARGO) run --quiet -p lastwords-vm --bin readers

# The cause is picked out of every log of a folder, and held against the log's title. core/examples/reports.rs tells what
# counts as right, and where such a collection is.
reports:
	$(CARGO) run --quiet -p lastwords-core --example reports -- $(DIR)
