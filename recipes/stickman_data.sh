#!/bin/sh
# Data of the stickman's mini model, made as the walker's are (recipes/walker_data.sh): exploration, experts of walk, run and
# stand from clumsy to skilled, a standing one that is pushed, held actions, and experts fitted anew to everything, twice. Two
# processes, one a core, 50 minutes; the last three on one core, 55 minutes, all beside other work. Run again after an interruption, it goes on.
#
#   recipes/stickman_data.sh DIRECTORY [STEPS]
set -eu

data=${1:?usage: recipes/stickman_data.sh DIRECTORY [STEPS]}
steps=${2:-120000}
fifth=$((steps / 5))
export OMP_NUM_THREADS=1
mkdir -p "$data"

collect() { # STORE STEPS OPTIONS...
    store=$1
    steps_of_store=$2
    shift 2
    genrl collect --out "$data/$store" --domain stickman --steps "$steps_of_store" --look fast --workers 1 "$@"
}

# Episodes are cut at half their length: more falls and recoveries in as many frames.
pooled="--expert.updates-per-step 1.0 --expert.td3.batch-size 128 --episode-steps 250"
pushed="--expert.prepare-updates 6000 --expert.updates-per-step 0.5 --expert.noise 0.2 0.35 0.5 0.7 --expert.noise-steps 3 25"
refit="--expert.prepare-updates 15000 --expert.updates-per-step 1.0 --expert.noise 0.02 0.05 0.1 0.2 0.35 --episode-steps 250"
(
    collect exploration $((3 * fifth / 2)) --agent exploration --seed 1 --episode-steps 250
    # shellcheck disable=SC2086
    collect stand "$fifth" --agent expert --task stickman_stand --seed 4 $pooled --pool "$data/exploration" "$data/walk"
    collect held $((steps / 15)) --agent held --seed 15 --episode-steps 250
    collect exploration_pooled $((fifth / 2)) --agent exploration --seed 5 --episode-steps 250 \
        --exploration.expert.prepare-updates 4000 --exploration.expert.updates-per-step 1 \
        --pool "$data/exploration" "$data/walk" "$data/stand"
    # shellcheck disable=SC2086
    collect stand_pushed $((steps / 10)) --agent expert --task stickman_stand --seed 16 $pushed \
        --pool "$data/exploration" "$data/walk" "$data/stand"
) &
other=$!
trap 'kill "$other" 2>/dev/null || true' EXIT
while [ ! -d "$data/exploration.run" ] && kill -0 "$other" 2>/dev/null; do sleep 1; done
# shellcheck disable=SC2086
collect walk "$fifth" --agent expert --task stickman_walk --seed 2 $pooled --pool "$data/exploration"
# shellcheck disable=SC2086
collect run $((fifth * 2 / 3)) --agent expert --task stickman_run --seed 3 $pooled --pool "$data/exploration" "$data/walk"
# shellcheck disable=SC2086
collect walk_refit $((steps / 10)) --agent expert --task stickman_walk --seed 12 $refit \
    --pool "$data/exploration" "$data/walk" "$data/run" "$data/stand"
# shellcheck disable=SC2086
collect run_refit $((steps / 10)) --agent expert --task stickman_run --seed 13 $refit \
    --pool "$data/exploration" "$data/walk" "$data/run" "$data/stand" "$data/walk_refit"
wait "$other"
trap - EXIT
# Once more from all of that, with less noise: these are the skilled ones.
all="$data/exploration $data/exploration_pooled $data/stand $data/stand_pushed $data/walk $data/walk_refit $data/run $data/run_refit $data/held"
again="--expert.updates-per-step 1.0 --expert.noise 0.02 0.05 0.1 0.2 --episode-steps 250"
# shellcheck disable=SC2086
{
    collect stand_refit $((steps / 6)) --agent expert --task stickman_stand --seed 14 $again --expert.prepare-updates 25000 --pool $all
    collect walk_refit2 $((steps / 10)) --agent expert --task stickman_walk --seed 17 $again --expert.prepare-updates 20000 \
        --pool $all "$data/stand_refit"
    collect run_refit2 $((steps / 10)) --agent expert --task stickman_run --seed 18 $again --expert.prepare-updates 20000 \
        --pool $all "$data/stand_refit"
}
