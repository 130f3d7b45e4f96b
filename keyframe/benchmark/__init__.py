"""What a suite has measured: figures with their spread, and the files that show them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keyframe.files import write_metrics
from keyframe.report import Document, ImageFile, Notes, Section, Table, format_number, write_report
from keyframe.types import KeyframeError, check_number

# Items, a title and their number -> the items, shown as progress.
Bar = Callable[[Iterable[Any], str, int], Iterator[Any]]


@dataclass(frozen=True)
class Measured:
    """One figure."""

    values: tuple[float, ...]  # one per repeat, at least one
    unit: str  # such as s or MB; "" for a ratio
    meaning: str  # for a ratio with the baseline

    @property
    def value(self) -> float:
        """The median of the repeats."""
        return float(np.median(self.values))

    @property
    def spread(self) -> tuple[float, float]:
        """Lower and upper quartile of the repeats."""
        lower, upper = np.quantile(self.values, [0.25, 0.75]).tolist()
        return lower, upper


@dataclass
class SuiteResult:
    """What one suite has measured; filled while it runs."""

    name: str  # of the suite
    summary: str = ""  # the sentence that matters most
    figures: dict[str, Measured] = field(default_factory=dict)  # by key in `benchmark.json`, `<suite>/<name>`
    bars: dict[str, float] = field(default_factory=dict)  # what is drawn: seconds by part
    notes: list[str] = field(default_factory=list)  # how it was measured, and what is left out

    def add(self, name: str, values: float | Iterable[float], unit: str, meaning: str) -> None:
        """Add a figure, of one value or of one per repeat; see `Measured`."""
        found = tuple(values) if isinstance(values, Iterable) else (values,)
        self.figures[f"{self.name}/{name}"] = Measured(found, unit, meaning)

    def add_ratio(self, name: str, ours: Iterable[float], theirs: Iterable[float], meaning: str) -> None:
        """Add our seconds over the baseline's, round by round, as `keyframe.timing.in_turns` returns them."""
        self.add(name, [mine / other for mine, other in zip(ours, theirs, strict=True)], "", meaning)

    def __getitem__(self, name: str) -> float:
        """The value of a figure, by its key without the suite's name."""
        return self.figures[f"{self.name}/{name}"].value


def check_rising(key: str, values: Sequence[int], example: str) -> None:
    """Refuse numbers that do not rise."""
    if not values or sorted(set(values)) != list(values):
        raise KeyframeError(f"{key}={list(values)} must rise: give them in order, such as {example}.")


def check_whole_numbers(suite: str, values: object, **lowest: float) -> None:
    """Refuse attributes of `values`, keys of a suite, that are not whole numbers from `lowest` on, or lists of them."""
    for name, least in lowest.items():
        value = getattr(values, name)
        for one in value if isinstance(value, list | tuple) else [value]:
            check_number(f"{suite}.{name}", one, least)


def flat_figures(results: Iterable[SuiteResult], machine: Mapping[str, str]) -> dict[str, float | str]:
    """All figures by key; those of several repeats with `_p25`, `_p75`, `_repeats`; the machine as `machine/...`."""
    record: dict[str, float | str] = {f"machine/{key.lower()}": value for key, value in machine.items()}
    for key, figure in (pair for result in results for pair in result.figures.items()):
        record[key] = figure.value
        if len(figure.values) > 1:
            lower, upper = figure.spread
            record |= {f"{key}_p25": lower, f"{key}_p75": upper, f"{key}_repeats": float(len(figure.values))}
    return record


def write_results(results: Sequence[SuiteResult], machine: Mapping[str, str], run_dir: Path) -> Document:
    """Write `benchmark.json` and the report, one section per suite, then the machine.

    The run directory has each suite's bars already, `figures/<suite>.png`.
    """
    sections = []
    for result in results:
        table = Table(_rows(result), "Medians; the spread is from the lower to the upper quartile of the repeats.")
        image = run_dir / "figures" / f"{result.name}.png"
        bars = ImageFile(image, f"Bars: seconds of each part of the suite {result.name}.")
        sections.append(Section(result.name, [table, bars, Notes(result.notes)]))
    sections.append(Section("Machine", [Notes([f"{key}: {value}" for key, value in machine.items()])]))
    document = Document("Benchmark", " ".join(result.summary for result in results), sections)
    write_report(document, run_dir)
    write_metrics(run_dir / "benchmark.json", flat_figures(results, machine))
    return document


def _rows(result: SuiteResult) -> list[dict[str, str]]:
    return [
        {
            "figure": key,
            "median": _with_unit(figure.value, figure.unit),
            "spread": " to ".join(_with_unit(end, "") for end in figure.spread) if len(figure.values) > 1 else "",
            "repeats": str(len(figure.values)),
            "what it is": figure.meaning,
        }
        for key, figure in result.figures.items()
    ]


def _with_unit(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 3
    return f"{format_number(value, digits)} {unit}".rstrip()
