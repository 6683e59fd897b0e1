#!/bin/sh
# The paper's walker: the original's episodes, InternVideo2, `pretrain paper`, the benchmark's prompts data-free.
#
#   recipes/paper_walker.sh EPISODES DIRECTORY [VLM]
#
# EPISODES is a directory of the original's `.npz` files, VLM as for `genrl embed --vlm` (by default internvideo2). Every
# stage goes on when the script is run again. Disk, time and GPU: docs/reproduce.md. From the environment:
#
#   WORKERS=4              processes that embed, which take the GPUs in turn
#   EMBEDDINGS=imported    keep the `clip_video` that came with the episodes instead of embedding them
#   SEEDS="0 1 2"          of the policies
#   TASKS="walker_run"     by default every task of the benchmark with a prompt
#   SHARE=100              a rehearsal: a hundredth of the updates, of a small model, in minutes on a CPU
set -eu

episodes=${1:?usage: recipes/paper_walker.sh EPISODES DIRECTORY [VLM]}
work=${2:?usage: recipes/paper_walker.sh EPISODES DIRECTORY [VLM]}
vlm=${3:-internvideo2}
here=$(dirname "$0")
share=${SHARE:-1}

if [ "$share" = 1 ]; then
    pretrain="paper"
    learn="--preset paper --episodes 10 --seeds ${SEEDS:-0 1 2}"
else
    # Sizes of `debug`, the paper's numbers of updates divided, and no latent stage, which `paper` has not.
    pretrain="debug --frame.updates 0 --joint.updates $((500000 / share)) --latent.updates 0 --log-every 50 --save-every 500"
    learn="--preset debug --updates $((50000 / share)) --episodes 1 --seeds ${SEEDS:-0}"
fi

genrl data import "$episodes" --format original --domain walker --out "$work/data"
[ "${EMBEDDINGS:-computed}" = imported ] || genrl embed --data "$work/data" --vlm "$vlm" --workers "${WORKERS:-1}"
# Words of the options, not one word.
# shellcheck disable=SC2086
genrl pretrain $pretrain --data "$work/data" --vlm "$vlm" --out "$work/model"
# shellcheck disable=SC2086
python "$here/score_model.py" --model "$work/model" --vlm "$vlm" $learn --jobs "${JOBS:-2}" \
    ${TASKS:+--tasks $TASKS} --out "$work/scores"
