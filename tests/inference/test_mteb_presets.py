"""Lists of tasks: MTEB knows every name."""

from __future__ import annotations

import pytest

pytest.importorskip("mteb", reason="the extra `mteb` is not installed")

from glot_jax.inference.mteb_presets import MTEB_PRESETS
from glot_jax.inference.mteb_tasks import known_task


def test_every_task_of_the_presets_is_known():
    assert len(MTEB_PRESETS["paper"]) == 7
    assert len(MTEB_PRESETS["table12"]) == len(set(MTEB_PRESETS["table12"])) == 56
    assert all(known_task(name) is not None for names in MTEB_PRESETS.values() for name in names)
