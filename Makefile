# `make demo` runs the main job, `make test` the tests; both set up .venv first. CONTRIBUTING.md says which does what.
PYTHON ?= python3.11
VENV = .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: demo test test-fast test-faults test-k8s cluster images check format install hooks protos docs-tables docs-samples lock clean

install: $(STAMP)
	@echo "Installed. Next: . $(BIN)/activate, then flow-images --help; or make demo"

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[all]' --group dev
	@touch $@

# make demo LABELS=labels.csv IMAGES=train/ HUB_MODEL=URL-or-folder EPOCHS=15
demo: $(STAMP)
	@$(BIN)/flow-images demo $(if $(LABELS),--labels '$(LABELS)') $(if $(IMAGES),--images '$(IMAGES)') \
	  $(if $(HUB_MODEL),--hub-model '$(HUB_MODEL)') $(if $(EPOCHS),--epochs $(EPOCHS))

# Two at once, a file each: many tests wait for a process, not for a CPU.
test: check
	$(BIN)/pytest -n 2 --dist loadfile -m "not k8s"

# The tests that start no server and train no model: a minute and a half on two idle cores.
test-fast: $(STAMP)
	$(BIN)/pytest --fast -n 2 --dist loadfile

# Formatter, linter and types, as CI runs them.
check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-faults: $(STAMP)
	$(BIN)/pytest -m faults

# Builds a real control plane and a real node from package registries (once, as root), and runs the tests on them.
test-k8s: $(STAMP)
	tests/k8s/run.sh

# The tests' own cluster of one real node, for trying things by hand (as root), until Ctrl-C.
cluster: $(STAMP)
	@tests/k8s/cluster/by_hand.sh

# make images REGISTRY=registry.example/team PUSH=1 EXTRAS=gcs TAG=1.2.3 ENGINE=podman BASE=python:3.11-slim-bookworm
#   IMAGES='predict server' BUILD_ARGS='--network=host': docs/kubernetes.md, "Images". It needs no installation.
images:
	@$(PYTHON) -m k8s.images.build $(IMAGES) $(if $(REGISTRY),--registry '$(REGISTRY)') \
	  $(if $(filter-out 0 no,$(PUSH)),--push) $(if $(EXTRAS),--extras '$(EXTRAS)') $(if $(TAG),--tag '$(TAG)') \
	  $(if $(ENGINE),--engine '$(ENGINE)') $(if $(BASE),--base '$(BASE)') $(if $(BUILD_ARGS),-- $(BUILD_ARGS))

# Runs the formatter, the linter and the type checker before each commit.
hooks: $(STAMP)
	$(BIN)/pre-commit install

protos: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. serving/network/protos/prediction.proto

# The tables of docs/flags.md, from the commands themselves.
docs-tables: $(STAMP)
	PYTHONPATH=. $(BIN)/python docs/flag_tables.py

# What the commands in README and docs print, from a training on drawn images.
docs-samples: $(STAMP)
	PYTHONPATH=. $(BIN)/python docs/sample_output.py

lock: $(STAMP)
	$(BIN)/uv pip compile pyproject.toml --extra all --group dev --python-version 3.11 --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links --upgrade -o constraints.txt

clean:
	rm -rf $(VENV) demo build dist *.egg-info
