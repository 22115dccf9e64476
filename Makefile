SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo test soak lint clean setup setup-test

# Test processes at a time; JOBS=0 runs the tests in pytest's own process.
JOBS ?= 2

bin := .venv/bin
pytest := $(bin)/pytest -W error

# $(call timed,NAME,COMMAND)
timed = @echo "$(1)"; TIMEFORMAT='  %1R s'; time $(2)

help:
	@echo 'make demo    flash, drive and measure the virtual bench, and write a report'
	@echo 'make test    lint, types, each faulty device against its own requirements, and tests; JOBS=N for N test processes'
	@echo 'make soak    the tests that take hours'
	@echo 'make lint    lint and types'
	@echo 'make clean   remove build output and caches; .venv and runs stay'
	@echo 'demo, test, soak and lint set up what they need: system packages (with apt-get) and .venv'

setup:
	@.ci/setup demo

setup-test:
	@TIMEFORMAT='  %1R s'; echo 'set-up'; time .ci/setup test

demo: setup
	@$(bin)/rig demo

lint: setup-test
	$(call timed,ruff check,$(bin)/ruff check)
	$(call timed,ruff format,$(bin)/ruff format --check)
	$(call timed,mypy,$(bin)/mypy)

# pytest comes last, so that its summary ends the output. Files are taken in their order: by the number of their tests,
# those with a few long ones would come last, and one worker would end alone.
test: lint
	$(call timed,faulty devices,$(bin)/rig faults --run --own -j 12)
	@echo pytest; $(pytest) -m 'not soak' -n $(JOBS) --dist loadfile --no-loadscope-reorder tests

soak: setup-test
	@$(bin)/rig faults --run -j 8
	@$(pytest) -m soak tests

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
