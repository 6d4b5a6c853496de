"""The routes: bodies in, JSON out."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from glot_jax.config.serve import ServeConfig
from glot_jax.serving.batching import BatchedRun
from glot_jax.serving.measures import MEDIA_TYPE, Measures
from glot_jax.serving.refusals import Refusal, error_body
from glot_jax.serving.requests import (
    EmbeddingsRequest,
    PredictRequest,
    require_few,
    require_model,
    rows_of,
)
from glot_jax.version import __version__

HEALTH = "/health"
ROUTES = ("/v1/embeddings", "/v1/models", "/predict", HEALTH, "/metrics", "/openapi.json")
"""All there are: what a log and a counter may name."""
_GETS = ROUTES[1:2] + ROUTES[3:]

_UNREADABLE = {
    "json_invalid": "the body is not JSON",
    "extra_forbidden": "there is a field that this route does not have",
    "missing": "the field is missing",
    "literal_error": "the field has a value that it cannot have",
}
"""pydantic's name of an error -> what is said of it; its own words may repeat the request."""


class Routes:
    """What a served run answers.

    Args:
        served: computes.
        config: limits.
        measures: what /metrics shows.
    """

    def __init__(self, served: BatchedRun, config: ServeConfig, measures: Measures):
        self._served = served
        self._config = config
        self._measures = measures

    def app(self, on_failure: Callable[[BaseException], None]) -> FastAPI:
        """The application, which compiles in the background while it runs.

        Args:
            on_failure: called with the error where that fails.
        """

        @contextlib.asynccontextmanager
        async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
            async with self._served.open(on_failure):
                yield

        app = FastAPI(
            title="glot serve",
            version=__version__,
            lifespan=lifespan,
            # Their pages load scripts of strangers.
            docs_url=None,
            redoc_url=None,
            # Else a slash too many is answered with a redirect to the Host of the request.
            redirect_slashes=False,
        )
        app.add_api_route("/v1/embeddings", self.embeddings, methods=["POST"])
        app.add_api_route("/v1/models", self.models, methods=["GET"])
        app.add_api_route("/predict", self.predict, methods=["POST"])
        app.add_api_route(HEALTH, self.health, methods=["GET"])
        app.add_api_route("/metrics", self.metrics, methods=["GET"])
        app.add_exception_handler(Refusal, _refused)
        app.add_exception_handler(RequestValidationError, _unreadable)
        app.add_exception_handler(HTTPException, _no_route)
        # What is no refusal goes on to `Guard`, which logs its class.
        app.add_exception_handler(Exception, _failed)
        return app

    async def embeddings(self, request: EmbeddingsRequest) -> Response:
        """Vectors of some texts, in OpenAI's format."""
        require_model(request.model, self._served.run.name)
        texts = list(request.input)
        require_few(len(texts), self._config.max_texts)
        vectors, tokens = await self._served.vectors(texts)
        data = []
        for index, vector in enumerate(vectors):
            # One by one: a request has few, and JSON wants Python's numbers.
            value = vector.tolist()
            if request.encoding_format == "base64":
                # What OpenAI's clients unpack: little-endian, whatever this machine is.
                value = base64.b64encode(vector.astype("<f4").tobytes()).decode()
            data.append({"object": "embedding", "index": index, "embedding": value})
        return JSONResponse(
            {
                "object": "list",
                "data": data,
                "model": self._served.run.name,
                "usage": _usage(tokens),
            }
        )

    async def predict(self, request: PredictRequest) -> Response:
        """The class and probabilities, or the score, of some rows."""
        run = self._served.run
        require_model(request.model, run.name)
        if run.predictor is None:
            raise Refusal(
                400,
                rule="a run must have been trained on classes or scores to predict them",
                got=f"one with labels of kind {run.task.label_kind}",
                fix="Ask /v1/embeddings for its vectors.",
            )
        if request.probabilities and not run.task.classes:
            raise Refusal(
                400,
                rule="a run must have been trained on classes to give probabilities",
                got="one that predicts scores",
                fix="Leave probabilities out.",
                param="probabilities",
            )
        require_few(len(request.input), self._config.max_texts)
        rows = rows_of(request.input, run.task)
        records, tokens = await self._served.predictions(rows)
        predictions = []
        for index, record in enumerate(records):
            # The index is OpenAI's habit, by which clients put answers back in order.
            shown = {"index": index, **record}
            if request.probabilities is False:
                shown.pop("probabilities", None)
            predictions.append(shown)
        return JSONResponse(
            {
                "object": "list",
                "predictions": predictions,
                "model": run.name,
                "usage": _usage(tokens),
            }
        )

    async def models(self) -> Response:
        """The one model that is served, in OpenAI's format."""
        # A list of one: clients look here for the name that they must send.
        model = {
            "id": self._served.run.name,
            "object": "model",
            "created": 0,
            "owned_by": "glot-jax",
        }
        return JSONResponse({"object": "list", "data": [model]})

    async def health(self) -> Response:
        """200 once every shape is compiled, 503 before."""
        if self._served.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "compiling"}, status_code=503, headers={"Retry-After": "5"})

    async def metrics(self) -> Response:
        """Counters in Prometheus' text format."""
        return Response(self._measures.exposition(), media_type=MEDIA_TYPE)


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body, status_code=error.status, headers=dict(error.headers))


async def _unreadable(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The others are of the same body, and mended one at a time anyway.
    first = error.errors()[0]
    # A field of ours, or one that the client made up.
    known = {*EmbeddingsRequest.model_fields, *PredictRequest.model_fields}
    fields = [part for part in first["loc"] if part in known]
    param = str(fields[0]) if fields else None
    reason = _UNREADABLE.get(first["type"], "it has another type than it must have")
    message = f"the body must be a JSON object that this route reads; {param or 'body'}: {reason}."
    return JSONResponse(error_body(422, message, param), status_code=422)


async def _failed(_request: Request, _error: Exception) -> Response:
    return JSONResponse(error_body(500, "the server failed; see its log."), status_code=500)


async def _no_route(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        message = "the body must be JSON in UTF-8."
    else:
        # Ours alone: the one that was asked for is the client's text.
        message = "there are POST /v1/embeddings, POST /predict, and GET of the other routes:"
        message = f"{message} {', '.join(_GETS)}."
    return JSONResponse(
        error_body(error.status_code, message),
        status_code=error.status_code,
        headers=dict(error.headers or {}),
    )
