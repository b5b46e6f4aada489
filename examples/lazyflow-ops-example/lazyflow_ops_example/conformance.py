"""The operators of this distribution with inputs on which they are tried against the laws of operators.

Here and not in the tests, so that users can try them where they are installed: ``lazyflow operators check``.
"""

from lazyflow_core.testing import Case, array

CASES = [
    Case(
        "example.local_mean",
        inputs={"image": array((40, 31), "yx", "uint8", high=255)},
        params={"radius": 2},
        change={"radius": 1},
        halo=2,
    ),
    Case(
        "example.local_contrast",
        inputs={"image": array((40, 31), "yx", "uint8", high=255)},
        params={"radius": 3, "floor": 0.5},
        change={"floor": 20.0},
        halo=3,
    ),
    Case(
        "example.local_contrast",
        inputs={"image": array((2, 14, 2, 12, 13), "txczy", "int16", low=-200, high=200)},
        params={"radius": 1},
        change={"radius": 2},
        halo=1,
    ),
    Case("example.local_mean", {"image": array((14, 2, 12, 13), "xczy")}, change={"radius": 0}, halo=1),
]
