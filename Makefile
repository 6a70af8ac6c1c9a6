# gas-rt: `make demo` shows an avatar, `make test` runs the tests; both set up all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(shell find cpp_ext -name '*.cpp' -o -name '*.h' -o -name '*.cu') setup.py pyproject.toml
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test sanitize env lint format clean

demo: $(VENV)/.built
	$(BIN)/gas-rt demo --out out

test: $(VENV)/.dev $(VENV)/.built $(VENV)/.tensorrt
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

# The kernels' tests with every access and every undefined operation checked, on a copy of the tree
# whose extension is built for it. Left out: what needs torch, which is not.
SANITIZERS := address,undefined,float-cast-overflow
SANITIZED := build/sanitize
sanitize: $(VENV)/.dev
	mkdir -p $(SANITIZED)
	cp -Rp setup.py pyproject.toml README.md LICENSE NOTICE cpp_ext gas_rt benchmarks tests $(SANITIZED)
	cd $(SANITIZED) && GAS_RT_CUDA=0 GAS_RT_SANITIZE=$(SANITIZERS) $(abspath $(BIN))/python setup.py build_ext --inplace
	cd $(SANITIZED) && env GAS_RT_SANITIZE=$(SANITIZERS) ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$(foreach lib,asan ubsan stdc++,$(shell $(CXX) -print-file-name=lib$(lib).so))" \
	  $(abspath $(BIN))/python -m pytest -p no:cacheprovider --timeout=600 -k "not torch and not smplx and not cpu_half" \
	  tests/kernels

env: $(VENV)/.dev $(VENV)/.built
	@echo "ready: $(BIN)/python"

lint: $(VENV)/.dev $(VENV)/.built
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find cpp_ext -name '*.cpp' -o -name '*.h' -o -name '*.cu')

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(find cpp_ext -name '*.cpp' -o -name '*.h' -o -name '*.cu')

$(VENV)/.runtime: requirements/build.txt requirements/runtime.txt
	@PYTHON="$(PYTHON)" sh requirements/check.sh
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements/build.txt -r requirements/runtime.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(PIP) -r requirements/dev.txt
	@touch $@

# The two versions cannot be in one environment. Where there are no such wheels, the tests that want
# them are skipped and say so.
$(VENV)/.tensorrt: requirements/tensorrt-10.txt requirements/tensorrt-11.txt $(VENV)/.runtime
	for n in 10 11; do rm -rf build/tensorrt/$$n; \
	  $(PIP) --no-deps --target build/tensorrt/$$n -r requirements/tensorrt-$$n.txt || true; done
	@touch $@

$(VENV)/.built: $(NATIVE) | $(VENV)/.runtime
	$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV) build dist out *.egg-info gas_rt/kernels/_native*.so gas_rt/kernels/_cuda*.so
