"""The commit of a store's backbone: a store that was begun with one keeps it.

A branch may move before the same command runs again.
"""

from __future__ import annotations

import dataclasses

from glot_jax.backbone_files import hub_models
from glot_jax.backbone_files.gguf_source import repository_of
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import StoreUrl
from glot_jax.errors import UsageError
from glot_jax.remote_stores.out import RemoteOut
from glot_jax.store.layout import MANIFEST
from glot_jax.store.lock import read_begun
from glot_jax.store.manifest import read_manifest
from glot_jax.store.recipe import Recipe


def pin_revision(config: ExtractConfig) -> tuple[ExtractConfig, list[str]]:
    """Return the settings with the commit that the store in `config.out` was begun with.

    Nothing changes for a new store, for a folder as backbone, and where `--revision` is a commit.

    Returns:
        The settings, and a notice if the branch has moved or could not be looked up.
    """
    if config.revision is not None and hub_models.COMMIT.fullmatch(config.revision):
        return config, []
    recipe = _stored_recipe(config)
    if recipe is None or recipe.revision is None:
        return config, []
    # Another backbone is another recipe, which is refused later and with all differences.
    if recipe.backbone_name != (config.backbone_name or config.location):
        return config, []
    commit = recipe.revision
    pinned = dataclasses.replace(config, revision=commit)
    branch = config.revision or "main"
    try:
        now = hub_models.resolve(repository_of(config.location), config.revision).sha
    except UsageError as error:
        # Not an error here: the files of the stored commit may all be in the cache.
        return pinned, [
            f"{config.backbone}: commit {commit}, as the store has it ({branch} could not be looked"
            f" up: {error.got})"
        ]
    if now == commit:
        return pinned, []
    return pinned, [
        f"{config.backbone}: {branch} is at commit {now} now; {config.out} was begun with {commit},"
        " which is used on. For the new commit choose another --out"
    ]


def _stored_recipe(config: ExtractConfig) -> Recipe | None:
    """The recipe of the finished or unfinished store in `config.out`; None without a store."""
    if isinstance(config.out, StoreUrl):
        return RemoteOut(config.out, config.remote).recipe()
    if (config.out / MANIFEST).is_file():
        return read_manifest(config.out).recipe
    # An append that was begun keeps no recipe; its store is finished and has a manifest.
    begun = read_begun(config.out)
    return begun if isinstance(begun, Recipe) else None
