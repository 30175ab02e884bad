#!/usr/bin/env bash
# All of `cifar10` on a GPU, in calls of limited length: the classifier, the model, the checks. Run it again until it says "all done".
#
#   training/run_cifar10.sh DATA [MINUTES OF THIS CALL] [MINUTES OF TRAINING IN ALL] [FOLDER]
#
# DATA is cifar10_jpeg.npz or torchvision's folder. Nothing needs to be installed but torch, diffusers, scipy and pillow.
# QUICK=1 is a dry run on the CPU: tiny sizes, to see that everything fits together.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=${1:?the data: cifar10_jpeg.npz, or a folder with cifar-10-batches-py}
call=${2:-60} all=${3:-25} folder=${4:-runs/cifar10}
python=${PYTHON:-python3}
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
device=cuda classifier=() model=() checks=(--model "$folder/model")
if [[ ${QUICK:-} ]]; then
    device=cpu classifier=(--limit 24 --epochs 1 --batch 12) model=(--limit 24 --width 8 --batch 4) checks+=(--quick)
fi
mkdir -p "$folder"

# Minutes that are left of this call, less one: what is loaded and compiled is not interrupted, and files are written at the end.
left() { awk "BEGIN { m = $call - 1 - $SECONDS / 60; print (m > 0 ? m : 0) }"; }
again() { echo "time is up, the same command goes on"; exit 0; }
# Whether so many minutes are left; a dry run does not wait.
enough() { [[ ${QUICK:-} ]] || awk "BEGIN { exit !($(left) >= $1) }"; }

if [[ ! -e $folder/classifier/cifar10-features.safetensors ]]; then
    "$python" training/cifar10_classifier.py --data "$data" --out "$folder/classifier" --device "$device" \
        --stop-after "$(left)" "${classifier[@]}"
    [[ -e $folder/classifier/cifar10-features.safetensors ]] || again
fi

if [[ ! -e $folder/trained ]]; then
    enough 1 || again
    "$python" training/cifar10.py --data "$data" --run "$folder" --minutes "$all" --device "$device" \
        --stop-after "$(left)" "${model[@]}" | tee "$folder/log.txt"
    tail -n 1 "$folder/log.txt" | grep -q '^done' || again
    touch "$folder/trained"
fi

if [[ ! -e $folder/checked ]]; then
    enough 3 || again
    "$python" -m benchmarks.gpu --device "$device" --json "$folder/gpu.json" "${checks[@]}"
    touch "$folder/checked"
fi
echo "all done: $folder/model, $folder/classifier, $folder/gpu.json"
