"""Every mistake in a pipeline file gives one sentence: where, what was given, what is possible."""

# ruff: noqa: E501  # sentences stand here as they are printed

import os
import re

import numpy as np
import pytest

from lazyflow_core.errors import PipelineError
from lazyflow_core.pipeline import Export, Pipeline


@pytest.fixture
def write(tmp_path):
    """Write a pipeline file beside its data and return its path."""
    np.save(tmp_path / "cells.npy", np.arange(24, dtype=np.uint8).reshape(2, 3, 4))

    def write(text):
        path = tmp_path / "p.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def complaint(registry):
    """Return the sentence about a pipeline file, its folder taken out."""

    def complaint(path, **overrides):
        with pytest.raises(PipelineError) as caught:
            Pipeline.from_toml(path).with_overrides(**overrides).check(registry)
        text = str(caught.value)
        assert "\n" not in text
        return text.replace(f"{path.parent}/", "")

    return complaint


def test_the_good_pipeline_has_no_mistake(write, good, registry):
    checked = Pipeline.from_toml(write(good)).check(registry)
    assert [step.step.name for step in checked.steps] == ["volume", "smooth"]


# fmt: off
MISTAKES = {
    "a syntax error": (
        ("sigma = 1.5", "sigma = = 1.5"),
        "p.toml:8: not TOML: Invalid value (column 9).",
    ),
    "a syntax error at the end": (
        ('path = "smooth.zarr"\n', 'path = "smooth.zarr'),
        "p.toml:12: not TOML: Unterminated string (end of the file).",
    ),
    "a key given twice": (
        ("sigma = 1.5", "sigma = 1.5\nsigma = 2.5"),
        "p.toml:9: not TOML: Cannot overwrite a value (column 12).",
    ),
    "a value outside of any table": (
        ("[volume]", "sigma = 3\n[volume]"),
        "p.toml:1: 'sigma' stands outside of any table; every value belongs to a step such as [smooth] or to an "
        "[[export]].",
    ),
    "a step with double brackets": (
        ("[smooth]", "[[smooth]]"),
        "p.toml:5 [[smooth]]: a step has single brackets, [smooth]; only exports are many.",
    ),
    "an export with single brackets": (
        ("[[export]]", "[export]"),
        "p.toml:10 [export]: exports have double brackets, [[export]]: there may be many.",
    ),
    "a step without operator": (
        ('operator = "filters.smooth"\n', ""),
        'p.toml:5 [smooth]: the step names no operator; add a line such as operator = '
        '"filters.gaussian_smoothing".',
    ),
    "an unknown operator": (
        ("filters.smooth", "filters.smoth"),
        "p.toml:6 [smooth]: no operator 'filters.smoth'; did you mean 'filters.smooth'?",
    ),
    "an import path": (
        ("filters.smooth", "os:system"),
        "p.toml:6 [smooth]: operator = 'os:system' is not the id of an operator, such as "
        "'filters.gaussian_smoothing'; a pipeline cannot name modules or classes.",
    ),
    "an operator that is a number": (
        ('"filters.smooth"', "5"),
        "p.toml:6 [smooth]: operator = 5 is not the id of an operator, such as "
        "'filters.gaussian_smoothing'; a pipeline cannot name modules or classes.",
    ),
    "a dunder attribute as a slot": (
        ("sigma = 1.5", '__class__ = "os.system"'),
        "p.toml:8 [smooth]: filters.smooth has no slot or parameter '__class__'. Its inputs: image. "
        "Its parameters: sigma, mode.",
    ),
    "an unknown parameter": (
        ("sigma", "sgima"),
        "p.toml:8 [smooth]: filters.smooth has no slot or parameter 'sgima'; did you mean 'sigma'? "
        "Its inputs: image. Its parameters: sigma, mode.",
    ),
    "a text for a number": (
        ("sigma = 1.5", 'sigma = "large"'),
        "p.toml:8 [smooth]: sigma: 'large' is a str, not float.",
    ),
    "a value that is not allowed": (
        ("sigma = 1.5", "sigma = -1"),
        "p.toml:8 [smooth]: sigma: -1 is not positive.",
    ),
    "a value that is not among the choices": (
        ("sigma = 1.5", 'mode = "reflekt"'),
        "p.toml:8 [smooth]: mode: 'reflekt' is not one of 'reflect', 'nearest'; did you mean 'reflect'?",
    ),
    "a value for an input slot": (
        ('image = "volume.output"', "image = 3"),
        "p.toml:7 [smooth]: image = 3 is not a connection; an input slot takes 'step.slot', such as "
        "'volume.output'.",
    ),
    "a connection without a slot": (
        ('"volume.output"', '"volume"'),
        "p.toml:7 [smooth]: image = 'volume' is not a connection; an input slot takes 'step.slot', such as "
        "'volume.output'.",
    ),
    "an input that is not connected": (
        ('image = "volume.output"\n', ""),
        "p.toml:5 [smooth]: the input 'image' of filters.smooth is not connected; add a line such as "
        'image = "volume.output".',
    ),
    "a parameter without value": (
        ('path = "cells.npy"\n', ""),
        "p.toml:1 [volume]: the parameter 'path' of io.read (str, required) has no value; add a line path = …",
    ),
    "a connection to a missing step": (
        ('"volume.output"', '"volum.output"'),
        "p.toml:7 [smooth]: image = 'volum.output': no step 'volum'; did you mean 'volume'? "
        "Steps: volume, smooth.",
    ),
    "a connection to a missing output": (
        ('"volume.output"', '"volume.outptu"'),
        "p.toml:7 [smooth]: image = 'volume.outptu': step 'volume' has no output 'outptu'; "
        "did you mean 'output'? Its outputs: output.",
    ),
    "a connection to an input": (
        ('slot = "smooth.output"', 'slot = "smooth.image"'),
        "p.toml:11 [[export]]: slot = 'smooth.image': step 'smooth' has no output 'image'. Its outputs: output.",
    ),
    "a step that takes from itself": (
        ('"volume.output"', '"smooth.output"'),
        "p.toml:5 [smooth]: the connections go in a circle: smooth → smooth; a step cannot take from itself, "
        "not even through others.",
    ),
    "a value where an array is needed": (
        ('image = "volume.output"', 'image = "peak.peak"\n[peak]\noperator = "stats.peak"\nimage = "volume.output"'),
        "p.toml:7 [smooth]: image = 'peak.peak': step 'peak' has one float as its 'peak', which parameters take; "
        "this needs an array. Its outputs: none.",
    ),
    "an array where a value is needed": (
        ("sigma = 1.5", 'sigma = "volume.output"'),
        "p.toml:8 [smooth]: sigma = 'volume.output': step 'volume' has an array as its 'output'; a parameter takes "
        "one value. Its values: path, dataset.",
    ),
    "a value of another type": (
        ("sigma = 1.5", 'sigma = "volume.path"'),
        "p.toml:8 [smooth]: sigma = 'volume.path': 'path' of step 'volume' is str, not float.",
    ),
    "a missing value": (
        ("sigma = 1.5", 'mode = {from = "volume.pth"}'),
        "p.toml:8 [smooth]: mode = 'volume.pth': step 'volume' has no value 'pth'; did you mean 'path'? "
        "Its values: path, dataset.",
    ),
    "a value of a missing step": (
        ("sigma = 1.5", 'sigma = "otsu.level"'),
        "p.toml:8 [smooth]: sigma = 'otsu.level': no step 'otsu'. Steps: volume, smooth.",
    ),
    "a connection of a value that is none": (
        ("sigma = 1.5", "sigma = {from = 3}"),
        "p.toml:8 [smooth]: sigma = '3' is not a connection, which is a text such as 'otsu.level'.",
    ),
    "a circle through a parameter": (
        ("sigma = 1.5", 'sigma = "smooth.sigma"'),
        "p.toml:5 [smooth]: the connections go in a circle: smooth → smooth; a step cannot take from itself, "
        "not even through others.",
    ),
    "a missing input file": (
        ('path = "cells.npy"', 'path = "cell.npy"'),
        "p.toml:3 [volume]: path = 'cell.npy': there is no file 'cell.npy'; "
        "did you mean 'cells.npy'?",
    ),
    "a missing input folder": (
        ('path = "cells.npy"', 'path = "data/cells.npy"'),
        "p.toml:3 [volume]: path = 'data/cells.npy': there is no file 'data/cells.npy'; "
        "its folder cannot be listed either.",
    ),
    "an address as input": (
        ('path = "cells.npy"', 'path = "https://example.org/cells.npy"'),
        "p.toml:3 [volume]: path = 'https://example.org/cells.npy' is an address, not a file of this machine; "
        "download it and give its path.",
    ),
    "an export without target": (
        ('path = "smooth.zarr"\n', ""),
        'p.toml:10 [[export]]: the export has no path; add a line such as path = "result.zarr".',
    ),
    "an export without slot": (
        ('slot = "smooth.output"\n', ""),
        'p.toml:10 [[export]]: the export has no slot; add a line such as slot = "threshold.output".',
    ),
    "an export path that is no text": (
        ('path = "smooth.zarr"', "path = 5"),
        "p.toml:12 [[export]]: path = 5 is not a text; write path in quotes.",
    ),
    "an export of a missing step": (
        ('slot = "smooth.output"', 'slot = "smoth.output"'),
        "p.toml:11 [[export]]: slot = 'smoth.output': no step 'smoth'; did you mean 'smooth'? "
        "Steps: volume, smooth.",
    ),
    "two exports to one target": (
        ("[[export]]", '[[export]]\nslot = "volume.output"\npath = "sub/../smooth.zarr"\n[[export]]'),
        "p.toml:15 [[export]]: path = 'smooth.zarr' is the target of export 1 already; "
        "every export needs a target of its own.",
    ),
    "an export over the input": (
        ('"smooth.zarr"', '"cells.npy"'),
        "p.toml:12 [[export]]: path = 'cells.npy' is read by 'volume' already; "
        "every export needs a target of its own.",
    ),
    "an export inside the input": (
        ('"smooth.zarr"', '"cells.npy/smooth.zarr"'),
        "p.toml:12 [[export]]: path = 'cells.npy/smooth.zarr' is inside 'cells.npy', which is read by 'volume' "
        "already; every export needs a target of its own.",
    ),
    "an export around another": (
        ("[[export]]", '[[export]]\nslot = "volume.output"\npath = "smooth.zarr/raw.zarr"\n[[export]]'),
        "p.toml:15 [[export]]: path = 'smooth.zarr' contains the target of export 1 already; "
        "every export needs a target of its own.",
    ),
    "two exports to one array": (
        ("[[export]]", '[[export]]\nslot = "volume.output"\npath = "smooth.zarr"\ndataset = "/a"\n'
         '[[export]]\ndataset = "a"'),
        "p.toml:17 [[export]]: path = 'smooth.zarr' is the target of export 1 already; "
        "every export needs a target of its own.",
    ),
    "an unknown format": (
        ('path = "smooth.zarr"', 'path = "smooth.zarr"\nformat = "zar"'),
        "p.toml:13 [[export]]: nothing installed can write the format 'zar'; did you mean 'zarr'? "
        "Possible: hdf5, zarr.",
    ),
    "a file name that tells no format": (
        ('"smooth.zarr"', '"smooth.czi"'),
        "p.toml:12 [[export]]: nothing installed writes smooth.czi (io.zarr (*.zarr); io.hdf5 (*.h5, *.hdf5)).",
    ),
    "an unknown option": (
        ('path = "smooth.zarr"', 'path = "smooth.zarr"\nchunk = [1, 2, 2]'),
        "p.toml:13 [[export]]: exports by io.zarr have no option 'chunk'; did you mean 'chunks'? "
        "Options: chunks, compression.",
    ),
    "an unknown type of pixels": (
        ('path = "smooth.zarr"', 'path = "smooth.zarr"\ndtype = "unit8"'),
        "p.toml:13 [[export]]: dtype = 'unit8' is not a type of pixels; write 'uint8', 'uint16', 'float32' or "
        "another numpy name.",
    ),
    "a region that is none": (
        ('path = "smooth.zarr"', 'path = "smooth.zarr"\nroi = "1:2,a,:"'),
        "p.toml:13 [[export]]: roi = '1:2,a,:': 'a' is not a range of pixels; write one for each axis, such as "
        "'10:20,:,:', or name axes, such as 't=5, x=:100'.",
    ),
    "a region with strides": (
        ('path = "smooth.zarr"', 'path = "smooth.zarr"\nroi = "::2,:,:"'),
        "p.toml:13 [[export]]: roi = '::2,:,:': '::2' is not a range of pixels; write one for each axis, such as "
        "'10:20,:,:', or name axes, such as 't=5, x=:100'.",
    ),
}
# fmt: on


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_sentence(write, complaint, good, mistake):
    (old, new), sentence = MISTAKES[mistake]
    assert good.count(old), "the good pipeline has what is spoiled"
    at = good.rindex(old) if old == 'path = "smooth.zarr"\n' else good.index(old)
    assert complaint(write(good[:at] + new + good[at + len(old) :])) == sentence


def test_two_arrays_of_one_file_are_two_targets(write, good, registry):
    twice = (
        '[[export]]\nslot = "volume.output"\npath = "smooth.zarr"\ndataset = "a"\n[[export]]\ndataset = "b"'
    )
    Pipeline.from_toml(write(good.replace("[[export]]", twice))).check(registry)


def test_a_circle_is_named_whole(write, complaint):
    text = """
[a]
operator = "filters.smooth"
image = "c.output"
[b]
operator = "filters.smooth"
image = "a.output"
[c]
operator = "array.add"
image = "b.output"
"""
    sentence = complaint(write(text))
    assert re.search(r"go in a circle: (a → b → c → a|b → c → a → b|c → a → b → c); a step", sentence)


def test_an_empty_file_says_what_a_step_is(write, complaint):
    assert complaint(write("# nothing\n")) == (
        "p.toml: there is no step in it; a step is a table such as [smooth] with a line "
        'operator = "filters.gaussian_smoothing".'
    )


def test_a_missing_pipeline_file_is_named(tmp_path, complaint):
    assert complaint(tmp_path / "p.toml") == "p.toml: no such file; give the path of a pipeline file (TOML)."


def test_a_folder_is_no_pipeline_file(tmp_path, complaint):
    (tmp_path / "p.toml").mkdir()
    assert complaint(tmp_path / "p.toml") == "p.toml is a folder, not a file."


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_no_pipeline_file_and_is_not_waited_for(tmp_path, complaint):
    os.mkfifo(tmp_path / "p.toml")
    assert complaint(tmp_path / "p.toml") == "p.toml is no ordinary file but a pipe or a device."


def test_a_pipeline_file_that_was_not_fetched_is_told_as_that(tmp_path, complaint):
    (tmp_path / "p.toml").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    assert "p.toml is a pointer of Git LFS" in complaint(tmp_path / "p.toml")
    (tmp_path / "q.toml").symlink_to(".git/annex/objects/aa/bb/MD5E-s9--0.toml")
    assert "q.toml is a link of git-annex" in complaint(tmp_path / "q.toml")


def test_a_binary_file_is_no_pipeline_file(tmp_path, complaint):
    (tmp_path / "p.toml").write_bytes(b"\x89HDF\r\n")
    assert complaint(tmp_path / "p.toml") == (
        "p.toml: not a pipeline file: byte 0 is not UTF-8 text, which TOML is made of."
    )


def test_endless_nesting_is_refused(write, complaint):
    assert complaint(write("a = " + "[" * 100_000)) == (
        "p.toml: not a pipeline: its values are nested too deeply."
    )


def test_control_characters_in_a_file_name_are_escaped(tmp_path):
    path = tmp_path / "a\x1b[31m\nb.toml"
    path.write_text("x = 1\n")
    with pytest.raises(PipelineError, match=re.escape(r"a\x1b[31m\nb.toml:1: 'x' stands outside")):
        Pipeline.from_toml(path)


def test_an_override_is_named_instead_of_a_line(write, complaint, good):
    path = write(good)
    assert complaint(path, set={"smooth.sigma": "x"}) == (
        "p.toml, override smooth.sigma: sigma: 'x' is a str, not float."
    )
    assert complaint(path, set={"smoth.sigma": 3}) == (
        "p.toml, override smoth.sigma: no step 'smoth'; did you mean 'smooth'? Steps: volume, smooth."
    )
    assert complaint(path, set={"sigma": 3}) == (
        "p.toml, override sigma: not 'step.parameter', such as 'smooth.sigma'."
    )
    assert complaint(path, set={"smooth.operator": "filters.smoot"}) == (
        "p.toml, override smooth.operator: no operator 'filters.smoot'; did you mean 'filters.smooth'?"
    )
    assert complaint(path, exports=[Export("smooth.outptu", "a.zarr")]) == (
        "p.toml, override export of smooth.outptu: slot = 'smooth.outptu': step 'smooth' has no output 'outptu'; "
        "did you mean 'output'? Its outputs: output."
    )
    assert complaint(path, roi="all") == (
        "p.toml, override roi: roi = 'all': 'all' is not a range of pixels; write one for each axis, such as "
        "'10:20,:,:', or name axes, such as 't=5, x=:100'."
    )


def test_without_text_the_export_is_numbered():
    data = {"volume": {"operator": "io.read"}, "export": [{"slot": "a.b", "path": "c"}, {"slot": "a.b"}]}
    with pytest.raises(PipelineError, match=r"^pipeline \[\[export\]\] 2: the export has no path;"):
        Pipeline.from_dict(data)
