"""Objects of a bucket, by obstore: S3, Google Cloud Storage and Azure alike.

Keys and tokens come from the environment, and obstore alone reads them. Its errors may repeat a
request with its signature, so nothing of their text is passed on but the service's own code.

After its first use in a process no child may be forked (the child would hang): threads, or spawn.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from glot_jax.config.location import StoreUrl
from glot_jax.errors import UsageError, extra_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore.store import ObjectStore

CHUNK = 8 << 20
"""Bytes of an object that are in memory at once while it is read."""

LARGEST_NOTE = 64 << 20
"""Bytes of a record, a plan or a lock, at most."""

LARGEST_MANIFEST = 4 << 30
"""Bytes of a manifest, at most: a million shards have about 3 GB."""

_RETRIES = 6
_RETRY_SECONDS = 120

# S3 and Azure answer in XML, Google in JSON.
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>|\"reason\": ?\"([A-Za-z0-9]{1,60})\"")
_STATUS = re.compile(r"status code: (\d{3})")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "notFound")
_REFUSED = (
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthenticationFailed",
    "AuthorizationFailure",
)


@dataclasses.dataclass(frozen=True)
class Tagged:
    """The bytes of an object, and the state that it was in."""

    content: bytes
    tag: Tag


@dataclasses.dataclass(frozen=True)
class Tag:
    """A state of an object, for `Objects.swap`."""

    e_tag: str | None
    version: str | None

    def mode(self) -> dict[str, str]:
        """As obstore's `put` takes it."""
        values = {}
        if self.e_tag is not None:
            values["e_tag"] = self.e_tag
        # Google's condition is a version; the others have none, and None is no value for obstore.
        if self.version is not None:
            values["version"] = self.version
        return values


class Objects:
    """The objects under a URL, by their names behind it.

    Args:
        url: their common beginning.
        conditional: whether the service is asked to refuse what is there already; not with
            `--single-writer`.

    Raises:
        UsageError: obstore is not installed, or the environment has settings that it refuses.
    """

    def __init__(self, url: StoreUrl, *, conditional: bool = True):
        self.url = url
        self.conditional = conditional
        # Of the bucket and not of the URL: one client serves a store and its lock.
        self._client = client(url.scheme, url.bucket)

    def beside(self, name: str) -> Objects:
        """The objects under a URL that lies beside this one."""
        return Objects(self.url.with_name(name), conditional=self.conditional)

    def _key(self, name: str) -> str:
        return f"{self.url.key}/{name}"

    def put_file(self, name: str, path: Path) -> None:
        """Upload a file; an object of that name is replaced."""
        import obstore

        try:
            # Several requests where it is large: they begin again where one of them failed.
            obstore.put(self._client, self._key(name), path)
        except Exception as error:
            self._explain(error, name)

    def put(self, name: str, content: bytes) -> Tag:
        """Write an object; one of that name is replaced."""
        import obstore

        try:
            return _tag(obstore.put(self._client, self._key(name), content))
        except Exception as error:
            self._explain(error, name)

    def create(self, name: str, content: bytes) -> Tag | None:
        """Write an object that is not there yet, in one request.

        Returns:
            None where one of that name is there. It may be this very one: a request that was
            answered too late is sent again.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        # The service was found out not to know of conditions.
        if not self.conditional:
            return self.put(name, content)
        try:
            # In one request: the parts of several would meet no condition.
            return _tag(obstore.put(self._client, self._key(name), content, mode="create"))
        except (AlreadyExistsError, PreconditionError):
            return None
        except Exception as error:
            self._explain(error, name)

    def create_or_same(self, name: str, content: bytes) -> bool:
        """Write an object that is not there yet; whether it now has this content."""
        if self.create(name, content) is not None:
            return True
        # Another writer's of the same bytes is as good as ours.
        present = self.read(name)
        return present is not None and present.content == content

    def swap(self, name: str, content: bytes, tag: Tag) -> Tag | None:
        """Replace an object that is still in a state.

        Returns:
            Its new state; None where somebody else has changed or removed it.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        if not self.conditional:
            return self.put(name, content)
        try:
            mode: Any = tag.mode()
            return _tag(obstore.put(self._client, self._key(name), content, mode=mode))
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            present = self.read(name)
            # Ours, by a request that was answered too late.
            if present is not None and present.content == content:
                return present.tag
            return None
        except Exception as error:
            self._explain(error, name)

    def read(self, name: str, limit: int = LARGEST_NOTE) -> Tagged | None:
        """A small object; None where there is none.

        Raises:
            UsageError: it has more than `limit` bytes, which are then not read.
        """
        import obstore

        try:
            result = obstore.get(self._client, self._key(name))
            # Known from the head of the answer, before the body is read.
            size = result.meta["size"]
            if size <= limit:
                return Tagged(bytes(result.bytes()), _tag(dict(result.meta)))
        except FileNotFoundError as error:
            self._require_bucket(error, name)
            return None
        except Exception as error:
            self._explain(error, name)
        raise UsageError(
            rule=f"{name} of a store must have at most {limit} bytes",
            got=f"{self.url / name} with {size}",
            fix="Check the URL.",
        )

    def stream(self, name: str, size: int | None = None) -> Iterator[bytes]:
        """The bytes of an object, piece by piece.

        Args:
            name: of the object.
            size: bytes that it must have; None for any number.

        Raises:
            UsageError: it is not there, or has another size: then nothing of it is read.
        """
        import obstore

        try:
            result = obstore.get(self._client, self._key(name))
            # Nothing is read of an object that has another size, however large it says it is.
            present = result.meta["size"]
            if size is None or present == size:
                for chunk in result.stream(min_chunk_size=CHUNK):
                    yield bytes(chunk)
                return
        except FileNotFoundError as error:
            self._require_bucket(error, name)
            raise UsageError(
                rule="a store must hold every file of its manifest",
                got=f"{self.url / name}, which is missing",
                fix="Restore it from a copy (`glot store copy`), or extract the store again.",
            ) from None
        except Exception as error:
            self._explain(error, name)
        raise UsageError(
            rule="a stored file must have the size of its record",
            got=f"{self.url / name} with {present} bytes instead of {size}",
            fix="Restore it from a copy (`glot store copy`), or extract the store again.",
        )

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Name of every object, or of those in a folder -> its bytes, in the order of names."""
        import obstore

        key = self._key(folder).rstrip("/")
        prefix = f"{self.url.key}/"
        sizes = {}
        try:
            # By whole parts of names: OUT finds nothing of OUT.lock.
            for page in obstore.list(self._client, prefix=key, chunk_size=1000):
                for entry in page:
                    name = entry["path"].removeprefix(prefix)
                    sizes[name] = entry["size"]
        except Exception as error:
            self._explain(error, folder)
        # Services list in the order of names; memory and disks need not.
        return dict(sorted(sizes.items()))

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; nothing happens for those that are not there."""
        import obstore

        keys = [self._key(name) for name in names]
        # A request for nothing is an error.
        if not keys:
            return
        try:
            obstore.delete(self._client, keys)
        except FileNotFoundError as error:
            # Memory and disks say so of an object that is gone already; S3 does not.
            self._require_bucket(error, names[0])
        except Exception as error:
            self._explain(error, names[0])

    def _require_bucket(self, error: Exception, name: str) -> None:
        """An object that is missing is no error; a bucket that is missing is one."""
        if _code(error) in _NO_BUCKET[:2]:
            self._explain(error, name)

    def _explain(self, error: Exception, name: str) -> NoReturn:
        """Raise what an error of the service means; of its text only the service's own code."""
        code = _code(error)
        # A listing is of no object.
        where = self.url / name if name else self.url
        said = code or _status(error) or type(error).__name__
        # `from None`: the text of the cause may hold a signed request.
        if code in _NO_BUCKET[:2]:
            raise UsageError(
                rule="the bucket of a store must exist",
                got=f"{self.url.service}, of which the service said {said}",
                fix="Make it, or check the URL and the region (AWS_REGION, AWS_ENDPOINT_URL).",
            ) from None
        if code in _REFUSED or _status(error) in ("401", "403") or _is_refusal(error):
            raise UsageError(
                rule="the service must let this user at the store",
                got=f"{where}, of which it said {said}",
                fix=f"Check the keys in the environment: {_VARIABLES[self.url.scheme]}.",
            ) from None
        # Without keys the client asks the machine itself, as on a cloud's own machines.
        if any(host in str(error) for host in _MACHINES):
            raise UsageError(
                rule="object storage must be told who asks",
                got=f"no keys for {self.url.service} in the environment, and none of this machine",
                fix=f"Set {_VARIABLES[self.url.scheme]}; for a public bucket of S3"
                " AWS_SKIP_SIGNATURE=true.",
            ) from None
        raise UsageError(
            rule="object storage must answer",
            got=f"{where}: {_reason(error, said)}",
            fix="Check the URL, the network and the service's endpoint (AWS_ENDPOINT_URL,"
            " AZURE_STORAGE_ENDPOINT); run the same command again: what is there is kept.",
        ) from None


_MACHINES = ("169.254.169.254", "metadata.google.internal")

_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_KEY",
}


@functools.cache
def client(scheme: str, bucket: str) -> ObjectStore:
    """Obstore's client of a bucket, one a process.

    Raises:
        UsageError: obstore is not installed, or refuses the settings in the environment.
    """
    # Here, and when it is first needed: whoever has stores in folders need not have it.
    with extra_of("remote", f"a store at {scheme}://"):
        from obstore.exceptions import BaseError
        from obstore.store import from_url

    endpoints = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
    # Whoever names an endpoint without TLS means it; none is without it by default.
    is_plain = any(os.environ.get(name, "").startswith("http://") for name in endpoints)
    options: Any = {
        "connect_timeout": datetime.timedelta(seconds=15),
        # Of silence, not of a whole transfer: shards may take minutes.
        "read_timeout": datetime.timedelta(seconds=60),
        "timeout": datetime.timedelta(hours=1),
    }
    if is_plain:
        options["allow_http"] = True
    # Of connections that fail and of errors of the service's own; beyond them the run ends, and
    # the same command goes on.
    retries: Any = {
        "max_retries": _RETRIES,
        "retry_timeout": datetime.timedelta(seconds=_RETRY_SECONDS),
    }
    try:
        return from_url(f"{scheme}://{bucket}", client_options=options, retry_config=retries)
    except (BaseError, ValueError) as error:
        # Its text may repeat a setting: a key, for example.
        raise UsageError(
            rule="object storage must be set up in the environment",
            got=f"{scheme}://{bucket}: {type(error).__name__}",
            fix=f"Set {_VARIABLES[scheme]}.",
        ) from None


def _tag(values: Mapping[str, Any]) -> Tag:
    return Tag(values.get("e_tag"), values.get("version"))


def _code(error: Exception) -> str:
    """The service's own word for what is wrong; "" where it has none."""
    match = _CODE.search(str(error))
    return "" if match is None else match[1] or match[2]


def _status(error: Exception) -> str:
    match = _STATUS.search(str(error))
    return "" if match is None else match[1]


def _is_refusal(error: Exception) -> bool:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    return isinstance(error, (PermissionDeniedError, UnauthenticatedError))


def _reason(error: Exception, said: str) -> str:
    """In words of ours: the text itself may hold a signed request."""
    text = str(error)
    # A name without an address is also a connection that was not made, so it is asked for first.
    if "dns" in text.lower():
        return "its host has no address"
    if "Connect" in text:
        return "no connection"
    if "TimedOut" in text or "timed out" in text:
        return "no answer in time"
    return f"the service said {said}"
