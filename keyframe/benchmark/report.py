"""What a suite has measured: figures with their spread, and the files that show them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keyframe.files import write_metrics
from keyframe.report.document import Block, Document, ImageFile, Notes, Section, Table, format_number
from keyframe.report.render import write_report
from keyframe.types import check_number

# Items, a title and their number -> the items, shown as progress.
Bar = Callable[[Iterable[Any], str, int], Iterator[Any]]


@dataclass(frozen=True)
class Measured:
    """One figure.

    Attributes:
        values: one per repeat, at least one; their median is reported.
        unit: such as s or MB; "" for a ratio.
        meaning: what it is, and for a ratio the baseline.
    """

    values: tuple[float, ...]
    unit: str
    meaning: str

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
    """What one suite has measured; filled while it runs.

    Attributes:
        name: of the suite.
        summary: the sentence that matters most.
        figures: by key in `benchmark.json`, `<suite>/<name>`, in the order of the table.
        bars: what is drawn: seconds by part.
        notes: how it was measured, and what is left out, one plain sentence each.
    """

    name: str
    summary: str = ""
    figures: dict[str, Measured] = field(default_factory=dict)
    bars: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

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


def check_whole_numbers(suite: str, values: object, **lowest: float) -> None:
    """Refuse attributes that are not whole numbers, or lists of them, from a `lowest` one on.

    Args:
        suite: its node in conf/benchmark.yaml, for the message.
        values: has the attributes.
        lowest: the lowest number, by attribute.
    """
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
    """Write `benchmark.json` and the report of several suites.

    Args:
        results: what they have measured, at least one.
        machine: what it was measured on.
        run_dir: where the files go; it has each suite's bars, `figures/<suite>.png`.

    Returns:
        The report: one section per suite, then the machine.
    """
    sections = []
    for result in results:
        blocks: list[Block] = [
            Table(_rows(result), "Medians; the spread is from the lower to the upper quartile of the repeats."),
            ImageFile(
                run_dir / "figures" / f"{result.name}.png", f"Bars: seconds of each part of the suite {result.name}."
            ),
            Notes(result.notes),
        ]
        sections.append(Section(result.name, blocks))
    on = [f"{key}: {value}" for key, value in machine.items()]
    lead = " ".join(result.summary for result in results)
    document = Document("Benchmark", lead, [*sections, Section("Machine", [Notes(on)])])
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
