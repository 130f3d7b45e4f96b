#!/usr/bin/env bash
# All runs behind this record, then metrics.json, the pictures and the tables: about an hour on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=outputs/experiments/000_demo
train=".venv/bin/keyframe-train -m experiment=demo logger=csv"
seeds=data.seed=11,12,13,14

$train $seeds hydra.sweep.dir=$out/dual
$train $seeds backbone.pretrained=false hydra.sweep.dir=$out/random
$train data.seed=11,12 head=framewise hydra.sweep.dir=$out/framewise
# the settings of before, for the picture
$train data.seed=11 'head.projection=[512,256]' head.layers=3 head.feedforward=384 head.feature_dropout=0 \
    optimizer.lr=3e-4 scheduler=none loss=spearman data.batch_size=4 hydra.sweep.dir=$out/before
.venv/bin/python experiments/000_demo/collect.py $out
.venv/bin/python experiments/000_demo/reference.py 11 12 13 14
.venv/bin/python experiments/000_demo/probe.py
