# Everything for people who work in a checkout, on a machine with or without ROS. `make help` lists the targets.

# The interpreter that .venv is made with:  make demo PYTHON=python3.12
# Once there is a .venv, its own one is kept until another is named.
PYTHON ?= $(shell .venv/bin/python -ISc 'import sys; print(sys._base_executable)' 2> /dev/null || echo python3)

SHELL := /bin/bash
PYTEST_ARGUMENTS ?=
CASES ?= 100000
FRAMES ?= 50000
# Runs a command of .venv with the variables that tools/setup/environment.py names, as activation would.
IN_VENV := .venv/bin/python -m tools.setup.environment
# Launch files are left out of the type check: their folder bears the name of ROS's launch.
TYPED := trt_perception test tools benchmarks setup.py

# A name that is no program gets a sentence instead of the shell's error.
PYTHON_OR_STOP := command -v "$(PYTHON)" > /dev/null || { echo "PYTHON=$(PYTHON) is not there; name one that is, \
for example PYTHON=python3, or install it: sudo apt install python3" >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo test benchmark lint fuzz coverage format lock clean soak

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## make .venv: ROS 2 from Python wheels, the messages, this package
	@$(PYTHON_OR_STOP)
	@$(PYTHON) -m tools.setup demo

setup-test:  ## the same, with the test tools and torch
	@$(PYTHON_OR_STOP)
	@$(PYTHON) -m tools.setup test

demo: setup  ## detect objects in a moving scene, through real ROS 2 nodes, with no camera and no GPU
	@$(IN_VENV) .venv/bin/trt-perception demo $(DEMO_ARGUMENTS)

test: setup-test  ## linter, type checker and all tests
	@$(IN_VENV) .venv/bin/python -m tools.checks $(TYPED) -- $(PYTEST_ARGUMENTS)

benchmark: setup-test  ## what everything around the network costs, against the bare network and the usual way
	@$(IN_VENV) .venv/bin/python -m benchmarks.hot_path $(BENCHMARK_ARGUMENTS)

soak: setup-test  ## faults of every kind against a running detector, into soak_output/; FRAMES=N: of its steady run
	@$(IN_VENV) .venv/bin/python -m test.soak --frames $(FRAMES) $(SOAK_ARGUMENTS)

lint: setup-test  ## linter and type checker only
	@$(IN_VENV) .venv/bin/python -m tools.checks --lint $(TYPED)

fuzz: setup-test  ## random and damaged input for everything that reads it: make fuzz CASES=1000000
	@$(IN_VENV) .venv/bin/python -m test.fuzz --cases $(CASES)

coverage: setup-test  ## all tests with coverage, also of the processes that they start
	@$(IN_VENV) .venv/bin/python -m tools.coverage_run $(PYTEST_ARGUMENTS)

format: setup-test  ## bring the source into the project's format
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

lock:  ## choose new versions for requirements/*.txt from requirements/*.in
	@$(PYTHON_OR_STOP)
	@$(PYTHON) -m tools.setup.lock

clean:  ## remove .venv and all that was built
	rm -rf .venv build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find trt_perception test tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
