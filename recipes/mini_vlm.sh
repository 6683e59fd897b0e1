#!/bin/sh
# The mini VLM of the package: first the walker, with the stores of recipes/walker_data.sh, then three more bodies, while what
# it says of the walker stays, then its text tower anew, over the video tower of the second step, from more clips and by what
# practice showed. The first step takes half an hour on one free core, the second and the third about an hour each, most of it
# drawing clips. Run again after an interruption, it goes on.
#
#   recipes/mini_vlm.sh RUN_DIRECTORY WALKER_DATA STICKMAN_DATA
#
# The token vectors of the text tower are made once, by recipes/token_vectors.py; they are in the package.
set -eu

usage="usage: recipes/mini_vlm.sh RUN_DIRECTORY WALKER_DATA STICKMAN_DATA"
run=${1:?$usage}
walker=${2:?$usage}
stickman=${3:?$usage}
here=$(dirname "$0")
weights=$here/../src/genrl/assets/mini_vlm/weights
walker_stores="$walker/exploration $walker/stand $walker/walk $walker/run"
stickman_stores="$stickman/exploration $stickman/stand $stickman/walk $stickman/run"

# shellcheck disable=SC2086
genrl train-vlm --out "$run/walker" --domains walker --updates 1500 --workers 2 --data $walker_stores
# shellcheck disable=SC2086
genrl train-vlm --out "$run/bodies" --domains walker stickman cheetah quadruped --start "$run/walker/model" \
    --updates 1000 --clips 3072 --test-clips 512 --store-clips 4000 --workers 2 --data $walker_stores $stickman_stores
for episodes in walker_trajectories walker_practice stickman_trajectories stickman_practice; do
    genrl data draw "$here/$episodes.npz" --out "$run/data/$episodes"
done
genrl train-vlm --out "$run/texts" --domains walker stickman cheetah quadruped --video-tower "$run/bodies/model" \
    --updates 2500 --clips 8000 --test-clips 512 --store-clips 36000 --learning.neighbours 64 --model.text-dropout 0.3 --workers 2 \
    --data "$run"/data/*
rm -rf "$weights"
cp -r "$run/texts/model" "$weights"
cp "$run/texts/report.json" "$here/../docs/mini_vlm_retrieval.json"
python "$here/model_cards.py"
