# make demo    set up, search a demo texture for a few minutes, score it, say where the pictures are
# make test    set up and run every test
# make check   lint, format, types and import contracts; changes nothing
# make fix     format, and mend what the linter can mend
# make docs    write docs/cli.md from the help of each command
# make setup   only the environment, in .venv; `make setup LOCK=` without hashes
# make lock    write requirements.lock, the hashes of what constraints.txt pins, and the part of it
#              that the container installs
# make dist    build the sdist and the wheel, in dist
# make starters  make the detectors that are part of the package again, in zoo/starters
# make pretrained  train the weights that a segmenter starts from again, on two cores; an hour
# make sbom    write sbom.cdx.json, a CycloneDX list of what is installed
# make audit   check requirements.lock against what the registry offers, and for known weaknesses
# make clean   remove what the above leave behind

# The first of these that runs and is of a version we support; or say `make PYTHON=... setup`.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)

BIN := .venv/bin
SETUP := .venv/.installed
LOCK := requirements.lock

.PHONY: setup lock dist starters pretrained sbom audit demo test check fix docs clean
.DELETE_ON_ERROR:

setup: $(SETUP)

# All but torch is installed by hashes, without asking for what it needs in turn. torch has builds of
# its own for each kind of machine, so it comes alone: a CPU build that is configured locally then
# meets the pin before anything else can ask the index for its large CUDA build. pip unpacks one
# package after the other, so two of them take half of the lock each. It would compile one file after
# the other; a package may have a file of another Python, which is no harm, and tests of packages are
# compiled if ever they are imported.
PIP := $(BIN)/python -m pip install --quiet --no-compile
$(SETUP): pyproject.toml constraints.txt $(LOCK)
	@rm -f $@
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed, and none was found." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	test -z "$(LOCK)" || awk '/^[^ ]/ { half = !half } { print > (".venv/half-" half) }' $(LOCK)
	test -z "$(LOCK)" || printf '%s\n' .venv/half-0 .venv/half-1 | \
		xargs -n 1 -P 2 $(PIP) --require-hashes --no-deps -r
	$(PIP) -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(PIP) -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|testing)/' .venv/lib || true
	@touch $@

# Without markers of platforms: a lock for Linux, macOS and both versions of Python.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet 'uv>=0.9,<1'
	build/lock/bin/uv pip compile --quiet --no-deps --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --no-emit-package torch \
		--output-file requirements.lock constraints.txt
	$(MAKE) setup
	$(BIN)/python docs/make_image_lock.py

# What setuptools left of an older build would be in the wheel.
dist: $(SETUP)
	rm -rf dist build/lib build/bdist.*
	$(PYTHON) -m venv build/dist
	build/dist/bin/python -m pip install --quiet -c constraints.txt 'build>=1.2,<2' setuptools
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} \
		build/dist/bin/python -m build --no-isolation --outdir dist

# The same bytes on the same machine: one thread, fixed seeds, and no figure that is a time. A
# detector that is the champion already changes nothing.
starters: $(SETUP)
	OMP_NUM_THREADS=1 ZOO_HOME=build/starters $(BIN)/python docs/make_starters.py

# The same bytes on the same machine.
pretrained: $(SETUP)
	OMP_NUM_THREADS=1 $(BIN)/python -m docs.make_pretrained

sbom: $(SETUP)
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/python -m pip install --quiet -c constraints.txt 'cyclonedx-bom>=7,<8'
	build/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--of JSON -o sbom.cdx.json $(BIN)/python

# In an environment of its own: pip-audit brings packages that nothing else needs. Its database is
# that of the registry; a mirror may not have it, which is said.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet 'pip-audit>=2.7,<3'
	build/audit/bin/python docs/audit_lock.py $(LOCK)

demo: $(SETUP)
	$(BIN)/zoo demo --out demo-data --texture brick
	$(BIN)/zoo search --category brick --data demo-data --time-budget 6m
	$(BIN)/zoo score brick demo-data/brick/test/*/*.png --out demo-maps
	@echo "The detector 'brick' is in $${ZOO_HOME:-zoo-home}. The pictures are in $(CURDIR)/demo-maps."

# Tests that start a Ray use all cores and wait much, so they run alone and one after the other; the
# others have a worker for each core. One thread each: torch and OpenBLAS would wait for each other.
# Bytecode is kept whatever the environment says: some hundred processes would compile all again.
test: export OMP_NUM_THREADS = 1
test: export PYTHONDONTWRITEBYTECODE =
test: $(SETUP)
	$(BIN)/python -m pytest -m "not cluster" -n auto --dist loadfile
	$(BIN)/python -m pytest -m cluster

check: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto
	$(BIN)/lint-imports

fix: $(SETUP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(SETUP)
	$(BIN)/python docs/make_cli.py > docs/cli.md

clean:
	rm -rf .venv build dist demo-data demo-maps zoo-home *.egg-info sbom.cdx.json
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
