"""What clients may send, checked field by field; no message repeats what they wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from glot_jax.serving.refusals import Refusal
from glot_jax.serving.served_run import Row
from glot_jax.texts.tasks import TaskSpec


class EmbeddingsRequest(BaseModel):
    """The body of `POST /v1/embeddings`, as OpenAI's clients write it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: str | list[str]
    """A text or several."""
    model: str | None = None
    """Name of the served model. Left out: whichever it is."""
    encoding_format: Literal["float", "base64"] = "float"
    """Numbers, or little-endian float32 in base64."""
    dimensions: int | None = None
    """Refused: vectors have the width that the head was trained with."""
    user: str | None = None
    """Read by OpenAI alone."""

    @field_validator("input", mode="before")
    @classmethod
    def _require_texts(cls, value: object) -> list[str]:
        return texts_of(value)

    @field_validator("dimensions")
    @classmethod
    def _require_no_dimensions(cls, value: int | None) -> None:
        if value is not None:
            raise Refusal(
                400,
                rule="dimensions cannot be chosen: vectors have the width that the head was"
                " trained with",
                got=value,
                fix="Leave it out.",
                param="dimensions",
            )


class PredictRequest(BaseModel):
    """The body of `POST /predict`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: str | list[str] | list[list[str]]
    """A text or several; for a run of pairs a list of rows, each a list of its texts."""
    model: str | None = None
    """Name of the served model. Left out: whichever it is."""
    probabilities: bool | None = None
    """True refuses a run that has none, False leaves them out. Default: where there are some."""

    @field_validator("input", mode="before")
    @classmethod
    def _require_rows(cls, value: object) -> list[str] | list[list[str]]:
        if isinstance(value, list) and value and isinstance(value[0], list):
            rows = []
            for row in value:
                if not isinstance(row, list):
                    raise _not_texts("rows and texts mixed")
                rows.append(texts_of(row))
            return rows
        return texts_of(value)


def texts_of(value: object) -> list[str]:
    """A text or a list of texts, as a list.

    Raises:
        Refusal: none, something else, or a text with halves of characters.
    """
    # A single text is a list of one, as for `encode`.
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise _not_texts(type(value).__name__)
    if not value:
        raise _not_texts("an empty list")
    # By hand and not by pydantic, whose words for a union are a paragraph for each of its members.
    for text in value:
        if isinstance(text, int | float | list):
            raise Refusal(
                400,
                rule="input must be texts: token ids depend on a tokenizer that only the server"
                " has",
                got=f"a list with {type(text).__name__}",
                fix="Send strings. LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False).",
                param="input",
            )
        if not isinstance(text, str):
            raise _not_texts(f"a list with {type(text).__name__}")
        if not _is_unicode(text):
            raise _not_texts("half of a surrogate pair")
    return value


def rows_of(texts: Sequence[str] | Sequence[Sequence[str]], task: TaskSpec) -> list[Row]:
    """The rows of a request, in the form of the run's task.

    Args:
        texts: as `PredictRequest` checked them.
        task: of the run.

    Raises:
        Refusal: rows of another number of texts.
    """
    # The task is known here and not where the body is parsed: its errors name the columns.
    count = len(task.roles)
    rows = []
    for row in texts:
        # Of pairs, a list of two strings could be a row or two rows: only rows are read.
        row_texts = (row,) if isinstance(row, str) else tuple(row)
        if len(row_texts) != count or (count > 1 and isinstance(row, str)):
            columns = ", ".join(task.text_columns)
            raise Refusal(
                422,
                rule=f"a row must have {count} texts: {columns}",
                got=f"{len(row_texts)}",
                fix="Send a list of texts."
                if count == 1
                else "Send a list of rows: [[a, b], ...].",
                param="input",
            )
        rows.append(row_texts)
    return rows


def require_model(asked: str | None, served: str) -> None:
    """Require that the model which was asked for is the one that is served.

    Raises:
        Refusal: another one.
    """
    # Clients send a name that their library insists on: another one may be another server's.
    if asked is not None and asked != served:
        raise Refusal(
            404,
            rule=f"model must be {served}, the one that is served here",
            got="another name",
            fix="Send that name, or none.",
            param="model",
        )


def require_few(texts: int, limit: int) -> None:
    """Require that a request has no more texts than one may have.

    Raises:
        Refusal: more.
    """
    if texts > limit:
        raise Refusal(
            422,
            rule=f"a request may have {limit} texts",
            got=texts,
            fix="Send fewer at a time.",
            param="input",
        )


def _not_texts(got: str) -> Refusal:
    return Refusal(
        422,
        rule="input must be a text or a list of texts",
        got=got,
        fix="Send strings.",
        param="input",
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        # JSON can spell half of a character; no tokenizer can read it.
        return False
    return True
