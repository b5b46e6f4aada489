import pytest

from lazyflow_core.utility import available_memory, format_bytes, parse_bytes, peak_memory


def test_there_is_memory_and_some_of_it_is_taken():
    assert available_memory() > 0
    assert 10 * 2**20 < peak_memory() < 2**50


@pytest.mark.parametrize("text", ["", "much", "1 XB", "-3 MB", "1e3", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is no size in bytes"):
        parse_bytes(text)


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 10**6, 3 * 2**40])
def test_a_size_in_words_is_the_size_within_a_twentieth(count):
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=0.05)
