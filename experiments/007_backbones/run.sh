#!/usr/bin/env bash
# EfficientNet-Lite0 and Lite2 on frozen backbones, seed 0, fold 0; the cost of encoding is in each run's train.log.
source "$(dirname "$0")/../common.sh"
seeds=0 folds=0
models=()
for name in lite0 lite2; do
    train 007_backbones/$name backbone=efficientnet_$name finetune=frozen
    models+=("$name=$out/007_backbones/$name")
done
$bin/python experiments/table.py $here "${models[@]}"
