#!/bin/sh
# Every measurement of docs/speed.md that wants a GPU, the most wanted first; about ten minutes on an H200.
#
#   benchmarks/gpu.sh DIRECTORY [PYTHON]
#
# Writes a JSON file for each, and a picture of the losses. A measurement that fails does not stop the others.
set -u

out=${1:?usage: benchmarks/gpu.sh DIRECTORY [PYTHON]}
python=${2:-python}
here=$(dirname "$0")
mkdir -p "$out"

measure() { # NAME SECONDS SCRIPT OPTIONS...
    name=$1
    limit=$2
    script=$3
    shift 3
    echo "== $name"
    timeout "$limit" "$python" "$here/$script" --device cuda --out "$out/$name.json" "$@" > "$out/$name.log" 2>&1 ||
        { echo "failed ($?)"; tail -n 15 "$out/$name.log"; }
    grep -E '"(median|sampler|model_update_gflop|behavior_update_gflop|peak|gain|seconds_per_prompt)' "$out/$name.log"
    grep -E 'not possible here' "$out/$name.log"
}

paper="--preset paper --repeats 20"
# What a user gets, the frames on the card; where its time goes.
# shellcheck disable=SC2086
measure update_gpu 240 update_speed.py $paper --precision bfloat16 --frames 40000 --profile
# What the compiler and the graph bring, apart from the precision.
# shellcheck disable=SC2086
measure update_gpu_eager_float32 120 update_speed.py $paper --precision float32 --compile off
# shellcheck disable=SC2086
measure update_gpu_eager 120 update_speed.py $paper --precision bfloat16 --compile off
# The frames read ahead from disk.
# shellcheck disable=SC2086
measure update_gpu_disk 180 update_speed.py $paper --precision bfloat16 --frames 40000 --no-resident --parts model
measure prompts_speed_gpu 240 prompts_speed.py
if [ -n "${GENRL_DATA:-}" ]; then
    # shellcheck disable=SC2086
    measure precision_losses_gpu 240 precision_losses.py --data $GENRL_DATA --figure "$out/precision_losses_gpu.png"
fi
