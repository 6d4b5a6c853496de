"""Keeps what transformers prints while it loads a model out of our messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import transformers


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep loading reports and bars from the user.

    What they warn about (weights that are missing) is checked and refused.
    """
    logging = transformers.utils.logging
    level = logging.get_verbosity()
    has_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()
