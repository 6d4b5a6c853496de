"""Where a backbone runs: a device that is not there is refused."""

from pathlib import Path

import pytest

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(folders, device):
    with pytest.raises(UsageError, match="--device"):
        Backbone(
            ExtractConfig(
                backbone=str(folders["bert"]), task="custom", out=Path("unused"), device=device
            )
        )
