#!/usr/bin/env bash
# What is minimised, on a frozen backbone; MSE, the default, is record 002's.
source "$(dirname "$0")/../common.sh"
train 002_stages/frozen backbone=efficientnet_lite0 finetune=frozen
for loss in pairwise weighted spearman; do
    train 004_losses/$loss backbone=efficientnet_lite0 finetune=frozen loss=$loss
done
runs=$out/004_losses
$bin/python experiments/table.py $here mse=$out/002_stages/frozen pairwise=$runs/pairwise weighted=$runs/weighted \
    spearman=$runs/spearman
