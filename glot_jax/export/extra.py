"""The packages of the extra `export`."""

from __future__ import annotations

import importlib.util

from glot_jax.errors import UsageError


def need_export_extra(*packages: str) -> None:
    """Look for packages before anything is loaded.

    Raises:
        UsageError: some are not installed.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            rule=f"an export needs {', '.join(packages)}",
            got=f"no {', '.join(missing)}",
            fix="Install the extra: pip install 'glot-jax[export]'.",
        )
