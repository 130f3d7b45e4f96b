"""What a suite measured: figures with their spread, and the report of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keyframe.report.document import Document, ImageFile, Notes, Section, Table, format_number

# Items, a title and their number -> the items, shown as progress.
Bar = Callable[[Iterable[Any], str, int], Iterator[Any]]


@dataclass(frozen=True)
class Measured:
    """One figure.

    Attributes:
        key: its name in `benchmark.json`, `<suite>/<name>`.
        values: one a repeat, at least one; what is reported is their median.
        unit: such as s or MB; "" for a ratio.
        meaning: what it is, and for a ratio which baseline it is taken against.
    """

    key: str
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
        lower, upper = np.quantile(self.values, [0.25, 0.75])
        return float(lower), float(upper)


@dataclass(frozen=True)
class SuiteResult:
    """What a suite found.

    Attributes:
        name: of the suite.
        summary: the plain sentence that matters most.
        figures: all of them, in the order of the table.
        bars: what is drawn: by part, its seconds.
        notes: how it was measured, and what it leaves out, one plain sentence each.
    """

    name: str
    summary: str
    figures: Sequence[Measured]
    bars: Mapping[str, float]
    notes: Sequence[str] = ()


class Suite(Protocol):
    """Measures what one part of the project costs, against named baselines of the same run."""

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure.

        Args:
            bar: shows progress.

        Raises:
            KeyframeError: something that it measures against is not installed.
        """
        ...


def ratio(key: str, ours: Sequence[float], theirs: Sequence[float], meaning: str) -> Measured:
    """Our seconds over the baseline's, round by round.

    Args:
        key: of the figure.
        ours: one a round, as `keyframe.timing.in_turns` gives them.
        theirs: the baseline's, of the same rounds.
        meaning: as of `Measured`.
    """
    return Measured(key, tuple(mine / other for mine, other in zip(ours, theirs, strict=True)), "", meaning)


def flat(results: Sequence[SuiteResult], machine: Mapping[str, str]) -> dict[str, float | str]:
    """All figures by key; those of several repeats with `_p25`, `_p75`, `_repeats`; the machine as `machine/...`."""
    record: dict[str, float | str] = {f"machine/{key.lower()}": value for key, value in machine.items()}
    for figure in (figure for result in results for figure in result.figures):
        record[figure.key] = figure.value
        if len(figure.values) > 1:
            lower, upper = figure.spread
            record |= {f"{figure.key}_p25": lower, f"{figure.key}_p75": upper}
            record[f"{figure.key}_repeats"] = float(len(figure.values))
    return record


def benchmark_document(
    results: Sequence[SuiteResult], pictures: Mapping[str, Path], machine: Mapping[str, str]
) -> Document:
    """The report of several suites.

    Args:
        results: what they found, at least one.
        pictures: by suite, the bars of its parts.
        machine: what it was measured on.
    """
    sections = []
    for result in results:
        picture = ImageFile(pictures[result.name], f"Bars: seconds of each part of the suite {result.name}.")
        table = Table(_rows(result), "Medians; the spread is from the lower to the upper quartile of the repeats.")
        sections.append(Section(result.name, [table, picture, Notes(result.notes)]))
    on = [f"{key}: {value}" for key, value in machine.items()]
    return Document(
        title="Benchmark",
        lead=" ".join(result.summary for result in results),
        sections=[*sections, Section("Machine", [Notes(on)])],
    )


def _rows(result: SuiteResult) -> list[dict[str, str]]:
    return [
        {
            "figure": figure.key,
            "median": _cell(figure.value, figure.unit),
            "spread": " to ".join(_cell(end, "") for end in figure.spread) if len(figure.values) > 1 else "",
            "repeats": str(len(figure.values)),
            "what it is": figure.meaning,
        }
        for figure in result.figures
    ]


def _cell(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 3
    return f"{format_number(value, digits)} {unit}".rstrip()
