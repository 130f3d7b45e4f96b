"""The YAML files: where they lie, a configuration as plain values, and the `--help` page made of their comments."""

import itertools
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from keyframe.files import flat, write_text
from keyframe.trust import find_packages, package_folder, plugins
from keyframe.types import KeyframeError

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times as fast where there is libyaml

# Text that Hydra reads as it stands; anything else may be a number or grammar.
_PLAIN = re.compile(r"[A-Za-z_/.][\w./\-]*", re.ASCII)
_WORDS = ("true", "false", "nan", "inf")


def conf_dir() -> Path:
    """The directory of the YAML files: the copy inside the installed package, or `conf/` of a checkout."""
    package = Path(__file__).resolve().parent
    for place in (package / "conf", package.parent / "conf"):
        if (place / "train.yaml").is_file():
            return place
    raise KeyframeError(f"The configuration files are missing from {package}: install keyframe again.")


class PluginConfigs(SearchPathPlugin):
    """Adds `conf/` of each installed plugin to the directories of YAML files."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the directories, after ours."""
        for folder in _plugin_dirs():
            search_path.append("keyframe.plugins", f"file://{folder}")


Plugins.instance().register(PluginConfigs)


def _plugin_dirs() -> list[Path]:
    folders = [package_folder(module.partition(".")[0]) for module in plugins()]
    return [folder / "conf" for folder in folders if folder is not None and (folder / "conf").is_dir()]


def own_config_dirs(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Arguments without `--config-dir` and `hydra.searchpath`, and the directories that these name, absolute.

    Raises KeyframeError for a directory that is not there, or with a file that Hydra would never read.
    """
    others: list[str] = []
    places: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        key, equals, value = argument.partition("=")
        if key in ("--config-dir", "-cd"):
            places.append(value if equals else next(rest, ""))
        elif key == "hydra.searchpath":
            listed = OverridesParser.create().parse_overrides([argument])[0].value()
            places += map(str, listed if isinstance(listed, list) else [listed] if listed else [])
        else:
            others.append(argument)
    folders = list(dict.fromkeys(map(_config_dir, places)))
    for folder in (*folders, *_plugin_dirs()):
        for file in filter(Path.is_file, sorted(folder.rglob("*.yaml"))):
            ours, content = conf_dir() / file.relative_to(folder), file.read_bytes()
            if ours.is_file() and ours.read_bytes() != content:
                raise KeyframeError(
                    f"{file} would never be read, because keyframe has a {file.relative_to(folder)} too: rename it."
                )
            try:
                content.decode()
            except UnicodeDecodeError as error:
                raise KeyframeError(f"{file} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error
        for file in folder.glob("*/*.yml"):
            if (conf_dir() / file.parent.name).is_dir():
                raise KeyframeError(f"{file} would never be read: give it the suffix .yaml.")
    return others, folders


def _config_dir(place: str) -> Path:
    """The directory of `--config-dir=PLACE`: a path, or `pkg://PACKAGE.FOLDER`."""
    scheme, _, name = place.rpartition("://")
    path = Path(name).expanduser().absolute()
    if scheme == "pkg":
        package, *below = re.split("[./]", name)
        find_packages([package], [Path.cwd()])
        path = (package_folder(package) or path).joinpath(*below)
    if not name or not path.is_dir():
        raise KeyframeError(
            f"there is no directory {place}: --config-dir and hydra.searchpath take one that holds YAML files in "
            "folders such as head/ and experiment/."
        )
    return path


def option_exists(group: str, option: str, folders: Sequence[Path]) -> bool:
    """Whether a group has an option: in our YAML files, in these directories, or in a plugin's."""
    return any((folder / group / f"{option}.yaml").is_file() for folder in (conf_dir(), *folders, *_plugin_dirs()))


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, every interpolation resolved."""
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def as_list(value: Any) -> list[Any]:
    """A list of the configuration, or one entry, as a plain list."""
    if OmegaConf.is_list(value):
        value = OmegaConf.to_container(value, resolve=True)
    return value if isinstance(value, list) else [value]


def quote(value: str) -> str:
    """A value that Hydra reads as exactly this text; what is quoted, an interpolation or null stays."""
    plain = _PLAIN.fullmatch(value) and not re.fullmatch(r"\.[\d_]+", value) and value.lower() not in _WORDS
    if is_quoted(value) or plain or value.startswith("${") or value == "null":
        return value
    # Between Hydra's quotes backslashes count only before a quote, or at the end.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"


def is_quoted(value: str) -> bool:
    """Whether a value stands between quotes."""
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def build_all(key: str, part: Mapping[Any, Any] | None, kind: type) -> list[Any]:
    """What each entry of a part makes, `logger` say; without entries that are null or make None."""
    built: list[Any] = []
    for name, entry in (part or {}).items():
        made = instantiate(entry, _convert_="all")
        if not (made is None or isinstance(made, kind)):
            raise KeyframeError(f"{key}.{name}: {type(made).__name__} is not a {kind.__name__} of Lightning.")
        built += [] if made is None else [made]
    return built


def save_config(config: DictConfig, run_dir: Path) -> None:
    """Write `config.yaml`, resolved, into a run directory."""
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(config))))


def training_settings() -> dict[str, set[str]]:
    """The groups of `keyframe-train` with their options, and under "" the keys that its YAML files give plain values.

    What refers to another value is no setting: the place of a file in the run's directory, say.
    """
    groups = _group_names(conf_dir() / "train.yaml")
    options = {group: {path.stem for path in (conf_dir() / group).glob("*.yaml")} for group in groups}
    plainly: set[str] = set()
    referring: set[str] = set()
    for key, value in _our_keys("train"):
        (referring if "${" in str(value) else plainly).add(key)
    return options | {"": {key for key in plainly - referring if not re.search(r"(^|\.)(_|defaults$)|^hydra\.", key)}}


@cache
def known_keys(command: str) -> set[str]:
    """The keys, dotted, that the YAML files of `keyframe-<command>` have, of all options of its groups."""
    names = [command, *(base.stem for base in _bases(conf_dir() / f"{command}.yaml"))]
    return {key for name in names for key, _ in _our_keys(name)}


def _our_keys(name: str) -> Iterator[tuple[str, Any]]:
    """The keys, dotted, and values of `<name>.yaml` and of all options of its groups."""
    file = conf_dir() / f"{name}.yaml"
    for path in (file, *(path for group in _group_names(file) for path in (conf_dir() / group).glob("*.yaml"))):
        text = path.read_text(encoding="utf-8")
        package = "" if path == file or "# @package _global_" in text else path.parent.name
        yield from flat(yaml.load(text, _Loader) or {}, package)


def compose_training(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """The configuration of `keyframe-train`; and its `model`, `loss` and what makes the `optimizer` of parameters."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", list(overrides))
    return config, {name: instantiate(config[name], _convert_="all") for name in ("model", "loss", "optimizer")}


_KEY = re.compile(r"(?P<indent> *)(?P<name>[\w.]+):(?: .*?)??(?: # (?P<comment>.*))?")
_FOOTER = """--cfg job prints the whole configuration; -m starts a sweep over comma-separated values; --hydra-help
lists Hydra's own options. The YAML files are in {conf}."""
_VALUE_WIDTH = 16  # the comment of a longer value stands on the next line


def help_page(name: str, overrides: Sequence[str]) -> str:
    """The help of `keyframe-<name>`; overrides of groups, e.g. `data=labelled`, choose whose keys it shows."""
    conf = conf_dir()
    others, given = own_config_dirs(overrides)
    dirs = [conf, *given, *_plugin_dirs()]
    chosen = [one for one in others if any((place / re.split("[=@]", one)[0]).is_dir() for place in dirs)]
    chosen += [one for one in overrides if one not in others]
    with initialize_config_dir(str(conf), version_base="1.3"):
        composed = compose(name, chosen, return_hydra_config=True).hydra.runtime.choices
    choices = {group: str(option) for group, option in reversed(composed.items()) if not group.startswith("hydra/")}
    file, common = conf / f"{name}.yaml", documented_keys(conf / "command.yaml")
    keys = documented_keys(file)
    groups = {group: _options(dirs, group.partition("@")[0], choices.get(group)) for group in _group_names(file)}
    pages = [
        _paragraphs(head_of(file)),
        _section("Groups: GROUP=OPTION, the chosen one in brackets", groups),
        _section("Keys: KEY=VALUE", {key: keys[key] for key in keys if key not in common}),
    ]
    for group, option in choices.items():
        folder, _, package = group.partition("@")
        part = next((place for one in dirs if (place := one / folder / f"{option}.yaml").is_file()), None)
        if part is not None and "# @package _global_" not in part.read_text(encoding="utf-8"):
            own = {f"{package or folder}.{key}": entry for key, entry in documented_keys(part).items()}
            pages.append(_section(f"{group}={option}: {' '.join(head_of(part))}", own))
    shared = {key: (keys[key][0].replace("${hydra.job.name}", name), keys[key][1]) for key in common}
    pages.append(_section("Keys of every command", shared))
    pages.append(_paragraphs(_FOOTER.format(conf=conf).splitlines()))
    return "\n\n".join(page for page in pages if page)


def head_of(file: Path) -> list[str]:
    """The lines of comment at the head of a YAML file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    head = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return [line[1:].removeprefix(" ") for line in head if not line.startswith("# @package")]


def documented_keys(file: Path) -> dict[str, tuple[str, str]]:
    """The keys of a YAML file and of its bases that have a comment: dotted key -> (value, comment)."""
    text = file.read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text) or {}
    keys: dict[str, tuple[str, str]] = {}
    for base in content.pop("defaults", []):
        if isinstance(base, str) and base != "_self_":
            places = (file.parent, conf_dir() / file.parent.name)
            found = next((one for place in places if (one := place / f"{base}.yaml").is_file()), None)
            keys |= {} if found is None else documented_keys(found)
    comments = comments_of(text)
    for key, value in flat(content):
        comment = comments.get(key) or keys.get(key, ("", ""))[1]
        if comment and not re.search(r"(^|\.)_", key):
            shown = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
            keys[key] = re.sub(r"\$\{now:[^}]*\}", "<time>", shown).replace("???", "required"), comment
    return keys


def comments_of(text: str) -> dict[str, str]:
    """The comment of each key of a YAML text: the one on its line, else the lines above it; the head is of none."""
    comments: dict[str, str] = {}
    above: list[str] = []
    parents: list[str] = []
    for line in itertools.dropwhile(lambda line: line.startswith("#"), text.splitlines()):
        if line.lstrip().startswith("#"):
            above.append(line.strip(" #"))
            continue
        if match := _KEY.fullmatch(line):
            parents = [*parents[: len(match["indent"]) // 2], match["name"]]
            comments[".".join(parents)] = match["comment"] or " ".join(above)
        above = []
    return comments


def _defaults(file: Path) -> list[Any]:
    found: list[Any] = yaml.safe_load(file.read_text(encoding="utf-8")).get("defaults", [])
    return found


def _bases(file: Path) -> list[Path]:
    """The YAML files of commands that one is based on, nearest first."""
    bases = [file.parent / f"{entry}.yaml" for entry in _defaults(file) if isinstance(entry, str) and entry != "_self_"]
    return [path for base in bases for path in (base, *_bases(base))]


def _group_names(file: Path) -> list[str]:
    files = [file, *_bases(file)]
    return [group for one in files for entry in _defaults(one) if isinstance(entry, dict) for group in entry]


def _options(dirs: Sequence[Path], group: str, chosen: str | None) -> tuple[str, str]:
    found = {file.stem for place in dirs for file in (place / group).glob("*.yaml")}
    names = sorted(name for name in found if not name.startswith("base"))
    return "", ", ".join(f"[{name}]" if name == chosen else name for name in names)


def _section(title: str, rows: Mapping[str, tuple[str, str]]) -> str:
    """A title and a line for each key: its name, its value and its comment."""
    if not rows:
        return ""
    name_width = max(map(len, rows))
    value_width = max((len(value) for value, _ in rows.values() if len(value) <= _VALUE_WIDTH), default=0)
    indent = " " * (name_width + value_width + 4 + 2 * (value_width > 0))
    lines = [_wrap(title, "")]
    for name, (value, comment) in rows.items():
        start = f"  {name:{name_width}}  "
        if len(value) > value_width:
            lines += [_wrap(start + value, " " * len(start)), _wrap(indent + comment, indent)]
        else:
            lines.append(_wrap(f"{start}{value:{value_width}}  {comment}" if value_width else start + comment, indent))
    return "\n".join(lines)


def _paragraphs(lines: Sequence[str]) -> str:
    """Lines joined to paragraphs as wide as the terminal; indented ones, which are examples, stay."""
    blocks = [list(block) for _, block in itertools.groupby(lines, lambda line: line.startswith(" ") or not line)]
    return "\n".join("\n".join(b) if b[0].startswith(" ") or not b[0] else _wrap(" ".join(b), "") for b in blocks)


def _wrap(text: str, indent: str) -> str:
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    return textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
