# make          lists the targets
# ARGS="..."    is passed on to sngd or pytest
# WORKERS=0     has one process run the tests; as it is, one a core
PYTHON ?= python3
ARGS ?=
WORKERS ?= logical
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install train test test-launch test-torch fuzz lint audit format docs docs-serve bench dist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with the package, its extras and the tools

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -e '.[test,dev,docs,completion,wandb,tensorboard,mpi,deepspeed,soap,mesh,export]' -c constraints.txt
	@touch $@

# A second MPI for the tests, where it is not in the way of the first.
.venv/mpich/bin/mpirun: constraints.txt | $(INSTALLED)
	$(BIN)/python -m pip install --prefix .venv/mpich --no-deps mpich -c constraints.txt
	@touch $@

train: install ## train the heat equation on all GPUs, or else on all CPU cores
	$(BIN)/sngd train configs/heat.py --ranks auto $(ARGS)

test: install ## run all tests but those that start launchers
	$(BIN)/python -m pytest tests -m "not launch" --numprocesses $(WORKERS) $(ARGS)

# Slurm's jobs have limits of a minute: no other tests beside them. (5: ARGS has chosen none.)
test-launch: install .venv/mpich/bin/mpirun ## run the tests that start torchrun, MPI, DeepSpeed and Slurm, and kill runs
	$(BIN)/python -m pytest tests/launch/test_slurm.py -m launch $(ARGS) || [ $$? = 5 ]
	$(BIN)/python -m pytest tests/launch tests/faults --ignore tests/launch/test_slurm.py -m launch \
	  --numprocesses $(WORKERS) --dist loadfile $(ARGS) || [ $$? = 5 ]

# The oldest that is supported and the newest that is there: TORCH=2.6.0, TORCH=2.14.1. No extras but the tests'.
test-torch: ## run the tests of `make test` under another torch, TORCH=2.6.0, in a virtual environment of its own
	@test -n "$(TORCH)" || { echo "test-torch: say which, e.g. make test-torch TORCH=2.6.0" >&2; exit 2; }
	$(PYTHON) -m venv .venv-torch-$(TORCH)
	.venv-torch-$(TORCH)/bin/python -m pip install torch==$(TORCH) -e '.[test]'
	.venv-torch-$(TORCH)/bin/python -m pytest tests -m "not launch" --numprocesses $(WORKERS) $(ARGS)

fuzz: install ## try 10,000 bad and odd inputs and write down what came of them (5 minutes)
	$(BIN)/python -m tests.fuzz $(ARGS)

lint: install ## check style, formatting, types, arrows between modules, docstrings, and bandit's list of dangers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(if $(CI),--any-exprs-report .mypy_cache/types)
	$(if $(CI),@echo 'expressions of a known type:' && tail -n 1 .mypy_cache/types/any-exprs.txt)
	$(BIN)/lint-imports --no-logo
	$(BIN)/interrogate sngd
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive sngd launch benchmarks references configs

# Not part of lint: it asks a service. --strict: a package that the service does not know is no clean bill.
audit: install ## ask for known vulnerabilities of the pinned packages (needs a network)
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off || \
	  { echo "audit: failed; where it names no vulnerability, the service is out of reach or does not know" \
	         "a package, and nothing was audited" >&2; exit 1; }

format: install ## sort imports, fix what can be fixed, format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The theme's notice of MkDocs 2 is none of ours. No --quiet: warnings that are not shown are not counted.
docs: install ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

docs-serve: install ## the same on http://127.0.0.1:8000, built anew when a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

bench: install ## time the Jacobian, then two problems by several optimizers (at most 5 minutes)
	$(BIN)/python -m benchmarks.jacobian
	$(BIN)/sngd bench quick $(ARGS)

dist: install ## build sdist and wheel into dist/, the wheel from the sdist
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean: ## remove builds and caches; .venv* and runs/ stay
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name '.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +
