"""Answers, and what can go wrong with one: a fault makes a wrong answer of the right one."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Fault = Callable[["Reply"], "Reply"]


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stall: float = 0.0
    """Seconds of silence before the first byte."""
    cut: int | None = None
    """Bytes of the body after which the connection is closed, whatever Content-Length promised."""


def json_reply(
    values: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    told = {"Content-Type": "application/json", **(headers or {})}
    return Reply(status, json.dumps(values).encode(), told)


def refusal(status: int, code: str, message: str, sha: str | None = None) -> Reply:
    """A refusal in the Hub's own words, as its clients read them; `sha` is the commit, if known."""
    told = {"X-Error-Code": code, "X-Error-Message": message}
    known = {"X-Repo-Commit": sha} if sha else {}
    return json_reply({"error": message}, status, {**told, **known})


# --------------------------------------------------------------------------------------------------
# Faults


def gated(status: int = 401) -> Fault:
    """401 for somebody without a token, 403 for one who is not on the list."""
    message = "Access to this model is restricted. You must be authenticated to access it."
    return lambda _reply: refusal(status, "GatedRepo", message)


def slow(seconds: float) -> Fault:
    """Nothing at all for a while."""
    return lambda reply: dataclasses.replace(reply, stall=seconds)


def cut(after: int) -> Fault:
    """The connection is closed in the midst of the file."""
    return lambda reply: dataclasses.replace(reply, cut=after)


def failing(status: int = 500) -> Fault:
    """A server that is down: 500, 502, 503 ..."""
    message = "Internal Error - We're working hard to fix this"
    return lambda _reply: json_reply({"error": message}, status)


def rate_limited(seconds: int = 0) -> Fault:
    """Too many requests; come back in so many seconds."""
    return lambda _reply: json_reply(
        {"error": "We had to rate limit you"}, 429, {"Retry-After": str(seconds)}
    )


def wrong_bytes() -> Fault:
    """As many bytes as promised, other ones."""
    return lambda reply: dataclasses.replace(reply, body=bytes(255 - byte for byte in reply.body))


def not_json() -> Fault:
    """Text where JSON or a model's file should be, with every header in its place."""

    def spoil(reply: Reply) -> Reply:
        body = b"this is no JSON"
        size = {"X-Linked-Size": str(len(body))} if "X-Linked-Size" in reply.headers else {}
        return dataclasses.replace(reply, body=body, headers={**reply.headers, **size})

    return spoil


def html() -> Fault:
    """The login page of a network that lets nobody through."""
    page = b"<!DOCTYPE html><html><body>Please log in to the network.</body></html>"
    return lambda _reply: Reply(200, page, {"Content-Type": "text/html"})


# --------------------------------------------------------------------------------------------------
# Which answers are spoiled


@dataclass
class Rule:
    """A fault, and the answers that it strikes."""

    repo: str
    fault: Fault
    file: str | None
    """Pattern of the file's path; None: every answer about the repository."""
    host: str | None
    """hub, cdn, or None: both."""
    method: str | None
    skip: int
    """Answers that are right before the first wrong one."""
    times: int | None
    """Wrong answers before it is right again; None: for ever."""

    def strikes(self, repo: str, file: str | None, host: str, method: str) -> bool:
        """Whether this answer is spoiled; counts it."""
        if repo != self.repo or self.host not in (None, host) or self.method not in (None, method):
            return False
        if self.file is not None and not (file and fnmatch.fnmatch(file, self.file)):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """The rules in force; asked by the threads of a server."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def clear(self, repo: str | None = None) -> None:
        """Every answer is right again, or every one about `repo`."""
        with self._lock:
            self._rules = [rule for rule in self._rules if repo not in (None, rule.repo)]

    def spoil(self, reply: Reply, repo: str, file: str | None, host: str, method: str) -> Reply:
        """The answer that is sent."""
        with self._lock:
            struck = [rule for rule in self._rules if rule.strikes(repo, file, host, method)]
        for rule in struck:
            reply = rule.fault(reply)
        return reply
