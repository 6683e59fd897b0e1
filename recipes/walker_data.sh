#!/bin/sh
# Data of the walker's mini model: 24,000 frames each of run, walk and stand, 60,000 of exploration, and 24,000 of short
# episodes, which hold many more falls and recoveries; then 62,000 of better experts and of held actions. Two processes, one
# a core; about 50 minutes on two free cores.
# Run again after an interruption, it goes on.
#
#   recipes/walker_data.sh DIRECTORY [STEPS]
set -eu

data=${1:?usage: recipes/walker_data.sh DIRECTORY [STEPS]}
steps=${2:-120000}
fifth=$((steps / 5))
export OMP_NUM_THREADS=1
mkdir -p "$data"

collect() { # STORE STEPS OPTIONS...
    store=$1
    steps_of_store=$2
    shift 2
    genrl collect --out "$data/$store" --domain walker --steps "$steps_of_store" --look fast --workers 1 "$@"
}

# Experts learn from everything that is there, relabelled with their own reward. Walking begins from nothing; the others
# begin from it and need fewer updates. Exploration ends with a part that starts from the experts' experience, and so
# explores upright too.
pooled="--expert.updates-per-step 1.5 --expert.td3.batch-size 128"
# Short episodes of shaky experts: falling and getting up, which takes a second or two of every 25 in a whole episode.
starts="--episode-steps 100 --expert.updates-per-step 0.5 --expert.td3.batch-size 128 --expert.prepare-updates 3000
    --expert.noise 0.1 0.2 0.35 0.5"
(
    collect exploration $((2 * fifth)) --agent exploration --seed 1
    # shellcheck disable=SC2086
    collect stand "$fifth" --agent expert --task walker_stand --seed 4 $pooled --pool "$data/exploration" "$data/walk"
    collect exploration_pooled $((fifth / 2)) --agent exploration --seed 5 \
        --exploration.expert.prepare-updates 4000 --exploration.expert.updates-per-step 1 \
        --pool "$data/exploration" "$data/walk" "$data/stand"
    # shellcheck disable=SC2086
    collect stand_starts $((7 * steps / 60)) --agent expert --task walker_stand --seed 6 $starts \
        --pool "$data/exploration" "$data/walk" "$data/stand"
) &
other=$!
trap 'kill "$other" 2>/dev/null || true' EXIT
while [ ! -d "$data/exploration.run" ] && kill -0 "$other" 2>/dev/null; do sleep 1; done
collect walk "$fifth" --agent expert --task walker_walk --seed 2 --pool "$data/exploration"
# shellcheck disable=SC2086
collect run "$fifth" --agent expert --task walker_run --seed 3 $pooled --pool "$data/exploration" "$data/walk"
# shellcheck disable=SC2086
collect walk_starts $((steps / 12)) --agent expert --task walker_walk --seed 7 $starts \
    --pool "$data/exploration" "$data/walk" "$data/run"
wait "$other"
trap - EXIT

# Experts fitted anew to everything, relabelled, act much better at once (walk .88, stand .98, run .5 of the scale's top), and a
# standing one whose noise is kept for a while lifts its legs, leans and catches itself. Held actions without any expert lie
# and roll. About 20 minutes more.
everything=$(for store in exploration exploration_pooled stand stand_starts walk walk_starts run; do echo "$data/$store"; done)
refit="--expert.prepare-updates 20000 --expert.updates-per-step 1.5 --expert.noise 0.02 0.05 0.1 0.2 0.35"
pushed="--expert.prepare-updates 8000 --expert.updates-per-step 0.5 --expert.noise 0.2 0.35 0.5 0.7 --expert.noise-steps 3 25"
(
    # shellcheck disable=SC2086
    collect stand_refit $((steps / 12)) --agent expert --task walker_stand --seed 14 $refit --pool $everything
    # shellcheck disable=SC2086
    collect stand_pushed $((steps / 10)) --agent expert --task walker_stand --seed 16 $pushed --pool $everything "$data/stand_refit"
    collect held $((steps / 15)) --agent held --seed 15
) &
other=$!
trap 'kill "$other" 2>/dev/null || true' EXIT
# shellcheck disable=SC2086
collect walk_refit $((2 * steps / 15)) --agent expert --task walker_walk --seed 12 $refit --pool $everything
# shellcheck disable=SC2086
collect run_refit $((2 * steps / 15)) --agent expert --task walker_run --seed 13 $refit --pool $everything "$data/walk_refit"
wait "$other"
trap - EXIT
