# Everything a checkout needs lives in .venv and .cache beside this file; only python3 >= 3.10
# (with its venv module) has to be there already.
#
#   make demo    watch a program stream, no key needed     make test    run the tests
#   make check   format, lint and types                    make bench   measure what streaming costs
#   make quick   the tests that need no service            make coverage   all, and what they reach
#   make docs    the documentation site, with strict links make wheel   what pip installs, in dist/
#   make versions  a part of the tests on each DSPy, and on the lowest and newest of everything
#   make otel    the recipes of docs/opentelemetry.md with the real MLflow, Phoenix and Langfuse
#
# PYTHON=python3.13 chooses an interpreter, ARGS="…" passes arguments on.

VENV := .venv
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
RUN := $(VENV)/bin/python -m

# A worker begins with tests that stand together, so that it starts what they share but once, and
# takes over from another when it is done. All share one server of each kind: tests/brokers/shared.py.
PYTEST := $(RUN) pytest -n auto --dist worksteal --durations 15
QUICK := tests/core tests/flow tests/streams tests/terminal tests/chat

export PYTHON
# Tests start hundreds of processes, which would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=
export PIP_CACHE_DIR ?= $(CURDIR)/.cache/pip

# The stamp says for which place and interpreter the environment was made: a checkout that was
# copied or moved must not go on testing the sources it came from.
MADE_FOR := $(CURDIR) $(PYTHON)
ifneq ($(shell cat $(READY) 2>/dev/null),$(strip $(MADE_FOR)))
.PHONY: $(READY)
endif

.PHONY: demo test quick coverage check format bench docs wheel versions otel clean

demo: $(READY)
	@$(VENV)/bin/streamll demo $(ARGS)

test: $(READY)
	@sh scripts/servers.sh .cache/servers
	@sh scripts/browser.sh chromium .cache/chromium
	@sh scripts/browser.sh firefox .cache/firefox
	$(PYTEST) $(ARGS)

quick: $(READY)
	$(PYTEST) $(QUICK) $(ARGS)

coverage: $(READY)
	@sh scripts/servers.sh .cache/servers
	@sh scripts/browser.sh chromium .cache/chromium
	@sh scripts/browser.sh firefox .cache/firefox
	$(PYTEST) --cov --cov-report term:skip-covered $(ARGS)

check: $(READY)
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(RUN) check_jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*_*.yml

format: $(READY)
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

bench: $(READY)
	@$(VENV)/bin/python bench/stream_cost.py $(ARGS)
	@$(VENV)/bin/python bench/paced.py
	@$(VENV)/bin/python bench/parsing.py
	@sh scripts/servers.sh .cache/servers
	@$(VENV)/bin/python bench/serving.py
	@$(VENV)/bin/python bench/brokers.py

docs: $(DOCS_READY)
	@$(VENV)/bin/python scripts/build_site.py

wheel: $(READY)
	@$(RUN) hatchling build -d dist

versions: $(READY)
	@sh scripts/servers.sh .cache/servers
	@$(VENV)/bin/python scripts/versions.py $(ARGS)

otel: $(READY)
	@$(VENV)/bin/python scripts/try_otel.py $(ARGS)

clean:
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache dist

$(READY): pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh $(VENV)
	@echo $(strip $(MADE_FOR)) > $@

$(DOCS_READY): $(READY)
	@echo "Installing what builds the documentation"
	@$(RUN) pip --quiet --disable-pip-version-check install --group docs
	@touch $@
