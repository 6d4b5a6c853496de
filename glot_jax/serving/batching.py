"""Texts of many requests, computed together; as many of them at a time as may wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np
from batched.aio import AsyncBatchProcessor

from glot_jax.config.serve import ServeConfig
from glot_jax.errors import UsageError
from glot_jax.inference.predict_file import PREDICTION, PROBABILITY, answer_columns
from glot_jax.serving.measures import Measures
from glot_jax.serving.refusals import Refusal
from glot_jax.serving.served_run import Row, ServedRun

Item = TypeVar("Item")
Outcome = Any | Refusal
"""What a text gets: its result, or why there is none."""
Record = dict[str, float | str | list[str] | dict[str, float]]
"""What is predicted for a row: prediction, and for classes probability and probabilities."""

_SORTED_BATCHES = 4
"""Batches that are taken from the queue at a time, so that texts of similar length share one."""
_MOST_SECONDS = 60
"""Longest that a client is told to wait."""

logger = logging.getLogger("glot_jax.serving")


class BatchedRun:
    """A run that many ask at a time.

    Everything is computed in one thread, a window of texts after the other, in the order in which
    they came; XLA and torch use the cores. What a cancelled caller asked for is not computed,
    unless its window has begun.

    Args:
        run: computes.
        config: how many texts may wait, and how long for company.
        measures: are counted into.
    """

    def __init__(self, run: ServedRun, config: ServeConfig, measures: Measures):
        self.run = run
        self.is_ready = False
        """Whether every shape is compiled."""
        self._config = config
        self._measures = measures
        self._waiting = 0
        self._texts_per_second = 0.0
        self._is_stopped = False
        # One thread: neither the executables nor torch gain by a second one on the same cores.
        self._computing = ThreadPoolExecutor(1, "glot-compute")
        # Another one, so that requests are counted, and refused, while a window is computed.
        self._tokenizing = ThreadPoolExecutor(1, "glot-tokenize")
        options = {
            "batch_size": _SORTED_BATCHES * run.batch_size,
            "timeout_ms": config.batch_wait_ms,
        }
        # It awaits what is a coroutine, though its annotation does not say so.
        encode = cast("Callable[[list[str]], list[Outcome]]", self._encode)
        predict = cast("Callable[[list[Row]], list[Outcome]]", self._predict)
        self._encoding = AsyncBatchProcessor(encode, **options)
        self._predicting = AsyncBatchProcessor(predict, **options)

    @contextlib.asynccontextmanager
    async def open(self, on_failure: Callable[[BaseException], None]) -> AsyncIterator[None]:
        """Compile in the background, and end what is computed on the way out.

        Args:
            on_failure: called with the error where a shape could not be compiled.
        """
        # In the background: /health is asked meanwhile, and SIGTERM must not wait for the last.
        warming = asyncio.create_task(self._warm_up(on_failure))
        try:
            yield
        finally:
            self._is_stopped = True
            await warming
            # Not at the end of the process, where Python would wait for them without a word.
            self._computing.shutdown()
            self._tokenizing.shutdown()

    async def vectors(self, texts: Sequence[str]) -> tuple[list[np.ndarray], int]:
        """A vector [dim] for each text, and the tokens of all.

        Raises:
            Refusal: not ready, a full queue, too many tokens, or a text that cannot be computed.
        """
        # Before its tokens are counted: what is too much must cost little.
        with self._admitted(len(texts)):
            tokens = await self._counted(texts)
            outcomes = await self._encoding(list(texts))
        return _results(outcomes), tokens

    async def predictions(self, rows: Sequence[Row]) -> tuple[list[Record], int]:
        """What is predicted for each row, and the tokens of all.

        Raises:
            Refusal: as for `vectors`.
        """
        with self._admitted(len(rows)):
            tokens = await self._counted([text for row in rows for text in row])
            outcomes = await self._predicting(list(rows))
        return _results(outcomes), tokens

    async def _warm_up(self, on_failure: Callable[[BaseException], None]) -> None:
        loop = asyncio.get_running_loop()
        # Where requests will be computed: threads of torch belong to the thread that asks.
        try:
            await loop.run_in_executor(self._computing, self.run.warm_up, self._has_compiled)
        except Exception as error:
            on_failure(error)

    def _has_compiled(self, done: int, total: int) -> bool:
        # Called in the thread that compiles; a flag that is set once needs no lock.
        if done == total:
            self.is_ready = True
            self._measures.ready.set(1)
            logger.info("ready: %d lengths are compiled", total)
        elif done == 0:
            logger.info("compiling %d lengths", total)
        return not self._is_stopped

    @contextlib.contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        if not self.is_ready:
            raise Refusal(
                503,
                rule="requests are answered once every shape is compiled",
                got="one before that",
                fix="Ask again when GET /health answers 200.",
                retry_after=5,
            )
        # What vanished clients have left in the queues is still to be taken out of them.
        queued = len(self._encoding.batch_queue) + len(self._predicting.batch_queue)
        waiting = max(self._waiting, queued)
        if waiting + count > self._config.max_waiting:
            raise Refusal(
                429,
                rule=f"at most {self._config.max_waiting} texts may wait",
                got=f"{count} beside {waiting}",
                fix="Ask again later, as Retry-After says.",
                retry_after=self._seconds_of(waiting),
            )
        self._waiting += count
        self._measures.waiting.set(self._waiting)
        try:
            yield
        finally:
            self._waiting -= count
            self._measures.waiting.set(self._waiting)

    def _seconds_of(self, texts: int) -> int:
        """How long some texts will take, by the latest batches."""
        # Nothing was computed so far, and nothing can be said.
        if self._texts_per_second == 0:
            return 1
        seconds = math.ceil(texts / self._texts_per_second)
        return min(max(seconds, 1), _MOST_SECONDS)

    async def _counted(self, texts: Sequence[str]) -> int:
        loop = asyncio.get_running_loop()
        # In a thread: a text of megabytes takes long, and others must be answered meanwhile.
        counts = await loop.run_in_executor(self._tokenizing, self.run.token_counts, texts)
        tokens = sum(counts)
        if tokens > self._config.max_tokens:
            raise Refusal(
                422,
                rule=f"a request may have {self._config.max_tokens} tokens",
                got=tokens,
                fix="Send fewer texts at a time.",
                param="input",
            )
        self._measures.tokens.inc(tokens)
        return tokens

    async def _encode(self, texts: list[str]) -> list[Outcome]:
        return await self._computed(self._vectors, texts)

    async def _predict(self, rows: list[Row]) -> list[Outcome]:
        return await self._computed(self._records, rows)

    async def _computed(
        self, compute: Callable[[Sequence[Item]], list[Outcome]], items: list[Item]
    ) -> list[Outcome]:
        begin = time.perf_counter()
        loop = asyncio.get_running_loop()
        outcomes = await loop.run_in_executor(self._computing, _outcomes, compute, items)
        rate = len(items) / (time.perf_counter() - begin)
        # Of the latest ten or so: texts are of many lengths.
        weight = 0.1 if self._texts_per_second else 1.0
        self._texts_per_second += weight * (rate - self._texts_per_second)
        self._measures.batch_texts.observe(len(items))
        self._measures.texts.inc(len(items))
        return outcomes

    def _vectors(self, texts: Sequence[str]) -> list[Outcome]:
        vectors = self.run.vectors(texts)
        # Not even JSON can hold them.
        outcomes: list[Outcome] = []
        for vector in vectors:
            outcomes.append(vector if np.isfinite(vector).all() else _unsound())
        return outcomes

    def _records(self, rows: Sequence[Row]) -> list[Outcome]:
        answers = self.run.answers(rows)
        # The columns that `glot predict` writes, so that both say the same.
        columns = answer_columns(self.run.task, answers)
        outcomes: list[Outcome] = []
        for row in range(len(rows)):
            record: Record = {}
            shares: dict[str, float] = {}
            for name, values in columns.items():
                value = values[row]
                # NumPy's own numbers are no JSON.
                if isinstance(value, str | list):
                    record[name] = value
                elif name in (PREDICTION, PROBABILITY):
                    record[name] = float(value)
                else:
                    shares[name.removeprefix(f"{PROBABILITY}.")] = float(value)
            if shares:
                record["probabilities"] = shares
            numbers = [value for value in record.values() if isinstance(value, float)]
            numbers += shares.values()
            outcomes.append(record if np.isfinite(numbers).all() else _unsound())
        return outcomes


def _outcomes(
    compute: Callable[[Sequence[Item]], list[Outcome]], items: Sequence[Item]
) -> list[Outcome]:
    """What each of some texts gets; those that fail, fail alone."""
    try:
        return compute(items)
    except Exception as error:
        if len(items) == 1:
            return [_failed(error)]
    # One of them, or all together, as where memory is short.
    half = len(items) // 2
    return _outcomes(compute, items[:half]) + _outcomes(compute, items[half:])


def _failed(error: Exception) -> Refusal:
    # Its message may hold the text, or a path of this machine.
    logger.error("a text could not be computed: %s", type(error).__name__)
    if isinstance(error, UsageError):
        return Refusal(
            422,
            rule="the model must be able to run every text",
            got="a text that it cannot",
            fix="Send it apart from others to find it, and leave it out.",
            param="input",
        )
    return Refusal(500, rule="a text must be computed", got="an error", fix="See the server's log.")


def _unsound() -> Refusal:
    return Refusal(
        422,
        rule="the model must give finite numbers",
        got="a text with others",
        fix="Send it apart from others to find it, and leave it out.",
        param="input",
    )


def _results(outcomes: Sequence[Outcome]) -> list[Any]:
    # One that fails, fails its request: an answer with holes would be read as whole.
    for outcome in outcomes:
        if isinstance(outcome, Refusal):
            raise outcome
    return list(outcomes)
