#!/usr/bin/env bash
# How much to keep, calibrated on the validation videos and measured on the test videos of record 007's Lite0.
source "$(dirname "$0")/../common.sh"
folds=0
train 007_backbones/lite0 backbone=efficientnet_lite0 finetune=frozen
$bin/python $here/study.py $out/007_backbones/lite0/*/0
