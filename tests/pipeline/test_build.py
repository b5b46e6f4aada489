"""A pipeline becomes operators in a graph; mistakes that need the data are found then."""

import numpy as np
import pytest

from lazyflow_core.errors import FormatError, PipelineError
from lazyflow_core.graph import Graph, Operator, ParameterSlot
from lazyflow_core.pipeline import Export, Pipeline
from lazyflow_core.roi import Roi

VOLUME = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture
def pipeline(tmp_path, good):
    np.save(tmp_path / "cells.npy", VOLUME)
    return Pipeline.from_toml(good, folder=tmp_path)


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


def test_operators_are_connected_and_named_like_their_steps(pipeline, graph, registry):
    built = pipeline.build(graph, registry)
    assert [operator.name for operator in graph.operators] == ["volume", "smooth"]
    np.testing.assert_array_equal(built.slot("smooth.output").read(), VOLUME * np.float32(1.5))


def test_steps_may_stand_in_any_order(pipeline, graph, registry):
    data = pipeline.to_dict()
    turned = Pipeline.from_dict({key: data[key] for key in ("smooth", "volume")}, folder=pipeline.folder)
    np.testing.assert_array_equal(
        turned.build(graph, registry).slot("smooth.output").read(), VOLUME * np.float32(1.5)
    )


def test_an_export_knows_its_slot_region_and_target(pipeline, graph, registry, tmp_path):
    built = pipeline.with_overrides(roi="1,:,-2:").build(graph, registry)
    (export,) = built.exports
    assert export.slot is built.operators["smooth"].output
    assert export.roi == Roi((1, 0, 2), (2, 3, 4))
    assert export.path == tmp_path / "smooth.zarr"
    assert built.source_of("smooth.output") is built.operators["volume"].output


def test_an_export_is_cast_where_it_asks_for_another_type(pipeline, graph, registry):
    exports = [
        Export("smooth.output", "a.zarr", dtype="uint16"),
        Export("smooth.output", "b.zarr", dtype="float32"),
    ]
    built = pipeline.with_overrides(exports=exports).build(graph, registry)
    assert built.exports[0].slot.meta.dtype == np.uint16
    assert built.exports[1].slot is built.operators["smooth"].output


def test_what_an_operator_refuses_is_told_with_its_table(pipeline, graph, registry):
    with pytest.raises(PipelineError) as caught:
        pipeline.with_overrides(set={"smooth.sigma": 101}).build(graph, registry)
    assert str(caught.value) == "pipeline:5 [smooth]: the sigma is larger than the volume."


def test_what_a_file_is_to_blame_for_keeps_its_class(pipeline, graph, registry, tmp_path):
    (tmp_path / "cells.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(FormatError, match="is truncated"):
        pipeline.build(graph, registry)


@pytest.mark.parametrize(
    ("roi", "sentence"),
    [
        (
            "5:7,:,:",
            ": [5:7, :, :] reaches outside an array of shape (2, 3, 4), or is reversed. "
            "ROIs are absolute and never clipped.",
        ),
        ("1:1,:,:", " holds no pixel."),
        (":,:,:,:", ": [:, :, :, :] does not fit an array of 3 axes."),
    ],
)
def test_a_region_outside_the_array_is_refused(pipeline, graph, registry, roi, sentence):
    with pytest.raises(PipelineError) as caught:
        pipeline.with_overrides(roi=roi).build(graph, registry)
    assert str(caught.value) == (
        f"pipeline, override roi: roi = {roi!r} of smooth.output (y=2, x=3, c=4 float32){sentence}"
    )


def test_checking_opens_no_file_and_building_computes_nothing(pipeline, graph, registry, monkeypatch):
    opened = []
    read = registry.operators["io.read"]
    monkeypatch.setattr(read, "execute", lambda *_: pytest.fail("a pixel was computed"))
    monkeypatch.setattr(np, "load", lambda *a, _load=np.load, **k: (opened.append(a), _load(*a, **k))[1])
    checked = pipeline.check(registry)
    assert not opened
    assert checked.pipeline is pipeline
    pipeline.build(graph, registry)
    assert len(opened) == 1


class OpName(Operator):
    """Hold the name of a file for others."""

    text = ParameterSlot(str)


def test_a_target_that_is_read_under_a_connected_path_is_refused(pipeline, graph, registry, tmp_path):
    (tmp_path / "hard.zarr").hardlink_to(tmp_path / "cells.npy")
    registry.operators = {**registry.operators, "stats.name": OpName}
    data = pipeline.to_dict()
    data["names"] = {"operator": "stats.name", "text": str(tmp_path / "cells.npy")}
    data["volume"] = {"operator": "io.read", "path": {"from": "names.text"}}
    data["export"][0]["path"] = "hard.zarr"
    with pytest.raises(PipelineError, match=r"path = 'hard.zarr' is read by 'volume' already"):
        Pipeline.from_dict(data, folder=tmp_path).build(graph, registry)
