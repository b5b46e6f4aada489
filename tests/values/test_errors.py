"""The list of errors is complete."""

from lazyflow_core import errors


def test_every_error_is_exported():
    exceptions = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert exceptions == set(errors.__all__)
