#!/usr/bin/env bash
# Lite0 with Lite2 as its teacher, by its scores, by hints and by both; both alone are record 007's. Seed 0, fold 0.
source "$(dirname "$0")/../common.sh"
seeds=0 folds=0
runs=$out/005_distillation
train 007_backbones/lite0 backbone=efficientnet_lite0 finetune=frozen
train 007_backbones/lite2 backbone=efficientnet_lite2 finetune=frozen
distill=(distillation=teacher teacher=$out/007_backbones/lite2/0/0 backbone=efficientnet_lite0 finetune=frozen)
train 005_distillation/soft "${distill[@]}" distillation.weight=0.5 distillation.hint_weight=0
train 005_distillation/hints "${distill[@]}"
train 005_distillation/distilled "${distill[@]}" distillation.weight=0.5
$bin/python experiments/table.py $here alone=$out/007_backbones/lite0 teacher=$out/007_backbones/lite2 \
    soft=$runs/soft hints=$runs/hints distilled=$runs/distilled
