#!/bin/sh
# The shipped walker-mini, stage by stage; every stage is a verb that goes on when it is run again.
#
#   recipes/walker_mini.sh DIRECTORY
#
# Needs the mini VLM in the package (recipes/mini_vlm.sh makes it). On two free CPU cores: data 30 minutes, world model 40,
# embeddings 2, connector 14, scores 45.
set -eu

work=${1:?usage: recipes/walker_mini.sh DIRECTORY}
here=$(dirname "$0")

"$here/walker_data.sh" "$work/data"
# The world model needs no embeddings: joint stage alone.
genrl pretrain mini --data "$work/data" --latent.updates 0 --out "$work/world-model"
genrl embed --data "$work/data" --vlm mini
# Everything sequential, connector and aligner from cached posteriors of that world model.
genrl pretrain mini --data "$work/data" --world-model "$work/world-model" --joint.updates 0 --out "$work/model"
# float16, into the package, with the facts of its making.
python "$here/ship_model.py" "$work/model/model" walker-mini
python "$here/predict_model.py" --data "$work/data" --out "$work/prediction"
python "$here/score_model.py" --out "$work/scores"
# The tables of the model card.
cp "$work/prediction/prediction.json" "$work/scores/scores.json" "$here/../docs/walker_mini_training/"
cp "$work/prediction/prediction.png" "$here/../docs/images/"
python "$here/model_cards.py"
