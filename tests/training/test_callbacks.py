from keyframe.training.callbacks import wandb_logger


def test_a_run_that_resumes_in_its_directory_keeps_its_wandb_id(tmp_path):
    for name in ("offline-run-20261124_101010-abc12345", "run-20261124_111111-abc12345"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    assert wandb_logger(str(tmp_path), offline=True).version == "abc12345"
    assert wandb_logger(str(tmp_path / "other"), offline=True).version is None
