"""A folder as a repository on the Hub, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glot_jax.errors import UsageError

if TYPE_CHECKING:
    # Loaded when something is uploaded or fetched: nothing else here needs the Hub.
    from huggingface_hub import HfApi


def upload_folder(
    source: Path,
    name: str,
    *,
    message: str,
    private: bool = True,
    api: HfApi | None = None,
) -> dict[str, Any]:
    """Upload a folder, as it is.

    Args:
        source: the folder.
        name: of the repository, "owner/model".
        message: of the commit.
        private: a repository that only its owner sees; one that exists and is public is then left
            alone.
        api: a huggingface_hub.HfApi with its own endpoint or token; default: the logged-in user's.

    Returns:
        {repository, private, commit, url}.

    Raises:
        UsageError: a public repository, or whatever the Hub refuses.
    """
    from huggingface_hub import HfApi

    api = api or HfApi()
    try:
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        # create_repo leaves a repository that exists already as it is.
        if private and not api.repo_info(repository).private:
            raise UsageError(
                rule="a private export must go to a private repository",
                got=f"{repository}, which is public",
                fix="Choose another name, or make it public.",
            )
        commit = api.upload_folder(repo_id=repository, folder_path=source, commit_message=message)
    # Ours already: the repository is public.
    except UsageError:
        raise
    # The Hub's client raises whatever the network, the server or a name provokes.
    except Exception as error:
        raise UsageError(
            rule="a folder must be uploaded by a user who may write to its repository",
            got=f"{name}: {_first_line(error)}",
            fix=(
                "Log in with `hf auth login`, and check the name and the network (HF_HUB_OFFLINE=1"
                " forbids uploads)."
            ),
        ) from error
    return {
        "repository": repository,
        "private": bool(private),
        "commit": getattr(commit, "oid", None),
        "url": str(getattr(commit, "repo_url", "")),
    }


def fetched_folder(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """The folder with some files of a repository, from the Hub or from its client's cache.

    Args:
        name: of the repository, "owner/model".
        files: to be fetched, and no others.
        revision: commit, tag or branch. Default: main.

    Raises:
        UsageError: no such repository or revision, or no access to it.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(files))
    except Exception as error:
        raise UsageError(
            rule="a folder or a repository on the Hub must be named",
            got=f"{name}: {_first_line(error)}",
            fix="Check the name, the revision and the network (HF_HUB_OFFLINE=1 reads the cache"
            " alone); log in with `hf auth login` for a private one.",
        ) from error
    return Path(folder)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
