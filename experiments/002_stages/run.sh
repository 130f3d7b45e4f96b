#!/usr/bin/env bash
# One stage (frozen backbone) and two stages, which are record 001's runs.
source "$(dirname "$0")/../common.sh"
train 002_stages/frozen backbone=efficientnet_lite0 finetune=frozen
train 001_two_models/efficientnet_lite0 backbone=efficientnet_lite0
$bin/python experiments/table.py $here frozen=$out/002_stages/frozen "two stages=$out/001_two_models/efficientnet_lite0"
