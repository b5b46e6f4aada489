from __future__ import annotations

import numpy as np
import pytest
from lazyflow_core.errors import ParameterError

from lazyflow_ops_filters import kernels as k


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: k.gaussian_smoothing(a, 0.0), "sigma=0.0 is not a positive number"),
        (lambda a: k.gaussian_smoothing(a, (1.0, 2.0, 3.0)), "has 3 numbers for 2 axes"),
        (lambda a: k.gaussian_smoothing(a, 3.0), r"axis 0 has 6 pixels.*the largest possible is 1\.833"),
        (lambda a: k.gaussian_smoothing(a.astype(complex), 1.0), "complex128 is not one of real numbers"),
        (lambda a: k.gaussian_smoothing(a, 1.0, border="wrap"), "'wrap' is none of 'mirror'"),
        (lambda a: k.gaussian_smoothing(a, 1.0, region=(slice(0, 7), slice(0, 3))), "does not lie in"),
        (lambda a: k.gaussian_smoothing(a, 1.0, region=(slice(3, 2), slice(0, 3))), "does not lie in"),
        (lambda a: k.gaussian_smoothing(a, 1.0, window=-1.0), "window=-1.0 is not"),
        (lambda a: k.gaussian_smoothing(a, 1.0, backend="cuda"), "'cuda' cannot be used: no such backend"),
        (lambda a: k.hessian_of_gaussian_eigenvalues(a, 1.0, precision="half"), "'half' is none of 'double'"),
        (lambda a: k.gaussian_derivative(a, 1.0, (1,)), r"order=\(1,\) is not one integer for each of 2"),
        (lambda a: k.gaussian_derivative(a, 1.0, (1, 7)), "order=7 is not an integer between 0 and 6"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call(np.zeros((6, 40)))
    assert "\n" not in str(caught.value)


def test_thin_data_is_fine_up_to_the_sigma_that_the_message_names():
    image = np.zeros((6, 40))
    assert k.gaussian_smoothing(image, (1.833, 5.0)).shape == image.shape
    with pytest.raises(ParameterError, match="too few"):
        k.gaussian_smoothing(image, (1.834, 5.0))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_empty_image_has_an_empty_result(shape, backend):
    assert k.gaussian_smoothing(np.zeros(shape), 1.0, backend=backend).shape == shape
