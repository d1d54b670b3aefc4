# Two commands are all a newcomer needs: `make run` and `make test`. Both make .venv first, from the lock.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
HOME_DIR := var

.PHONY: setup run test soak bench lock clean
.DEFAULT_GOAL := test

setup: $(STAMP)

# Each step says plainly what is missing; the stamp makes a second call a no-op until the lock or pyproject.toml changes.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "arcgate needs python3 >= 3.11; here: $$($(PYTHON) --version 2>&1). Set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "python3 lacks the venv module: install the package python3-venv of your system"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# A first gateway in ./var: its own copy of fixtures/first, with an embedded Valkey. Later runs keep what is there.
run: setup
	@test -f $(HOME_DIR)/arcgate.toml || { mkdir -p $(HOME_DIR) && cp -R fixtures/first/. $(HOME_DIR)/; }
	@cat $(HOME_DIR)/hint.txt
	@exec $(BIN)/arcgate run --config $(HOME_DIR)/arcgate.toml

test: setup
	@./.ci/run all

# A thousand kills, an hour; what fails prints the ARCGATE_SEED and ARCGATE_KILLS that show it again.
soak: export ARCGATE_KILLS ?= 1000
soak: setup
	@$(BIN)/pytest -v -s --override-ini tmp_path_retention_policy=failed tests/acceptance/test_soak.py

bench: setup
	@$(BIN)/python -m tests.bench

lock: $(STAMP)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate \
		--all-extras --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
