"""A pipeline is data: it compares, survives text and pickling, and is overridden without being changed."""

import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyflow_core.pipeline import Export, Pipeline, Step

TEXT = """
[volume]
operator = "io.read"
path = "cells.h5"

[smooth]
operator = "filters.smooth"
image = "volume.output"
sigma = [1.5, 2, 2]

[[export]]
slot = "smooth.output"
path = "smooth.zarr"
chunks = [1, 64, 64]
"""

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True).filter(lambda name: name != "export")
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2)
)
settings = st.dictionaries(keys.filter(lambda key: key != "operator"), values, max_size=4)
options = st.dictionaries(keys.filter(lambda key: key not in Export.__slots__), values, max_size=2)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
pipelines = st.builds(
    lambda steps, exports: Pipeline(tuple(Step(n, "ns.op", s) for n, s in steps.items()), tuple(exports)),
    st.dictionaries(names, settings, min_size=1, max_size=3),
    st.lists(
        st.builds(Export, texts, texts, st.none() | texts, roi=st.none() | texts, options=options), max_size=2
    ),
)


@given(pipelines)
def test_text_gives_an_equal_pipeline_back(pipeline):
    assert Pipeline.from_toml(pipeline.to_toml()) == pipeline
    assert Pipeline.from_dict(pipeline.to_dict()) == pipeline
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


def test_text_is_read_as_it_is_written():
    pipeline = Pipeline.from_toml(TEXT)
    assert pipeline.to_toml().strip() == TEXT.strip()
    assert pipeline.step("smooth") == Step(
        "smooth", "filters.smooth", {"image": "volume.output", "sigma": (1.5, 2, 2)}
    )
    assert pipeline.exports == (Export("smooth.output", "smooth.zarr", options={"chunks": (1, 64, 64)}),)


def test_paths_begin_at_the_folder_of_the_file(tmp_path):
    (tmp_path / "p.toml").write_text(TEXT)
    pipeline = Pipeline.from_toml(tmp_path / "p.toml")
    assert pipeline.path("cells.h5") == tmp_path / "cells.h5"
    assert pipeline.path("/data/cells.h5") == Path("/data/cells.h5")
    assert pipeline == Pipeline.from_toml(TEXT, folder=tmp_path)
    assert pipeline != Pipeline.from_toml(TEXT)


def test_overrides_give_a_new_pipeline():
    pipeline = Pipeline.from_toml(TEXT)
    new = pipeline.with_overrides(
        set={"smooth.sigma": 3, "smooth.mode": "nearest"},
        exports=[Export("volume.output", "copy.h5"), Export("smooth.output", "out.zarr")],
        roi="0:5,:,:",
    )
    assert new.step("smooth").settings == {"image": "volume.output", "sigma": 3, "mode": "nearest"}
    assert new.exports == (
        Export("volume.output", "copy.h5", roi="0:5,:,:"),
        Export("smooth.output", "out.zarr", roi="0:5,:,:"),
    )
    assert pipeline == Pipeline.from_toml(TEXT)


def test_settings_cannot_be_changed_from_outside():
    given = {"sigma": [1.0, 2.0]}
    step = Step("smooth", "filters.smooth", given)
    given["sigma"].append(3.0)
    assert step.settings["sigma"] == (1.0, 2.0)
    with pytest.raises(TypeError):
        step.settings["sigma"] = 1.0


def test_the_python_in_the_documentation_runs(capsys):
    page = (Path(__file__).parents[2] / "docs" / "pipeline.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "docs/pipeline.md", "exec"), {})
    assert "sigma = 3.0" in capsys.readouterr().out
