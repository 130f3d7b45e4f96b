"""Finished runs that several commands are tried on."""

from pathlib import Path

import pytest

from tests.commands import TINY
from tests.conftest import made_once

RESNET = (
    "backbone.name=test_resnet",
    "backbone.prefix=[conv1,bn1,act1,maxpool,layer1,layer2,layer3]",
    "backbone.tail=[layer4,global_pool]",
)


@pytest.fixture(scope="session")
def runs(command, tiny_demo, tmp_path_factory) -> Path:
    """A folder of small runs on the same 15 videos.

    `folds/0` and `folds/1` are of one model; `seed1` is it again with another seed on fold 0, `resnet` another model
    on fold 0.
    """

    def train(place: Path) -> None:
        here = (*TINY, "trainer.max_epochs=1", "finetune.switch_epoch=1", "callbacks.curves=null")
        here = (*here, f"data.root={tiny_demo}", f"cache.dir={place / 'cache'}")
        command(*here, f"hydra.run.dir={place / 'folds' / '0'}").good()
        command(*here, "data.fold=1", f"hydra.run.dir={place / 'folds' / '1'}").good()
        command(*here, "seed=1", f"hydra.run.dir={place / 'seed1'}").good()
        command(*here, *RESNET, f"hydra.run.dir={place / 'resnet'}").good()

    return made_once(tmp_path_factory, "runs", train)
