# Every target carries "## text"; `make help` prints them.
PYTHON ?= python3
MODEL ?= resnet50
MODELS ?= resnet18,resnet50,resnet101
VENV := .venv
# Types of TensorRT for `make check`. Not in the virtual environment itself: they need all of TensorRT by their metadata, and the
# folder tensorrt/ can be imported. Some lines of them are no Python.
STUBS := $(VENV)/stubs
RUN := $(VENV)/bin/python -m pipeline
# NPROC=2: so many processes on this machine (docs/training.md); LAUNCH=local:2 or slurm:…: jobs (docs/cluster.md)
RANKS = $(VENV)/bin/python $(if $(filter-out 1,$(NPROC)),-m pipeline.torchrun --standalone --nproc-per-node $(NPROC)) -m pipeline
PYTEST := $(VENV)/bin/python -m pytest -q -n logical --dist worksteal --durations=25
flag = $(if $($(1)),--$(2) "$($(1))")

.PHONY: help compress compare measure train report doctor quick test test-arm64 check bench bench-engines bench-pruning \
  bench-peers bench-papers bench-grid bench-training bench-latency bench-placements \
  bench-gpu bench-loading bench-recovery bench-index bench-store ablate

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/.ready: pyproject.toml constraints.txt
	@[ "$$(uname -sm)" != "Darwin x86_64" ] || { echo "error: torch has no packages for a Mac with an Intel processor;" \
	  "expected a Mac with Apple silicon, or Linux" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -c constraints.txt -e '.[tensorrt-rtx,openvino,cluster]'
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(VENV)/bin/pip install -q -c constraints.txt -e '.[tensorrt-rtx,openvino,cluster,dev]'
	$(VENV)/bin/pip install -q -c constraints.txt --no-deps --upgrade --target $(STUBS) tensorrt-stubs
	sed -i.original -e 's/ in: list/ in_: list/' -e '/def add_scale_nd/s/axis: int)/axis: int = ...)/' $(STUBS)/tensorrt_bindings/tensorrt.pyi
	touch $@

$(VENV)/.ready-bench: $(VENV)/.ready
	$(VENV)/bin/pip install -q -c constraints.txt -e '.[tensorrt-rtx,openvino,cluster,bench]'
	touch $@

compress: $(VENV)/.ready ## MODEL=… [CHECKPOINT= DATA= TARGETS= MAX_DROP= GATE= STRICT=1 BUDGET= SWEEP= MINUTES= RECIPE= DEVICES= OUT= NPROC= LAUNCH= ARGS=]: press, measure, gate
	@$(RANKS) compress $(MODEL) $(call flag,CHECKPOINT,checkpoint) $(call flag,DATA,data) $(call flag,TARGETS,targets) \
	  $(call flag,MAX_DROP,max-drop) $(call flag,GATE,gate) $(if $(filter-out 0,$(STRICT)),--strict) $(call flag,BUDGET,budget) \
	  $(call flag,SWEEP,sweep) $(call flag,MINUTES,minutes) $(call flag,RECIPE,recipe) $(call flag,DEVICES,devices) \
	  $(call flag,OUT,out) $(call flag,LAUNCH,launch) $(ARGS)

compare: $(VENV)/.ready ## MODELS=resnet18,resnet50=FILE,… [DATA= TARGETS= BUDGET= SWEEP= MINUTES= MAX_DROP= GATE= STRICT=1 OUT= NPROC= LAUNCH= ARGS=]: press all; which one to take
	@$(RANKS) compare "$(MODELS)" $(call flag,DATA,data) $(call flag,TARGETS,targets) $(call flag,MAX_DROP,max-drop) \
	  $(call flag,GATE,gate) $(if $(filter-out 0,$(STRICT)),--strict) $(call flag,BUDGET,budget) $(call flag,SWEEP,sweep) \
	  $(call flag,MINUTES,minutes) $(call flag,OUT,out) $(call flag,LAUNCH,launch) $(ARGS)

train: $(VENV)/.ready ## MODEL=… [CHECKPOINT= DATA= OUT= NPROC= ARGS=]: only the FP32 baseline; from a CHECKPOINT, a new head for DATA
	@$(RANKS) train $(MODEL) $(call flag,CHECKPOINT,checkpoint) $(call flag,DATA,data) $(call flag,RECIPE,recipe) $(call flag,OUT,out) $(ARGS)

measure: $(VENV)/.ready ## OUT=… DEVICE=… [ARGS=]: accuracy and latency of what ships, on a device over ssh (docs/devices.md)
	@$(RUN) measure "$(OUT)" "$(DEVICE)" $(ARGS)

report: $(VENV)/.ready ## OUT=… [AGAINST=…]: render again from what is on disk; judge it against an earlier run
	@$(RUN) report "$(OUT)" $(call flag,AGAINST,against)

doctor: $(VENV)/.ready ## which targets work here, and why the others do not
	@$(RUN) doctor

# A process per core, each with one thread: most tests are too small for several threads.
quick test: export OMP_NUM_THREADS = 1

quick: $(VENV)/.ready-dev ## the fast tests, for the edit loop
	$(PYTEST) -m "not slow"

test: $(VENV)/.ready-dev ## all tests
	$(PYTEST)

test-arm64: $(VENV)/.ready-dev ## bundles on ARM64 and AVX2, emulated by QEMU (Debian: apt-get install qemu-user-static); fetches Debian's arm64 packages
	$(VENV)/bin/python -m benchmarks.emulated
	EMULATED=1 $(VENV)/bin/python -m pytest -q tests/emulated

bench: bench-engines bench-pruning bench-peers bench-training ## the shorter benchmarks, into benchmarks/RESULTS.md

bench-engines: $(VENV)/.ready-bench ## [MODELS=resnet18,… or resnet50=FILE ARGS=]: INT8 by respress and by the runtimes' own tools, side by side
	$(VENV)/bin/python -m benchmarks.engines "$(MODELS)" $(ARGS)

bench-pruning: $(VENV)/.ready ## [MODEL= CHECKPOINT= RATIOS=0.5,… EPOCHS= SEEDS=0,1,2 PEERS=l2,taylor ARGS=]: our students and torch-pruning's, at equal MACs
	$(VENV)/bin/python -m benchmarks.pruning --model $(MODEL) $(call flag,CHECKPOINT,checkpoint) $(call flag,RATIOS,ratios) \
	  $(call flag,EPOCHS,epochs) $(call flag,SEEDS,seeds) $(call flag,PEERS,peers) $(ARGS)

bench-peers: $(VENV)/.ready-bench ## [MODELS=resnet18,… or resnet101=FILE ARGS=]: the whole way to an engine, by respress and by other tools
	$(VENV)/bin/python -m benchmarks.whole "$(MODELS)" $(ARGS)

bench-papers: $(VENV)/.ready ## CHECKPOINTS=resnet20=FILE,resnet56=FILE [DATA=cifar10 MINUTES= SEEDS=0,1,2 LAUNCH= ARGS=]: drop after few epochs, and published ones
	$(VENV)/bin/python -m benchmarks.papers --checkpoint "$(CHECKPOINTS)" $(call flag,DATA,data) $(call flag,MINUTES,minutes) \
	  $(call flag,SEEDS,seeds) $(call flag,LAUNCH,launch) $(ARGS)

bench-recovery: $(VENV)/.ready ## CHECKPOINTS=resnet20=FILE,… [DATA=cifar10 SEEDS=0,1,2 JOBS=1 MINUTES= ARGS=]: losses and rates that train a pruned network, at equal epochs
	$(VENV)/bin/python -m benchmarks.recovery --checkpoint "$(CHECKPOINTS)" $(call flag,DATA,data) $(call flag,SEEDS,seeds) \
	  $(call flag,JOBS,jobs) $(call flag,MINUTES,minutes) $(ARGS)

bench-grid: MODEL = resnet20
bench-grid: $(VENV)/.ready ## CHECKPOINT=FILE [MODEL=resnet20 DATA=cifar10 RATIOS=0.2,… MINUTES= ARGS=]: the engine of the search, and a grid of fixed ratios
	$(VENV)/bin/python -m benchmarks.grid --model $(MODEL) $(call flag,CHECKPOINT,checkpoint) $(call flag,DATA,data) \
	  $(call flag,RATIOS,ratios) $(call flag,MINUTES,minutes) $(ARGS)

bench-training: MODEL = resnet56
bench-training: $(VENV)/.ready ## [MODEL=resnet56 RATIO= ARGS=]: images per second of our training and of a bare PyTorch loop
	$(VENV)/bin/python -m benchmarks.training --model $(MODEL) $(call flag,RATIO,ratio) $(ARGS)

bench-gpu: $(VENV)/.ready ## what a GPU gets right, and images per second of our training and of a bare PyTorch loop there
	$(VENV)/bin/python -m benchmarks.gpu
	$(VENV)/bin/python -m benchmarks.training --model resnet20 --steps 200 --epochs 10
	$(VENV)/bin/python -m benchmarks.training --model resnet18 --batch 512 --steps 100 --epochs 2
	$(VENV)/bin/python -m benchmarks.training --model resnet50 --side 224 --batch 256 --steps 16 --epochs 3

bench-loading: $(VENV)/.ready ## [ARGS=]: images per second of the loader for a folder of JPEGs, and of Pillow's decoding alone
	$(VENV)/bin/python -m benchmarks.loading $(ARGS)

bench-latency: $(VENV)/.ready ## OUT=… [TARGET=onnxruntime RUNS=20 ARGS=]: does a latency of the run in OUT repeat on this machine?
	$(VENV)/bin/python -m benchmarks.latency "$(OUT)" $(call flag,TARGET,target) $(call flag,RUNS,runs) $(ARGS)

bench-placements: MODEL = resnet20
bench-placements: $(VENV)/.ready ## CHECKPOINT=FILE [MODEL=resnet20 DATA=cifar10 ARGS=]: INT8 files for three kinds of CPUs, each on each (two are emulated)
	$(VENV)/bin/python -m benchmarks.emulated
	$(VENV)/bin/python -m benchmarks.placements --checkpoint "$(CHECKPOINT)" $(call flag,DATA,data) $(ARGS) $(MODEL)

ablate: $(VENV)/.ready ## [LAYERS=20,56 SHORTCUTS=plain,A,B EPOCHS= SEEDS=0 JOBS=1 DATA=cifar10 OUT= ARGS=]: plain against residual networks, option A against B
	$(VENV)/bin/python -m benchmarks.ablate $(call flag,LAYERS,layers) $(call flag,SHORTCUTS,shortcuts) $(call flag,SEEDS,seeds) \
	  $(call flag,DATA,data) $(call flag,JOBS,jobs) $(call flag,OUT,out) $(if $(EPOCHS),--set "ablate.epochs=$(EPOCHS)") $(ARGS)

bench-index: $(VENV)/.ready ## [FILES=1000000 ARGS=]: minutes and memory of indexing a simulated tree of files (4 GB in the temporary folder)
	$(VENV)/bin/python -m benchmarks.index $(call flag,FILES,files) $(ARGS)

bench-store: $(VENV)/.ready ## [ARGS=]: 8 processes use one store of stages for 2 minutes, and are killed and stopped; is all of it whole?
	$(VENV)/bin/python -m benchmarks.store $(ARGS)

check: $(VENV)/.ready-dev ## lint, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy core data models compress calibration export measure reports pipeline benchmarks respress.py
