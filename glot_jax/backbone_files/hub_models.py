"""The files of a backbone on the Hub, in huggingface_hub's own cache.

This is the only module that talks to the Hub for models. A branch or tag is resolved to its commit
once, and every file is of that commit. Only what a text encoder needs is fetched: the small files
at the top of the repository, and one set of weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from glot_jax.backbone_files.model_files import refuse_gguf_alone, usable_folder
from glot_jax.backbone_files.weight_files import weight_names
from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import because
from glot_jax.files import write_bytes

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
    "RemoteEntryNotFoundError": "Check the file's name in the repository.",
    "EntryNotFoundError": "Check the file's name in the repository.",
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
    """Return the commit that a branch or tag stands for.

    Where the Hub cannot be reached it is the one that the cache knows.

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
        return _ask_hub(name, revision)
    except Exception as error:
        # Its client's errors have no common base: HTTP, offline mode, connection, bad names.
        kind = type(error).__name__
        folder = None
        if kind not in ("RevisionNotFoundError", "HFValidationError"):
            folder = _cached(name, revision)
        if folder is None:
            raise _explained(name, revision, error) from error
        reason = "offline" if kind == "OfflineModeIsEnabled" else _short(error)
        sha = folder.name
        notice = (
            f"{name}: {revision or 'main'} is commit {sha} by the cache; the Hub was not asked"
            f" ({reason})"
        )
        return Commit(sha, notice=notice)


def fetch(
    name: str,
    commit: Commit,
    *,
    revision: str | None = None,
    allow_bin: bool = False,
) -> tuple[Path, list[str]]:
    """Return the folder with a model's files at a commit, in the cache, and notices.

    What the cache lacks is downloaded.

    Args:
        name: of a model on the Hub.
        commit: of `resolve`.
        revision: the branch or tag that was resolved: the cache remembers it for the day without a
            network.
        allow_bin: whether pytorch_model.bin will do where there are no .safetensors.

    Raises:
        UsageError: the files cannot be had.
    """
    # A commit never changes: what the cache has of it need not be asked for again.
    cached = _cached(name, commit.sha)
    if cached is not None and _is_complete(cached, commit.files, allow_bin):
        _remember(cached, revision, commit)
        return usable_folder(cached, allow_bin=allow_bin)
    files = commit.files
    # A commit that was given in full was not asked for yet.
    if files is None:
        try:
            files = _ask_hub(name, commit.sha).files
        except Exception as error:
            if cached is None:
                raise _explained(name, commit.sha, error) from error
            # What is missing is named where it is needed.
            return usable_folder(cached, allow_bin=allow_bin)
    if "config.json" not in (files or ()):
        refuse_gguf_alone(name, files or ())
    # The small files first: the index of the weights, which is one of them, names the shards.
    small = list(filter(_is_small, files or ()))
    folder, _ = usable_folder(_download(name, commit.sha, small))
    weights = weight_names(folder, files or (), allow_bin=allow_bin)
    # One small file again, so that the folder is known where no weights are missing.
    whole = _download(name, commit.sha, [*small[:1], *weights])
    _remember(whole, revision, commit)
    return usable_folder(whole, allow_bin=allow_bin)


def fetch_file(name: str, commit: Commit, file: str) -> Path:
    """Return one file of a model at a commit, in the cache; it is downloaded if it is not there.

    Args:
        name: of a model on the Hub.
        commit: of `resolve`.
        file: its path in the repository.

    Raises:
        UsageError: the repository has no such file, or it cannot be had.
    """
    import huggingface_hub

    # A commit never changes: a file that the cache has of it need not be asked for again.
    with contextlib.suppress(Exception):
        return Path(
            huggingface_hub.hf_hub_download(name, file, revision=commit.sha, local_files_only=True)
        )
    with _quiet_bars():
        try:
            return Path(huggingface_hub.hf_hub_download(name, file, revision=commit.sha))
        except Exception as error:
            raise _explained(f"{name}/{file}", commit.sha, error) from error


def _is_small(file: str) -> bool:
    return any(fnmatch.fnmatch(file, kind) for kind in SMALL_FILES)


def _ask_hub(name: str, revision: str | None) -> Commit:
    """What the Hub says about a revision; raises what its client raises."""
    import huggingface_hub

    # With a time limit, which the client's own listing of a repository has not.
    answer = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=30)
    if not isinstance(answer.sha, str) or not COMMIT.fullmatch(answer.sha):
        raise ValueError(f"the Hub's answer names no commit: {answer.sha!r}")
    names = [file.rfilename for file in answer.siblings or ()]
    # Files in folders are of other formats: onnx/, openvino/, 1_Pooling/.
    top_level = [file for file in names if "/" not in file]
    return Commit(answer.sha, tuple(top_level))


def _cached(name: str, revision: str | None) -> Path | None:
    """The folder of a revision in the cache, whole or not."""
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=["config.json"], local_files_only=True
        )
    except Exception:
        # Whatever it is, the Hub is asked next, and its error is the one to report.
        return None
    return Path(folder)


def _is_complete(
    folder: Path,
    files: Sequence[str] | None,
    allow_bin: bool,
) -> bool:
    """Whether a folder of the cache has all that is needed.

    Args:
        folder: of a commit.
        files: the Hub's list; None where it was not asked.
        allow_bin: whether pytorch_model.bin will do.
    """
    try:
        usable, _ = usable_folder(folder)
        present = [path.name for path in usable.iterdir()]
        weights = weight_names(usable, files or present, allow_bin=allow_bin)
    except UsageError:
        # A damaged copy is fetched again; where that cannot be, the damage is named.
        return False
    # Without the Hub's list nobody knows all tokenizer files: one of them has to do.
    beginnings = ("tokenizer", "vocab", "spiece")
    has_tokenizer = any(file.startswith(beginnings) for file in present)
    if not has_tokenizer or not weights:
        return False
    needed = [*weights, *filter(_is_small, files or ())]
    # A download that was interrupted leaves a snapshot with some of its files.
    return all((usable / file).is_file() for file in needed)


def _download(
    name: str,
    commit: str,
    files: Sequence[str],
) -> Path:
    """The folder of the commit, with these files in it."""
    import huggingface_hub

    if not files:
        raise UsageError(
            rule="a backbone's repository must hold a model",
            got=f"{name} at revision {commit}, without config.json at its top",
            fix="Choose another --backbone.",
        )

    def download(file: str) -> Path:
        return Path(huggingface_hub.hf_hub_download(name, file, revision=commit)).parent

    with _quiet_bars():
        try:
            with ThreadPoolExecutor(max_workers=4) as pool:
                folders = list(pool.map(download, files))
        except Exception as error:
            raise _explained(name, commit, error) from error
    # The cache keeps every file of a commit in one folder.
    return folders[0]


def _remember(snapshot: Path, revision: str | None, commit: Commit) -> None:
    """Note in the cache which commit a branch is, as the client does.

    Offline the name alone then finds its files.
    """
    # Commits need no note, and a folder that was repaired is not the cache's.
    branch = revision or "main"
    if commit.files is None or COMMIT.fullmatch(branch) or snapshot.parent.name != "snapshots":
        return
    refs = snapshot.parent.parent / "refs"
    path = refs / branch
    # A revision may come from the settings of a stranger's adapter.
    if not path.resolve().is_relative_to(refs.resolve()):
        return
    # A cache that cannot be written serves its files all the same.
    with contextlib.suppress(OSError, UsageError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, commit.sha.encode())


@contextlib.contextmanager
def _quiet_bars() -> Iterator[None]:
    """Keep progress bars out of a log."""
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


def _explained(name: str, revision: str | None, error: BaseException) -> UsageError:
    at = f" at revision {revision}" if revision else ""
    return UsageError(
        rule="--backbone must be a folder with a model, or a name on the Hub whose files can be"
        " had",
        got=f"{name}{at}: {_short(error)}",
        fix=_fix_of(error),
    )


def _fix_of(error: BaseException) -> str:
    # By name, base classes included: the client need not be imported to explain its error.
    for kind in type(error).__mro__:
        if kind.__name__ in _FIXES:
            return _FIXES[kind.__name__]
    return _PASS_A_FOLDER


def _short(error: BaseException) -> str:
    """What the Hub says, without its page of advice."""
    lines = [line.strip() for line in str(error).splitlines()]
    # Its first lines say what happened; links and advice follow.
    text = " ".join(list(filter(None, lines))[:3])
    return f"{type(error).__name__}: {because(ValueError(text))}"
