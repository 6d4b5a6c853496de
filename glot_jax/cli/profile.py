"""`glot profile`: the time of one training step."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

from glot_jax.cli.early_checks import require_names
from glot_jax.cli.parsing import leaves, parse
from glot_jax.config import names
from glot_jax.config.profile import ProfileConfig
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.registry import registered_by_plugins

# Those of `--dtype`; states may be stored in more.
_HEAD_DTYPES = ("float32", "bfloat16")


def profile(config: ProfileConfig) -> int:
    """Time one training step of a pooling head against what this machine can do at most."""
    require_names(config.graph, config.pooler)
    # No name of ours stands in two of the tables, so that a bare word says what it varies.
    known = (
        *names.BACKENDS,
        *_HEAD_DTYPES,
        *names.POOLERS,
        *registered_by_plugins(),
    )
    for name in config.compare:
        if name not in known:
            raise UsageError(
                rule="--compare must name backends, dtypes and poolers",
                got=repr(name),
                fix=f"Known: {', '.join(known)}.",
            )
    if config.store is not None:
        from glot_jax.store import read_manifest

        read_manifest(config.store)
    from glot_jax.profiling.profiles import run_profile
    from glot_jax.profiling.render import below_floor_line, ceilings_behind, print_profiles, to_json

    profiles = run_profile(config)
    if config.json:
        # nan is no JSON: a time that is not a number is a mistake of ours, and is not printed.
        values = to_json(profiles, ceilings_behind(profiles))
        text = json.dumps(values, indent=2, allow_nan=False)
        print(text)
        for profile in profiles:
            line = below_floor_line(profile)
            if line is not None:
                print(line, file=sys.stderr)
    else:
        print_profiles(profiles)
    return 0


def read_profile(arguments: Sequence[str], prog: str) -> ProfileConfig:
    """The settings of `arguments`, with the head's flags in groups of their own."""
    # Titles as in `glot train --help`, whose flags these are.
    groups = {
        "token_graph": (_summary(GraphConfig), list(leaves(GraphConfig))),
        "pooling": (_summary(PoolerConfig), list(leaves(PoolerConfig))),
    }
    return parse(ProfileConfig, arguments, prog, groups=groups)


def _summary(settings: type) -> str:
    assert dataclasses.is_dataclass(settings)
    return (settings.__doc__ or "").partition("\n")[0]
