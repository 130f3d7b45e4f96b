"""The console scripts, and what surrounds the task of each: Hydra, errors as one sentence, and guarded directories.

A task, `keyframe.cli.<name>:<name>`, is imported once Hydra has composed the configuration: `--help` needs no torch.
"""

import atexit
import logging
import os
import pkgutil
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, TextIO, cast

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from keyframe import __version__
from keyframe.cli import arguments, share_cores
from keyframe.cli.errors import fail, sentence_of
from keyframe.cli.sweep import Status, is_over, objective_of, read_status, write_status, write_sweep_table
from keyframe.cli.sweep_resume import RECORD, check_resumable, how_to_go_on, overrides_of, resumed, save_record
from keyframe.cli.terminal import listen, show_error
from keyframe.config import conf_dir, head_of, help_page, quote
from keyframe.files import flat, make_folder, new_folder, one_line
from keyframe.system import LOCK, disk_fault, lock_folder
from keyframe.trust import Trust, find_packages
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)
_locks: list[IO[bytes]] = []  # not in the callback, which some launchers send to other processes


def command(name: str) -> None:
    """Run the task of `keyframe-<name>` as a Hydra app, configured by `conf/<name>.yaml`.

    What a user can mend ends in one sentence on stderr and exit status 1. In a sweep the job's failure is written into
    its directory and the sweep goes on; a sweeper gets each job's `val/spearman`.
    """
    typed = sys.argv[1:]
    if "--version" in typed:
        print(f"keyframe {__version__}")
        return
    others, inputs = arguments.split_inputs(typed) if name in ("extract", "features", "app") else (typed, [])
    try:
        prepared = arguments.prepare(resumed(arguments.without_hyphens(others)))
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        fail(name, sentence)
    # Lightning starts further ranks with these
    sys.argv[1:] = arguments.with_one_directory(prepared) if name == "train" else prepared
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0")

    def guarded(config: DictConfig) -> float | None:
        settings = HydraConfig.get()
        directory = Path(settings.runtime.output_dir)
        sweep = settings.mode == RunMode.MULTIRUN
        status = partial(Status, overrides=overrides_of(settings))
        try:
            if sweep and is_over(directory, settings):
                print(f"Job {settings.job.num} is already done")  # into no log: its directory stays as it is
                return objective_of(directory)
            # a run's own is locked before anything is written; a job may outlive the process that has begun the sweep
            lock = lock_folder(directory) if sweep and arguments.is_first_process() else nullcontext()
        except KeyframeError as error:
            log.error("Job %s was not run: %s", settings.job.num, error)
            return None
        with lock:
            os.environ["HYDRA_FULL_ERROR"] = full_error
            try:
                write_status(directory, status("running"))
                arguments.check_values(config, name)
                _find_own_packages(config, settings)
                if inputs:
                    arguments.add_inputs(config, inputs)
                share_cores()
                pkgutil.resolve_name(f"keyframe.cli.{name}:{name}")(config)
                write_status(directory, status("completed"))
            except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into the latter
                with suppress(OSError):
                    write_status(directory, status("interrupted"))
                    if sweep:
                        write_sweep_table(Path(settings.sweep.dir))
                print(one_line(f"keyframe-{name}: interrupted; what was done is in {directory}"), file=sys.stderr)
                sys.exit(130)
            except Exception as error:
                sentence = sentence_of(error, config, directory)
                with suppress(OSError):  # a full disk may be what has failed
                    write_status(directory, status("failed", sentence or f"{type(error).__name__}: {error}"))
                if sweep:
                    log.error("Job %s failed: %s", settings.job.num, sentence or error, exc_info=sentence is None)
                    return None
                if sentence is None or full_error == "1":
                    raise
                fail(name, sentence)
            finally:
                if sweep:  # the sweeper's own errors come to us again
                    os.environ["HYDRA_FULL_ERROR"] = "1"
        return objective_of(directory)

    guarded.__module__ = f"keyframe.cli.{name}"  # Hydra names the job after it
    # Asked for full errors, Hydra raises its own instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    listen()
    sys.excepthook = show_error
    threading.excepthook = _show_error_of_thread
    try:
        if not {"--help", "-h"}.isdisjoint(prepared):
            print(help_page(name, [argument for argument in prepared if not argument.startswith("-")]))
        else:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()
    except KeyboardInterrupt:  # while jobs ran in other processes, or before there was one
        print(f"keyframe-{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # such as `--help | head`
        _silence_stdout()
        sys.exit(1)
    except Exception as error:
        sentence = sentence_of(error, directory=Path(str(_locks[0].name)).parent if _locks else None)
        if sentence is None or full_error == "1":
            raise
        fail(name, sentence)


def _find_own_packages(config: DictConfig, settings: HydraConf) -> None:
    """Let the packages that a user's YAML files and `trust=` name lie here or around the directory of those files."""
    targets = [value for key, value in flat(OmegaConf.to_container(config)) if key.endswith("_target_")]
    files = [Path(source.path) for source in settings.runtime.config_sources if source.schema == "file"]
    around = [folder for path in files if path != conf_dir() for folder in path.parents[:2]]
    find_packages([*map(str, targets), *Trust.of(config.trust).packages], [Path.cwd(), *around])


def _show_error_of_thread(args: threading.ExceptHookArgs) -> None:
    """Leave out a fault of the machine: TensorBoard's thread raises it again in the main one."""
    error = args.exc_value or args.exc_type()
    if sentence_of(error) is None:
        show_error(args.exc_type, error, args.exc_traceback)


def keyframe() -> None:
    """List the commands, each with the first line of its help; `--version` prints the version."""
    typed = sys.argv[1:]
    if typed == ["--version"]:
        print(f"keyframe {__version__}")
        return
    if typed not in ([], ["--help"], ["-h"]):
        sys.exit(one_line(f"keyframe: {typed[0]} is not an option: use keyframe-train and so on, see keyframe --help."))
    print("Which frames of a video matter? One command per task; each explains its settings with --help:\n")
    for name in COMMANDS:
        title, _, line = head_of(conf_dir() / f"{name}.yaml")[0].partition(": ")
        print(f"  {title:<20}{line}")


# The console scripts.
COMMANDS = ("train", "evaluate", "compare", "extract", "features", "export", "benchmark", "doctor", "app")
train, evaluate, compare, extract, features, export, benchmark, doctor, app = (
    partial(command, name) for name in COMMANDS
)


class JobLog(logging.FileHandler):
    """Hydra's log file of a job; of further ranks nothing is written, and on a full disk lines are left out."""

    def __init__(self, filename: str) -> None:
        super().__init__(filename if arguments.is_first_process() else os.devnull, encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Leave out a line that cannot be written: what matters more fails by itself."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
            return
        stream, self.stream = self.stream, None  # the next line opens the file again
        with suppress(OSError):  # Python would complain when it lets go of what is not written
            cast(TextIO, stream).close()


class Console(logging.StreamHandler[TextIO]):
    """Lines on stdout; if their reader has gone (`| head -1`), the work goes on without."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Write nothing more to a closed pipe or a full disk."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        if not isinstance(error, BrokenPipeError):
            print(f"stdout cannot be written ({error.strerror}): the log file has the rest.", file=sys.stderr)
        _silence_stdout()


def _silence_stdout() -> None:
    """At exit Python would write what is still to be written, and fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class OutputGuard(Callback):
    """Refuses an output directory that cannot be written, is in use, or holds another run or sweep."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the run directory."""
        directory = Path(config.hydra.run.dir)
        if not arguments.is_first_process():
            return
        # Hydra, the log and the lock write through links, which a shared run may hold.
        written = [directory / LOCK, directory / f"{config.hydra.job.name}.log", directory / ".hydra"]
        for place in (*written, *directory.glob(".hydra/*")):
            if place.is_symlink():
                _refuse(config, f"{place} is a link: remove it, or choose another hydra.run.dir.")
        directory = _take_directory(config, "run")
        if (directory / "config.yaml").is_file() and not _left_nothing(directory) and not config.get("ckpt_path"):
            remedy = ", or resume it with ckpt_path=auto" if "ckpt_path" in config else ""
            _refuse(config, f"{directory} holds a run already: choose another hydra.run.dir{remedy}.")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the sweep directory, and write into it which sweep it is."""
        directory = Path(config.hydra.sweep.dir)
        if arguments.several_processes(config) and not arguments.starts_ranks(config.hydra):
            _refuse(config, arguments.RANKS_IN_SWEEP)
        if config.sweep.resume is not None:
            try:
                check_resumable(config, directory)
            except KeyframeError as error:
                _refuse(config, str(error))
        there = [place for place in (directory, *directory.parents) if place.exists()]
        directory = _take_directory(config, "sweep")
        made = [place for place in (directory, *directory.parents) if place not in there]
        go_on = how_to_go_on(config, directory)
        if config.sweep.resume is None and any(directory.glob("*/status.json")):
            _refuse(config, f"{directory} holds a sweep already: choose another hydra.sweep.dir, or resume it: {go_on}")
        atexit.register(_forget_unstarted, directory, made)
        try:
            save_record(config, directory)
        except OSError as error:
            _refuse(config, disk_fault(error) or str(error))
        print(one_line(f"Sweep: {directory}; if it is stopped, resume it with {go_on}"))


def _take_directory(config: DictConfig, kind: str) -> Path:
    """Make the directory of a `run` or a `sweep` and lock it until this process ends: two would write the same files.

    A directory that is named after the time by default is a new one: `<time>-2` if another start in the same second has
    `<time>`.
    """
    key, settings = f"hydra.{kind}.dir", config.hydra[kind]
    directory = Path(settings.dir)
    named = any(override.lstrip("+").startswith(f"{key}=") for override in config.hydra.overrides.hydra)
    try:
        if named or "${now:" not in str(OmegaConf.to_container(settings, resolve=False)):
            make_folder(directory)
        else:
            directory = new_folder(directory)
            with read_write(config.hydra):
                settings.dir = str(directory)
                if kind == "sweep":  # its jobs are composed anew, from the overrides
                    config.hydra.overrides.hydra.append(f"{key}={quote(str(directory))}")
        _locks.append(lock_folder(directory, f"choose another {key}"))
    except KeyframeError as error:
        _refuse(config, str(error))
    except OSError as error:
        _refuse(config, f"{key}={directory} cannot be written ({error.strerror}): choose another directory.")
    return directory


def _forget_unstarted(directory: Path, made: Sequence[Path]) -> None:
    """Remove a sweep that has ended before its first job, because of a typo say, and the folders made for it."""
    entries = list(directory.iterdir()) if directory.is_dir() else []
    if entries and all(entry.name in (LOCK, RECORD, "multirun.yaml") for entry in entries):
        for entry in entries:
            entry.unlink()
        with suppress(OSError):  # another program has put something there
            for place in made:
                place.rmdir()


def _left_nothing(directory: Path) -> bool:
    """Whether the run there has ended before its first checkpoint: there is nothing to lose or to resume.

    One that was killed, or whose disk was full, still says that it is running; the directory's lock knows better.
    """
    status = read_status(directory)
    ended = status is not None and status.state != "completed"
    return ended and not any(directory.glob("checkpoints/*.ckpt"))


def _refuse(config: DictConfig, sentence: str) -> None:
    """End the command; Hydra would swallow an exception here."""
    fail(config.hydra.job.name, sentence)
