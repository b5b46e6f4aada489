"""Mistakes in TOML show their line, the source and a caret; numbers and times have limits."""

import time

import pytest

from lazyflow_core.errors import PipelineError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.pipeline import Pipeline, read_table
from lazyflow_core.pipeline._toml import find_lines


def mistake(text):
    with pytest.raises(PipelineError) as caught:
        Pipeline.from_toml(text)
    (note,) = getattr(caught.value, "__notes__", [""])
    return str(caught.value), note


HEAD = '[volume]\noperator = "io.read"\n'


def test_a_syntax_error_shows_its_line_and_a_caret_under_it():
    assert mistake(HEAD + "sigma = = 1\n") == (
        "pipeline:3: not TOML: Invalid value (column 9).",
        "  sigma = = 1\n          ^",
    )


def test_the_caret_stands_under_the_character_whatever_stands_before_it():
    _, note = mistake(HEAD + 'sigma = [\t"日本", = ]\n')
    line, caret = note.split("\n")
    assert line == '  sigma = [\\t"日本", = ]'
    assert caret.index("^") == line.index("= ]") + 2  # each of the two takes two cells of a terminal


def test_a_long_line_is_shown_around_the_mistake():
    _, note = mistake(HEAD + f"sigma = [{'1, ' * 10_000}=]\n")
    line, caret = note.split("\n")
    assert len(line) <= 102
    assert line[caret.index("^")] == "="


def test_the_end_of_the_file_has_a_caret_too():
    assert mistake(HEAD + 'path = "a') == (
        "pipeline:3: not TOML: Unterminated string (end of the file).",
        '  path = "a\n           ^',
    )


@pytest.mark.parametrize("path", [r"C:\Users\me\cells.h5", r"C:\data\cells.h5", r"\\server\share\a.h5"])
def test_a_windows_path_in_double_quotes_is_told_how_to_write_it(path):
    sentence, note = mistake(f'{HEAD}path = "{path}"\n')
    assert sentence.startswith("pipeline:3: not TOML: ")
    assert sentence.endswith(f"; in double quotes a backslash begins an escape: write a path as '{path}'.")
    assert path in note
    assert Pipeline.from_toml(f"{HEAD}path = '{path}'\n").step("volume").settings["path"] == path


def test_a_windows_path_whose_escapes_are_legal_is_told_what_became_of_them(registry):
    pipeline = Pipeline.from_toml(HEAD + r'path = "C:\tmp\new.h5"')
    with pytest.raises(PipelineError, match="put Windows paths in single quotes"):
        pipeline.check(registry)


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "99999999999999999999", "-1" + "0" * 30])
def test_a_number_of_more_than_64_bits_is_refused_with_its_line(number):
    sentence, _ = mistake(f"{HEAD}sigma = {number}\n")
    assert sentence.startswith("pipeline:3: ")
    assert "umber has no more than 64 bits" in sentence
    nested, _ = mistake(f"{HEAD}sigma = [1, {{a = {number}}}]\n")
    assert nested.startswith("pipeline:3: ")


def test_a_number_that_is_too_large_for_its_parameter_is_an_error_of_ours(registry):
    data = {"a": {"operator": "filters.smooth", "image": "a.output", "sigma": 10**5000}}
    with pytest.raises(PipelineError, match="sigma: <int> is an int, not float"):
        Pipeline.from_dict(data).check(registry)


@pytest.mark.parametrize("dtype", ["9:1", "9" * 5000, "(2,", "{", ",", "f4,f4", "O", "\0"])
def test_whatever_stands_for_a_dtype_is_an_error_of_ours(registry, dtype):
    data = {
        "add": {"operator": "array.add", "images": ["add.output"]},
        "export": [{"slot": "add.output", "path": "a.zarr", "dtype": dtype}],
    }
    with pytest.raises(PipelineError):
        Pipeline.from_dict(data).check(registry)


SLOW = {
    "a bracket in a list": "[s]\nv = [\n[" + " " * 20_000 + "1,\n2]]\n",
    "a bracket in a text": "[s]\nv = '''\n[" + " " * 20_000 + "\n'''\n",
    "escapes": "[s]\nv = [" + '"a\\\\",' * 5_000 + "]\n",
    "a long key": "[s]\n" + "a" * 20_000 + " = 1\n",
    "many lines": "[s]\nv = " + "[" * 60 + "]" * 60 + "\n" * 20_000,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_finding_lines_takes_a_time_that_grows_with_the_text_only(text):
    begin = time.process_time()
    find_lines(text)
    assert time.process_time() - begin < 10  # hours, where the time grew with the cube


def test_lines_inside_of_values_begin_nothing():
    text = (
        '[s]\nv = [\n[1],\n]\nt = """\n[z]\nq = 1\n"""\nu = [{a = [\n1] }]\nw = 1 # [x]\n'
        "[[export]]\nslot = 'a'\n"
    )
    assert find_lines(text) == {
        ("s",): 1,
        ("s", "v"): 2,
        ("s", "t"): 5,
        ("s", "u"): 9,
        ("s", "w"): 11,
        ("export", 0): 12,
        ("export", 0, "slot"): 13,
    }


def test_a_table_that_only_its_inner_table_names_has_the_line_of_that():
    sentence, _ = mistake("# a comment\n[smooth.extra]\nsigma = 1\n")
    assert sentence.startswith("pipeline:2 [smooth]: the step names no operator")


@pytest.mark.parametrize("text", ["ovule.toml", "folder/my pipeline.toml", "cells.h5", "a=b.toml"])
def test_a_path_as_a_text_is_told_how_to_read_the_file(text):
    sentence, _ = mistake(text)
    assert sentence == (
        f"from_toml({text!r}): a text is the TOML itself; to read a file, write from_toml(Path({text!r}))."
    )


def test_an_inline_table_has_a_caret_of_its_own():
    assert read_table("{path = 'a.h5', level = 1}", "--in") == {"path": "a.h5", "level": 1}
    with pytest.raises(PipelineError) as caught:
        read_table("{path = a.h5}", "--in image")
    assert str(caught.value) == "--in image: the table is no TOML: Invalid value (column 9)."
    assert caught.value.__notes__ == ["  {path = a.h5}\n          ^"]


def test_a_region_is_written_by_axes_too():
    meta = ArrayMeta((3, 40, 50), "uint8", axes="tyx")
    assert meta.roi_of("t=1") == meta.roi_of("1") == meta.roi_of("[1, ...]")
    for text in ("t=1, t=2", "t=1, 2:3", "z=1", "t=9", "1:2:3", "1" * 30, ""):
        with pytest.raises(ValueError):
            meta.roi_of(text)
