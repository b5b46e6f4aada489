"""Draws the graph of the page about graphs. Run it to make ``graph.svg`` beside it again."""

import re
from pathlib import Path

HERE = Path(__file__).parent
page = (HERE.parent / "graph.md").read_text(encoding="utf-8")

names: dict[str, object] = {"__name__": "page"}
for code in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
    exec(code, names)
    if "OpSmoothAll" in code:
        exec("OpSmoothAll(graph=graph, images=[image, smooth.output])", names)
exec(
    'OpThreshold(graph=graph, name="waiting", image=OpSmooth(graph=graph, name="empty").output)',
    names,
)
(HERE / "graph.svg").write_text(names["graph"].to_svg() + "\n", encoding="utf-8")  # type: ignore[attr-defined]
