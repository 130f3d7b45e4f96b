#!/usr/bin/env bash
# All runs behind this record, then metrics.json: about half an hour on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=outputs/experiments/000_demo
train=.venv/bin/keyframe-train

$train -m experiment=demo head=dual,framewise seed=0,1,2 hydra.sweep.dir=$out/heads
$train -m experiment=demo data.seed=1,2,3 hydra.sweep.dir=$out/seeds
$train -m experiment=demo backbone=resnet50 hydra.sweep.dir=$out/resnet50
.venv/bin/python experiments/000_demo/collect.py $out
