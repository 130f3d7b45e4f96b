"""What W&B and MLflow are told, against a server of the machine itself."""

import json
import logging
import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import wandb
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pytorch_lightning.loggers import CSVLogger, Logger

from keyframe.cli.arguments import prepare, without_hyphens
from keyframe.config import build_all, conf_dir
from keyframe.training import trackers
from keyframe.training.trackers import mlflow_logger, wandb_logger
from keyframe.types import KeyframeError
from tests.commands import ROOT, TINY

KEY = "0123456789abcdef" * 3


@pytest.fixture
def server():
    """The base URL of a server that takes what W&B sends, and the first query of each name: name -> variables."""
    queries = {}

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/graphql":
                query = json.loads(body)
                queries.setdefault(query["operationName"], query.get("variables"))
            content = b'{"data": {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": []}}}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", queries
        server.shutdown()


@pytest.fixture
def begun(monkeypatch, tmp_path):
    """A function that begins the run of a logger, and returns what wandb.init is given; W&B's variables are unset."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    given = {}
    monkeypatch.setattr(wandb, "init", lambda **arguments: given.update(arguments))

    def begin(logger):
        assert logger.experiment is None
        return given

    return begin


def test_a_run_that_resumes_in_its_directory_keeps_its_wandb_id(tmp_path):
    elsewhere = [wandb_logger(str(tmp_path / run), str(tmp_path / "all"), offline=True).version for run in "aba"]
    assert elsewhere[0] == elsewhere[2] != elsewhere[1]


def test_without_an_answer_it_goes_on_offline(begun, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(trackers, "_PATIENCE", 0.5)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("WANDB_BASE_URL", place)
        with caplog.at_level(logging.WARNING):
            assert begun(wandb_logger(str(tmp_path)))["mode"] == "offline"
    assert f"{place} does not answer, tracking offline" in caplog.text
    assert begun(wandb_logger(str(tmp_path)))["mode"] == "offline"  # nothing listens there any more


def test_who_is_asked_for_a_mode(begun, server, tmp_path, monkeypatch):
    place, run = server[0], str(tmp_path / "run")
    monkeypatch.setenv("WANDB_BASE_URL", place)
    assert begun(wandb_logger(run))["mode"] == "offline"  # no key
    with pytest.raises(KeyframeError, match="wandb login"):
        wandb_logger(run, offline=False)
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {KEY}\n")
    assert begun(wandb_logger(run))["mode"] == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert begun(wandb_logger(run))["mode"] == "offline"
    assert begun(wandb_logger(run, offline=False))["mode"] == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert begun(wandb_logger(run, offline=True))["mode"] == "offline"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", ["data=demo", f"run_dir={tmp_path / 'none'}"])
    assert [type(logger) for logger in build_all("logger", config.logger, Logger)] == [CSVLogger]
    assert not (tmp_path / "none").exists()


def test_the_command_wins_over_the_variables_and_these_over_the_yaml(begun, tmp_path, monkeypatch):
    def given(*overrides):
        start = ["data=demo", "logger.wandb.offline=true", f"run_dir={tmp_path / 'run'}", *overrides]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("train", start)
        found = begun(instantiate(config.logger.wandb, _convert_="all"))
        return [found[name] for name in ("project", "dir", "name", "group", "entity", "tags")]

    # what is None here wandb reads from its variables
    assert given() == ["keyframe", str(tmp_path / "run"), None, None, None, None]
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "all"))
    assert given() == ["theirs", str(tmp_path / "all"), None, None, None, None]
    mine = [
        "name=A",
        "group=B",
        "tags=[x]",
        "logger.wandb.project=P",
        "logger.wandb.entity=E",
        "logger.wandb.save_dir=S",
    ]
    assert given(*mine) == ["P", "S", "A", "B", "E", ["x"]]


def test_a_refused_run_is_one_sentence(tmp_path, monkeypatch):
    def refuse(**arguments):
        raise wandb.errors.CommError("user is not logged in\n(Error 401)")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(KeyframeError, match=r"\(user is not logged in\): try `wandb login"):
        wandb_logger(str(tmp_path), offline=True).log_metrics({"loss": 1.0})


def agents_arguments(form):
    """What an agent of W&B starts the sweep of the documentation with, without `env` and the program."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8"), re.DOTALL)
    sweep = yaml.safe_load(block)
    assert sweep["program"] == "keyframe-train" and sweep["command"][:2] == ["${env}", "${program}"]
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args  # most of a second, for one worker alone

    drawn = {"optimizer.lr": 1e-05, "loss": "mse", "head.encoder_window": None, "seed": 1}
    assert drawn.keys() == sweep["parameters"].keys()
    made = create_sweep_command_args({"args": {key: {"value": value} for key, value in drawn.items()}})
    return [one for part in sweep["command"][2:] for one in (made[form] if part == "${args}" else [part])]


@pytest.mark.parametrize("form", ["args", "args_no_hyphens"])
def test_the_sweep_of_the_documentation_composes(form):
    arguments = agents_arguments(form)
    assert ("--loss=mse" in arguments) == (form == "args") and "None" in " ".join(arguments)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", prepare(without_hyphens(arguments)))
    assert (config.optimizer.lr, config.seed, config.head.encoder_window) == (1e-5, 1, None)
    assert config.loss._target_.endswith("MSELoss") or "mse" in config.loss._target_.lower()


def test_a_job_of_an_agent_reports_to_its_sweep(command, server, tiny_demo, tmp_path):
    place, queries = server
    small = [*TINY[1:-1], f"data.root={tiny_demo}", "trainer.max_epochs=1", "finetune=frozen"]
    variables = {
        "WANDB_BASE_URL": place,
        "WANDB_API_KEY": KEY,
        "WANDB_SWEEP_ID": "sweep1",
        "WANDB_RUN_ID": "run1",
        "WANDB_PROJECT": "theirs",
        "WANDB_ENTITY": "team",
        "WANDB_RUN_GROUP": "together",
        "WANDB_TAGS": "one,two",
        "WANDB_NAME": "first",
        "WANDB_DIR": str(tmp_path),
    }
    done = command(*agents_arguments("args"), *small, f"hydra.run.dir={tmp_path / 'run'}", **variables).good()
    assert "tracking offline" not in done.out
    # this server knows no artifacts: the results are written all the same
    assert "best.ckpt is not kept as an artifact" in done.out and (tmp_path / "run" / "metrics.json").is_file()
    run = queries["UpsertBucket"]
    assert (run["sweep"], run["name"], run["project"], run["entity"]) == ("sweep1", "run1", "theirs", "team")
    assert (run["groupName"], run["tags"], run["displayName"]) == ("together", ["one", "two"], "first")
    assert [path.name.endswith("-run1") for path in Path(tmp_path, "wandb").glob("run-*")] == [True]


def test_mlflow_writes_files_into_the_run_directory(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logger = mlflow_logger(str(tmp_path / "mlruns"), "keyframe", "A", {"group": None})
    logger.log_metrics({"val/spearman": 0.5}, 3)
    (tmp_path / "a.png").touch()
    trackers.log_image([logger], "val/curves", tmp_path / "a.png")
    logger.finalize("success")
    (metric,) = tmp_path.glob("mlruns/*/*/metrics/val/spearman")
    assert metric.read_text().split()[1:] == ["0.5", "3"]
    assert list(tmp_path.glob("mlruns/*/*/artifacts/val/curves/a.png"))


def test_without_mlflow_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("pytorch_lightning.loggers.mlflow._MLFLOW_AVAILABLE", False)
    with pytest.raises(KeyframeError, match=r"logger=mlflow needs MLflow: pip install 'keyframe-lightning\[mlflow\]'"):
        mlflow_logger(str(tmp_path), "keyframe")
