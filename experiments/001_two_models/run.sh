#!/usr/bin/env bash
# Lite2 in Model 1's place and Lite0 in Model 2's; costs, F1 and reference lines by runs of seed 0 with frozen backbones.
source "$(dirname "$0")/../common.sh"
runs=$out/001_two_models
train 001_two_models/efficientnet_lite2 backbone=efficientnet_lite2
train 001_two_models/efficientnet_lite0 backbone=efficientnet_lite0
$bin/python experiments/table.py $here lite2=$runs/efficientnet_lite2 lite0=$runs/efficientnet_lite0
seeds=0 train 001_two_models/lite2_frozen backbone=efficientnet_lite2 finetune=frozen
seeds=0 train 002_stages/frozen backbone=efficientnet_lite0 finetune=frozen
$bin/keyframe-compare "runs=[$runs/lite2_frozen/0,$out/002_stages/frozen/0]" names=[lite2,lite0] pictures=0 \
    hydra.run.dir=$runs/compare
cp $runs/compare/figures/accuracy.png $here/
