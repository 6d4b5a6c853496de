"""Windows come back in their order, whoever dies."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.dying_pool import DyingPool

from glot_jax.cluster.in_order import TextItem, in_order
from glot_jax.cluster.work_queue import Limits


class Lengths(DyingPool):
    def work(self, item):
        return [len(text) for text in item.texts]


@settings(max_examples=200, deadline=None)
@given(
    choices=st.lists(st.integers(0, 1000), max_size=40),
    windows=st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=8),
    workers=st.integers(1, 4),
    deaths=st.integers(0, 8),
)
def test_windows_come_back_in_order_with_their_own_results(choices, windows, workers, deaths):
    pool = Lengths(choices, deaths)
    rows = [[(text, {"text": text}) for text in window] for window in windows]

    def texts(window):
        return [text for text, _ in window]

    done = list(in_order(iter(rows), texts, pool, workers, Limits(retries=100)))
    assert [window for window, _ in done] == rows
    assert [result for _, result in done] == [[len(text) for text in window] for window in windows]
    # The other columns stay with the driver.
    assert all(isinstance(item, TextItem) for item in pool.submitted)


def test_an_item_is_named_without_its_texts():
    assert str(TextItem(3, ["a private text", "b"])) == "window 3 of 2 rows"
