"""Join the runs of run.sh into metrics.json and a table, and keep one picture."""

import json
import shutil
import sys
from pathlib import Path

from omegaconf import OmegaConf

HERE = Path(__file__).parent
KEYS = ("test/spearman", "test/spearman_std", "test/kendall", "val/spearman")


def main(out: Path) -> None:
    """Write metrics.json beside this file: one flat object of numbers, a prefix a run."""
    collected: dict[str, float] = {}
    for path in sorted(out.glob("*/*/metrics.json")):
        config = OmegaConf.load(path.parent / "config.yaml")
        head = "framewise" if config.head.encoder_window == 0 else "dual"
        name = f"{config.backbone.name}/{head}/data{config.data.seed}/seed{config.seed}"
        metrics = json.loads(path.read_text())
        collected |= {f"{name}/{key}": round(metrics[key], 4) for key in KEYS}
        print(f"{name:42}", *(f"{key} {metrics[key]:.3f}" for key in KEYS))
        if name == "efficientnet_b0/dual/data0/seed0":
            shutil.copy(path.parent / "curves" / "test.png", HERE / "curve.png")
    (HERE / "metrics.json").write_text(json.dumps(collected, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
