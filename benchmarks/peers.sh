#!/bin/sh
# The environments of the libraries that neurodyn is measured beside, in FOLDER (default .peers):
#
#   FOLDER/torch        neurodyn and the torch libraries, which run in one process, alternating
#   FOLDER/brainstate   brainstate 0.1.3; it runs as a process that the benchmarks talk to
#   FOLDER/brian2       Brian2
#   FOLDER/nest         NEST, for the microcircuit
#
# Then: FOLDER/torch/bin/python -m benchmarks --peers FOLDER
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$here/.peers}
python=${PYTHON:-python3}

$python -m venv "$folder/torch"
pip="$folder/torch/bin/python -m pip install --quiet"
$pip torch==2.13.0
$pip -e "$here" snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3
$pip --no-deps torch==2.13.0  # whatever a peer brought in its place

$python -m venv "$folder/brainstate"
pip="$folder/brainstate/bin/python -m pip install --quiet"
$pip brainstate==0.1.3 jax==0.6.0 jaxlib==0.6.0 numba
$pip --no-deps brainunit==0.1.0 saiunit==0.1.0 brainevent==0.0.1.post20250422  # of the time of brainstate 0.1.3

$python -m venv "$folder/brian2"
"$folder/brian2/bin/python" -m pip install --quiet brian2 "numpy<2.3" "setuptools<80"

$python -m venv "$folder/nest"
"$folder/nest/bin/python" -m pip install --quiet nest-simulator==3.10.0
