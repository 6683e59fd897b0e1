#!/bin/sh
# The shipped walker-mini, stage by stage; every stage is a verb that goes on when it is run again.
#
#   recipes/walker_mini.sh DIRECTORY
#
# Needs the mini VLM in the package (recipes/mini_vlm.sh makes it). The data are drawn from walker_trajectories.npz, which
# `genrl data pack` made of what recipes/walker_data.sh collected.
set -eu

work=${1:?usage: recipes/walker_mini.sh DIRECTORY}
here=$(dirname "$0")

genrl data draw "$here/walker_trajectories.npz" --out "$work/data"
genrl embed --data "$work/data" --vlm mini
# Windows of frames, then what is sequential, connector and aligner from cached posteriors.
genrl pretrain mini --data "$work/data" --resident True --out "$work/model"
# Nine rounds of acting and learning from it, and the general policy that every prompt starts from.
genrl practice mini --model "$work/model" --data "$work/data" --out "$work/practice"
# float16, into the package, with the facts of its making.
python "$here/ship_model.py" "$work/practice/model" walker-mini
python "$here/predict_model.py" --data "$work/data" --out "$work/prediction"
python "$here/score_model.py" --out "$work/scores"
# The tables of the model card.
cp "$work/prediction/prediction.json" "$work/scores/scores.json" "$here/../docs/walker_mini_training/"
cp "$work/prediction/prediction.png" "$here/../docs/images/"
python "$here/model_cards.py"
