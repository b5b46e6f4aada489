"""The commands for authors: plugins new, operators check, readers explain."""

import json

import pytest


def test_a_new_distribution_is_written_and_says_what_is_next(lazyflow, folder):
    result = lazyflow("plugins", "new", "acme", "--reader")
    assert result.exit_code == 0
    assert "wrote lazyflow-ops-acme/lazyflow_ops_acme/pgm.py" in result.stdout
    assert 'pip install -e "lazyflow-ops-acme[test]"' in result.stdout
    assert (folder / "lazyflow-ops-acme" / "pyproject.toml").exists()
    again = lazyflow("plugins", "new", "acme")
    assert (again.exit_code, again.stderr) == (5, "lazyflow: lazyflow-ops-acme exists already.\n")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("filters", "the namespace 'filters' is taken; choose the name of your project."),
        ("core", "the namespace 'core' is taken; choose the name of your project."),
        ("My Lab", "'My Lab' is no name for a plugin; it is lower case, such as 'acme' or 'my-lab'."),
        ("../x", "'../x' is no name for a plugin; it is lower case, such as 'acme' or 'my-lab'."),
    ],
)
def test_a_name_that_cannot_be_is_refused(lazyflow, folder, name, complaint):
    result = lazyflow("plugins", "new", name)
    assert (result.exit_code, result.stderr) == (3, f"lazyflow: {complaint}\n")
    assert sorted(path.name for path in folder.iterdir()) == ["p.toml", "volume.npy"]


def test_an_operator_without_cases_is_tried_on_usual_images(lazyflow):
    result = lazyflow("operators", "check", "test.scale", "--json", "--seed", "3")
    assert result.exit_code == 0, result.output
    cases = json.loads(result.stdout)["cases"]
    assert [case["case"] for case in cases] == ["test.scale on yx", "test.scale on xczy"]
    assert {check["status"] for case in cases for check in case["checks"]} == {"passed"}
    assert {case["seed"] for case in cases} == {3}


def test_a_broken_law_is_told_with_the_seed_and_ends_with_an_error(lazyflow):
    result = lazyflow("operators", "check", "test.fail")
    assert result.exit_code == 1
    assert "ZeroDivisionError: by design" in result.stdout
    assert result.stderr == "lazyflow: 2 laws are broken; try again with --seed 0.\n"


def test_an_operator_that_wants_more_than_usual_images_is_not_tried(lazyflow):
    result = lazyflow("operators", "check", "test.read")
    assert result.exit_code == 0
    assert "test.read: not tried; its authors ship no cases" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing.*"], "no operator is called like 'nothing.*'; see 'lazyflow operators list'."),
        (["test.scale", "--check", "halo"], "no check 'halo'; there are loads, lazy, "),
    ],
)
def test_what_cannot_be_checked_is_a_mistake(lazyflow, arguments, complaint):
    result = lazyflow("operators", "check", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


@pytest.fixture
def raw(install_distribution, folder):
    """A plugin that reads ``*.raw``."""
    plugin = (
        "from lazyflow_core.plugins import ReaderSpec, hookimpl\n"
        "LAZYFLOW_API = (1, 0)\n"
        "@hookimpl\n"
        "def lazyflow_reader_specs():\n"
        "    return [ReaderSpec('raw.raw', 'x:y', patterns=('*.raw',))]\n"
    )
    install_distribution("raw", "[lazyflow.plugins]\nraw = raw.plugin\n", {"plugin": plugin})
    (folder / "image.raw").write_bytes(b"....")


def test_the_reader_that_would_be_taken_comes_first_with_its_reason(raw, lazyflow):
    result = lazyflow("readers", "explain", "image.raw")
    assert (result.exit_code, result.stdout) == (0, "→ raw.raw  yes  its name looks like it  raw 1.0\n")


def test_a_file_that_nobody_opens_is_told_with_every_reason(raw, lazyflow):
    result = lazyflow("readers", "explain", "volume.npy", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["readers"] == [
        {
            "id": "raw.raw",
            "fits": False,
            "reason": "neither its contents nor its name look like it",
            "target": "x:y",
            "origin": "raw 1.0",
        }
    ]
    assert result.stderr == "lazyflow: nothing installed opens 'volume.npy'.\n"


def test_a_file_that_is_missing_cannot_be_explained(lazyflow):
    result = lazyflow("readers", "explain", "nowhere.raw")
    assert (result.exit_code, result.stderr) == (4, "lazyflow: nowhere.raw does not exist.\n")


READER = """
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.axes import Axes, Axis

class Raw:
    def __init__(self, path, *, dataset=None):
        axes = Axes(Axis(key, resolution=size, unit="micrometer") for key, size in (("y", 0.5), ("x", 0.25)))
        self.meta = ArrayMeta((4, 6), "uint8", axes, value_range=(0, 7), preferred_block=(2, 3))

    def close(self):
        pass
"""


def test_a_file_is_shown_with_who_read_it(lazyflow, folder, install_distribution):
    plugin = (
        "from lazyflow_core.plugins import ReaderSpec, hookimpl\n"
        "LAZYFLOW_API = (1, 0)\n"
        "@hookimpl\n"
        "def lazyflow_reader_specs():\n"
        "    return [ReaderSpec('camera.raw', 'camera.files:Raw', patterns=('*.raw',))]\n"
    )
    modules = {"plugin": plugin, "files": READER}
    install_distribution("camera", "[lazyflow.plugins]\ncamera = camera.plugin\n", modules)
    (folder / "image.raw").write_bytes(b"....")
    result = lazyflow("readers", "show", "image.raw")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "array    y=4, x=6 uint8",
        "pixels   0.5 × 0.25 µm",
        "chunks   2 × 3",
        "values   0 to 7",
        "read by  camera.raw (camera 1.0)",
    ]
    facts = json.loads(lazyflow("readers", "show", "image.raw", "--json").stdout)
    assert (facts["shape"], facts["read_by"]) == ([4, 6], "camera.raw (camera 1.0)")


def test_a_file_that_nobody_opens_cannot_be_shown(raw, lazyflow):
    result = lazyflow("readers", "show", "volume.npy")
    assert (result.exit_code, result.stderr) == (
        4,
        "lazyflow: nothing installed opens 'volume.npy' (asked: raw.raw by pattern no). "
        "Readable are raw.raw (*.raw). Known: .npy -> pip install lazyflow-ops-io\n",
    )


def test_observers_of_plugins_watch_a_run(lazyflow, folder, install_distribution):
    plugin = (
        "import sys\n"
        "from lazyflow_core.plugins import hookimpl\n"
        "LAZYFLOW_API = (1, 0)\n"
        "class Observer:\n"
        "    def request_started(self, request):\n"
        "        print('started', file=sys.stderr)\n"
        "@hookimpl\n"
        "def lazyflow_request_observer():\n"
        "    return Observer()\n"
    )
    install_distribution("watch", "[lazyflow.plugins]\nwatch = watch.plugin\n", {"plugin": plugin})
    result = lazyflow("run", "p.toml")
    assert result.exit_code == 0, result.output
    assert "started" in result.stderr
