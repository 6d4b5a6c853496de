"""The setting of the compile cache, of every command that compiles."""

from __future__ import annotations

import dataclasses

from glot_jax.config.base import NOTHING, Config, option


# Of the command, never of a run: settings that are saved beside a run are read from strangers as
# well, and who chooses the folder chooses what is run.
@dataclasses.dataclass(frozen=True)
class ProgramCache(Config):
    """Where compiled programs are kept for the next process."""

    compile_cache: str | None = option(None, decides=NOTHING, example="off")
    """Keep compiled programs in this folder, which only you may be able to write to; off: keep
    none. Default: $JAX_COMPILATION_CACHE_DIR, else ~/.cache/glot-jax/compiled.
    """
