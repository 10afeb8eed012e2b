PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where this is set, every process of the tests compiles torch and all of ours anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test suite lint bench soak clean

$(VENV)/.kernel: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[kernel]"
	touch $@

# Not compiled: most of these modules are never imported, and those that are compile beside each other when they are.
$(VENV)/.test: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --editable ".[test]"
	touch $@ $(VENV)/.kernel

# One process compiles what the tests import, while the type checker has the other core; else every worker does.
$(VENV)/.compiled: $(VENV)/.test
	$(BIN)/python -m pytest --collect-only --quiet >/dev/null || true
	touch $@

demo: $(VENV)/.kernel
	$(BIN)/labtui demo

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# Side by side: the type checker uses one core, and most tests wait for other processes.
test: $(VENV)/.test
	+$(MAKE) --jobs=2 lint suite

suite: $(VENV)/.compiled
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not soak and not real and not torchvision"

bench: $(VENV)/.test
	$(BIN)/python -m tests.benchmarks

soak: $(VENV)/.test
	$(BIN)/python -m pytest -m soak

clean:
	rm -rf $(VENV) dist build
