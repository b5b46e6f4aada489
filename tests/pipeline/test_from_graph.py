import numpy as np
import pytest

from lazyflow_core.errors import PipelineError
from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.pipeline import Pipeline
from lazyflow_core.plugins import PluginManager

from .operators import OpMean, OpPeak


class OpRamp(Operator):
    length = ParameterSlot(int, default=5)
    label = ParameterSlot(str, default="")
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = ArrayMeta((self.length.value,), "float64")

    def execute(self, slot, roi, out):
        out[...] = np.arange(roi.start[0], roi.stop[0])


class OpScale(Operator):
    image = InputSlot()
    factors = ParameterSlot(float | tuple | object, default=1.0)
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        np.multiply(self.image.read(roi), np.sum(self.factors.value), out=out)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


class OpKeeps(OpScale):
    kept = ParameterSlot(object, default=None, state=True)


class OpTotal(Operator):
    images = InputSlot(level=1)
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.images[0].meta

    def execute(self, slot, roi, out):
        out[...] = sum(image.read(roi) for image in self.images)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


@pytest.fixture
def registry():
    manager = PluginManager(only=())
    for operator in (OpRamp, OpScale, OpKeeps, OpTotal, OpPeak, OpMean):
        id = f"t.{operator.__name__[2:].lower()}"
        manager.register(id, operator)
    return manager


@pytest.fixture
def total(graph):
    ramp = OpRamp(graph=graph, name="ramp", length=7)
    double = OpScale(graph=graph, image=ramp.output, factors=(1, 1.0))
    other = OpScale(graph=graph, image=double.output, factors=10)
    return OpTotal(graph=graph, name="export", images=[ramp.output, double.output, other.output])


def test_a_graph_there_and_back_is_the_same_graph(graph, total, registry):
    pipeline = Pipeline.from_graph(graph, registry)
    assert [step.name for step in pipeline.steps] == ["ramp", "OpScale", "OpScale_2", "step_export"]
    read = Pipeline.from_toml(pipeline.to_toml())
    assert read == pipeline
    with Graph() as rebuilt:
        built = read.build(rebuilt, registry)
        result = built.slot("step_export.output")
        assert np.array_equal(result.read(), total.output.read())
        assert Pipeline.from_graph(rebuilt, registry) == pipeline


def test_defaults_are_not_written(graph, registry):
    OpRamp(graph=graph, label="a")
    assert Pipeline.from_graph(graph, registry).to_dict() == {"OpRamp": {"operator": "t.ramp", "label": "a"}}


def test_what_is_no_data_is_refused_in_a_sentence(graph, registry):
    scale = OpScale(graph=graph, name="scale", image=np.zeros(3))
    with pytest.raises(PipelineError, match=r"scale\.image has an array that was assigned in this process"):
        Pipeline.from_graph(graph, registry)
    scale.image.connect(OpRamp(graph=graph).output)
    scale.factors.value = np.ones(2)
    with pytest.raises(PipelineError, match=r"scale\.factors = array.* cannot be written as data"):
        Pipeline.from_graph(graph, registry)

    class OpParts(Operator):
        def __init__(self, **slots):
            super().__init__(**slots)
            self.part = OpRamp(parent=self)

    scale.factors.connect(OpParts(graph=graph).part.length)
    with pytest.raises(PipelineError, match=r"scale\.factors takes from OpRamp\.length, which belongs to no"):
        Pipeline.from_graph(graph, registry)


def test_the_order_of_making_is_no_part_of_the_description(graph, registry):
    scale = OpScale(graph=graph, name="scale")
    OpRamp(graph=graph, name="unused")
    scale.image.connect(OpRamp(graph=graph, name="ramp").output)
    pipeline = Pipeline.from_graph(graph, registry)
    assert [step.name for step in pipeline.steps] == ["unused", "ramp", "scale"]
    with Graph() as rebuilt:
        pipeline.build(rebuilt, registry)
        assert Pipeline.from_graph(rebuilt, registry) == pipeline


def test_connected_parameters_go_there_and_back_too(graph, registry):
    ramp = OpRamp(graph=graph, name="ramp", length=4)
    peak = OpPeak(graph=graph, name="peak", image=ramp.output)
    scale = OpScale(graph=graph, name="scale", image=ramp.output, factors=peak.peak)
    OpRamp(graph=graph, name="twin", length=ramp.length, label=ramp.label)
    pipeline = Pipeline.from_graph(graph, registry)
    assert pipeline.step("twin").settings == {"length": "ramp.length", "label": {"from": "ramp.label"}}
    assert pipeline.step("scale").settings["factors"] == {"from": "peak.peak"}  # it could be a text as well
    read = Pipeline.from_toml(pipeline.to_toml())
    assert read == pipeline
    with Graph() as rebuilt:
        built = read.build(rebuilt, registry)
        assert Pipeline.from_graph(rebuilt, registry) == pipeline
        assert np.array_equal(built.slot("scale.output").read(), scale.output.read())
        assert built.slot("scale.output").read().tolist() == [0, 3, 6, 9]
        built.operators["ramp"].length.value = 2
        assert built.slot("twin.output").meta.shape == (2,)
        assert built.slot("scale.output").read().tolist() == [0, 1]
        assert built.source_of("scale.output") is built.slot("ramp.output")


def test_an_operator_without_an_id_is_refused(graph, registry):
    class OpPrivate(OpRamp):
        pass

    OpPrivate(graph=graph)
    with pytest.raises(
        PipelineError, match=r"OpPrivate: no installed distribution offers .*OpPrivate by an id"
    ):
        Pipeline.from_graph(graph, registry)


def test_a_list_in_a_pipeline_has_no_gaps(graph, total, registry):
    total.images.append()
    with pytest.raises(PipelineError, match=r"export\.images\[3\] is not connected"):
        Pipeline.from_graph(graph, registry)


def test_a_slot_that_takes_a_list_says_so(registry):
    text = '[a]\noperator = "t.ramp"\n[b]\noperator = "t.total"\nimages = "a.output"\n'
    with pytest.raises(PipelineError, match=r"\[b\]: images = 'a\.output' is not a list of connections"):
        Pipeline.from_toml(text).check(registry)
    text = text.replace('"a.output"', '["a.output", "a.outptu"]')
    with pytest.raises(PipelineError, match=r"images\[1\] = 'a\.outptu': step 'a' has no output"):
        Pipeline.from_toml(text).check(registry)


def test_lists_of_values_go_there_and_back_too(graph, registry):
    text = """
[mean]
operator = "t.mean"
image = "ramp.output"
values = [1, "peak.peak", {from = "ramp.length"}]

[peak]
operator = "t.peak"
image = "ramp.output"

[ramp]
operator = "t.ramp"
length = 4
"""
    built = Pipeline.from_toml(text).build(graph, registry)
    assert built.slot("mean.output").read()[0] == (1 + 3 + 4) / 3
    again = Pipeline.from_graph(graph, registry)
    assert again.step("mean").settings["values"] == (1.0, "peak.peak", "ramp.length")
    with Graph() as other:
        assert (
            Pipeline.from_toml(again.to_toml()).build(other, registry).slot("mean.output").read()[0]
            == (1 + 3 + 4) / 3
        )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("1.0", "is not a list; this parameter takes list of float values"),
        ('[1.0, "no.peak"]', r"values\[1\].*no step 'no'"),
        ("[1.0, true]", r"values\[1\]: True is a bool, not float"),
    ],
)
def test_mistakes_in_a_list_of_values_say_which(values, sentence, registry):
    text = f"""
[ramp]
operator = "t.ramp"
length = 4

[mean]
operator = "t.mean"
image = "ramp.output"
values = {values}
"""
    with pytest.raises(PipelineError, match=sentence):
        Pipeline.from_toml(text).check(registry)


def test_state_is_no_part_of_a_pipeline(registry):
    graph = Graph()
    keeps = OpKeeps(graph=graph, factors=2.0)
    keeps.kept.value = object()
    assert Pipeline.from_graph(graph, registry).steps[0].settings == {"factors": 2.0}
