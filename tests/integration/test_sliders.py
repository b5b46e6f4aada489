"""Numbers that a user interface shows as sliders: shipped operators say from where to where."""

from lazyflow_core.graph import ParameterSlot
from lazyflow_core.plugins import PluginManager

#: Parameters of which only the image, or the user, knows from where to where, and why.
OF_THE_IMAGE = {
    "array.channel.channels": "how many channels it has",
    "array.constant.value": "any pixel",
    "array.find_missing.value": "any pixel",
    "array.placeholder.value": "any pixel",
    "array.threshold.level": "the range of the image",
    "filters.hysteresis_threshold.low": "the range of the image",
    "filters.hysteresis_threshold.high": "the range of the image",
    "learning.predict.classes": "how many classes the forest knows",
    "learning.train_forest.classes": "how many classes there are labels of",
}


def numbers():
    manager = PluginManager(only=["array", "cache", "filters", "io", "learning"])
    for spec in manager.operators():
        for name, slot in manager.get_operator(spec.id).declarations.items():
            if isinstance(slot, ParameterSlot) and slot.choices is None and not slot.level:
                parts = getattr(slot.type, "__args__", (slot.type,))
                if int in parts or float in parts:
                    yield f"{spec.id}.{name}", slot


def test_every_number_of_a_shipped_operator_says_where_its_slider_goes():
    found = dict(numbers())
    without = {name for name, slot in found.items() if slot.usual is None}
    assert without == set(OF_THE_IMAGE)
    sigma = found["filters.gaussian_smoothing.sigma"]
    assert (sigma.usual, sigma.step) == ((0.3, 10), 0.1)


def test_the_default_lies_on_the_slider():
    for name, slot in numbers():
        if slot.usual is not None and slot.has_default and isinstance(slot.default, (int, float)):
            low, high = slot.usual
            assert low <= slot.default <= high, name
