"""``lazyflow convert``: files in another format, one or many."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lazyflow_cli._failure import CommandError, ExitCode
from lazyflow_cli._many import CONVERT, Counted, each, files_of, source_table, stem_of
from lazyflow_cli._signals import Stopped, stoppable
from lazyflow_cli.main import traceback_option
from lazyflow_cli.run import chosen_report, run_pipeline

if TYPE_CHECKING:
    from lazyflow_core.pipeline import Pipeline

__all__ = ["command"]


@click.command("convert")
@click.argument("sources", metavar="IN...", nargs=-1, required=True)
@click.argument("target", metavar="OUT")
@click.option("--crop", metavar="RANGES", help="Keep only this box, such as '10:20,:,:' or 'z=10:20'.")
@click.option(
    "--scale",
    metavar="FACTOR",
    help="Pixels that there will be for one, such as 0.5, or one number per axis: '1,0.5,0.5'.",
)
@click.option("--axes", metavar="KEYS", help="Order of the axes of the target, such as tzyxc.")
@click.option("--dtype", metavar="DTYPE", help="Of the target; values that do not fit are clipped.")
@click.option("--dataset", metavar="NAME", help="Which array in the files, where there are several.")
@click.option("--overwrite", is_flag=True, help="Replace targets that exist, once the new ones are complete.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first file that fails.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Blocks computed at a time.")
@click.option("--memory", metavar="SIZE", help="Memory for blocks being computed, such as 1GiB.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per line for programs.")
@traceback_option
def command(
    sources: Sequence[str],
    target: str,
    crop: str | None,
    scale: str | None,
    axes: str | None,
    dtype: str | None,
    dataset: str | None,
    overwrite: bool,
    fail_fast: bool,
    workers: int | None,
    memory: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write files in another format, which the ending of OUT chooses.

    IN is a path, a pattern in quotes such as 'raw/*.tif', or a table with the parameters of the reader. For
    more than one file OUT has {stem} in it, which stands for the name of each without its ending. First it is
    cropped, then scaled, reordered and cast. A file that fails is named at the end and stops no other.
    """
    changes: dict[str, dict[str, Any]] = {}
    if crop is not None:
        changes["crop"] = {"operator": "array.crop", "roi": crop}
    if scale is not None:
        changes["scale"] = {"operator": "array.resize", "scale": _scale(scale)}
    if axes is not None:
        changes["axes"] = {"operator": "array.reorder_axes", "axes": axes}
    if dtype is not None:
        changes["dtype"] = {"operator": "array.cast", "dtype": dtype}
    jobs = _jobs(sources, target)
    done: list[str] = []
    try:
        with stoppable("stopping; again to leave at once") as leaving:
            report = chosen_report(quiet, as_json)

            def convert(number: int, job: tuple[str, str]) -> None:
                description = _pipeline(*job, changes, dataset)
                counted = Counted(report, number + 1, len(jobs))
                run_pipeline(description, counted, done, overwrite, None, workers, memory, leaving)

            each(jobs, lambda job: job[0], convert, fail_fast)
    except Stopped as stop:
        kept = f"written before: {', '.join(done)}" if done else "nothing was written"
        raise CommandError(f"stopped by {stop}; {kept}.", stop.exit_code) from stop


def _scale(text: str) -> float | list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise CommandError(
            f"--scale {text!r}: write a number, such as 0.5, or one per axis, such as 1,0.5,0.5.",
            ExitCode.MISTAKE,
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def _jobs(sources: Sequence[str], target: str) -> list[tuple[str, str]]:
    """Return what is read and what is written of it; refuse what would be written twice."""
    files = files_of(sources)
    if len(files) > 1 and "{stem}" not in target:
        raise CommandError(
            f"{len(files)} files would all be written to {target!r}; put {{stem}} into it, such as "
            "'out/{stem}.zarr'.",
            ExitCode.MISTAKE,
        )
    jobs = []
    taken: dict[str, str] = {}
    for file in files:
        path = source_table(file)["path"]
        own = target.replace("{stem}", stem_of(path)) if "{stem}" in target else target
        if own in taken:
            raise CommandError(
                f"{taken[own]} and {path} would both be written to {own!r}; convert them one by one.",
                ExitCode.MISTAKE,
            )
        taken[own] = path
        jobs.append((file, own))
    return jobs


def _pipeline(source: str, target: str, changes: dict[str, dict[str, Any]], dataset: str | None) -> Pipeline:
    """Return the pipeline of one file; its places are what was typed."""
    from lazyflow_core.pipeline import Export, Origin, Pipeline, read_table

    steps: dict[str, Any] = {"file": {"operator": "io.read", **source_table(source)}}
    if dataset is not None:
        steps["file"]["dataset"] = dataset
    places: dict[tuple[str | int, ...], str] = {("file",): source, ("file", "dataset"): "--dataset"}
    last = "file"
    for name, step in changes.items():
        steps[name] = {**step, "image": f"{last}.output"}
        places[name,] = f"--{name}"
        last = name
    given: dict[str, Any] = {"path": target}
    if target.lstrip().startswith("{"):
        given = read_table(target, repr(target))
    path = Path(given.pop("path", ""))
    texts = {key: given.pop(key) for key in ("format", "dataset") if key in given}
    export = Export(f"{last}.output", str(path.absolute()), **texts, options=given)
    with contextlib.suppress(OSError):  # whoever opens the target says why it cannot be written
        os.makedirs(path.absolute().parent, exist_ok=True)
    places["export", 0] = target
    described = Pipeline.from_dict(steps, origin=Origin(CONVERT, places))
    return Pipeline(described.steps, (export,), described.folder, described.origin)
