"""The files of a backbone on the Hub, in huggingface_hub's own cache. The only module that talks to
the Hub for models.

A branch or tag is resolved to its commit once, and every file is of that commit. Only what a text
encoder needs is
fetched: the small files at the top of the repository, and one set of weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import json
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from glot_jax.errors import UsageError
from glot_jax.extraction.model_files import usable_folder
from glot_jax.files import write_bytes
from glot_jax.texts.quoting import because

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")
"""Configuration, tokenizer, index of the weights, and the names of code that is not run."""
COMMIT = re.compile(r"[0-9a-f]{40}")
_PASS_A_FOLDER = (
    "Where there is no network, download the model elsewhere and pass its folder: --backbone"
    " FOLDER."
)
_FIXES = {
    "GatedRepoError": (
        "Accept its terms on the Hub, and log in (`hf auth login`, or HF_TOKEN in the environment)."
    ),
    "RepositoryNotFoundError": (
        "Check the name; a private model needs a login (`hf auth login`, or HF_TOKEN in the"
        " environment)."
    ),
    "RevisionNotFoundError": "Give a branch, tag or commit that it has: --revision.",
    "HFValidationError": "Give a folder, or a name like organisation/model.",
}
"""Name of huggingface_hub's error -> what to do about it."""


@dataclasses.dataclass(frozen=True)
class Commit:
    """A commit of a model's repository."""

    sha: str
    """40 hex digits."""
    files: tuple[str, ...] | None = None
    """Files at the top of the repository; None: the Hub was not asked."""
    notice: str | None = None
    """Said to the user where the Hub could not be asked."""


def resolve(name: str, revision: str | None) -> Commit:
    """The commit that a branch or tag stands for; of a Hub that cannot be reached, the one that the
    cache knows.

    Args:
        name: of a model on the Hub.
        revision: branch, tag or commit; None: the main branch.

    Raises:
        UsageError: no such model or revision, or one that may not be read; neither Hub nor cache
            knows the commit.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return Commit(revision)
    try:
        return _asked(name, revision)
    except (
        Exception
    ) as error:  # its errors have no common base: HTTP, offline mode, connection, bad names
        if type(error).__name__ in ("RevisionNotFoundError", "HFValidationError"):
            raise _explained(name, revision, error) from error
        folder = _cached(name, revision)
        if folder is None:
            raise _explained(name, revision, error) from error
        reason = "offline" if type(error).__name__ == "OfflineModeIsEnabled" else _short(error)
        at = revision or "main"
        return Commit(
            folder.name,
            notice=(
                f"{name}: {at} is commit {folder.name} by the cache; the Hub was not asked"
                f" ({reason})"
            ),
        )


def fetch(
    name: str, commit: Commit, *, revision: str | None = None, allow_bin: bool = False
) -> tuple[Path, list[str]]:
    """The folder with a model's files at a commit, in the cache, and notices; what it lacks is
    downloaded.

    Args:
        name: of a model on the Hub.
        commit: of `resolve`.
        revision: the branch or tag that was resolved: the cache remembers it for the day without a
            network.
        allow_bin: pytorch_model.bin will do where there are no .safetensors.

    Raises:
        UsageError: the files cannot be had.
    """
    cached = _cached(name, commit.sha)
    if cached is not None and _is_complete(cached, commit.files, allow_bin):
        _remember(cached, revision, commit)
        return usable_folder(cached, allow_bin=allow_bin)
    files = commit.files
    if files is None:
        try:
            files = _asked(name, commit.sha).files
        except Exception as error:
            if cached is None:
                raise _explained(name, commit.sha, error) from error
            # What is missing is named where it is needed.
            return usable_folder(cached, allow_bin=allow_bin)
    small = [file for file in files or () if _is_small(file)]
    folder, _ = usable_folder(_downloaded(name, commit.sha, small))
    weights = weight_names(folder, files or (), allow_bin=allow_bin)
    whole = _downloaded(name, commit.sha, [*small[:1], *weights])
    _remember(whole, revision, commit)
    return usable_folder(whole, allow_bin=allow_bin)


def _is_small(file: str) -> bool:
    return any(fnmatch.fnmatch(file, kind) for kind in SMALL_FILES)


def _asked(name: str, revision: str | None) -> Commit:
    """What the Hub says; raises what its client raises."""
    import huggingface_hub

    # With a time limit, which the client's own listing of a repository has not.
    found = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=30)
    if not isinstance(found.sha, str) or not COMMIT.fullmatch(found.sha):
        raise ValueError(f"the Hub's answer names no commit: {found.sha!r}")
    names = [file.rfilename for file in found.siblings or ()]
    # Files in folders are of other formats: onnx/, openvino/, 1_Pooling/.
    return Commit(found.sha, tuple(file for file in names if "/" not in file))


def _cached(name: str, revision: str | None) -> Path | None:
    """The folder of a revision in the cache, whole or not."""
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=["config.json"], local_files_only=True
        )
    except Exception:
        return None
    return Path(found)


def _is_complete(folder: Path, files: Sequence[str] | None, allow_bin: bool) -> bool:
    """Whether a folder of the cache has all that is needed; `files` is the Hub's list, None where
    it was not asked.
    """
    try:
        usable, _ = usable_folder(folder)
        there = [path.name for path in usable.iterdir()]
        weights = weight_names(usable, files or there, allow_bin=allow_bin)
    except UsageError:
        # A damaged copy is fetched again; where that cannot be, the damage is named.
        return False
    needed = [*weights, *(file for file in files or () if _is_small(file))]
    known = any(file.startswith(("tokenizer", "vocab", "spiece")) for file in there)
    return known and len(weights) > 0 and all((usable / file).is_file() for file in needed)


def _downloaded(name: str, commit: str, files: Sequence[str]) -> Path:
    """The folder of the commit, with these files in it."""
    import huggingface_hub

    if not files:
        raise UsageError(
            "a backbone's repository must hold a model",
            f"{name} at revision {commit}, without config.json at its top",
            "Choose another --backbone.",
        )

    def download(file: str) -> Path:
        return Path(huggingface_hub.hf_hub_download(name, file, revision=commit)).parent

    with _quiet_bars():
        try:
            with ThreadPoolExecutor(max_workers=4) as pool:
                folders = list(pool.map(download, files))
        except Exception as error:
            raise _explained(name, commit, error) from error
    return folders[0]


def _remember(snapshot: Path, revision: str | None, commit: Commit) -> None:
    """Note in the cache which commit a branch is, as the client does: offline the name alone then
    finds its files.
    """
    branch = revision or "main"
    if commit.files is None or COMMIT.fullmatch(branch) or snapshot.parent.name != "snapshots":
        return
    refs = snapshot.parent.parent / "refs"
    path = refs / branch
    # A revision may come from the settings of a stranger's adapter.
    if not path.resolve().is_relative_to(refs.resolve()):
        return
    with contextlib.suppress(OSError, UsageError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, commit.sha.encode())


@contextlib.contextmanager
def _quiet_bars() -> Iterator[None]:
    """No progress bars in a log."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            enable_progress_bars()


def weight_names(folder: Path, files: Sequence[str], *, allow_bin: bool) -> tuple[str, ...]:
    """Names of the weight files that a model needs, .safetensors before .bin, of one format only.

    Args:
        folder: with the small files: an index lists its shards.
        files: those there are, in the folder or on the Hub.
        allow_bin: whether a .bin will do.
    """
    kinds = ["model.safetensors", "pytorch_model.bin"] if allow_bin else ["model.safetensors"]
    adapters = (
        ["adapter_model.safetensors", "adapter_model.bin"]
        if allow_bin
        else ["adapter_model.safetensors"]
    )
    names: list[str] = []
    if "adapter_config.json" in files:
        names += [file for file in adapters if file in files][:1]
    if "config.json" not in files:
        return tuple(names)
    for whole in kinds:
        index = f"{whole}.index.json"
        if index in files:
            return (*names, *indexed(folder / index))
        if whole in files:
            return (*names, whole)
    return tuple(names)


def indexed(index: Path) -> tuple[str, ...]:
    """The files that an index of weights names, all of its own folder."""
    try:
        files = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "the index of a model's weights must map names of arrays to files",
            f"{index} ({because(error)})",
            "Download the file again.",
        ) from error
    plain = [file for file in files if isinstance(file, str) and Path(file).name == file]
    if len(plain) != len(files):
        raise UsageError(
            "the index of a model's weights must name files of its own folder",
            f"{index} with {next(file for file in files if file not in plain)!r}",
            "Download the model again from a source that you trust.",
        )
    return tuple(plain)


def _explained(name: str, revision: str | None, error: BaseException) -> UsageError:
    at = f" at revision {revision}" if revision else ""
    fix = next(
        (_FIXES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _FIXES),
        _PASS_A_FOLDER,
    )
    return UsageError(
        "--backbone must be a folder with a model, or a name on the Hub whose files can be had",
        f"{name}{at}: {_short(error)}",
        fix,
    )


def _short(error: Any) -> str:
    """What the Hub says, without its page of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3])
    return f"{type(error).__name__}: {because(ValueError(text))}"
