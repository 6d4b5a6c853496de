"""Items made ahead on a thread: the same items, in their order, and no more than asked for."""

from __future__ import annotations

import threading

import pytest

from glot_jax.cluster.ahead import ahead


def test_items_and_order_are_those_of_the_source():
    with ahead(range(50), 3) as items:
        assert list(items) == list(range(50))
    with ahead([None, None], 3) as items:
        assert list(items) == [None, None]


def test_no_more_are_made_than_may_wait():
    made = []
    enough = threading.Event()

    def source():
        for number in range(100):
            made.append(number)
            if number == 3:
                enough.set()
            yield number

    with ahead(source(), 4) as items:
        assert next(items) == 0
        assert enough.wait(10)
    # What was asked for, and four that wait.
    assert len(made) <= 5


def test_an_error_is_raised_where_its_item_is_asked_for():
    def source():
        yield 1
        raise ValueError("broken row")

    with ahead(source(), 2) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="broken row"):
            next(items)
