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
# surrogates. A backslash is special to glob only where it does not separate folders.
_SPECIAL = re.compile(r"[*?\[\]\\\ud800-\udfff]" if os.sep == "/" else r"[*?\[\]\ud800-\udfff]")


@contextlib.contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """Yield a path of the same folder that no reader takes for a pattern.

    It is `folder` itself, or a symbolic link for the length of the block.

    The link lies in a folder of its own, among the system's temporary files or else in a parent of
    `folder`. What is written through it lies in `folder`, and renaming works as there. A process
    that is killed leaves the link, nothing else.

    Args:
        folder: absolute; it must exist.

    Raises:
        UsageError: a link can be made nowhere.
    """
    if not _SPECIAL.search(str(folder)):
        yield folder
        return
    with contextlib.ExitStack() as cleaned:
        yield _link(folder, cleaned)


def _link(folder: Path, cleaned: contextlib.ExitStack) -> Path:
    reasons = []
    for parent in (_temporary_folder(), *folder.parents):
        if parent is None or _SPECIAL.search(str(parent)):
            continue
        try:
            # A folder of its own: the link's name may be taken where many write.
            own = Path(tempfile.mkdtemp(prefix=".glot-jax-", dir=parent))
            cleaned.callback(_remove, own)
            (own / "run").symlink_to(folder, target_is_directory=True)
        # A folder that may not be written, or a system without links.
        except (OSError, NotImplementedError) as error:
            reasons.append(str(error))
            continue
        return own / "run"
    reason = reasons[0] if reasons else "no plain folder"
    raise UsageError(
        rule=r"a run folder with one of * ? [ ] \ in its path needs a place for a symbolic link",
        got=f"{folder} ({reason})",
        fix="Choose a folder without these characters, or set TMPDIR to one that can be written.",
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
