# Sourced by the records' run.sh: works in the repository's root, and trains what is not there yet.
set -euo pipefail
here=experiments/$(basename "$(dirname "$0")")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
bin=${BIN:-.venv/bin} # of the environment that keyframe is installed in
out=${OUT:-outputs/experiments}

train() { # a folder of $out and overrides: seeds 0, 1, 2 (or $seeds) on folds 0, 1 (or $folds) of the demo: FOLDER/SEED/FOLD
    for seed in ${seeds:-0 1 2}; do
        [ -d $out/"$1"/$seed ] || $bin/keyframe-train -m experiment=demo seed=$seed data.fold=${folds:-0,1} logger=csv \
            callbacks.curves.every=100 hydra.sweep.dir=$out/"$1"/$seed "${@:2}"
    done
}
