#!/bin/sh
# The mini VLM of the package, from the stores that recipes/walker_data.sh made.
# Half an hour on one free core, half of it drawing clips. Run again after an interruption, it goes on.
#
#   recipes/mini_vlm.sh RUN_DIRECTORY DATA_DIRECTORY
#
# The token vectors of the text tower are made once, by recipes/token_vectors.py; they are in the package.
set -eu

run=${1:?usage: recipes/mini_vlm.sh RUN_DIRECTORY DATA_DIRECTORY}
data=${2:?usage: recipes/mini_vlm.sh RUN_DIRECTORY DATA_DIRECTORY}
weights=$(dirname "$0")/../src/genrl/assets/mini_vlm/weights
export OMP_NUM_THREADS=1

genrl train-vlm --out "$run" --domain walker --updates 1500 \
    --data "$data/exploration" "$data/stand" "$data/walk" "$data/run"
rm -rf "$weights"
cp -r "$run/model" "$weights"
cp "$run/report.json" "$(dirname "$0")/../docs/mini_vlm_retrieval.json"
python "$(dirname "$0")/model_cards.py"
