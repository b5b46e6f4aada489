"""Draws the diagrams of the chapter about requests. Run it to make the SVG files beside it again."""

from pathlib import Path

HERE = Path(__file__).parent
INK, FAINT, ACCENT, GOOD, BAD = "#2b2f36", "#8a919c", "#2f6fb0", "#2e8b57", "#b5443c"


class Drawing:
    """Boxes, arrows and words on a grid of pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif" font-size="13" role="img">',
            f"<title>{title}</title>",
            '<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto">'
            f'<path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="white"/>',
        ]

    def box(self, x: int, y: int, text: str, colour: str = ACCENT, width: int = 110, note: str = "") -> None:
        """A box centred at (x, y)."""
        self.parts.append(
            f'<rect x="{x - width // 2}" y="{y - 18}" width="{width}" height="36" rx="8" fill="white" '
            f'stroke="{colour}" stroke-width="2"/>'
        )
        self.words(x, y + 5, text, colour, bold=True)
        if note:
            self.words(x, y + 34, note, FAINT)

    def words(
        self, x: int, y: int, text: str, colour: str = INK, *, bold: bool = False, at: str = "middle"
    ) -> None:
        """A line of text."""
        weight = ' font-weight="bold"' if bold else ""
        text = text.replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{at}"{weight}>{text}</text>')

    def arrow(self, *points: tuple[int, int], text: str = "", dashed: bool = False, lift: int = -7) -> None:
        """A line through points with a tip at the end and words at its middle."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5"{dash} marker-end="url(#tip)"/>'
        )
        if text:
            middle = len(points) // 2
            (x0, y0), (x1, y1) = points[middle - 1], points[middle]
            self.words((x0 + x1) // 2, (y0 + y1) // 2 + lift, text, INK)

    def bar(self, x: int, y: int, width: int, colour: str, text: str = "") -> None:
        """A piece of a time line."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="22" rx="4" fill="{colour}" fill-opacity="0.25" '
            f'stroke="{colour}"/>'
        )
        if text:
            self.words(x + width // 2, y + 16, text, INK)

    def save(self, name: str) -> None:
        """Write the file."""
        (HERE / name).write_text("\n".join([*self.parts, "</svg>"]) + "\n")


def lifetime() -> None:
    d = Drawing(760, 300, "The seven states of a request and the moves between them")
    for x, y, text, colour in [
        (80, 80, "NEW", ACCENT),
        (240, 80, "QUEUED", ACCENT),
        (420, 80, "RUNNING", ACCENT),
        (420, 200, "SUSPENDED", ACCENT),
        (650, 40, "FINISHED", GOOD),
        (650, 120, "FAILED", BAD),
        (650, 200, "CANCELLED", FAINT),
    ]:
        d.box(x, y, text, colour)
    d.arrow((135, 80), (185, 80))
    d.words(160, 68, "submit")
    d.arrow((295, 80), (365, 80))
    d.words(330, 68, "claim")
    d.arrow((80, 62), (80, 25), (420, 25), (420, 62))
    d.words(250, 18, "wait: run inside the waiter")
    d.arrow((400, 98), (400, 182))
    d.words(392, 144, "wait", at="end")
    d.arrow((440, 182), (440, 98))
    d.words(448, 144, "woken", at="start")
    d.arrow((475, 72), (595, 44))
    d.arrow((475, 84), (595, 116))
    d.arrow((475, 92), (595, 192))
    d.words(545, 48, "result")
    d.words(552, 97, "raised")
    d.words(548, 178, "asked to stop", at="end")
    d.arrow((240, 98), (240, 262), (650, 262), (650, 218), dashed=True)
    d.arrow((80, 98), (80, 262), (240, 262), dashed=True)
    d.words(440, 280, "cancelled before it began: ends at once, never runs")
    d.save("lifetime.svg")


def dependency() -> None:
    d = Drawing(760, 270, "Two workers and three requests over time")
    for y, name in ((70, "worker 0"), (160, "worker 1")):
        d.words(20, y + 16, name, at="start", bold=True)
        d.arrow((100, y + 40), (740, y + 40))
    d.bar(110, 70, 120, ACCENT, "A")
    d.bar(230, 70, 150, GOOD, "C, inside A")
    d.bar(380, 70, 60, ACCENT, "A")
    d.bar(440, 70, 130, FAINT, "D, a stranger")
    d.bar(570, 70, 110, ACCENT, "A goes on")
    d.bar(180, 160, 370, BAD, "B")
    d.arrow((180, 92), (180, 158))
    d.words(188, 130, "B.submit(): stolen", at="start")
    d.words(238, 58, "C.wait(): not begun, so it runs right here", at="start")
    d.arrow((440, 92), (440, 158), dashed=True)
    d.words(436, 148, "B.wait(): A is suspended", at="end")
    d.arrow((550, 160), (570, 96))
    d.words(575, 150, "wakes A, on its worker", at="start")
    d.words(380, 240, "A never blocks worker 0: while A waits for B, the worker runs D.", FAINT)
    d.save("dependency.svg")


def cancellation() -> None:
    d = Drawing(760, 300, "Cancelling spares what somebody else waits for")
    d.box(160, 60, "A", BAD, 150)
    d.box(560, 60, "X", GOOD, 150)
    d.words(160, 32, "A.cancel()", FAINT)
    d.words(560, 32, "goes on", FAINT)
    d.box(80, 170, "B", BAD, 110)
    d.box(360, 170, "S", GOOD, 110)
    d.words(145, 175, "only A wants it", FAINT, at="start")
    d.words(425, 175, "X waits, too", FAINT, at="start")
    d.box(80, 260, "C", BAD, 110)
    d.box(360, 260, "T", GOOD, 110)
    d.arrow((140, 80), (90, 150))
    d.arrow((190, 80), (330, 150))
    d.arrow((540, 80), (390, 150))
    d.arrow((80, 190), (80, 240))
    d.arrow((360, 190), (360, 240))
    d.words(740, 250, "red: ends at its next wait, lock or checkpoint", BAD, at="end")
    d.words(740, 270, "green: survives, the result is still wanted", GOOD, at="end")
    d.words(740, 230, "arrows: waits for, or has submitted", FAINT, at="end")
    d.save("cancellation.svg")


def failure() -> None:
    d = Drawing(760, 250, "A failure reaches every waiter, wrapped once")
    d.box(110, 70, "C", BAD, 120, "raises ValueError")
    d.box(330, 70, "B", BAD, 120, "waited for C")
    d.box(330, 180, "D", GOOD, 120, "caught it, goes on")
    d.box(580, 70, "A", BAD, 120, "waited for B")
    d.arrow((170, 70), (270, 70), text="RequestError")
    d.arrow((170, 84), (270, 172), text="")
    d.words(170, 150, "RequestError")
    d.arrow((390, 70), (520, 70), text="RequestError")
    d.words(740, 185, "Each waiter gets an exception of its own;", FAINT, at="end")
    d.words(740, 203, "its cause is the very ValueError in all of them.", FAINT, at="end")
    d.save("failure.svg")


if __name__ == "__main__":
    lifetime()
    dependency()
    cancellation()
    failure()
