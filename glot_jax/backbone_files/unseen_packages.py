"""Packages that transformers loads where it finds them, and that no backbone needs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


def leave_out() -> None:
    """Have transformers take SciPy and scikit-learn for missing, until the process ends.

    Its losses of object detection load the one, a search of its text generation the other, which
    brings pandas: seconds, before a text is read. For commands, whose process is their own:
    somebody else's may want them from transformers later.
    """
    with _hidden("scipy", "sklearn"):
        # It looks when it is loaded or first asked, and keeps the answer.
        from transformers.utils import is_scipy_available, is_sklearn_available

        is_scipy_available()
        is_sklearn_available()


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Have packages that are not loaded yet look as if they were not installed."""
    # Of one that is loaded nothing is saved.
    hidden = [name for name in names if name not in sys.modules]
    # None is how Python spells a module that cannot be imported.
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]
