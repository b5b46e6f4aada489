"""`check_plugin` tells authors what is wrong with their distribution."""

import pytest

from lazyflow_core.testing import CheckFailed, check_plugin

from .conftest import OPERATOR, PLUGIN

FILES = """
    import os
    import numpy as np
    from lazyflow_core import ArrayMeta
    from lazyflow_core.errors import TargetExistsError

    class Writer:
        def __init__(self, path, meta, *, dataset, overwrite):
            if os.path.exists(path) and not overwrite:
                raise TargetExistsError(f"{path} exists already.")
            self.path, self.data = path, np.zeros(meta.shape, meta.dtype)
            self.step = meta.shape

        def write(self, roi, data):
            self.data[roi.slicing] = data

        def commit(self):
            with open(self.path, "wb") as file:
                np.save(file, self.data)
            return 1

        def abort(self):
            pass

    class Reader:
        def __init__(self, path, *, dataset):
            self.data = np.load(path)
            self.meta = ArrayMeta(self.data.shape, self.data.dtype)

        def read(self, roi, out):
            out[...] = self.data[roi.slicing]

        def close(self):
            pass
"""
PLUGIN_OF_FILES = """
    from lazyflow_core.plugins import ReaderSpec, WriterSpec, hookimpl

    LAZYFLOW_API = (1, 0)

    @hookimpl
    def lazyflow_reader_specs():
        return [ReaderSpec("good.raw", "good_ops:Reader", patterns=("*.raw",))]

    @hookimpl
    def lazyflow_writer_specs():
        return [WriterSpec("good.raw", "good_ops:Writer", patterns=("*.raw",))]
"""
DYNAMIC = """@hookimpl
    def lazyflow_operator_specs():
        from lazyflow_core.plugins import OperatorSpec

        return [OperatorSpec("other.x", "good_ops:OpPass")]
"""


@pytest.fixture
def install(site):
    def install(files=FILES, plugin=PLUGIN_OF_FILES, operators=("good.pass_on = good_ops:OpPass",)):
        import textwrap

        site.install(
            "acme-good",
            modules={"good_ops": textwrap.dedent(OPERATOR) + textwrap.dedent(files), "good_plugin": plugin},
            operators=operators,
            plugins=["good = good_plugin"],
        )

    return install


def test_a_healthy_plugin_passes(install):
    install()
    check_plugin("good")


FAULTS = {
    "is not installed": ({"plugin": None}, "no plugin 'good' is installed"),
    "states no level": (
        {"plugin": PLUGIN_OF_FILES.replace("LAZYFLOW_API = (1, 0)", "")},
        "does not state LAZYFLOW_API",
    ),
    "raises in a hook": (
        {"plugin": PLUGIN_OF_FILES.replace("return [R", "1 / 0; return [R")},
        "lazyflow_reader_specs failed: ZeroDivisionError",
    ),
    "imports numpy": (
        {"plugin": "import numpy\n" + PLUGIN.replace("\n    ", "\n")},
        "good_plugin imports numpy; name what needs it by a string.",
    ),
    "has an id in another namespace": (
        {"plugin": PLUGIN_OF_FILES.replace("@hookimpl", DYNAMIC + "\n    @hookimpl", 1)},
        "'other.x' is not in the namespace 'good'.",
    ),
    "has an entry point in another namespace": (
        {"operators": ["other.pass_on = good_ops:OpPass"]},
        "'other.pass_on' is not in the namespace 'good'.",
    ),
    "has an entry point whose id is none": (
        {"operators": ["good.PassOn = good_ops:OpPass"]},
        "'good.PassOn' is no id; one looks like 'namespace.name', in lower case.",
    ),
    "names an operator that is not there": (
        {"operators": ["good.pass_on = good_ops:OpPas"]},
        "operator 'good.pass_on' (acme-good 1.0, good_ops:OpPas) could not be imported: AttributeError",
    ),
    "has a reader with a foreign id": (
        {"plugin": PLUGIN_OF_FILES.replace('ReaderSpec("good.raw"', 'ReaderSpec("other.raw"')},
        "'other.raw' is not in the namespace 'good'.",
    ),
    "has a reader that claims nothing": (
        {
            "plugin": PLUGIN_OF_FILES.replace(
                ', "good_ops:Reader", patterns=("*.raw",)', ', "good_ops:Reader"'
            )
        },
        "'good.raw' has neither patterns nor anything else by which a file is known.",
    ),
    "has a writer that is not there": (
        {"plugin": PLUGIN_OF_FILES.replace("good_ops:Writer", "good_ops:Writes")},
        "'good.raw': good_ops:Writes cannot be imported: AttributeError",
    ),
    "overwrites": (
        {"files": FILES.replace("and not overwrite", "and False")},
        "'good.raw' overwrites a target without being told to.",
    ),
    "shows incomplete files": (
        {"files": FILES.replace("self.step = meta.shape", "self.step = meta.shape; open(path, 'w').close()")},
        "leaves 'image.raw' behind when it is aborted.",
    ),
    "reads another dtype": (
        {"files": FILES.replace("np.load(path)", "np.load(path).astype('f4')")},
        "'good.raw' wrote z=3, y=10, x=12 uint16 and reads z=3, y=10, x=12 float32.",
    ),
    "reads other pixels": (
        {"files": FILES.replace("out[...] = self.data[roi.slicing]", "out[...] = self.data[-1, -1, -1]")},
        "'good.raw' reads other pixels for [1:3, 2:9, 3:11] than it wrote.",
    ),
}


@pytest.mark.parametrize(("changes", "complaint"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told(install, changes, complaint):
    if changes.get("plugin", "") is not None:
        install(**changes)
    with pytest.raises(CheckFailed) as caught:
        check_plugin("good")
    assert complaint in str(caught.value)
