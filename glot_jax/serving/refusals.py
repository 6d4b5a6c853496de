"""Requests that are not answered, in the format in which OpenAI says so."""

from __future__ import annotations

from collections.abc import Mapping

JsonError = dict[str, dict[str, str | None]]

# Clients of OpenAI choose by these whether to ask again.
_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is refused: the rule, what came, the fix.

    Neither of the three holds a text of the request: what is refused may be logged by whoever sent
    it, or stands between him and us.

    Args:
        status: HTTP status.
        rule: what must hold.
        got: what came: a number, a type, a name.
        fix: what to do.
        param: field of the request, if one is to blame.
        retry_after: seconds after which it may be accepted.
    """

    def __init__(
        self,
        status: int,
        rule: str,
        got: object,
        fix: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(rule)
        self.status = status
        self.message = f"{rule}; got {got}. {fix}"
        self.param = param
        self.retry_after = retry_after

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer."""
        if self.retry_after is None:
            return {}
        return {"Retry-After": str(self.retry_after)}

    @property
    def body(self) -> JsonError:
        """JSON of the answer."""
        return error_body(self.status, self.message, self.param)


def error_body(status: int, message: str, param: str | None = None) -> JsonError:
    """The JSON of an answer that is none, as clients of OpenAI read it."""
    kind = _KINDS.get(status, "invalid_request_error")
    if status >= 500:
        kind = "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}
