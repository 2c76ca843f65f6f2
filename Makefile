# histolake's commands. `make` alone lists them.

PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
UV := $(shell command -v uv)
BROWSER := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

APT := apt-get install -y git make python3-venv chromium
IN_VENV := .venv/bin/python -m

ifneq ($(UV),)
INSTALL := $(UV) pip install --quiet --python .venv/bin/python
else
INSTALL := $(IN_VENV) pip install -qq --disable-pip-version-check --no-compile
endif

# The extras that are locked: all but deep, for the file of PyTorch differs from machine to machine.
EXTRAS := --extra auth --extra ray --extra s3

PYTEST := $(IN_VENV) pytest -n auto --maxprocesses 4 --dist loadfile

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: .venv/.installed ## histolake and all it needs, into .venv

.PHONY: demo
demo: install ## the whole workflow on generated slides
	.venv/bin/histolake demo

.PHONY: app
app: install ## the app, in the browser
	.venv/bin/histolake app

.PHONY: test
test: has-browser install .venv/.torch .venv/.s3rver/.installed ## the tests; some of them: make test TESTS='tests/lake -k heatmap'
	$(PYTEST) -m 'not slow and not acceptance' $(TESTS)

.PHONY: test-slow
test-slow: has-browser install .venv/.torch .venv/.s3rver/.installed ## the tests that take minutes: the demo, the notebook, real tissue
	$(PYTEST) --no-loadscope-reorder -m 'slow or acceptance' $(TESTS)

.PHONY: bench-accuracy
bench-accuracy: install ## what each part of the embedded encoder brings, on real patches, into docs/accuracy.md
	.venv/bin/python bench/accuracy.py
	.venv/bin/python bench/mosaics.py

.PHONY: bench-evaluation
bench-evaluation: install ## how evaluation agrees with masks, what it costs, what leakage flatters, into docs/evaluation.md
	.venv/bin/python bench/evaluation.py
	.venv/bin/python bench/protocols.py

.PHONY: bench
bench: install .venv/.torch .venv/.peers ## how fast it is beside its peers, into docs/benchmarks.md; one part: make bench PART=crop
	.venv/bin/python bench/speed.py $(PART)

.PHONY: bench-app
bench-app: has-browser install ## how long the app takes on 10 million predictions, into docs/benchmarks.md; some minutes
	.venv/bin/python bench/app_speed.py

.PHONY: bench-audit
bench-audit: install ## what recording and verifying take, and what was tried on the SQL page, into docs/guarantees.md; minutes
	.venv/bin/python bench/audit.py
	.venv/bin/python bench/escapes.py

.PHONY: fuzz
fuzz: install ## fuzz all that reads strangers' files, into docs/guarantees.md; longer: make fuzz SECONDS=600
	nice -n 10 .venv/bin/python bench/fuzz.py --seconds $(or $(SECONDS),60) $(TARGETS)

.PHONY: bad-slides
bad-slides: install ## damage 1,000 slides, and see that no harm comes of it, into docs/guarantees.md; half an hour
	.venv/bin/python bench/bad_slides.py

.PHONY: chaos
chaos: install ## kill commands at random moments and chosen points, into docs/guarantees.md; some more: make chaos KILLS=500 SEED=1
	.venv/bin/python bench/chaos.py --kills $(or $(KILLS),100) --seed $(or $(SEED),0)

.PHONY: soak
soak: install ## mixed load for two hours, into docs/guarantees.md; shorter: make soak MINUTES=20
	.venv/bin/python bench/soak.py --minutes $(or $(MINUTES),120)

.PHONY: lint
lint: install ## ruff, mypy, sqlfluff; secrets in what is committed
	$(IN_VENV) ruff check
	$(IN_VENV) ruff format --check
	$(IN_VENV) mypy
	$(IN_VENV) sqlfluff lint --disable-progress-bar sql
	git ls-files -z | xargs -0 $(IN_VENV) detect_secrets.pre_commit_hook --baseline .secrets.baseline

.PHONY: docs
docs: install ## the generated pages of docs/, from the code
	.venv/bin/python docs/generate.py

.PHONY: screenshots
screenshots: has-browser install ## pictures of the app's pages, of the demo's lake or of another: make screenshots LAKE=data
	.venv/bin/python docs/screenshots.py $(if $(LAKE),--lake $(LAKE))

.PHONY: viewer-library
viewer-library: ## OpenSeadragon for the viewer, by npm, checked against viewer/component/vendor.toml
	$(PYTHON) viewer/component/vendor.py

.PHONY: lock
lock: ## requirements.lock, and deploy's for the image, anew from pyproject.toml; newer versions too: make lock UPGRADE=--upgrade
	@test -n "$(UV)" || { echo "make lock needs uv: $(PYTHON) -m pip install uv" >&2; exit 1; }
	$(UV) pip compile pyproject.toml --group dev $(EXTRAS) --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --no-emit-find-links --quiet $(UPGRADE) --output-file requirements.lock
	printf 'setuptools>=77\nray[default]>=2.50,<3\n' | $(UV) pip compile pyproject.toml - $(EXTRAS) \
		--constraint requirements.lock --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --quiet --output-file deploy/requirements.lock

.PHONY: licences
licences: install ## licences of all dependencies, checked against deploy/licences.toml, into docs/licences.md
	.venv/bin/python deploy/licences.py

.PHONY: sbom
sbom: install ## a CycloneDX bill of materials: dist/histolake.cdx.json, or make sbom OUT=FILE
	PYTHONPATH=. .venv/bin/python deploy/sbom.py $(OUT)

.PHONY: clean
clean: ## remove .venv, caches and the demo's lake
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info build demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/pyvenv.cfg:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "histolake needs Python 3.11 or newer; on Debian: $(APT)" >&2; exit 1; }
ifneq ($(UV),)
	$(UV) venv --quiet --seed --allow-existing --python "$$(command -v $(PYTHON))" .venv
else
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make a virtual environment; on Debian: $(APT)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
endif

.venv/.locked: requirements.lock | .venv/pyvenv.cfg
	@echo "Installing what requirements.lock names; seconds with uv, minutes with pip"
	$(INSTALL) --require-hashes -r requirements.lock
	@touch $@

.venv/.installed: pyproject.toml .venv/.locked
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# A store that histolake must refuse, for a test, which skips where npm cannot install it.
.venv/.s3rver/.installed: | .venv/.locked
	@mkdir -p $(@D)
	@if npm install --silent --no-fund --no-audit --prefix $(@D) s3rver@3.7.1; then touch $@; \
		else echo "s3rver was not installed: a test of object storage is left out" >&2; fi

# PyTorch, for the deep head and as the reference of the encoders' tests, comes as pip finds it: its file differs from
# machine to machine.
.venv/.torch: | .venv/.locked
	@echo "Installing PyTorch for the tests; with CUDA, as it comes for most Linux machines, this is some gigabytes"
	$(IN_VENV) pip install -qq --disable-pip-version-check --no-compile torch==2.13.0
	@touch $@

# What the benchmarks compare with. Not locked: nothing of histolake needs it.
.venv/.peers: | .venv/.locked
	@echo "Installing the peers that benchmarks compare with"
	$(IN_VENV) pip install -qq --disable-pip-version-check --no-compile tiffslide fastslide ratiopath
	@touch $@

.PHONY: has-browser
has-browser:
	@test -n "$(BROWSER)" || { echo "The app's tests need Chromium; on Debian: $(APT)" >&2; exit 1; }
