import json
from time import perf_counter

from keyframe.benchmark.train import PARTS, EpochTimer
from keyframe.training.stages import TwoStage
from tests.training.tiny import make_datamodule, make_module, make_trainer


def test_parts_add_up_to_the_whole(tiny_demo, tmp_path):
    datamodule, module = make_datamodule(tiny_demo), make_module()
    begin = perf_counter()
    laps = EpochTimer(str(tmp_path / "laps.jsonl"))
    trainer = make_trainer(tmp_path, 2, [TwoStage(1), laps])
    trainer.fit(module, datamodule)
    trainer.validate(module, datamodule, verbose=False)
    trainer.test(module, datamodule, verbose=False)
    took = perf_counter() - begin

    before, *epochs, after = map(json.loads, (tmp_path / "laps.jsonl").read_text().splitlines())
    assert list(before) == ["before"] and list(after) == ["after"] and len(epochs) == 2
    assert all(epoch.keys() == PARTS.keys() for epoch in epochs)
    assert all(seconds >= 0 for epoch in epochs for seconds in epoch.values())
    whole = before["before"] + sum(sum(epoch.values()) for epoch in epochs) + after["after"]
    assert 0.8 * took < whole <= took  # all but Lightning's own start and end, which a busy machine stretches
