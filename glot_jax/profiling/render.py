"""Profiles as JSON, and as tables that fit a console."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console

from glot_jax.profiling.ceilings import Ceilings, ceilings_of, measure_ceilings
from glot_jax.profiling.head import Profile
from glot_jax.reporting.tables import Column, Table

WIDTH = 100
"""Columns of a table, at most; narrower terminals get narrower tables."""


def to_json(
    profiles: Sequence[Profile],
    ceilings: Ceilings | None = None,
) -> dict[str, Any]:
    """One object: the first profile's values, and all of them where there are several.

    The latter stand under "profiles", and what the machine can do under "ceilings", if given.
    """
    values = []
    for profile in profiles:
        fields = dataclasses.asdict(profile)
        # Properties, which `asdict` leaves out.
        fields["over_floor"] = profile.over_floor
        fields["below_floor"] = profile.below_floor
        values.append(fields)
    # A copy: the first is also among all of them.
    joint = dict(values[0])
    if ceilings is not None:
        joint["ceilings"] = dataclasses.asdict(ceilings)
    if len(values) > 1:
        joint["profiles"] = values
    return joint


def ceilings_behind(profiles: Sequence[Profile]) -> Ceilings:
    """The ceilings that profiles of this process were measured against.

    Of the dtypes of the first; a variant in another dtype was measured against its own.
    """
    first = profiles[0]
    return measure_ceilings(ceilings_of(first.states_dtype, first.dtype))


def print_profiles(
    profiles: Sequence[Profile],
    console: Console | None = None,
    ceilings: Ceilings | None = None,
) -> None:
    """Print what the machine can do, and a column for each profile.

    Args:
        profiles: from left to right; where they need more than one table they go on in the next.
        console: default stdout.
        ceilings: those that were measured against, if they were given to `profile_head`.
    """
    if console is None:
        # A file or a notebook does not know its width.
        width = None if sys.stdout.isatty() else WIDTH
        console = Console(highlight=False, width=width)
    if ceilings is None:
        ceilings = ceilings_behind(profiles)
    console.print(f"{profiles[0].device}, jax {jax.__version__}, at most:")
    for line in _ceiling_lines(ceilings):
        console.print(line)
    trained = any(profile.step_ms is not None for profile in profiles)
    console.print(f"{'A training step' if trained else 'A forward pass'} of the pooling head")
    for table in profile_tables(profiles, min(console.width, WIDTH)):
        console.print(table.to_console())
    for profile in profiles:
        for line in (_counted(profile), below_floor_line(profile)):
            if line is not None:
                console.print(line)


def below_floor_line(profile: Profile) -> str | None:
    """A line about a time that cannot be, or None."""
    if not profile.below_floor:
        return None
    # The worse of the two, where both are below.
    share = min(profile.over_floor, profile.forward_ms / profile.forward_floor_ms)
    return (
        f"{profile.pooler} {profile.backend} {profile.dtype}: {share:.2f} of its floor is an error"
        " of the measure: the machine did other work while its ceiling was taken. Measure again."
    )


def _ceiling_lines(ceilings: Ceilings) -> list[str]:
    lines = []
    # A line each: what reached them differs, and together they are wider than a console.
    for dtype, rate in ceilings.flops.items():
        way = _way(ceilings, dtype)
        lines.append(f"  matmul {rate / 1e9:,.0f} GFLOP/s in {dtype}{way}")
    copies = ceilings.copies or {0: ceilings.bandwidth}
    rates = [f"{rate / 1e9:,.1f}" for rate in copies.values()]
    sizes = [f"{size / 1024**2:g}" for size in copies]
    of_sizes = f" of {', '.join(sizes)} MiB" if ceilings.copies else ""
    lines.append(f"  copy {', '.join(rates)} GB/s{of_sizes}{_way(ceilings, 'copy')}")
    return lines


def _way(ceilings: Ceilings, name: str) -> str:
    """In brackets, what reached a ceiling."""
    way = ceilings.reached_by.get(name)
    return f" ({way})" if way else ""


def profile_tables(profiles: Sequence[Profile], width: int = WIDTH) -> list[Table]:
    """A column for each profile, as many in a table as `width` allows, but at least one."""
    tables: list[Table] = []
    members: list[Profile] = []
    for profile in profiles:
        # The width follows from the cells, so it is tried out.
        wider = _table([*members, profile])
        if members and wider.width > width:
            members = [profile]
            tables.append(_table(members))
        else:
            members.append(profile)
            # In place of the narrower one; the first has none to replace.
            tables[-1:] = [wider]
    return tables


def _table(profiles: Sequence[Profile]) -> Table:
    # Seventeen values of each profile are too many for a line of it.
    return Table.by_columns(_COLUMNS, profiles).transposed()


def _density(profile: Profile) -> str:
    if profile.density is None:
        return ""
    return f"{profile.density:.1%}"


def _step(profile: Profile) -> str:
    if profile.step_ms is None:
        return ""
    return f"{profile.step_ms:.2f}"


def _spread(profile: Profile) -> str:
    # Of the step, or of the forward pass where that is all.
    low, high = profile.step_spread_ms or profile.forward_spread_ms
    return f"{low:.2f}–{high:.2f}"


def _floor(profile: Profile) -> str:
    # Of what `time / floor` divides by it: the step, or the forward pass where that is all.
    floor = profile.forward_floor_ms if profile.floor_ms is None else profile.floor_ms
    return f"{floor:.2f}"


_COLUMNS: list[Column[Profile]] = [
    Column("pooler", lambda profile: profile.pooler),
    Column("backend", lambda profile: profile.backend),
    Column("dtype", lambda profile: profile.dtype),
    Column("states", lambda profile: profile.states_dtype),
    Column(
        "texts x length x dim",
        lambda profile: f"{profile.texts} x {profile.length} x {profile.dim}",
    ),
    Column(
        "real tokens", lambda profile: f"{profile.tokens / (profile.texts * profile.length):.0%}"
    ),
    Column("density", _density),
    Column("forward, ms", lambda profile: f"{profile.forward_ms:.2f}"),
    Column("step, ms", _step),
    Column("25–75 %, ms", _spread),
    Column("floor, ms", _floor),
    Column("time / floor", lambda profile: f"{profile.over_floor:.2f}"),
    Column("peak memory", lambda profile: f"{profile.peak_bytes / 1e6:,.0f} MB"),
    Column("compilation, s", lambda profile: f"{profile.compile_seconds:.1f}"),
    Column("fusions", lambda profile: f"{profile.fusions}"),
    Column("scatters", lambda profile: f"{profile.scatters}"),
    Column("compilations", lambda profile: f"{profile.compilations}"),
]


def _counted(profile: Profile) -> str | None:
    """XLA's own count of the work, where it has one."""
    if profile.flops is None or profile.bytes is None:
        return None
    noun = "pass" if profile.step_ms is None else "step"
    return (
        f"{profile.pooler} {profile.backend} {profile.dtype}: XLA counts {profile.flops / 1e9:.2f}"
        f" GFLOP and {profile.bytes / 1e6:,.0f} MB accessed in a {noun}"
    )
