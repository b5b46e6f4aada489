"""Whatever a pipeline file says: nothing is imported by name or evaluated, and no error is a foreign one."""

import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyflow_core.errors import PipelineError
from lazyflow_core.pipeline import Pipeline
from lazyflow_core.plugins import PluginManager

HOSTILE_OPERATORS = [
    "os.system",
    "os:system",
    "subprocess.run",
    "builtins.eval",
    "__import__('antigravity')",
    "lazyflow_core.graph.operator:Operator",
    "../../evil.py",
    "antigravity.x",
    "a.b.c",
    "",
]


@pytest.mark.parametrize("operator", HOSTILE_OPERATORS)
def test_an_operator_is_never_found_by_import(operator):
    before = set(sys.modules)
    with pytest.raises(PipelineError):
        Pipeline.from_dict({"step": {"operator": operator}}).check(PluginManager(only=[]))
    assert "antigravity" not in set(sys.modules) - before


@pytest.mark.parametrize(
    "key", ["__init__", "__class__", "execute", "graph", "parent", "name", "slots", "operator.x"]
)
def test_only_declared_slots_can_be_set(registry, key):
    data = {"step": {"operator": "filters.smooth", "image": "step.output", key: "os.system"}}
    with pytest.raises(PipelineError, match="has no slot or parameter"):
        Pipeline.from_dict(data).check(registry)


@pytest.mark.parametrize(
    "slot", ["step.__class__", "step.graph", "step.setup_outputs", "step.image.output", "step."]
)
def test_only_declared_outputs_can_be_connected(registry, slot):
    data = {"step": {"operator": "filters.smooth", "image": slot}}
    with pytest.raises(PipelineError):
        Pipeline.from_dict(data).check(registry)


def test_a_link_to_nothing_is_told_as_what_it_is(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "annexed.npy").symlink_to(".git/annex/objects/aa/bb/MD5E-s9--0.npy")
    (tmp_path / "moved.npy").symlink_to("elsewhere.npy")
    for name, reason in (
        ("annexed.npy", "'git annex get' fetches it"),
        ("moved.npy", "a link to 'elsewhere.npy'"),
    ):
        with pytest.raises(PipelineError, match=reason):
            Pipeline.from_dict({"step": {"operator": "io.read", "path": name}}).check(registry)


def test_text_that_looks_like_code_stays_text(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "__import__('os').system('touch canary')"
    pipeline = Pipeline.from_dict({"step": {"operator": "io.read", "path": text}})
    assert pipeline.step("step").settings["path"] == text
    with pytest.raises(PipelineError, match="there is no file"):
        pipeline.check(registry)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "~nobody-of-that-name/x", "loop", ""])
def test_an_impossible_path_is_no_crash(registry, tmp_path, path):
    (tmp_path / "loop").symlink_to("loop")
    np.save(tmp_path / "cells.npy", np.zeros(3))
    read = {"operator": "io.read", "path": path}
    with pytest.raises(PipelineError):
        Pipeline.from_dict({"step": read}, folder=tmp_path).check(registry)
    data = {"step": read | {"path": "cells.npy"}, "export": [{"slot": "step.output", "path": path}]}
    with pytest.raises(PipelineError):
        Pipeline.from_dict(data, folder=tmp_path).check(registry)


edits = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([*"[]=\"\n#.'{},\0é", "export", "1e999"])))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits, st.booleans())
def test_a_mutated_file_gives_a_pipeline_or_our_error(registry, good, edits, insert):
    for position, text in edits:
        at = position % (len(good) + 1)
        good = good[:at] + text + good[at + (0 if insert else 1) :]
    with suppress(PipelineError):
        Pipeline.from_toml(good).check(registry)


def test_nested_tables_are_read_to_the_depth_that_python_allows():
    deep = "x = " + "[" * 150 + "]" * 150
    pipeline = Pipeline.from_toml(f'[step]\noperator = "io.read"\n{deep}\n')
    assert Pipeline.from_toml(pipeline.to_toml()) == pipeline
