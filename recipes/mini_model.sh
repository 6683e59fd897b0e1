#!/bin/sh
# A shipped model, stage by stage; every stage is a verb that goes on when it is run again.
#
#   recipes/mini_model.sh walker|stickman DIRECTORY
#
# Needs the mini VLM in the package (recipes/mini_vlm.sh makes it). The data are drawn from recipes/BODY_trajectories.npz, which
# `genrl data pack` made of what recipes/BODY_data.sh collected.
set -eu

usage="usage: recipes/mini_model.sh walker|stickman DIRECTORY"
body=${1:?$usage}
work=${2:?$usage}
here=$(dirname "$0")
card=$here/../docs/${body}_mini_training

genrl data draw "$here/${body}_trajectories.npz" --out "$work/data"
genrl embed --data "$work/data" --vlm mini
# Windows of frames, then what is sequential, connector and aligner from cached posteriors.
genrl pretrain mini --data "$work/data" --resident True --out "$work/model"
# Rounds of acting and learning from it, towards clips and captions, and the general policy that every prompt starts from.
python "$here/practice_texts.py" "$body" > "$work/texts.txt"
genrl practice mini --model "$work/model" --data "$work/data" --goal-texts "$work/texts.txt" --out "$work/practice"
trained=$work/practice/model
as_scored="--seeds 0 1"

if [ "$body" = stickman ]; then
    # Twice the units, perception trained on with practice's episodes among the data, and practice again.
    sizes="--model.world-model.rssm.deter-dim 512 --model.world-model.rssm.hidden-dim 512 --model.connector.units 256
        --model.world-model.rssm.code probabilities"
    further="--goal-texts $work/texts.txt --latent.updates 700 --behavior.precision bfloat16 --latent.learner.precision bfloat16"
    python "$here/widen_model.py" --model "$trained" --out "$work/wider"
    # shellcheck disable=SC2086
    genrl pretrain mini --start "$work/wider" --data "$work/data" "$work/practice/data" --resident True $sizes \
        --joint.learner.precision bfloat16 --joint.final-rate 0.05 --latent.updates 0 --out "$work/joint"
    # shellcheck disable=SC2086
    genrl pretrain mini --start "$work/joint/model" --data "$work/data" "$work/practice/data" $sizes --joint.updates 0 \
        --latent.updates 1600 --latent.learner.precision bfloat16 --latent.final-rate 0.1 --out "$work/latent"
    # shellcheck disable=SC2086
    genrl practice mini --model "$work/latent/model" --data "$work/data" "$work/practice/data" $further \
        --first-updates 1000 --policy-updates 400 --rounds 8 --out "$work/further"
    # shellcheck disable=SC2086
    genrl practice mini --model "$work/further/model" --data "$work/data" "$work/practice/data" "$work/further/data" $further \
        --first-updates 0 --policy-updates 600 --rounds 5 --out "$work/longer"
    trained=$work/longer/model
    as_scored="--seeds 0 1 --updates 0"
fi

# float16, into the package, with the facts of its making.
python "$here/ship_model.py" "$trained" "$body-mini"
python "$here/predict_model.py" --model "$body-mini" --data "$work/data" --out "$work/prediction"
# shellcheck disable=SC2086
python "$here/score_model.py" --model "$body-mini" $as_scored --precision bfloat16 --out "$work/scores"
# The tables of the model card.
mkdir -p "$card"
cp "$work/prediction/prediction.json" "$work/scores/scores.json" "$card/"
cp "$work/prediction/prediction.png" "$here/../docs/images/${body}_prediction.png"
python "$here/model_cards.py"
