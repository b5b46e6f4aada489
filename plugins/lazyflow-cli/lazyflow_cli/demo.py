"""``lazyflow demo``: the two arrows of the framework, pull and push, on generated data."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from lazyflow_cli._failure import CommandError, ExitCode, failing
from lazyflow_cli._text import time_text
from lazyflow_cli.main import traceback_option

__all__ = ["command"]


@click.command("demo")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=".")
@click.option("--overwrite", is_flag=True, help="Replace the picture of an earlier demo.")
@traceback_option
def command(folder: Path, overwrite: bool) -> None:
    """Compute one plane of a small volume and draw it to DIR/lazyflow_demo.png.

    Needs no data: the volume is generated. Uses the filters that are installed; the core alone is enough.
    """
    picture = folder / "lazyflow_demo.png"
    if not folder.is_dir():
        raise CommandError(f"{str(folder)!r} is not a folder; create it first.", ExitCode.OUTPUT)
    if os.path.lexists(picture) and not overwrite:
        raise CommandError(
            f"{str(picture)!r} exists already; add --overwrite to replace it.", ExitCode.OUTPUT
        )

    from lazyflow_core.graph import Graph

    from lazyflow_cli import _demo
    from lazyflow_cli._preview import draw, middle_plane, panel_of

    volume = _demo.CountingArray(_demo.cells())
    meta = _demo.meta_of(volume)
    with Graph() as graph:
        operators = _demo.build(graph, volume, meta)
        result = operators[-1].output
        click.echo(f"built  volume ({meta}) › {' › '.join(operator.name for operator in operators)}")

        plane, axes = middle_plane(result.meta, result.meta.roi)
        began = time.perf_counter()
        after = result.read(plane)
        click.echo(
            f"pull   asked for the plane {plane}: {time_text(time.perf_counter() - began)}, "
            f"{volume.pixels_read / meta.size:.0%} of the volume was read, the rest never touched"
        )

        stale = []
        result.dirty.subscribe(lambda slot, roi: stale.append(roi))
        changed, _ = middle_plane(meta, meta.roi)
        operators[0].image.mark_dirty(changed)
        click.echo(f"push   plane {changed} changed: {', '.join(map(str, stale))} of the result is stale")

        before = panel_of(volume[plane.slicing], meta, plane, axes, title="volume")
        panels = [
            before,
            panel_of(after, result.meta, plane, axes, title=operators[-1].name, backdrop=before),
        ]
        with failing(ExitCode.OUTPUT, OSError):
            draw(panels, "lazyflow demo:  " + "  ›  ".join(op.name for op in operators), picture)
    click.echo(f"drew   {picture}")
    click.echo("next   lazyflow operators; lazyflow run PIPELINE.toml")
