"""Draw the diagrams of the documentation: ``python docs/images/draw_diagrams.py``."""

from pathlib import Path
from xml.sax.saxutils import escape

BACKGROUND, CARD, LINE = "#0d1117", "#161b22", "#30363d"
TEXT, FAINT = "#e6edf3", "#8b949e"
PULL, PUSH = "#58a6ff", "#f0a03c"
FONT = "font-family='Inter, system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


def text(x, y, words, size=15, color=TEXT, anchor="middle", weight=400):
    return (
        f"<text x='{x}' y='{y}' font-size='{size}' fill='{color}' text-anchor='{anchor}' "
        f"font-weight='{weight}'>{escape(words)}</text>"
    )


def box(x, y, width, height, fill=CARD, stroke=LINE, radius=10, extra=""):
    return (
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='{radius}' fill='{fill}' "
        f"stroke='{stroke}' {extra}/>"
    )


def arrow(x0, y0, x1, y1, color):
    return (
        f"<line x1='{x0}' y1='{y0}' x2='{x1}' y2='{y1}' stroke='{color}' stroke-width='2.5' "
        f"marker-end='url(#{color[1:]})'/>"
    )


def picture(width, height, title, parts):
    heads = "".join(
        f"<marker id='{c[1:]}' viewBox='0 0 10 10' refX='8' refY='5' markerWidth='6.5' markerHeight='6.5' "
        f"orient='auto-start-reverse'><path d='M0 0 L10 5 L0 10 z' fill='{c}'/></marker>"
        for c in (PULL, PUSH, FAINT)
    )
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' {FONT}>",
            f"<title>{escape(title)}</title>",
            f"<defs>{heads}</defs>",
            box(0, 0, width, height, BACKGROUND, BACKGROUND, 14),
            *parts,
            "</svg>\n",
        ]
    )


def arrows_of_the_graph():
    """Pull and push along a chain of operators; regions grow by the halo of each."""
    names = ("io.read", "gaussian_smoothing", "gradient_magnitude", "threshold")
    width, side, left, gap = 1040, 132, 60, 96
    #: Half the side of the region per operator, from upstream to downstream.
    pulled, stale = (46, 34, 20, 20), (10, 24, 36, 36)
    rows = (
        (96, "pull", "a region is asked for; each operator asks its inputs for what it needs", PULL, pulled),
        (356, "push", "a region changed; each operator says what of its output is stale", PUSH, stale),
    )
    parts = []
    for top, word, sentence, color, halves in rows:
        parts += [
            text(left, top - 42, word, 22, color, "start", 700),
            text(left + 76, top - 42, sentence, 15, FAINT, "start"),
        ]
        for i, (name, half) in enumerate(zip(names, halves, strict=True)):
            x = left + i * (side + gap)
            cx, cy = x + side / 2 + (-8 if word == "pull" else 10), top + side / 2 + 4
            parts.append(box(x, top, side, side))
            parts += [
                f"<path d='M{x + side * k / 4} {top} v{side} M{x} {top + side * k / 4} h{side}' stroke='{LINE}'/>"
                for k in (1, 2, 3)
            ]
            parts += [
                box(cx - half, cy - half, 2 * half, 2 * half, color, color, 3, "fill-opacity='0.38'"),
                text(x + side / 2, top + side + 24, name, 15),
            ]
            if i:
                ends = (x - 12, x - gap + 14) if word == "pull" else (x - gap + 14, x - 12)
                parts.append(arrow(ends[0], top + side / 2, ends[1], top + side / 2, color))
                below = "request" if word == "pull" else "dirty"
                parts.append(text(x - gap / 2 + 1, top + side / 2 - 14, below, 13, FAINT))
        x = left + 4 * (side + gap) - gap
        ends = (x + 74, x + 14) if word == "pull" else (x + 14, x + 74)
        parts.append(arrow(ends[0], top + side / 2, ends[1], top + side / 2, color))
        parts.append(text(x + 44, top + side / 2 - 14, "you", 13, FAINT))
    return picture(width, 552, "Pull goes upstream as requests, push goes downstream as dirty regions", parts)


def versions_of_the_graph():
    """Two versions side by side: who began before the change, and who begins after it."""
    left, width, lane = 250, 740, 92
    change = left + 250
    rows = (
        ("an export", left + 40, left + 590, 7, "every block of it is of version 7"),
        ("a tile", left + 130, left + 330, 7, "pixels of then; who asked hears dirty"),
        ("the slider", change - 26, change, None, "sigma = 2; it waits for nobody"),
        ("the tile again", change + 40, change + 190, 8, "the new pixels, beside the export"),
    )
    top = 128
    bottom = top + len(rows) * lane - 30
    parts = [
        text(40, 46, "versions", 22, TEXT, "start", 700),
        text(
            160, 46, "a change makes the next one; whoever began before goes on in theirs", 15, FAINT, "start"
        ),
        box(left, 72, change - left, bottom - 72, PULL, "none", 8, "fill-opacity='0.07'"),
        box(change, 72, left + width - change, bottom - 72, PUSH, "none", 8, "fill-opacity='0.07'"),
        text((left + change) / 2, 98, "version 7 is current", 14, PULL),
        text((change + left + width) / 2, 98, "version 8 is current", 14, PUSH),
        f"<path d='M{change} 72 V{bottom}' stroke='{PUSH}' stroke-width='2' stroke-dasharray='5 5'/>",
    ]
    for i, (name, begin, end, version, sentence) in enumerate(rows):
        y = top + i * lane
        color = PULL if version == 7 else PUSH
        parts += [
            text(left - 24, y + 23, name, 16, TEXT, "end"),
            box(begin, y, end - begin, 34, color, color, 6, "fill-opacity='0.38'"),
            text(change + 12, y + 52, sentence, 13, FAINT, "start"),
        ]
        if version is not None:
            parts.append(text(begin + 34, y + 23, f"sees {version}", 14))
    gone = left + 590
    parts += [
        f"<path d='M{gone} {top + 40} V{bottom + 8}' stroke='{FAINT}' stroke-dasharray='2 5'/>",
        text(
            left + width,
            bottom + 28,
            "the last one who sees 7 ends: its plans and arrays go",
            13,
            FAINT,
            "end",
        ),
        arrow(left, bottom + 52, left + width, bottom + 52, FAINT),
        text(left + width, bottom + 74, "time", 13, FAINT, "end"),
    ]
    return picture(
        1040, bottom + 92, "A change makes a version; who began before sees the old one to the end", parts
    )


def house():
    """The storeys of the core; who stands on whom. Beside it the distributions."""
    storeys = (
        ("testing", "laws of the framework, as checks for operators"),
        ("pipeline", "a graph described as data"),
        ("plugins", "who offers operators, readers and writers"),
        ("utility", "big regions, block by block"),
        ("graph", "slots, operators, setup; pull and push"),
        ("values", "axes, regions, blocks, metadata"),
        ("request", "computations that wait without blocking threads"),
        ("errors, signals", "every exception; lists of callables"),
    )
    distributions = (
        ("lazyflow-cli", "the lazyflow command"),
        ("lazyflow-ops-io", "HDF5, Zarr, TIFF, NPY"),
        ("lazyflow-ops-filters", "smoothing, edges, tensors"),
        ("lazyflow-ops-cache", "what was computed is kept"),
        ("lazyflow-ops-array", "crop, axes, channels, values"),
        ("yours", "found like all the others"),
    )
    left, width, height, top = 56, 520, 46, 128
    bottom = top + len(storeys) * (height + 8) - 8
    roof = f"M{left - 16} {top - 14} L{left + width / 2} 34 L{left + width + 16} {top - 14} z"
    parts = [
        f"<path d='{roof}' fill='{CARD}' stroke='{PULL}' stroke-width='1.5' stroke-linejoin='round'/>",
        text(left + width / 2, top - 36, "lazyflow-core", 19, TEXT, weight=700),
    ]
    for i, (name, sentence) in enumerate(storeys):
        y = top + i * (height + 8)
        parts += [
            box(left, y, width, height),
            text(left + 18, y + 29, name, 16, PULL, "start", 600),
            text(left + 168, y + 29, sentence, 14, TEXT, "start"),
        ]
    parts += [
        f"<path d='M{left - 16} {bottom + 14} h{width + 32}' stroke='{PULL}' stroke-width='3'/>",
        text(left + width / 2, bottom + 40, "every storey knows only those below it", 14, FAINT),
    ]
    x, size = left + width + 128, 66
    parts.append(text(x + 130, 60, "plugins", 19, TEXT, weight=700))
    parts.append(text(x + 130, 84, "one distribution each", 14, FAINT))
    for i, (name, sentence) in enumerate(distributions):
        y = top - 10 + i * (size + 9)
        dash = "stroke-dasharray='5 5'" if name == "yours" else ""
        parts += [
            box(x, y, 260, size, CARD, PUSH, 10, dash),
            text(x + 18, y + 28, name, 16, PUSH, "start", 600),
            text(x + 18, y + 50, sentence, 14, TEXT, "start"),
            arrow(x - 12, y + size / 2, left + width + 26, y + size / 2, FAINT),
        ]
    middle = (left + width + 16 + x) / 2 + 2
    parts.append(text(middle, bottom + 40, "public names only", 14, FAINT))
    return picture(1020, bottom + 68, "The layers of the core, and the distributions beside it", parts)


DIAGRAMS = {
    "pull_and_push.svg": arrows_of_the_graph,
    "house.svg": house,
    "versions.svg": versions_of_the_graph,
}

if __name__ == "__main__":
    for name, draw in DIAGRAMS.items():
        Path(__file__).with_name(name).write_text(draw(), encoding="utf-8")
