import pytest


@pytest.fixture(autouse=True)
def no_leaked_threads():
    """dask keeps the threads of its pool, so here nobody looks."""
