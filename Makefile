# The two targets a newcomer needs are `demo` and `test`; both make .venv first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CLIENTS := $(patsubst tests/clients/%.txt,$(VENV)/clients/%,$(wildcard tests/clients/*.txt))

.PHONY: demo test prove simulate bench bench-local figures hazards docs check format clean

demo: $(STAMP)
	$(BIN)/kchain run --sessions 3 --dry-run

test: $(STAMP) $(CLIENTS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n $(or $(JOBS),2)

# The long counts: everything that takes minutes to hours and proves more than a test run can.
# Rewrites the table in docs/proven.md, and docs/mutants.md.
prove: $(STAMP) $(CLIENTS)
	$(BIN)/pytest -m prove --timeout 3600

# Whole chains in storms of faults and crashes, in process and with a virtual clock; one summary
# line last. A seed that fails is printed with the command that replays it.
simulate: $(STAMP)
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),20000) --first $(or $(FIRST),0)

# The training kernel beside other ways to write it, on an idle machine; rewrites docs/benchmarks.md.
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/bench.py --write

# Local Kaggle's calls a second and transfers of 1 GB beside a plain static server, in about two
# minutes on an idle machine; fails if a target is missed; rewrites its part of docs/local-kaggle.md.
bench-local: $(STAMP)
	$(BIN)/python benchmarks/emulator.py --write

# The figures that README and docs quote, measured here and now.
figures: $(STAMP)
	$(BIN)/python docs/facts.py
	$(BIN)/python benchmarks/figures.py --runs $(or $(RUNS),1)
	$(BIN)/python benchmarks/proof.py --seeds $(or $(SEEDS),2000)

# What the official client does wrong, in each version, and what contains it; rewrites
# docs/client-hazards.md.
hazards: $(STAMP) $(CLIENTS)
	$(BIN)/python -m tests.probes.page

# Pages made from the code: docs/cli.md, docs/faults.md, docs/machine.md, docs/engine-faults.md
# with the counts it has; and the counts in docs/local-kaggle.md.
docs: $(STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/python -m tests.faults.page

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "kchain needs Python 3.11 or newer"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $(STAMP)

# Other versions of the official client, each in a folder of its own, for the tests.
$(VENV)/clients/%: tests/clients/%.txt | $(STAMP)
	rm -rf $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ -r $<
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
