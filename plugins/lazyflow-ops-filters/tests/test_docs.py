from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from tolerances import ilastik_in_markdown, ours_in_markdown, vigra_in_markdown

PAGE = Path(__file__).parents[3] / "docs" / "filters.md"


pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="only a clone has the documentation, an sdist has not"
)


def test_the_code_of_the_page_about_filters_runs():
    names: dict[str, object] = {}
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) >= 4
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)
    names["graph"].close()


def test_every_operator_is_on_the_page_with_its_picture():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    for id in project["project"]["entry-points"]["lazyflow.operators"]:
        name = id.removeprefix("filters.")
        assert f"`{id}`" in text
        assert f"images/filters_{name}.png" in text
        assert (PAGE.parent / "images" / f"filters_{name}.png").exists()


def test_the_tables_of_the_page_are_the_tolerances_of_the_tests():
    text = PAGE.read_text(encoding="utf-8")
    for table in (ours_in_markdown(), vigra_in_markdown(), ilastik_in_markdown()):
        assert table in text
