#!/bin/sh
# Data of the walker's mini model: run, walk, stand a fifth each, exploration two fifths, 120,000 frames in all.
# Two processes, one a core; about 20 minutes on two free cores. Run again after an interruption, it goes on.
#
#   recipes/walker_data.sh DIRECTORY [FRAMES]
set -eu

data=${1:?usage: recipes/walker_data.sh DIRECTORY [FRAMES]}
frames=${2:-120000}
fifth=$((frames / 5))
export OMP_NUM_THREADS=1
mkdir -p "$data"

collect() { # STORE STEPS OPTIONS...
    store=$1
    steps=$2
    shift 2
    genrl collect --out "$data/$store" --domain walker --steps "$steps" --look fast --workers 1 "$@"
}

# Experts learn from everything that is there, relabelled with their own reward; walking first, it is the easiest start.
(
    collect exploration $((2 * fifth)) --agent exploration --seed 1
    collect stand "$fifth" --agent expert --task walker_stand --seed 4 --pool "$data/exploration" "$data/walk"
) &
other=$!
trap 'kill "$other" 2>/dev/null || true' EXIT
while [ ! -d "$data/exploration.run" ] && kill -0 "$other" 2>/dev/null; do sleep 1; done
collect walk "$fifth" --agent expert --task walker_walk --seed 2 --pool "$data/exploration"
collect run "$fifth" --agent expert --task walker_run --seed 3 --pool "$data/exploration" "$data/walk"
wait "$other"
trap - EXIT
