"""Settings of `glot serve`: which addresses need a key, and which keys can be sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from glot_jax.config.serve import ServeConfig
from glot_jax.errors import UsageError

RUN = Path("run")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_the_machine_itself_needs_no_key(host):
    assert ServeConfig(RUN, host=host).usable_key(None) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_other_machines_need_a_key_or_a_word(host):
    with pytest.raises(UsageError, match="other machines reach needs a key.*--no-key"):
        ServeConfig(RUN, host=host).usable_key(None)
    assert ServeConfig(RUN, host=host).usable_key("secret") == "secret"
    assert ServeConfig(RUN, host=host, no_key=True).usable_key(None) is None


def test_no_key_and_a_key_contradict_each_other():
    with pytest.raises(UsageError, match="--no-key answers without") as error:
        ServeConfig(RUN, no_key=True).usable_key("secret")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "tab\t", "line\n"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key):
    with pytest.raises(UsageError, match="visible ASCII") as error:
        ServeConfig(RUN).usable_key(key)
    assert not key.strip() or key.strip() not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": 70000}, r"--port must be a port in \[0, 65535\]"),
        ({"port": -1}, "--port must be at least 0"),
        ({"max_waiting": 10}, "--max-waiting must be at least --max-texts"),
        ({"client_seconds": 0.0}, "--client-seconds must be a positive number"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(UsageError, match=message):
        ServeConfig(RUN, **changes)
