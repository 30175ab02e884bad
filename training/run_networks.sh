#!/bin/sh
# Train the small networks that samplers are judged on, two at a time with one thread each, at the lowest priority:
#
#     training/run_networks.sh mnist.npz [MINUTES of each of digits, 21 by default] [FOLDER of the runs, runs by default]
#
# digits-edm and digits-cosine-v start from the weights of digits-flow and digits-cosine. Stopped or killed, the same command resumes
# every run from its last checkpoint. Logs are in FOLDER/NAME.log, the models in FOLDER/NAME/model. PYTHON names the interpreter.
set -eu
data=$1
minutes=${2:-21}
runs=${3:-runs}
mkdir -p "$runs"
here=$(dirname "$0")
PYTHONPATH="$(cd "$here/.." && pwd)/src"
export PYTHONPATH OMP_NUM_THREADS=1

python() {
    script=$1
    name=$2
    shift 2
    nice -n 19 "${PYTHON:-python}" "$here/$script" "$name" --run "$runs/$name" --threads 1 "$@" >> "$runs/$name.log" 2>&1
}

digits() {
    python small.py "$@" --data "$data" --minutes "$minutes"
}

# One lane; the other runs beside it.
{ digits digits-flow && digits digits-edm --init "$runs/digits-flow/model"; } &
beside=$!
for name in moons-linear moons-edm moons-flow; do python moons.py "$name" --minutes 1.5; done
digits digits-cosine && digits digits-cosine-v --init "$runs/digits-cosine/model"
wait "$beside"
echo "all done"
