"""``lazyflow stats``: what the pixels of files, or of steps of a pipeline, are like."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lazyflow_cli._failure import CommandError, ExitCode, failing
from lazyflow_cli._many import each, files_of, source_table
from lazyflow_cli._signals import Stopped, stoppable
from lazyflow_cli._text import columns, echo_json
from lazyflow_cli._writing import blaming
from lazyflow_cli.main import traceback_option

if TYPE_CHECKING:
    from lazyflow_core.graph import ArraySlot, Graph, Slot
    from lazyflow_core.pipeline import Pipeline

__all__ = ["command"]

#: Width of the longest bar of a histogram.
_BAR = 40


@click.command("stats")
@click.argument("sources", metavar="FILE|PIPELINE.toml [STEP.SLOT]...", nargs=-1, required=True)
@click.option("--roi", metavar="RANGES", help="Only of this region, such as '10:20,:,:' or 't=5'.")
@click.option(
    "--percentiles",
    default="1,50,99",
    show_default=True,
    metavar="A,B",
    help="Which percentiles; '' for none.",
)
@click.option("--bins", type=click.IntRange(0, 1000), default=0, metavar="N", help="Draw a histogram.")
@click.option("--dataset", metavar="NAME", help="Which array in the files, where there are several.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first file that fails.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Blocks computed at a time.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
@traceback_option
def command(
    sources: Sequence[str],
    roi: str | None,
    percentiles: str,
    bins: int,
    dataset: str | None,
    fail_fast: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Say what the pixels of files are like: range, mean, standard deviation, percentiles.

    FILE is a path, a pattern in quotes such as 'raw/*.tif', or a table with the parameters of the reader. Of
    a pipeline file name the steps, such as smooth.output; an output that is one value is shown as it is.
    Everything is read block by block, so a file need not fit into memory; percentiles are exact.
    """
    try:
        wanted = [float(part) for part in percentiles.split(",") if part.strip()]
    except ValueError:
        raise CommandError(
            f"--percentiles {percentiles!r}: write numbers, such as 1,50,99.", ExitCode.MISTAKE
        ) from None
    jobs = _jobs(sources, dataset)
    found: list[dict[str, Any]] = []

    def look(number: int, job: _Measurement) -> None:
        facts = _facts(job, roi, wanted, bins, workers)
        found.append(facts)
        if not as_json:
            click.echo("\n".join(_lines(facts, heading=len(jobs) > 1)))

    try:
        with stoppable("stopping; again to leave at once"):
            try:
                each(jobs, lambda job: job.name, look, fail_fast)
            finally:
                if as_json:
                    echo_json({"version": 1, "arrays": found})
    except Stopped as stop:
        raise CommandError(f"stopped by {stop}.", stop.exit_code) from stop


class _Measurement:
    """One thing to look at: a slot of a pipeline, which is built when its turn comes."""

    def __init__(self, name: str, pipeline: Callable[[], Pipeline], slot: str) -> None:
        self.name = name
        self.pipeline = pipeline
        self.slot = slot


def _jobs(sources: Sequence[str], dataset: str | None) -> list[_Measurement]:
    from lazyflow_core.pipeline import Pipeline

    jobs = []
    if sources[0].lower().endswith(".toml"):
        path = Path(sources[0])
        if len(sources) < 2:
            raise CommandError(
                f"{path}: name what to look at, as in lazyflow stats {path} smooth.output.", ExitCode.MISTAKE
            )
        for text in sources[1:]:
            jobs.append(_Measurement(text, lambda: Pipeline.from_toml(path), text))
        return jobs
    for file in files_of(sources):
        jobs.append(_Measurement(file, lambda file=file: _reading(file, dataset), "file.output"))  # type: ignore[misc]
    return jobs


def _reading(file: str, dataset: str | None) -> Pipeline:
    from lazyflow_core.pipeline import Origin, Pipeline

    step = {"operator": "io.read", **source_table(file)}
    if dataset is not None:
        step["dataset"] = dataset
    return Pipeline.from_dict({"file": step}, origin=Origin("lazyflow stats", {("file",): file}))


def _facts(
    job: _Measurement, roi: str | None, percentiles: Sequence[float], bins: int, workers: int | None
) -> dict[str, Any]:
    """Compute what is told of one slot."""
    from dataclasses import replace

    from lazyflow_core import plugins
    from lazyflow_core.errors import FormatError, StorageError
    from lazyflow_core.graph import Graph, ValueOutput
    from lazyflow_core.request import ThreadedScheduler

    manager = plugins.default()
    with (
        ThreadedScheduler(workers, observers=manager.request_observers()) as scheduler,
        Graph(scheduler) as graph,
    ):
        with failing(ExitCode.INPUT, FormatError, StorageError):
            built = replace(job.pipeline(), exports=()).build(graph, manager)
        slot = _slot(built, job.slot)
        if isinstance(slot, ValueOutput):
            with blaming(job.slot):
                return {"name": job.name, "value": _plain(slot.value)}
        return {"name": job.name, **_numbers(graph, slot, roi, percentiles, bins, job.slot)}


def _slot(built: Any, text: str) -> Slot:
    from lazyflow_core.graph import Output, ValueOutput
    from lazyflow_core.words import near_miss, possible

    known = {
        f"{name}.{key}": slot
        for name, operator in built.operators.items()
        for key, slot in operator.slots.items()
        if isinstance(slot, Output | ValueOutput)
    }
    if text not in known:
        raise CommandError(
            f"{built.pipeline.origin.name} has no output {text!r}{near_miss(text, known)}"
            f"{possible('Its outputs', known)}",
            ExitCode.MISTAKE,
        )
    slot: Slot = known[text]
    return slot


def _numbers(
    graph: Graph, slot: Any, roi: str | None, percentiles: Sequence[float], bins: int, name: str
) -> dict[str, Any]:
    from lazyflow_core.plugins import get_operator

    image: ArraySlot = slot
    if roi is not None:
        image = get_operator("array.crop")(graph=graph, image=image, roi=roi).slots["output"]  # type: ignore[assignment]
    meta = image.meta
    operator: Any = get_operator("array.statistics")(
        graph=graph, image=image, percentiles=tuple(percentiles), bins=bins or 1
    )
    facts: dict[str, Any] = {
        "array": str(meta),
        "shape": list(meta.shape),
        "axes": meta.axes.keys,
        "dtype": str(meta.dtype),
    }
    with blaming(name):
        summary = operator.summary.value
        values = operator.percentile_values.value if percentiles else ()
        histogram = operator.histogram.value if bins else None
    facts |= {
        "pixels": meta.size,
        "nan": meta.size - summary.count,
        **{key: getattr(summary, key) for key in ("minimum", "maximum", "mean", "std")},
        "percentiles": {f"{percent:g}": value for percent, value in zip(percentiles, values, strict=True)},
    }
    if histogram is not None:
        facts["histogram"] = {"counts": list(histogram.counts), "edges": list(histogram.edges)}
    return {key: _plain(value) for key, value in facts.items()}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: what is no finite number is None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def _lines(facts: dict[str, Any], heading: bool) -> Iterator[str]:
    if heading:
        yield click.style(facts["name"], bold=True)
    if "value" in facts:
        yield f"{facts['value']}"
        return
    rows = [("array", facts["array"])]
    if facts["nan"]:
        rows.append(("NaN", f"{facts['nan']} of {facts['pixels']} pixels"))
    rows += [
        ("range", f"{_text(facts['minimum'])} to {_text(facts['maximum'])}"),
        ("mean", f"{_text(facts['mean'])} ± {_text(facts['std'])}"),
    ]
    if facts["percentiles"]:
        shown = ", ".join(f"{percent} %: {_text(v)}" for percent, v in facts["percentiles"].items())
        rows.append(("percentiles", shown))
    yield columns(rows)
    if "histogram" in facts:
        counts, edges = facts["histogram"]["counts"], facts["histogram"]["edges"]
        most = max(1, *counts)
        yield columns(
            (f"{_text(a)}", f"{count}", "█" * round(_BAR * count / most))
            for a, count in zip(edges, counts, strict=False)
        )


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
