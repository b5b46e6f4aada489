import xml.etree.ElementTree as ET

import numpy as np
import pytest

from .operators import OpAdd, OpSum, OpTwice
from .test_multi import OpAddToAll

IMAGE = np.zeros((3, 4))
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def drawn(graph):
    smooth = OpAdd(graph=graph, name='smooth <&"> it', image=IMAGE)
    twice = OpTwice(graph=graph, name="twice", image=smooth.output)
    OpSum(graph=graph, a=smooth.output, b=twice.output)
    OpAddToAll(graph=graph, images=[smooth.output])
    OpAdd(graph=graph, name="waiting")
    return graph


def test_a_picture_shows_every_operator_slot_and_connection(drawn):
    root = ET.fromstring(drawn.to_svg())
    titles = {element.text for element in root.iter(f"{SVG}tspan") if element.get("class") == "title"}
    assert titles == {'smooth <&"> it', "twice", "first", "second", "OpSum", "OpAddToAll", "OpAdd", "waiting"}
    frames = [e for e in root.iter(f"{SVG}rect") if e.get("class") == "frame"]
    assert len(frames) == 2
    edges = [e for e in root.iter(f"{SVG}path") if e.get("class", "").startswith("edge")]
    # smooth feeds three; twice: image and two amounts inside, one between, output outside and in;
    # all: one image, one amount, one result.
    assert len(edges) == 3 + (1 + 2 + 1 + 1) + 1 + 3


def test_a_picture_shows_what_is_not_ready(drawn):
    root = ET.fromstring(drawn.to_svg())
    bad = [group for group in root.iter(f"{SVG}g") if group.get("class") == "bad"]
    assert [group.findtext(f"{SVG}title") for group in bad] == ["waiting"]


def test_boxes_do_not_overlap_and_lie_inside_the_picture(drawn):
    root = ET.fromstring(drawn.to_svg())
    left, top, width, height = map(float, root.get("viewBox").split())
    boxes = []
    for rect in root.iter(f"{SVG}rect"):
        if rect.get("class") == "box":
            x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
            assert left <= x
            assert top <= y
            assert x + w <= left + width
            assert y + h <= top + height
            boxes.append((x, y, x + w, y + h))
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        for u0, v0, u1, v1 in boxes[i + 1 :]:
            assert x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0


def test_mermaid_names_operators_and_connections(drawn):
    text = drawn.to_mermaid()
    assert text.startswith("flowchart LR\n")
    assert 'subgraph op1 ["twice"]' in text
    assert '["waiting (not ready)"]' in text
    assert '-- "output → image" -->' in text
    assert "#quot;" in text


def test_an_empty_graph_has_a_picture_too(graph):
    assert ET.fromstring(graph.to_svg()) is not None
    assert graph.to_mermaid() == "flowchart LR"
    assert graph.describe() == ""


def test_notebooks_get_picture_and_text(drawn):
    html = drawn._repr_html_()
    assert "<svg" in html
    assert "smooth &lt;&amp;&quot;&gt; it" in html


def test_the_description_names_slots_contents_and_culprits(drawn):
    lines = drawn.describe().splitlines()
    assert "  image: y=3, x=4 float64" in lines
    assert '  image ← smooth <&"> it.output: y=3, x=4 float64' in lines
    assert "  → output ← second.output: y=3, x=4 float64" in lines
    assert "  images: 1 slot" in lines
    assert "  image: not ready: it has no value." in lines


def test_lanes_stand_below_each_other_however_long_the_ways_to_them(graph):
    near = OpAdd(graph=graph, image=IMAGE)
    far = OpAdd(graph=graph, image=OpAdd(graph=graph, image=near.output).output)
    OpAddToAll(graph=graph, name="all", images=[near.output, far.output])
    frame = next(e for e in ET.fromstring(graph.to_svg()).iter(f"{SVG}rect") if e.get("class") == "frame")
    boxes = [e for e in ET.fromstring(graph.to_svg()).iter(f"{SVG}rect") if e.get("class") == "box"]
    inside = [e for e in boxes if float(e.get("x")) > float(frame.get("x"))]
    assert len(inside) == 2
    assert len({e.get("x") for e in inside}) == 1


def test_a_picture_marks_only_what_is_at_fault(graph):
    op = OpAddToAll(graph=graph, name="all", images=[IMAGE])
    op.images.append()
    root = ET.fromstring(graph.to_svg())
    assert [e.get("class") for e in root.iter(f"{SVG}rect") if "frame" in e.get("class", "")] == ["frame bad"]
    notes = {e.text for e in root.iter(f"{SVG}tspan") if e.get("class") == "note bad"}
    assert notes == {"nothing yet", "not ready"}
