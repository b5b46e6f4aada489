"""`lazyflow run`: what it writes, what it says, and how it ends when something is wrong."""

# ruff: noqa: E501  # sentences stand here as they are printed

import json
import logging
import re
import sys

import numpy as np
import pytest
from PIL import Image

from lazyflow_cli._writing import Tee


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_exports_are_written_and_reported(lazyflow, folder):
    result = lazyflow("run", "p.toml")
    assert result.exit_code == 0
    np.testing.assert_array_equal(np.load("scaled.npy"), np.load("volume.npy") * np.float32(3))
    (line,) = result.stdout.splitlines()
    assert line.startswith(
        "wrote scaled.npy: scale.output, z=4, y=20, x=30 float32, pixels of 0.5 × 0.5 × 0.5 µm, 9.5 KiB in "
    )
    assert result.stderr.splitlines()[0].startswith(
        "scale.output (z=4, y=20, x=30 float32) → scaled.npy: 1 block of 4 × 20 × 30 pixels, 1 at a time, about "
    )


def test_the_file_can_be_overridden(lazyflow, folder):
    result = lazyflow(
        "run", "p.toml", "--set", "scale.factor=5", "--export", "scale.output=a.npy", "--roi", "1:3,:,-10:"
    )
    assert result.exit_code == 0, result.stderr
    expected = np.load("volume.npy")[1:3, :, -10:] * np.float32(5)
    np.testing.assert_array_equal(np.load("a.npy"), expected)
    assert files(folder) == ["a.npy", "p.toml", "volume.npy"]


def test_a_path_given_on_the_command_line_begins_at_the_current_directory(lazyflow, folder, monkeypatch):
    (folder / "here").mkdir()
    np.save(folder / "here" / "other.npy", np.ones((2, 3, 4), np.uint8))
    monkeypatch.chdir(folder / "here")
    result = lazyflow(
        "run", "../p.toml", "--set", "volume.path=other.npy", "--export", "volume.output=copy.npy"
    )
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(np.load("copy.npy"), np.load("other.npy"))


def test_one_operator_runs_without_a_file(lazyflow, folder):
    volume = 'image={operator="test.read", path="volume.npy"}'
    for out, name in (
        ("a.npy", "a.npy"),
        ("output=b.npy", "b.npy"),
        ('{path="c.dat", format="npy"}', "c.dat"),
    ):
        result = lazyflow(
            "run", "test.scale", "--in", volume, "--set", "factor=3", "--roi", "1:3,:,:", "--out", out
        )
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith(f"wrote {name}: test-scale.output, z=2, y=20, x=30 float32, ")
        np.testing.assert_array_equal(np.load(name), np.load("volume.npy")[1:3] * np.float32(3))


def test_a_file_that_is_named_like_an_operator_is_a_file(lazyflow, folder):
    (folder / "p.toml").rename(folder / "test.scale")
    assert lazyflow("run", "test.scale").exit_code == 0
    assert (folder / "scaled.npy").exists()


SINGLE = ["run", "test.scale", "--in", 'image={operator="test.read", path="volume.npy"}']
SINGLE_MISTAKES = {
    "nothing to write": (
        ["run", "test.scale"],
        "test.scale is one operator; write --out PATH to say what to write.",
    ),
    "an export": (
        [*SINGLE, "--export", "scale.output=a.npy", "--out", "a.npy"],
        "test.scale is one operator; write --out PATH to say what to write.",
    ),
    "an input without path": (
        ["run", "test.scale", "--in", "image", "--out", "a.npy"],
        "--in 'image': write --in slot=path.",
    ),
    "an input given twice": (
        [*SINGLE, "--in", "image=a.npy", "--out", "a.npy"],
        "--in 'image=a.npy': image was given already.",
    ),
    "a table that is none": (
        ["run", "test.scale", "--in", "image={path=a}", "--out", "a.npy"],
        "--in 'image={path=a}': the table is no TOML: Invalid value (column 7).",
    ),
    "an unknown operator": (
        ["run", "test.scal", "--out", "a.npy"],
        "no operator 'test.scal'; did you mean 'test.scale' or 'test.fail' or 'test.stuck'?",
    ),
    "an input that was not given": (
        ["run", "test.scale", "--out", "a.npy"],
        "test.scale: its input 'image' was not given; add --in image=PATH.",
    ),
    "a parameter that was not given": (
        ["run", "test.remove", *SINGLE[2:], "--out", "a.npy"],
        "test.remove: its parameter 'path' (str, required) has no value; add --set path=VALUE.",
    ),
    "an input as a parameter": (
        ["run", "test.scale", "--set", "image=a.npy", "--out", "a.npy"],
        "--set image: 'image' is an input of test.scale; write --in image=PATH.",
    ),
    "a parameter as an input": (
        [*SINGLE, "--in", "factor=a.npy", "--out", "a.npy"],
        "--in factor: 'factor' is a parameter of test.scale; write --set factor=VALUE.",
    ),
    "an unknown input": (
        [*SINGLE, "--in", 'mask={operator="test.read", path="volume.npy"}', "--out", "a.npy"],
        "--in mask: test.scale has no input 'mask'. Its inputs: image.",
    ),
    "an input that is almost one": (
        ["run", "test.scale", "--in", "imgae=a.npy", "--out", "a.npy"],
        "--in imgae: test.scale has no input 'imgae'; did you mean 'image'? Its inputs: image.",
    ),
    "an input that is no name": (
        ["run", "test.scale", "--in", "my image=a.npy", "--out", "a.npy"],
        "--in 'my image=a.npy': write --in slot=path.",
    ),
    "an input whose table has no path": (
        ["run", "test.scale", "--in", 'image={dataset="raw"}', "--out", "a.npy"],
        "--in 'image={dataset=\"raw\"}': the table has no path.",
    ),
    "an input from no file": (
        ["run", "test.scale", "--in", 'image={operator="test.read", path="no.npy"}', "--out", "a.npy"],
        "test.scale, --in image: path = 'no.npy': there is no file '{folder}/no.npy'; did you mean "
        "'volume.npy'?",
    ),
    "a wrong word in the table of an input": (
        ["run", "test.scale", "--in", 'image={operator="test.read", pth="a.npy"}', "--out", "a.npy"],
        "test.scale, --in image: test.read has no slot or parameter 'pth'; did you mean 'path'? Its inputs: none. "
        "Its parameters: path.",
    ),
    "a parameter that is refused": (
        [*SINGLE, "--set", "factor=0", "--out", "a.npy"],
        "test.scale, --set factor: factor: 0 is zero.",
    ),
    "a setting without value": (
        [*SINGLE, "--set", "factor", "--out", "a.npy"],
        "--set 'factor' has no value; write --set name=value.",
    ),
    "a setting without name": (
        [*SINGLE, "--set", "=3", "--out", "a.npy"],
        "--set '=3' has no name; write --set name=value.",
    ),
    "an output without path": (
        [*SINGLE, "--out", "output="],
        "--out 'output=' has no target; write --out PATH.",
    ),
    "an output to a format that there is not": (
        [*SINGLE, "--out", "a.npz"],
        "test.scale, --out a.npz: nothing installed writes {folder}/a.npz (test.npy (*.npy)).",
    ),
    "an output over its input": (
        [*SINGLE, "--out", "volume.npy"],
        "test.scale, --out volume.npy: path = '{folder}/volume.npy' is read by 'image' already; every export needs "
        "a target of its own.",
    ),
    "an unknown parameter": (
        [*SINGLE, "--set", "factr=2", "--out", "a.npy"],
        "test.scale, --set factr: test.scale has no slot or parameter 'factr'; did you mean 'factor'? "
        "Its inputs: image. Its parameters: factor.",
    ),
    "an unknown output": (
        [*SINGLE, "--out", "outpt=a.npy"],
        "--out 'outpt=a.npy': test.scale has no output 'outpt' but output; write --out PATH or --out SLOT=PATH.",
    ),
    "an input beside a pipeline file": (
        ["run", "p.toml", "--in", "image=a.npy"],
        "--in is for one operator, as in lazyflow run filters.gaussian_smoothing --in image=a.h5 --out b.h5; p.toml "
        "names its own inputs, and --export says what to write.",
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), SINGLE_MISTAKES.values(), ids=SINGLE_MISTAKES)
def test_a_mistake_about_one_operator_is_one_sentence_and_writes_nothing(
    lazyflow, folder, arguments, sentence
):
    before = files(folder)
    result = lazyflow(*arguments)
    sentence = sentence.replace("{folder}", str(folder))
    told, *picture = result.stderr.splitlines()  # below a mistake in TOML stands where it is
    assert (result.exit_code, told, files(folder)) == (2, f"lazyflow: {sentence}", before)
    assert not picture or picture[-1].strip() == "^"


LIST = """
from lazyflow_core import InputSlot, Operator

class OpList(Operator):
    images = InputSlot(level=1)
"""


def test_an_operator_that_takes_a_list_is_told_to_need_a_file(lazyflow, folder, install_distribution):
    entry_points = "[lazyflow.operators]\nlists.any = lists_of_tests.operators:OpList\n"
    install_distribution("lists_of_tests", entry_points, {"operators": LIST})
    for given in ([], ["--in", "images=volume.npy"]):
        result = lazyflow("run", "lists.any", *given, "--out", "a.npy")
        assert result.stderr == (
            "lazyflow: lists.any takes several arrays as its 'images'; only a pipeline file can connect them.\n"
        )
        assert result.exit_code == 2


def test_exports_of_one_slot_are_computed_once(lazyflow, folder):
    result = lazyflow(
        "run", "p.toml", "--export", "scale.output=a.npy", "--export", "scale.output=b.npy", "--json"
    )
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["plan", "progress", "written", "written"]
    assert files(folder) == ["a.npy", "b.npy", "p.toml", "volume.npy"]
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))


def test_an_export_takes_all_that_the_file_could_say(lazyflow, folder):
    table = '{path="b.dat", format="npy", roi="0:2,:,:", step=[2, 20, 30]}'
    result = lazyflow("run", "p.toml", "--export", f"scale.output={table}", "--json", "--memory", "30000")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[0])["block_shape"] == [2, 20, 30]
    assert np.load("b.dat").shape == (2, 20, 30)


def test_blocks_are_whole_chunks_of_every_target(lazyflow, folder):
    export = '[[export]]\nslot = "scale.output"\npath = "{}"\nstep = [{}, 20, 30]\n'
    text = (folder / "p.toml").read_text()
    np.save("volume.npy", np.ones((12, 20, 30), np.uint8))
    (folder / "p.toml").write_text(
        text[: text.index("[[export]]")] + export.format("a.npy", 2) + export.format("b.npy", 3)
    )
    result = lazyflow("run", "p.toml", "--json", "--memory", "60000")
    assert json.loads(result.stdout.splitlines()[0])["block_shape"] == [6, 20, 30]
    assert np.load("a.npy").min() == np.load("b.npy").min() == 3


def test_the_smallest_memory_that_is_named_is_enough(lazyflow, folder):
    refused = lazyflow("run", "p.toml", "--memory", "1")
    smallest = re.search(r"give --memory (\d+) or more", refused.stderr)[1]
    assert lazyflow("run", "p.toml", "--memory", int(smallest) - 1).exit_code == 2
    assert lazyflow("run", "p.toml", "--memory", smallest).exit_code == 0


def test_json_tells_programs_what_was_written(lazyflow, folder):
    written = json.loads(lazyflow("run", "p.toml", "--json").stdout.splitlines()[-1])
    assert written.pop("seconds") >= 0
    assert written.pop("pixels_per_second") > 0
    assert written == {
        "event": "written",
        "path": "scaled.npy",
        "slot": "scale.output",
        "shape": [4, 20, 30],
        "dtype": "float32",
        "axes": "zyx",
        "bytes": 9728,
    }


def test_quiet_says_nothing(lazyflow, folder):
    result = lazyflow("run", "p.toml", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_plain_progress_comes_in_tenths(lazyflow, folder):
    np.save("volume.npy", np.zeros((40, 2, 2), np.uint8))
    result = lazyflow("run", "p.toml", "--memory", "100")  # too little for two planes at a time
    lines = [line for line in result.stderr.splitlines() if "%" in line]
    assert lines == [f"scaled.npy: {10 * n} %, block {4 * n} of 40" for n in range(1, 11)]


def test_a_preview_shows_source_and_result(lazyflow, folder):
    result = lazyflow("run", "p.toml", "--preview", "p.png")
    assert result.exit_code == 0, result.stderr
    with Image.open("p.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * 560  # two panels


def test_what_a_file_does_not_say_is_told(lazyflow, folder):
    (folder / "volume.npy").rename(folder / "unnamed.npy")
    result = lazyflow("run", "p.toml", "--set", "volume.path=unnamed.npy")
    assert [line for line in result.stderr.splitlines() if line.startswith("note")] == [
        "note: volume: axes guessed: the file does not name them, z=4, y=20, x=30 uint16; "
        "state them with --set volume.axes=zyx.",
        "note: volume: the unit 'furlong' of x is not known.",
    ]
    single = [
        "run",
        "test.scale",
        "--in",
        "image={path='unnamed.npy', operator='test.read'}",
        "--out",
        "a.npy",
    ]
    result = lazyflow(*single)
    assert """state them with --in image='{path="…", axes="zyx"}'.""" in result.stderr
    events = [json.loads(line) for line in lazyflow(*single, "--json", "--overwrite").stdout.splitlines()]
    assert {"event": "note", "step": "image", "axes_guessed": "zyx"} in events


# fmt: off
TROUBLE = {
    "a mistake in the file": (
        ["run", "p.toml", "--set", "scale.factr=3"], 2,
        "p.toml, override scale.factr: test.scale has no slot or parameter 'factr'; did you mean 'factor'? "
        "Its inputs: image. Its parameters: factor.",
    ),
    "a setting without value": (
        ["run", "p.toml", "--set", "scale.factor"], 2,
        "--set 'scale.factor' has no value; write --set step.name=value.",
    ),
    "an export without target": (
        ["run", "p.toml", "--export", "scale.output"], 2,
        "--export 'scale.output' has no target; write --export step.slot=path.",
    ),
    "a region outside": (
        ["run", "p.toml", "--roi", "0:9,:,:"], 2,
        "p.toml, override roi: roi = '0:9,:,:' of scale.output (z=4, y=20, x=30 float32): [0:9, :, :] reaches "
        "outside an array of shape (4, 20, 30), or is reversed. ROIs are absolute and never clipped.",
    ),
    "an amount of memory that is none": (
        ["run", "p.toml", "--memory", "lots"], 2,
        "--memory: 'lots' is no size in bytes; write it like '512 MiB' or '2 GB'.",
    ),
    "a memory in which nothing fits": (
        ["run", "p.toml", "--memory", "1"], 2,
        "--memory: 1 B is too little; the smallest block of scale.output that can be written, 1 × 20 × 30 pixels, "
        "takes 9600 bytes; give --memory 9600 or more.",
    ),
    "an export whose table is none": (
        ["run", "p.toml", "--export", "scale.output={path=a.npy}"], 2,
        "--export 'scale.output={{path=a.npy}}': the table is no TOML: Invalid value (column 7).",
    ),
    "an export whose table has no path": (
        ["run", "p.toml", "--export", "scale.output={format='npy'}"], 2,
        "--export \"scale.output={{format='npy'}}\": path has to be given, as a text in quotes.",
    ),
    "a preview that is no PNG": (
        ["run", "p.toml", "--preview", "p.jpg"], 2,
        "--preview 'p.jpg': a preview is a PNG file; name it so.",
    ),
    "a missing pipeline file": (
        ["run", "q.toml"], 2, "q.toml: no such file; give the path of a pipeline file (TOML).",
    ),
    "no pipeline file": (["run"], 2, "Missing argument 'PIPELINE.toml|OPERATOR'. See lazyflow run --help."),
    "an unknown option": (
        ["run", "p.toml", "--sett", "a=b"], 2, "no option '--sett'; did you mean '--set'? See lazyflow run --help.",
    ),
    "an unknown command": (["rum"], 2, "no command 'rum'; did you mean 'run'? See lazyflow --help."),
    "an unknown global option": (["--colour", "run"], 2, "no option '--colour'. See lazyflow --help."),
    "a broken operator": (
        ["run", "p.toml", "--set", "scale.operator=test.broken"], 3,
        "operator 'test.broken' (lazyflow-of-tests 1.0, lazyflow_of_tests.missing:OpNowhere) could not be imported: "
        "ModuleNotFoundError: No module named 'lazyflow_of_tests.missing'",
    ),
    "an input that is no image": (
        ["run", "p.toml", "--set", "volume.path=p.toml"], 4, "'{folder}/p.toml' is not an NPY file, or truncated.",
    ),
    "an input that goes away": (
        ["run", "p.toml", "--set", "scale.operator=test.remove", "--set", "scale.path=volume.npy"], 4,
        "'volume.npy' has gone: No such file or directory.",
    ),
    "a target in no folder": (
        ["run", "p.toml", "--export", "scale.output=no/a.npy"], 5, "'{folder}/no/a.npy': its folder does not exist.",
    ),
    "a full disk": (
        ["run", "p.toml", "--export", "scale.output=full.npy"], 5,
        "cannot write 'full.npy': No space left on device.",
    ),
}
# fmt: on


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_ends_in_one_sentence_and_leaves_nothing(lazyflow, folder, trouble):
    arguments, code, sentence = TROUBLE[trouble]
    result = lazyflow(*arguments)
    told = [line for line in result.stderr.splitlines() if not line.startswith("  ")]
    assert told[-1] == "lazyflow: " + sentence.format(folder=folder)
    assert result.exit_code == code
    assert result.stdout == ""
    assert set(files(folder)) <= {"p.toml", "volume.npy"}


def test_an_operator_that_fails_is_named(lazyflow, folder):
    result = lazyflow("run", "p.toml", "--set", "scale.operator=test.fail")
    assert re.fullmatch(
        r"lazyflow: scale\.output( \[0:4, 0:20, 0:30\])?: ZeroDivisionError: by design",
        result.stderr.splitlines()[-1],
    )
    assert result.exit_code == 1
    assert files(folder) == ["p.toml", "volume.npy"]


def test_a_target_is_replaced_only_when_asked(lazyflow, folder):
    (folder / "scaled.npy").write_text("precious")
    result = lazyflow("run", "p.toml")
    assert (result.exit_code, result.stderr) == (5, "lazyflow: 'scaled.npy' exists already (--overwrite).\n")
    assert (folder / "scaled.npy").read_text() == "precious"
    assert lazyflow("run", "p.toml", "--overwrite").exit_code == 0
    assert np.load("scaled.npy").shape == (4, 20, 30)


def test_a_failed_run_leaves_what_it_would_have_replaced(lazyflow, folder):
    (folder / "scaled.npy").write_text("precious")
    result = lazyflow("run", "p.toml", "--overwrite", "--set", "scale.operator=test.fail")
    assert result.exit_code == 1
    assert (folder / "scaled.npy").read_text() == "precious"


def test_a_preview_is_replaced_only_when_asked(lazyflow, folder):
    (folder / "p.png").write_text("precious")
    result = lazyflow("run", "p.toml", "--preview", "p.png")
    assert (result.exit_code, result.stderr) == (
        5,
        "lazyflow: --preview 'p.png' exists already; choose another name or add --overwrite.\n",
    )
    assert files(folder) == ["p.png", "p.toml", "volume.npy"]


def test_targets_are_opened_before_anything_is_computed(lazyflow, folder):
    (folder / "b.npy").write_text("precious")
    result = lazyflow(
        "run",
        "p.toml",
        *("--set", "scale.operator=test.fail"),
        *("--export", "scale.output=a.npy", "--export", "volume.output=b.npy"),
    )
    assert result.exit_code == 5
    assert files(folder) == ["b.npy", "p.toml", "volume.npy"]


def test_what_was_committed_before_another_failed_is_known():
    class Committing:
        def __init__(self, size):
            self.size = size

        def commit(self):
            if self.size is None:
                raise OSError("disk full")
            return self.size

    tee = Tee([Committing(3), Committing(None), Committing(5)])
    with pytest.raises(OSError, match="disk full"):
        tee.commit()
    assert (tee.sizes, tee.failed) == ([3], True)


def test_no_target_that_was_begun_stays_when_a_later_one_is_refused(lazyflow, folder):
    (folder / "c.npy").write_text("precious")
    exports = [f"scale.output={name}.npy" for name in "abc"]  # one slot: they share their blocks
    result = lazyflow("run", "p.toml", *(word for text in exports for word in ("--export", text)))
    assert result.exit_code == 5
    assert sorted(path.name for path in folder.iterdir()) == ["c.npy", "p.toml", "volume.npy"]


@pytest.mark.parametrize(
    "target", ["volume.npy", "sub/../volume.npy", "hard.npy", "soft.npy", "linked/volume.npy"]
)
def test_no_target_is_what_is_read_whatever_it_is_called(lazyflow, folder, target):
    before = (folder / "volume.npy").read_bytes()
    (folder / "sub").mkdir()
    (folder / "hard.npy").hardlink_to(folder / "volume.npy")
    (folder / "soft.npy").symlink_to("volume.npy")
    (folder / "linked").symlink_to(folder)
    names = files(folder)
    result = lazyflow("run", "p.toml", "--overwrite", "--export", f"scale.output={target}")
    assert result.exit_code == 2
    assert "is read by 'volume' already; every export needs a target of its own" in result.stderr
    assert (files(folder), (folder / "volume.npy").read_bytes()) == (names, before)


def test_the_pipeline_file_is_no_target(lazyflow, folder):
    text = (folder / "p.toml").read_text()
    target = 'scale.output={path="p.toml", format="npy"}'
    result = lazyflow("run", "p.toml", "--overwrite", "--export", target)
    assert (result.exit_code, result.stderr) == (
        2,
        "lazyflow: the target of scale.output, p.toml, is the pipeline file itself.\n",
    )
    assert (folder / "p.toml").read_text() == text


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ("volume.npy", "what volume reads"),
        ("scaled.npy", "the target of scale.output"),
        ("p.toml", "the pip"),
    ],
)
def test_a_preview_is_drawn_over_nothing_that_is_used(lazyflow, folder, other, what):
    (folder / "p.png").symlink_to(other)
    before = (folder / "volume.npy").read_bytes()
    result = lazyflow("run", "p.toml", "--overwrite", "--preview", "p.png")
    assert result.exit_code == 2
    assert f"--preview 'p.png' is {what}" in result.stderr
    assert (folder / "volume.npy").read_bytes() == before
    assert not (folder / "scaled.npy").exists()


def test_a_preview_replaces_a_link_and_not_what_it_names(lazyflow, folder):
    (folder / "precious.png").write_text("precious")
    (folder / "p.png").symlink_to("precious.png")
    assert lazyflow("run", "p.toml", "--preview", "p.png").exit_code == 5
    result = lazyflow("run", "p.toml", "--overwrite", "--preview", "p.png")
    assert result.exit_code == 0, result.stderr
    assert not (folder / "p.png").is_symlink()
    assert (folder / "precious.png").read_text() == "precious"
    with Image.open(folder / "p.png") as picture:
        assert picture.format == "PNG"


def test_a_preview_that_cannot_be_drawn_leaves_the_old_one(lazyflow, folder, monkeypatch):
    def fail(self, file, *rest, **more):
        file.write(b"half")
        raise OSError("disk full")

    (folder / "p.png").write_text("precious")
    monkeypatch.setattr(Image.Image, "save", fail)
    assert lazyflow("run", "p.toml", "--overwrite", "--preview", "p.png").exit_code == 5
    assert files(folder) == ["p.png", "p.toml", "scaled.npy", "volume.npy"]
    assert (folder / "p.png").read_text() == "precious"


def test_a_pipeline_without_exports_says_how_to_write_something(lazyflow, folder):
    text = (folder / "p.toml").read_text()
    (folder / "p.toml").write_text(text[: text.index("[[export]]")])
    result = lazyflow("run", "p.toml")
    assert (result.exit_code, result.stderr) == (
        2,
        "lazyflow: p.toml: there is nothing to write; add an [[export]] or give --export STEP.SLOT=PATH.\n",
    )


def test_control_characters_in_names_do_not_reach_the_terminal(lazyflow, folder):
    result = lazyflow("run", "p.toml", "--export", "scale.output=a\x1b[31m\nb.npy")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert r"wrote a\x1b[31m b.npy: " in result.stdout


@pytest.mark.parametrize("arguments", [("--traceback", "run", "p.toml"), ("run", "p.toml", "--traceback")])
def test_traceback_tells_more_before_the_sentence(lazyflow, folder, arguments):
    result = lazyflow(*arguments, "--set", "scale.operator=test.fail")
    assert "Traceback (most recent call last):" in result.stderr
    assert 'raise ZeroDivisionError("by design")' in result.stderr
    assert result.stderr.splitlines()[-1].startswith("lazyflow: scale.output")


STANDING = '''
import threading
from lazyflow_core.request import RequestEvent
from lazyflow_of_tests.operators import OpScale

go_on = threading.Event()
also_go_on = RequestEvent()

class OpKeeps(OpScale):
    """Keep the worker."""

    def execute(self, slot, roi, out):
        go_on.wait()
        super().execute(slot, roi, out)

class OpWaits(OpScale):
    """Wait, and let the worker go."""

    def execute(self, slot, roi, out):
        also_go_on.wait()
        super().execute(slot, roi, out)
'''


@pytest.mark.parametrize(
    ("operator", "told"),
    [("keeps", "without a wait"), ("waits", "has not moved for .* s; who waits for what")],
)
def test_a_run_that_stands_still_says_who_waits_for_what_and_where(
    lazyflow, folder, install_distribution, monkeypatch, caplog, operator, told
):
    entries = "[lazyflow.operators]\n" + "".join(
        f"standing.{name} = standing.operators:Op{name.title()}\n" for name in ("keeps", "waits")
    )
    install_distribution("standing", entries, {"operators": STANDING})
    text = (folder / "p.toml").read_text().replace('"test.scale"', f'"standing.{operator}"')
    (folder / "p.toml").write_text(text)
    monkeypatch.setattr("lazyflow_cli.run._STALL_S", 0.05)

    class GoOn(logging.Handler):
        def emit(self, record):
            module = sys.modules["standing.operators"]
            module.go_on.set()
            module.also_go_on.set()

    handler = GoOn()
    logging.getLogger("lazyflow_core").addHandler(handler)
    try:
        result = lazyflow("run", "p.toml", "--workers", "2")
    finally:
        logging.getLogger("lazyflow_core").removeHandler(handler)
        sys.modules.pop("standing.operators", None)
    assert result.exit_code == 0, result.output
    assert re.search(told, caplog.text)
    assert re.search(r"operators\.py.*in execute", caplog.text)
