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
# float16, into the package, with the facts of its making.
python "$here/ship_model.py" "$work/practice/model" "$body-mini"
python "$here/predict_model.py" --model "$body-mini" --data "$work/data" --out "$work/prediction"
python "$here/score_model.py" --model "$body-mini" --out "$work/scores"
# The tables of the model card.
mkdir -p "$card"
cp "$work/prediction/prediction.json" "$work/scores/scores.json" "$card/"
cp "$work/prediction/prediction.png" "$here/../docs/images/${body}_prediction.png"
python "$here/model_cards.py"
