"""Checks of a plugin as a whole: it is light, its ids are its own, what it names exists, files come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any, Final

import numpy as np

from lazyflow_core.errors import LazyflowError, TargetExistsError
from lazyflow_core.foreign import sentence
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.plugins import PluginManager, ReaderSpec, WriterSpec
from lazyflow_core.plugins.discovery import OPERATOR_GROUP, OPERATOR_ID, entry_points
from lazyflow_core.plugins.loading import load_target
from lazyflow_core.roi import Roi
from lazyflow_core.testing.checks.lifetime import open_files
from lazyflow_core.testing.trial import CheckFailed

__all__ = ["check_plugin"]

#: What a light module must not import; each costs as much as starting the command.
HEAVY: Final = (
    "PyQt5",
    "PyQt6",
    "dask",
    "h5py",
    "numpy",
    "scipy",
    "sklearn",
    "tifffile",
    "torch",
    "vigra",
    "zarr",
)

#: Milliseconds of computing that importing a light module may cost over that of the core.
_BUDGET_MS: Final = 50

_PROBE: Final = """
import json, sys, time
import lazyflow_core.plugins, lazyflow_core.plugins.hookspecs
before = set(sys.modules)
begin = time.process_time()
__import__({module!r})
milliseconds = 1000 * (time.process_time() - begin)
print(json.dumps([milliseconds, sorted(set(sys.modules) - before)]))
"""


def check_plugin(namespace: str) -> None:
    """Fail with everything that is wrong with an installed plugin; return nothing if all is well.

    Its module of hooks loads, states its level, answers all hooks and imports nothing heavy; ids of
    operators, readers and writers are well formed and in its namespace; their targets exist; what a writer
    wrote a reader of the plugin opens, with dtype, shape, axes and pixels, and lets go of.

    Parameters
    ----------
    namespace
        What its entry point in the group ``lazyflow.plugins`` is called.

    Raises
    ------
    CheckFailed
        One line per fault.
    """
    manager = PluginManager(only=[namespace], disable=(), strict=True)
    infos = [info for info in manager.plugins() if info.namespace == namespace]
    if not infos:
        raise CheckFailed(
            f"no plugin {namespace!r} is installed; its distribution needs an entry point of that name in "
            "the group 'lazyflow.plugins'."
        )
    faults: list[str] = []
    try:
        readers, writers = manager.readers(), manager.writers()
        manager.doctor()
    except LazyflowError as error:
        raise CheckFailed(f"plugin {namespace!r}: {error}") from error
    faults += _weight(infos[0].target)
    specs = manager.operators(dynamic=True)
    # Also what the manager passes over: malformed ids, and those in a namespace of somebody else.
    offered = [o.name for o in entry_points(OPERATOR_GROUP) if o.distribution == infos[0].distribution]
    for id in sorted({*offered, *(spec.id for spec in specs)}):
        faults += _id_faults(id, namespace)
    for spec in specs:
        try:
            manager.get_operator(spec.id)
        except LazyflowError as error:
            faults.append(str(error))
    described: list[ReaderSpec | WriterSpec] = [*readers, *writers]
    for description in described:
        faults += _id_faults(description.id, namespace)
        faults += _description_faults(description)
    if not faults:
        for writer in writers:
            faults += _round_trip_faults(manager, writer, {reader.id for reader in readers})
    if faults:
        raise CheckFailed("\n".join([f"plugin {namespace!r}:", *(f"  {fault}" for fault in faults)]))


def _weight(target: str) -> list[str]:
    """Return what is wrong with importing the light module, in a process that has imported nothing else."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = _PROBE.format(module=target.partition(":")[0])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return [f"{target} cannot be imported by itself: {done.stderr.strip().splitlines()[-1]}"]
    milliseconds, modules = json.loads(done.stdout.splitlines()[-1])
    heavy = sorted(set(HEAVY) & {name.partition(".")[0] for name in modules})
    faults = [f"{target} imports {name}; name what needs it by a string." for name in heavy]
    if milliseconds > _BUDGET_MS and not heavy:
        faults.append(f"importing {target} takes {milliseconds:.0f} ms; {_BUDGET_MS} are allowed.")
    return faults


def _id_faults(id: str, namespace: str) -> list[str]:
    if not OPERATOR_ID.fullmatch(id):
        return [f"{id!r} is no id; one looks like 'namespace.name', in lower case."]
    if id.partition(".")[0] != namespace:
        return [f"{id!r} is not in the namespace {namespace!r}."]
    return []


def _description_faults(spec: ReaderSpec | WriterSpec) -> list[str]:
    faults = []
    if not (spec.patterns or getattr(spec, "magic", ()) or getattr(spec, "marker", ())):
        faults.append(f"{spec.id!r} has neither patterns nor anything else by which a file is known.")
    try:
        if not callable(load_target(spec.target, spec.id)):
            faults.append(f"{spec.id!r}: {spec.target} cannot be called.")
    except Exception as error:
        faults.append(f"{spec.id!r}: {spec.target} cannot be imported: {sentence(error)}")
    return faults


def _round_trip_faults(manager: PluginManager, writer: WriterSpec, readers: set[str]) -> list[str]:
    """Write a file, and read it if the plugin can."""
    if not writer.patterns:
        return []
    meta = ArrayMeta((3, 10, 12), "uint16", "zyx")
    pixels = np.arange(meta.size, dtype=meta.dtype).reshape(meta.shape)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, writer.patterns[0].replace("*", "image"))
            aborted = manager.open_writer(path, meta, format=writer.id)
            aborted.abort()
            left = os.listdir(folder)
            if left:
                return [f"{writer.id!r} leaves {left[0]!r} behind when it is aborted."]
            written = manager.open_writer(path, meta, format=writer.id)
            written.write(meta.roi, pixels)
            if os.path.exists(path):
                return [f"{writer.id!r} shows its target before it is complete."]
            written.commit()
            try:
                manager.open_writer(path, meta, format=writer.id).abort()
                return [f"{writer.id!r} overwrites a target without being told to."]
            except TargetExistsError:
                pass
            return _reading_faults(manager, path, writer.id, pixels, meta) if writer.id in readers else []
    except (LazyflowError, OSError) as error:
        return [f"{writer.id!r} cannot write and read {meta}: {sentence(error)}"]


def _reading_faults(manager: PluginManager, path: str, id: str, pixels: Any, meta: ArrayMeta) -> list[str]:
    first = manager.explain_reader(path)[0]
    if first.spec.id != id:
        return [f"what {id!r} wrote is opened by {first.spec.id!r} ({first.reason})."]
    reader = manager.open_reader(path)
    found = reader.meta
    faults = []
    if (found.shape, found.dtype, found.axes.keys) != (meta.shape, meta.dtype, meta.axes.keys):
        faults.append(f"{id!r} wrote {meta} and reads {found}.")
    else:
        roi = Roi((1, 2, 3), (3, 9, 11))
        backing = np.zeros([2 * n for n in roi.shape], meta.dtype)
        out = backing[::2, ::2, ::2]
        reader.read(roi, out)
        if not np.array_equal(out, pixels[roi.slicing]):
            faults.append(f"{id!r} reads other pixels for {roi} than it wrote.")
    reader.close()
    reader.close()
    left = [name for name in open_files() if name.startswith(os.path.realpath(path))]
    if left:
        faults.append(f"{id!r} keeps {left[0]} open after it was closed.")
    return faults
