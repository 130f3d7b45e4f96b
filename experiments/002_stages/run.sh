#!/usr/bin/env bash
# One stage (frozen backbone), two stages, and the backbone's last blocks from the start; three seeds each.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/002_stages
out=outputs/experiments/002_stages
.venv/bin/keyframe-train -m experiment=demo finetune=frozen seed=0,1,2 hydra.sweep.dir=$out/frozen
.venv/bin/keyframe-train -m experiment=demo finetune=two_stage seed=0,1,2 hydra.sweep.dir=$out/two_stages
.venv/bin/keyframe-train -m experiment=demo finetune.switch_epoch=0 finetune.lr_factor=1.0 seed=0,1,2 hydra.sweep.dir=$out/from_the_start
.venv/bin/keyframe-compare "runs=[$out/frozen,$out/two_stages,$out/from_the_start]" hydra.run.dir=$out/compare
cp $out/compare/metrics.json $out/compare/figures/{accuracy,videos}.png $here/
