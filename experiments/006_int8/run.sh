#!/usr/bin/env bash
# Lite0 (seeds 0, 1, 2) and Lite2 (seed 0) of fold 0, exported; each file is checked against its model on the 24 test videos.
source "$(dirname "$0")/../common.sh"
train 001_two_models/efficientnet_lite0 backbone=efficientnet_lite0
seeds=0 train 001_two_models/lite2_frozen backbone=efficientnet_lite2 finetune=frozen
for run in efficientnet_lite0/{0,1,2} lite2_frozen/0; do
    $bin/keyframe-export run=$out/001_two_models/$run/0 format=[onnx,onnx_int8] hydra.run.dir=$out/006_int8/$run
done
