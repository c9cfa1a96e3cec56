# Everything a newcomer needs: `make demo` and `make test`. Each target first brings `.venv` up to
# date (scripts/setup_env.py), which takes a fraction of a second when nothing has changed.
#   TEXT="..."     for make demo: what to track, in words
#   ARGS="..."     words handed on to the program, e.g. make test ARGS="test/vt_models -k crop"
#   PYTHON=...     the Python to build on; default python3

PYTHON ?= python3
ARGS ?=
SETUP = $(PYTHON) scripts/setup_env.py
RUN = . .venv/bin/activate &&
# Networks take a few GB a process. The tests of a file stay together: they share running nodes.
PARALLEL = -n auto --maxprocesses 4 --dist loadfile
UNIT = $(RUN) python -m pytest -n auto \
	-m "not slow and not ros and not train and not integration" --without-torch

.DEFAULT_GOAL := help
.PHONY: help setup train-setup demo demo-console demo-robot test test-unit test-slow coverage lint \
	docs bench bench-check bench-training fuzz soak clean distclean python-found

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: python-found ## make .venv: ROS 2 (from PyPI where none is sourced), messages, this package
	@$(SETUP) runtime

train-setup: python-found ## add what training, importing and exporting need (torch; 5 GB)
	@$(SETUP) train

demo: python-found ## track a real object in a real video; in words: make demo TEXT="the cyclist"
	@$(SETUP) demo
	@$(RUN) python -m vt_ros.demo $${TEXT:+--text "$$TEXT"} $(ARGS)

demo-console: python-found ## the demo's video again and again, with the page in the browser
	@$(SETUP) demo-console
	@$(RUN) python -m vt_ros.demo.live $(ARGS)

demo-robot: python-found ## a gimbal follows a moving car behind pillars; a chart shows it
	@$(SETUP) demo-robot
	@$(RUN) python -m vt_ros.demo.robot $(ARGS)

test: python-found ## set up everything, lint, and run all tests that are not marked slow
	@$(SETUP) test
	@$(MAKE) --no-print-directory lint
	@$(RUN) python -m pytest $(PARALLEL) --junitxml=build/test_results.xml $(ARGS)

test-unit: python-found ## the quick part without torch and without ROS processes, in parallel
	@$(SETUP) unit
	@$(UNIT) --junitxml=build/unit_test_results.xml $(ARGS)

coverage: python-found ## the same, and which lines it runs: build/coverage/index.html
	@$(SETUP) unit
	@$(UNIT) --cov --cov-report=term:skip-covered --cov-report=html:build/coverage $(ARGS)

test-slow: python-found ## run the tests marked slow: whole networks against the authors' numbers
	@$(SETUP) test
	@$(RUN) python -m pytest $(PARALLEL) -m slow --junitxml=build/slow_test_results.xml $(ARGS)

lint: python-found ## style (ruff), spelling (codespell) and types (mypy)
	@$(SETUP) lint
	@$(RUN) ruff check . && ruff format --check . && codespell && mypy

docs: python-found ## build the documentation site in build/site; a broken link is an error
	@$(SETUP) docs
	@$(RUN) NO_MKDOCS_2_WARNING=1 mkdocs build --strict $(ARGS)

bench: python-found ## measure speed, accuracy and the node on this machine; charts of it
	@$(SETUP) runtime
	@$(RUN) python -m benchmarks.run $(ARGS)

bench-check: python-found ## name what is more than 10 % slower than the committed results
	@$(SETUP) runtime
	@$(RUN) python -m benchmarks.check $(ARGS)

bench-training: python-found ## measure training steps on this machine's CPU and GPU
	@$(SETUP) train
	@$(RUN) python -m benchmarks.training $(ARGS)

fuzz: python-found ## ten minutes of malformed messages, parameters and files: ARGS="--minutes 60"
	@$(SETUP) test
	@$(RUN) python -m benchmarks.fuzz $(ARGS)

soak: python-found ## half an hour of a tracker node with troubles: ARGS="--minutes 600"
	@$(SETUP) runtime
	@$(RUN) python -m benchmarks.soak $(ARGS)

clean: ## remove what builds, tests and demos made; keeps .venv
	rm -rf build install log dist demo_output *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

distclean: clean ## the same, and remove .venv
	rm -rf .venv .setup.lock

python-found:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) on this machine: run" \
	  "\`sudo apt install python3 python3-venv python3-dev g++\` and try again." >&2; exit 1; }
