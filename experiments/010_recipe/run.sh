#!/usr/bin/env bash
# The settings of before and today's, five folds and three seeds each, and their comparison: half an hour on a quiet core.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=outputs/experiments/010_recipe
train=".venv/bin/keyframe-train -m experiment=demo finetune=frozen trainer.max_epochs=16 logger=csv"
folds="data.fold=0,1,2,3,4 seed=0,1,2"

$train $folds hydra.sweep.dir=$out/today
$train $folds loss=spearman scheduler=none data.batch_size=4 optimizer.lr=3e-4 'head.projection=[512,256]' head.layers=3 \
    head.feedforward=384 head.feature_dropout=0 hydra.sweep.dir=$out/before
.venv/bin/keyframe-compare "runs=[$out/before,$out/today]" hydra.run.dir=$out/compare
