"""The command that answers texts over HTTP."""

from __future__ import annotations

import os

from glot_jax.cli.early_checks import require_run
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config.serve import KEY_VARIABLE, ServeConfig
from glot_jax.errors import require_extra


def serve(config: ServeConfig) -> int:
    """Answer texts over HTTP by a trained run: vectors as OpenAI sends them, predictions."""
    # Before the run is looked at: whoever forgot the key is told so in a moment.
    key = config.usable_key(os.environ.get(KEY_VARIABLE))
    require_run(config.run)
    require_extra("serve", "glot serve")
    require_extra("extract", "glot serve")
    from glot_jax.serving.listener import bound_socket

    # The port before the run, which takes long to load and is of no use without one.
    with bound_socket(config) as listener:
        use_compile_cache(config.programs.compile_cache)
        from glot_jax.serving import server

        server.serve(config, key, listener)
    return 0
