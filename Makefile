# SPDX-License-Identifier: GPL-2.0
#
# The interface to everything: see `make help`.  Steps live in scripts/, what
# they make goes to build/.

MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Kernel builds use all processors; two at a time would only take turns.
.NOTPARALLEL:

# For the command line; `make help` explains them.
export KSRC QEMU TESTS MUT
export ACCEL ?= tcg
export JOBS ?= $(shell nproc)

S := scripts
LOG := build/log
only = $(if $(TESTS),guest.only=$(TESTS))

##@ Run

.PHONY: run
run: kernel qemu ## boot the guest and run the demos, every byte checked
	@$(S)/deps.sh guest
	@$(S)/guest-image.sh base
	@ACCEL=$(ACCEL:tcg=icount) $(S)/guest-boot.sh run base run $(only)

.PHONY: shell
shell: kernel qemu ## boot to a prompt with the NPUs there
	@$(S)/deps.sh guest
	@$(S)/guest-image.sh base
	@$(S)/guest-boot.sh shell base shell

.PHONY: bench bench-smoke
bench-smoke: bench ## the same as bench
bench: kernel kernel-bench kernel-plain qemu ## benchmarks P1 to P13 in exact time, twice, against all peers
	@$(S)/deps.sh guest
	@$(S)/peer-build.sh bench
	@$(S)/guest-image.sh base
	@$(S)/guest-image.sh bench
	@$(S)/guest-image.sh plain
	@$(S)/guest-bench.sh

.PHONY: bench-quick
bench-quick: kernel-bench qemu ## those of moves and faults alone, against a driver without GMEM
	@$(S)/deps.sh guest
	@$(S)/peer-build.sh bench
	@$(S)/guest-image.sh bench
	@$(S)/guest-bench.sh quick

.PHONY: bench-curves
bench-curves: kernel-bench qemu ## how cost grows with bytes, VMAs, blocks, devices, threads, forks
	@$(S)/deps.sh guest
	@$(S)/peer-build.sh bench
	@$(S)/guest-image.sh bench
	@$(S)/guest-bench.sh curves

.PHONY: bench-baseline
bench-baseline: kernel qemu ## make bench/baseline of what make bench-guard measures now
	@$(S)/deps.sh guest
	@$(S)/guest-image.sh base
	@$(S)/bench-guard.sh write

##@ Test

STAGES := npu-test model kunit selftest bench-guard debug

# What of `make debug` fits into `make test`.
FITS := abi,ioctl,basic,regress

.PHONY: test
test: ## all of the following, with the sum at the end
	@rm -f $(addprefix build/results/,$(STAGES))
	@for stage in npu-test model kunit kernel kernel-debug; do \
		$(MAKE) $$stage || true; done
	@$(S)/test-guests.sh '$(or $(TESTS),$(FITS))' selftest bench-guard
	@$(S)/total.sh $(STAGES)

.PHONY: npu-test
npu-test: ## the hardware model on its own
	@$(S)/deps.sh qemu
	@$(S)/stage.sh npu-test $(LOG)/npu-test.out $(S)/npu-test.sh

.PHONY: model
model: ## the protocol, checked exhaustively
	@$(S)/deps.sh model
	@$(S)/stage.sh model $(LOG)/model.out $(S)/model.sh

.PHONY: kunit
kunit: qemu ## the KUnit suites
	@$(S)/deps.sh kernel
	@$(S)/stage.sh kunit $(LOG)/kunit.out $(S)/kunit.sh

.PHONY: selftest
selftest: kernel qemu ## the selftests on the plain kernel
	@$(S)/deps.sh guest
	@$(S)/guest-image.sh base
	@$(S)/stage.sh selftest $(LOG)/selftest.out \
		$(S)/guest-boot.sh selftest base test $(only)

.PHONY: bench-guard
bench-guard: kernel qemu ## exact figures against bench/baseline: none may be 2 % worse
	@$(S)/deps.sh guest
	@$(S)/guest-image.sh base
	@$(S)/stage.sh bench-guard $(LOG)/bench-guard.out $(S)/bench-guard.sh

.PHONY: debug
debug: kernel-debug qemu ## the selftests on the kernel with all checkers
	@$(S)/deps.sh guest
	@$(S)/guest-image.sh debug
	@TIMEOUT=2400 $(S)/stage.sh debug $(LOG)/debug.out \
		$(S)/guest-boot.sh debug debug test $(only)

SOAK_KERNEL = $(if $(filter debug,$(KERNEL)),debug,base)

.PHONY: soak
soak: kernel$(if $(filter debug,$(KERNEL)),-debug) qemu ## random operations against a model for SECONDS, from SEED on
	@$(S)/deps.sh guest
	@$(S)/guest-image.sh $(SOAK_KERNEL)
	@TIMEOUT=$$(($(or $(SECONDS),600) + 900)) \
		$(S)/stage.sh soak $(LOG)/soak.out \
		$(S)/guest-boot.sh soak $(SOAK_KERNEL) soak \
		guest.seconds=$(or $(SECONDS),600) \
		$(addprefix guest.seed=,$(SEED))

.PHONY: matrix
matrix: kernel qemu ## all cells of the operation matrix (by hand), for Documentation/
	@$(S)/deps.sh guest
	@$(S)/guest-image.sh base
	@TIMEOUT=7200 $(S)/stage.sh matrix $(LOG)/matrix.out \
		$(S)/guest-boot.sh matrix base test guest.only=matrix \
		guest.scale=100 guest.timeout=6600
	@$(S)/matrix-doc.sh $(LOG)/matrix.out

# What has several threads at work at a time.
RACES := race,evict,lifecycle,random,matrix

.PHONY: kcsan
kcsan: kernel-kcsan qemu ## data races: the concurrent selftests on a KCSAN kernel (by hand)
	@$(S)/deps.sh guest
	@$(S)/guest-image.sh kcsan
	@TIMEOUT=2400 $(S)/stage.sh kcsan $(LOG)/kcsan.out \
		$(S)/guest-boot.sh kcsan kcsan test \
		guest.only=$(or $(TESTS),$(RACES))

.PHONY: upstream
upstream: kernel-bench kernel-plain qemu ## the kernel's own mm selftests: the same with and without the patches? (by hand)
	@$(S)/deps.sh guest upstream
	@$(S)/guest-image.sh bench
	@$(S)/guest-image.sh plain
	@$(S)/stage.sh upstream $(LOG)/upstream.out $(S)/upstream.sh $(TESTS)

.PHONY: peer
peer: kernel qemu ## basic selftests and demos on the driver without GMEM
	@$(S)/deps.sh guest
	@$(S)/peer-build.sh base
	@$(S)/guest-image.sh base
	@$(S)/guest-boot.sh peer base peer $(only)

##@ Check

.PHONY: check
check: ## static checks: style, sparse, warnings, documentation, configurations
	@$(S)/deps.sh kernel qemu check
	@$(S)/kernel-tree.sh
	@$(S)/stage.sh check $(LOG)/check.out $(S)/check.sh

.PHONY: check-queue
check-queue: ## each patch of the queue: applies, has a test, compiles (minutes)
	@$(S)/deps.sh kernel check
	@$(S)/queue-check.sh

.PHONY: mutate
mutate: kernel qemu ## leave each hook and rule out in turn: does a test notice? (hours)
	@$(S)/deps.sh guest
	@set -f; $(S)/mutate.sh $(MUT)

.PHONY: total
total:
	@$(S)/total.sh check $(STAGES)

##@ Build

.PHONY: kernel
kernel: ## the patched kernel and its modules (build/kernel/base)
	@$(S)/deps.sh kernel
	@$(S)/kernel-build.sh base

.PHONY: kernel-debug kernel-kcsan kernel-bench kernel-plain
kernel-debug: ## the same with all checkers on
kernel-kcsan: ## the same with the checker for data races
kernel-bench: ## the one that benchmarks measure
kernel-plain: ## the unpatched one that they compare with
kernel-debug kernel-kcsan kernel-bench kernel-plain: kernel-%:
	@$(S)/deps.sh kernel
	@$(S)/kernel-build.sh $*

.PHONY: qemu
qemu: ## QEMU with the gmem-npu device (build/qemu)
	@$(S)/deps.sh qemu
ifeq ($(QEMU),)
	@$(S)/qemu-build.sh
endif

##@ Housekeeping

.PHONY: help
help: ## this list
	@$(S)/help.sh $(firstword $(MAKEFILE_LIST))

.PHONY: clean
clean: ## remove what was compiled, keep the unpacked sources
	@rm -rf $(addprefix build/,kernel qemu guest kunit-bin log results)

.PHONY: distclean
distclean: ## remove build/
	@rm -rf build
