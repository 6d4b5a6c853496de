"""Another name for a folder whose own name orbax would take for a pattern."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from glot_jax.errors import UsageError

# Orbax looks for its files with glob and does not escape the folder's name; and TensorStore takes
# names that are text only: bytes of a name that are no UTF-8 come from the system as lone
# surrogates.
_SPECIAL = re.compile(r"[*?\[\]\\\ud800-\udfff]" if os.sep == "/" else r"[*?\[\]\ud800-\udfff]")


@contextlib.contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """A path of the same folder that no reader takes for a pattern: `folder` itself, or a symbolic
    link for the length of the block.

    The link lies in a folder of its own, among the system's temporary files or else in a parent of
    `folder`. What is written through it lies in `folder`, and renaming works as there. A process
    that is killed leaves the link, nothing else.

    Args:
        folder: absolute, and there.

    Raises:
        UsageError: there is no place where a link can be made.
    """
    if not _SPECIAL.search(str(folder)):
        yield folder
        return
    with contextlib.ExitStack() as cleaned:
        yield _link(folder, cleaned)


def _link(folder: Path, cleaned: contextlib.ExitStack) -> Path:
    reasons = []
    for place in (_temporary_folder(), *folder.parents):
        if place is None or _SPECIAL.search(str(place)):
            continue
        try:
            own = Path(tempfile.mkdtemp(prefix=".glot-jax-", dir=place))
            cleaned.callback(_remove, own)
            (own / "run").symlink_to(folder, target_is_directory=True)
        except (
            OSError,
            NotImplementedError,
        ) as error:  # a folder that may not be written, or a system without links
            reasons.append(str(error))
            continue
        return own / "run"
    raise UsageError(
        r"a run folder with one of * ? [ ] \ in its path needs a place for a symbolic link",
        f"{folder} ({reasons[0] if reasons else 'no plain folder'})",
        "Choose a folder without these characters, or set TMPDIR to one that can be written.",
    )


def _temporary_folder() -> Path | None:
    with contextlib.suppress(FileNotFoundError):  # none that can be written
        return Path(tempfile.gettempdir()).absolute()
    return None


def _remove(own: Path) -> None:
    # Somebody who cleans up temporary files may have been here before.
    with contextlib.suppress(OSError):
        (own / "run").unlink(missing_ok=True)
        own.rmdir()
