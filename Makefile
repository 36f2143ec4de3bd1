# make demo · test · page_test · check · lowest · bench · bundles · wheel · weights · docs · monai_label · clean.   Needs Python >= 3.10 and make; everything else goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BUNDLE ?= lesion_unet
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Small tensors: more threads than that only get in each other's way.
TEST_THREADS ?= 1
TEST_WORKERS ?= 2

.PHONY: page_test demo test check lowest bench bundles wheel weights docs monai_label clean

demo: $(VENV)/.runtime
	$(BIN)/python -m monai_ext demo --bundle bundles/$(BUNDLE) --output_dir demo/$(BUNDLE)

test: check
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -n $(TEST_WORKERS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A part of the tests with the lowest versions that setup.cfg allows, in an environment of their own. They need Python 3.10
# or 3.11 (PYTHON=python3.10); TORCH=2.13.0 takes that torch instead of the lowest.
LOWEST_TESTS ?= tests/storage tests/raster tests/formulas tests/metrics tests/losses tests/networks \
	tests/commands/test_command_line.py tests/commands/test_plotting.py tests/commands/bundles

lowest: $(VENV)-lowest/.done
	OMP_NUM_THREADS=$(TEST_THREADS) $(VENV)-lowest/bin/python -m pytest -q -n $(TEST_WORKERS) $(LOWEST_TESTS)

$(VENV)-lowest/.done: setup.cfg setup.py
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet setuptools
	$(VENV)-lowest/bin/python setup.py lowest_versions | sed '$(if $(TORCH),s/^torch==.*/torch==$(TORCH)/)' > $(VENV)-lowest/versions.txt
	$(VENV)-lowest/bin/python -m pip install --quiet -c $(VENV)-lowest/versions.txt \
		--extra-index-url https://download.pytorch.org/whl/cpu pytest pytest-timeout pytest-xdist -e .
	@touch $@

$(VENV)/.runtime: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(PIP) -e ".[test]"
	@touch $@

bench: $(VENV)/.runtime
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) --output benchmarks/results.json --fill benchmarks/README.md

# Every bundle as a zip with card, licence and weights: dist/NAME.zip, dist/NAME-huggingface.zip, dist/SHA256SUMS.
bundles: $(VENV)/.runtime
	$(BIN)/python bundles/frame.py
	$(BIN)/python -m monai_ext pack $(patsubst %/LICENSE,%,$(wildcard bundles/*/LICENSE)) --output_dir dist
	$(BIN)/python -m monai_ext pack $(patsubst %/LICENSE,%,$(wildcard bundles/*/LICENSE)) --output_dir dist --hugging_face

# The package with all bundles: dist/monai_ext-VERSION-py3-none-any.whl.
wheel: $(VENV)/.runtime
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# The weights that a bundle ships, made again from public data in DATA: made/BUNDLE. DRY_RUN=1 prints the commands.
weights: $(VENV)/.runtime
	$(BIN)/python -m weights $(BUNDLE) --data_dir $(or $(DATA),data) $(if $(DRY_RUN),--dry_run)

# The pages of README, cards and docstrings: site/index.html.
docs: $(VENV)/.docs
	$(BIN)/mkdocs build --quiet

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP) -e ".[docs]"
	@touch $@

# The page that segments in the browser, in Chromium: needs npm, which fetches ONNX Runtime for the browser (33 MB).
page_test: $(VENV)/.test
	npm install --silent --no-save --prefix $(VENV)/npm onnxruntime-web@1.30.0
	ONNXRUNTIME_WEB=$(VENV)/npm/node_modules/onnxruntime-web OMP_NUM_THREADS=$(TEST_THREADS) \
		$(BIN)/python -m pytest -q tests/commands/exporting/test_page.py

# A MONAI Label server with each segmentation bundle, in an environment of its own (torchvision: several GB).
monai_label: $(VENV)-monai-label/.done
	PYTHONPATH=. OMP_NUM_THREADS=$(TEST_THREADS) $(VENV)-monai-label/bin/python tests/clients/monai_label.py

$(VENV)-monai-label/.done: setup.cfg
	$(PYTHON) -m venv $(VENV)-monai-label
	$(VENV)-monai-label/bin/python -m pip install --quiet torch==2.14.1 torchvision==0.29.1 monailabel==0.8.5 \
		"pydicom<3" "dicomweb-client<0.60" "pynetdicom<3" .
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-monai-label $(VENV)-lowest demo dist site
