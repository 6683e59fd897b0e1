#!/bin/sh
# Every measurement of docs/speed.md that wants a GPU, in two parts of at most nine minutes each on an H200.
#
#   benchmarks/gpu.sh DIRECTORY [PYTHON] [updates | others]
#
# Writes a JSON file for each, a picture of the losses, and all that was printed to gpu_PART.log. A measurement that fails
# does not stop the others. With GENRL_DATA, stores with embeddings, losses are compared too.
set -u

out=${1:?usage: benchmarks/gpu.sh DIRECTORY [PYTHON] [updates | others]}
python=${2:-python3}
part=${3:-both}
here=$(dirname "$0")
mkdir -p "$out"

measure() { # NAME SECONDS SCRIPT OPTIONS...
    name=$1
    limit=$2
    script=$3
    shift 3
    echo "== $name"
    timeout "$limit" "$python" "$here/$script" --device cuda --out "$out/$name.json" "$@" > "$out/$name.log" 2>&1
    status=$?
    [ $status -eq 0 ] || { echo "failed ($status)"; tail -n 15 "$out/$name.log"; }
    grep -E '"(median|sampler|model_update_gflop|behavior_update_gflop|peak|gain|seconds_per_prompt)' "$out/$name.log"
    grep -E 'not possible here' "$out/$name.log"
    { echo "== $name"; cat "$out/$name.log"; } >> "$out/gpu_$part.log"
    rm "$out/$name.log"
    return $status
}

updates() {
    # What a user gets, the frames on the card; where its time goes.
    full="$paper --precision bfloat16 --frames 40000 --profile"
    # shellcheck disable=SC2086
    measure update_gpu 240 update_speed.py $full ||
        measure update_gpu_no_graph 150 update_speed.py $full --compile no-graph
    # What the compiler and the graph bring, apart from the precision.
    # shellcheck disable=SC2086
    measure update_gpu_eager_float32 75 update_speed.py $paper --precision float32 --compile off
    # shellcheck disable=SC2086
    measure update_gpu_eager 75 update_speed.py $paper --precision bfloat16 --compile off
}

others() {
    measure prompts_speed_gpu 210 prompts_speed.py
    if [ -n "${GENRL_DATA:-}" ]; then
        # shellcheck disable=SC2086
        measure precision_losses_gpu 210 precision_losses.py --data $GENRL_DATA --figure "$out/precision_losses_gpu.png"
    fi
    # The frames read ahead from disk.
    # shellcheck disable=SC2086
    measure update_gpu_disk 120 update_speed.py $paper --precision bfloat16 --frames 40000 --no-resident --parts model
}

paper="--preset paper --repeats 20"
[ "$part" = others ] || updates
[ "$part" = updates ] || others
