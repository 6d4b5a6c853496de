"""Where a store lies: a folder of this machine, or a URL of object storage.

A URL stays a URL: as a `Path` s3://bucket/cola would be s3:/bucket/cola, a folder of this machine.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from pathlib import Path

from glot_jax.errors import UsageError

SERVICES = {
    "s3": "Amazon S3 and what speaks its language",
    "gs": "Google Cloud Storage",
    "az": "Azure Blob Storage",
}
"""Scheme of a URL -> whose storage it is."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A URL that has passed through a Path.
_LOST_SLASH = re.compile(rf"({'|'.join(SERVICES)}):/(?!/)")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXAMPLE = "Give for example s3://bucket/stores/cola."


@dataclasses.dataclass(frozen=True)
class StoreUrl:
    """A store in object storage: s3://bucket/stores/cola.

    Made by `parse_location`, which lets no secret into it.
    """

    scheme: str
    bucket: str
    key: str
    """What stands before the names of the store's files, without a slash at its end."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> StoreUrl:
        """What lies under that name in it."""
        return dataclasses.replace(self, key=f"{self.key}/{name}")

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def service(self) -> str:
        """The URL of the bucket."""
        return f"{self.scheme}://{self.bucket}"

    def with_name(self, name: str) -> StoreUrl:
        """What lies beside it under another name."""
        # A store may lie at the bucket's own first level: then there is no parent.
        parent, slash, _ = self.key.rpartition("/")
        return dataclasses.replace(self, key=f"{parent}{slash}{name}")


Location = Path | StoreUrl
"""Where a store lies."""


def parse_location(text: str | os.PathLike[str] | StoreUrl) -> Location:
    """The folder or the URL that a text means.

    Raises:
        UsageError: a URL of another kind, or one that holds a secret or what is no key. What is
            secret in it is not repeated.
    """
    if isinstance(text, StoreUrl):
        return text
    # A result of `extract` stands for its place wherever one is taken.
    text = os.fspath(text)
    match = _SCHEME.match(text)
    # Everything else is a path, as it was before there were URLs.
    if match is None:
        return Path(text)
    scheme = match[1].lower()
    if scheme not in SERVICES:
        known = ", ".join(f"{service}://" for service in SERVICES)
        raise UsageError(
            rule=f"the URL of a store must begin with {known}",
            got=f"{scheme}://...",
            fix=_EXAMPLE,
        )
    rest = text[match.end() :]
    # Before the URL stands in any message.
    _refuse_secrets(scheme, rest)
    bucket, _, key = rest.partition("/")
    key = key.rstrip("/")
    # Names of services alone are checked by them; these parts would make other keys on the way.
    parts = set(key.split("/"))
    has_odd_part = not parts.isdisjoint(("", ".", ".."))
    if has_odd_part or _BUCKET.fullmatch(bucket) is None:
        raise UsageError(
            rule="the URL of a store must name a bucket and, in it, the store",
            got=text,
            fix=_EXAMPLE,
        )
    return StoreUrl(scheme, bucket, key)


def _refuse_secrets(scheme: str, rest: str) -> None:
    """Refuse a URL with a user's name, a signature or a token in it."""
    authority = rest.partition("/")[0]
    # A key may hold an @; a bucket may not.
    has_user = "@" in authority
    # A signature stands in the query of a URL, a token sometimes behind a #.
    if not has_user and "?" not in rest and "#" not in rest:
        return
    raise UsageError(
        rule="the URL of a store must hold no key, user, signature or token: it is written into"
        " files and logs",
        # Nothing of it: what is secret in it has no certain place.
        got=f"{scheme}://... with {'an @' if has_user else 'a ? or #'}",
        fix="Give s3://bucket/name alone, and the rest in environment variables:"
        " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS,"
        " AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY.",
    )


def require_folder(location: Location) -> Path:
    """The folder that a store lies in.

    Raises:
        UsageError: it lies at a URL.
    """
    # What writes, maps or links files of this machine's.
    if isinstance(location, StoreUrl):
        raise UsageError(
            rule="this takes a store in a folder",
            got=location,
            fix="Copy it: glot store copy URL FOLDER. In Python glot_jax.remote_stores has verify"
            " and finish for stores at URLs.",
        )
    return location


def require_url(location: str | StoreUrl) -> StoreUrl:
    """The URL that a store lies at.

    Raises:
        UsageError: it lies in a folder, or the URL is none of a store.
    """
    url = parse_location(location)
    if not isinstance(url, StoreUrl):
        raise UsageError(rule="this takes the URL of a store", got=location, fix=_EXAMPLE)
    return url


def is_location(hint: object) -> bool:
    """Whether a field of this type may hold a URL."""
    return StoreUrl in typing.get_args(hint)


def no_lost_url(path: object) -> str | None:
    """The rule that a path breaks which was a URL once; None for everything else."""
    if not isinstance(path, Path):
        return None
    text = str(path)
    # `Path` takes away the second slash, wherever the text went through one.
    if _SCHEME.match(text) or _LOST_SLASH.match(text):
        return "must be a path of this machine: stores alone may lie at a URL"
    return None
