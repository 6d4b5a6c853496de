"""What worker 0 says of a store."""

import pytest
from support.linked_stores import plan_of

from glot_jax.errors import UsageError
from glot_jax.store import read_manifest
from glot_jax.store.layout import lock_folder
from glot_jax.store.lock import StoreLock
from glot_jax.store.worker_plan import PLAN, read_plan


def test_a_plan_is_read_as_it_was_written(store):
    plan = plan_of(read_manifest(store), {"error": 0.25})
    assert read_plan(store) is None
    with StoreLock(store) as lock:
        lock.plan(plan)
    assert read_plan(store) == plan


@pytest.mark.parametrize("content", ["[]", "{}", '{"workers": 2, "sha256": "0"}', "{"])
def test_a_damaged_plan_is_refused(store, content):
    lock_folder(store).mkdir()
    (lock_folder(store) / PLAN).write_text(content)
    with pytest.raises(UsageError, match=r"plan\.json.*Run worker 0 again"):
        read_plan(store)
