"""What objects show of themselves: shape, axes, value, readiness; signatures name slots."""

import inspect
import pydoc

import numpy as np
import pytest

from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.meta import ArrayMeta


class OpScale(Operator):
    """Multiply."""

    image = InputSlot()
    mask = InputSlot(optional=True)
    factor = ParameterSlot(float)
    mode = ParameterSlot(str, default="fast")
    output = OutputSlot()
    total = OutputSlot(value=float)

    def setup_outputs(self):
        self.output.meta = self.image.meta.replace(dtype=np.float32, value_range=None)

    def execute(self, slot, roi, out):
        np.multiply(self.image.read(roi), self.factor.value, out=out)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)

    def compute_value(self, slot):
        return 1.0


class OpFromFile(OpScale):
    """Has an ``__init__`` of its own."""

    def __init__(self, path, *, mode="slow", **slots):
        super().__init__(mode=mode, **slots)
        self.path = path


class OpFixed(OpScale):
    """Takes no slots from its caller."""

    def __init__(self):
        super().__init__()


@pytest.fixture
def scale(graph):
    return OpScale(graph=graph, name="scale", image=np.zeros((4, 6), np.uint8), factor=2.0)


def test_slots_show_shape_axes_dtype_and_value(scale):
    assert repr(scale.image) == "<Input scale.image: y=4, x=6 uint8>"
    assert repr(scale.output) == "<Output scale.output: y=4, x=6 float32>"
    assert repr(scale.factor) == "<Parameter scale.factor: 2.0>"
    assert repr(scale.mode) == "<Parameter scale.mode: 'fast' (default)>"
    assert repr(scale.total) == "<ValueOutput scale.total: computed when asked for>"
    assert repr(scale.mask) == "<Input scale.mask: not connected (optional)>"


def test_slots_show_where_they_take_from(graph, scale):
    second = OpScale(graph=graph, name="second", image=scale.output, factor=scale.factor)
    assert repr(second.image) == "<Input second.image ← scale.output: y=4, x=6 float32>"
    assert repr(second.factor) == "<Parameter second.factor ← scale.factor: 2.0>"


def test_operators_show_what_they_were_given_and_what_comes_out(scale):
    assert repr(scale) == (
        "<OpScale 'scale', ready: image y=4, x=6 uint8; factor 2.0 → "
        "output y=4, x=6 float32; total computed when asked for>"
    )
    scale.close()
    assert repr(scale) == "<OpScale 'scale', closed>"


def test_what_is_missing_shows(graph):
    scale = OpScale(graph=graph)
    assert repr(scale.output) == "<Output OpScale.output: not ready: OpScale.image has no value>"
    assert repr(scale).startswith("<OpScale, not ready: image not ready: ")
    assert repr(graph) == "<Graph of 1 operator, 1 not ready, such as OpScale>"
    scale.image.assign(np.zeros((2, 2)))
    scale.factor.value = 1.0
    assert repr(graph) == "<Graph of 1 operator>"


def test_notebooks_show_tables(graph, scale):
    meta = ArrayMeta((4, 6), "uint8", value_range=(0, 255))
    scale.image.assign(np.zeros((4, 6), np.uint8), meta)
    shown = scale.image._repr_html_()
    for part in ("Input scale.image", "4 × 6", "axis y", "uint8", "0 to 255"):
        assert part in shown
    shown = scale._repr_html_()
    for part in ("scale (OpScale): ready", "factor", "2.0", "y=4, x=6 float32"):
        assert part in shown
    assert "scale" in graph._repr_html_()


def test_names_and_values_of_users_cannot_become_html(graph):
    scale = OpScale(graph=graph, name="<script>", mode="<b>")
    assert "<script>" not in scale._repr_html_() + scale.image._repr_html_()
    assert "<b>" not in scale._repr_html_()


def test_a_repr_never_raises(graph):
    class Rude:
        def __repr__(self):
            raise RuntimeError

    class OpAny(Operator):
        thing = ParameterSlot(object)

    op = OpAny(graph=graph, thing=Rude())
    assert repr(op.thing) == "<Parameter OpAny.thing: not known now (RuntimeError)>"
    assert "not known now" in repr(op) + op._repr_html_()


def test_the_signature_of_a_class_names_its_slots():
    assert str(inspect.signature(OpScale)) == (
        "(*, image=<required>, mask=<optional>, factor: float = <required>, mode: str = 'fast', "
        "graph=None, parent=None, name=None)"
    )
    inspect.signature(OpScale).bind(graph=Graph(), factor=3.0)


def test_the_signature_keeps_what_a_class_adds():
    assert str(inspect.signature(OpFromFile)) == (
        "(path, *, mode='slow', image=<required>, mask=<optional>, factor: float = <required>, "
        "graph=None, parent=None, name=None)"
    )
    assert str(inspect.signature(OpFixed)) == "(*, graph=None, parent=None, name=None)"


def test_help_shows_slots_and_what_they_accept():
    text = pydoc.render_doc(OpScale, renderer=pydoc.plaintext)
    # From Python 3.13 on a long signature has a line for each parameter.
    assert "OpScale(*,image=<required>," in "".join(text.replace("|", "").split())
    assert "factor = <ParameterSlot factor: float, required>" in text
    assert "mask = <InputSlot mask: array, optional>" in text


def test_the_class_of_operator_classes_has_a_signature_of_its_own():
    assert "name" in inspect.signature(type(OpScale)).parameters
