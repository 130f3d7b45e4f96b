"""Command-line arguments made ready for Hydra's grammar."""

import os
import re
from pathlib import Path

from keyframe.cli.quoting import escaped, quote
from keyframe.cli.resume import resumed
from keyframe.config import conf_dir

# Keys whose value is a path: quoted, because spaces, parentheses and '=' in a file name break Hydra's grammar.
_PATHS = (
    *("data.root", "data.path", "data.labels", "data.splits", "ckpt", "backbone.weights", "cache.dir"),
    *("labels", "run", "teacher", "output", "out", "hydra.run.dir"),
)
# Keys whose value is a path or a list of paths.
_LISTS = ("runs",)
# Hydra's options that take the next argument as their value.
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
# Where hydra.run.dir puts runs unless asked otherwise.
RUNS = Path("outputs/train")


def prepare(arguments: list[str]) -> list[str]:
    """Quote paths, let `backbone=` take any timm name, let `ckpt=last` and `sweep.resume=` go on where they must."""
    sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    prepared: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        # In a sweep a comma parts values, unless it is in the name of something that is there.
        one = not sweep or key == "hydra.sweep.dir" or os.path.lexists(value)
        if equals and one and (key in _PATHS or key == "hydra.sweep.dir"):
            prepared.append(f"{key}={quote(value)}")
        elif equals and key in _LISTS and not sweep:
            prepared.append(f"{key}={_quote_list(value)}")
        elif equals and key == "backbone" and not sweep:
            prepared += _backbone(value)
        else:
            prepared.append(argument)
    if "ckpt=last" in arguments and not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        newest = max(RUNS.glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime, default=None)
        if newest is not None:
            prepared.append(f"hydra.run.dir={quote(str(newest.parents[1]))}")
    return resumed(prepared)


def with_inputs(arguments: list[str]) -> list[str]:
    """Turn arguments that are no options and no `key=value` into one `input=[...]`, together with those of `input=`.

    So a shell's `*.mp4` works. A name with `=` or a leading dash in it is an input if it exists; after `--` all are.
    """
    inputs: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            inputs += map(_literal, rest)
        elif argument in _WITH_VALUE:
            others += [argument, *[value for _, value in zip("1", rest, strict=False)]]
        elif argument.startswith("input=") and not os.path.lexists(argument):
            inputs.append(_input(argument.removeprefix("input=")))
        elif os.path.lexists(argument) or not ("=" in argument or argument.startswith(("-", "+", "~"))):
            inputs.append(_literal(argument))
        else:
            others.append(argument)
    return [*others, f"input=[{','.join(inputs)}]"] if inputs else others


def _input(value: str) -> str:
    """What `input=` was given, as entries of a list."""
    if os.path.lexists(value):
        return _literal(value)
    quoted = _quote_list(value)
    return quoted[1:-1] if quoted.startswith("[") else quoted


def _literal(name: str) -> str:
    """A name that is taken to the letter by Hydra and by OmegaConf: neither quotes nor `${` mean anything in it."""
    name = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", name)
    return f"'{escaped(name)}'"


def _quote_list(value: str) -> str:
    """A path, or each of `[A,B,[C,D]]`; what has quotes already stays."""
    if not (value.startswith("[") and value.endswith("]")):
        return quote(value)
    if any(mark in value for mark in "'\""):
        return value
    return re.sub(r"[^\[\],]+", lambda item: quote(item[0].strip()), value)


def _backbone(value: str) -> list[str]:
    """`backbone=NAME` as it is where conf/ knows it, else timm's model of that name."""
    if (conf_dir() / "backbone" / f"{value}.yaml").is_file() or not re.fullmatch(r"[\w.\-]+", value):
        return [f"backbone={value}"]
    return ["backbone=timm", f"backbone.name={value}"]
