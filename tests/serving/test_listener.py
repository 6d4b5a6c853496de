"""Ports and hosts that cannot be had."""

from __future__ import annotations

import pytest
from support.served_runs import settings

from glot_jax.errors import UsageError
from glot_jax.serving.listener import bound_socket

pytestmark = pytest.mark.xdist_group("serving")  # what they share is made once


def test_a_port_that_is_taken_is_named(runs):
    config = settings(runs)
    with bound_socket(config) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        taken = settings(runs, port=port)
        message = f"must be free; got {port}, .*another program"
        with pytest.raises(UsageError, match=message), bound_socket(taken):
            pass


def test_a_host_of_another_machine_is_named(runs):
    config = settings(runs, host="192.0.2.1")
    with pytest.raises(UsageError, match="address of this machine"), bound_socket(config):
        pass
