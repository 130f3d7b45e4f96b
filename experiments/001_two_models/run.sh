#!/usr/bin/env bash
# Lite2 in Model 1's place and Lite0 in Model 2's, frozen backbones. The record is of seed 0; seeds="0 1 2" ./run.sh has more.
export seeds=${seeds:-0}
source "$(dirname "$0")/../common.sh"
lite2=$out/001_two_models/lite2_frozen lite0=$out/002_stages/frozen
train 001_two_models/lite2_frozen backbone=efficientnet_lite2 finetune=frozen
train 002_stages/frozen backbone=efficientnet_lite0 finetune=frozen
$bin/python experiments/table.py $here lite2=$lite2 lite0=$lite0
$bin/keyframe-compare "runs=[$lite2/0,$lite0/0]" names=[lite2,lite0] pictures=0 hydra.run.dir=$out/001_two_models/compare
cp $out/001_two_models/compare/figures/accuracy.png $here/
