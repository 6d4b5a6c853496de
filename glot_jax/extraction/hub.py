"""The files of a backbone on the Hub, in huggingface_hub's own cache. The only module that talks to the Hub for models.

A branch or tag is resolved to its commit once, and every file is of that commit. Only what a text encoder needs is
fetched: the small files at the top of the repository, and one set of weights.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from glot_jax.config import UsageError
from glot_jax.extraction.model_files import usable_folder
from glot_jax.texts.written import because

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")
"""Configuration, tokenizer, index of the weights, and the names of code that is not run."""
COMMIT = re.compile(r"[0-9a-f]{40}")
_PASS_A_FOLDER = "Where there is no network, download the model elsewhere and pass its folder: --backbone FOLDER."
_FIXES = {
    "GatedRepoError": "Accept its terms on the Hub, and log in (`hf auth login`, or HF_TOKEN in the environment).",
    "RepositoryNotFoundError": (
        "Check the name; a private model needs a login (`hf auth login`, or HF_TOKEN in the environment)."
    ),
    "RevisionNotFoundError": "Give a branch, tag or commit that it has: --revision.",
    "HFValidationError": "Give a folder, or a name like organisation/model.",
}
"""Name of huggingface_hub's error -> what to do about it."""


def resolve(name: str, revision: str | None) -> tuple[str, str | None]:
    """The commit that a branch or tag stands for, and a notice where the Hub could not be asked.

    Args:
        name: of a model on the Hub.
        revision: branch, tag or commit; None: the main branch.

    Raises:
        UsageError: no such model or revision, or one that may not be read; neither Hub nor cache knows the commit.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision, None
    import huggingface_hub

    try:
        found = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=30)
        if not isinstance(found.sha, str):
            raise ValueError("the Hub's answer names no commit")
        return found.sha, None
    except Exception as error:  # its errors have no common base: HTTP, offline mode, connection, bad names
        if type(error).__name__ in ("RevisionNotFoundError", "HFValidationError"):
            raise _explained(name, revision, error) from error
        asked = error
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=["config.json"], local_files_only=True
        )
    except Exception:
        raise _explained(name, revision, asked) from asked
    commit = Path(folder).name
    reason = "offline" if type(asked).__name__ == "OfflineModeIsEnabled" else _short(asked)
    return commit, f"{name}: {revision or 'main'} is commit {commit} by the cache; the Hub was not asked ({reason})"


def fetch(name: str, commit: str, *, allow_bin: bool = False) -> tuple[Path, list[str]]:
    """The folder with a model's files at a commit, in the cache, and notices; what it lacks is downloaded.

    Args:
        name: of a model on the Hub.
        commit: 40 hex digits.
        allow_bin: pytorch_model.bin will do where there are no .safetensors.

    Raises:
        UsageError: the files cannot be had.
    """
    folder, _ = usable_folder(_snapshot(name, commit, SMALL_FILES))
    wanted = weight_names(folder, allow_bin=allow_bin)
    return usable_folder(_snapshot(name, commit, wanted))


def weight_names(folder: Path, *, allow_bin: bool) -> tuple[str, ...]:
    """Names of the weight files that a folder's small files ask for, best format first."""
    names: list[str] = []
    if (folder / "adapter_config.json").is_file():
        names.append("adapter_model.safetensors")
    if not (folder / "config.json").is_file():
        return tuple(names)
    formats = ["model.safetensors"]
    if allow_bin:
        formats.append("pytorch_model.bin")
    for whole in formats:
        index = folder / f"{whole}.index.json"
        if index.is_file():
            return (*names, *_indexed(index))
    return (*names, *formats)


def _indexed(index: Path) -> tuple[str, ...]:
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


def _snapshot(name: str, commit: str, patterns: tuple[str, ...]) -> Path:
    import huggingface_hub
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        # Files in folders are of other formats: onnx/, openvino/, 1_Pooling/.
        found = huggingface_hub.snapshot_download(
            name, revision=commit, allow_patterns=list(patterns), ignore_patterns=["*/*"]
        )
    except Exception as error:
        raise _explained(name, commit, error) from error
    finally:
        if quiet:
            enable_progress_bars()
    return Path(found)


def _explained(name: str, revision: str | None, error: BaseException) -> UsageError:
    at = f" at revision {revision}" if revision else ""
    fix = next((_FIXES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _FIXES), _PASS_A_FOLDER)
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
