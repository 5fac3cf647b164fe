"""Answers to the questions of a server's run: one request each, apart from the reading of the run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from streamll.core.errors import (
    NoSuchQuestion,
    QuestionClosed,
    RunUnavailable,
    TokenRefused,
    WrongAnswer,
)
from streamll.core.events import Event
from streamll.core.problems import Problem
from streamll.core.urls import without_password

if TYPE_CHECKING:
    from streamll.remote.reading import Reading


class Answering:
    """One answer, or without a ``value`` the wish that there be none.

    Raises:
        NoSuchQuestion: the run is not known yet, so it has asked nothing.
    """

    def __init__(
        self, reading: Reading, question: str | Event, by: str | None, /, **value: Any
    ) -> None:
        if reading.run_id is None:
            raise NoSuchQuestion("the run has not been started yet: it has asked nothing")
        question_id = question if isinstance(question, str) else str(question.data["question_id"])
        given: dict[str, Any] = value or {"decline": True}
        named = {} if by is None else {"by": str(by)}
        self._library, self._options = reading.library, reading.client_options(answers=True)
        self._url = f"{reading.target.url}/runs/{reading.run_id}/answers"
        self._shown = without_password(self._url)
        self._body = {"question_id": question_id, **given, **named}

    def send(self) -> bool:
        """Whether the program has it; otherwise only the log has, so far. Raises what ``answer`` does."""
        with self._told(), self._library.Client(**self._options) as client:
            return self._outcome(client.post(self._url, json=self._body))

    async def send_async(self) -> bool:
        with self._told():
            async with self._library.AsyncClient(**self._options) as client:
                return self._outcome(await client.post(self._url, json=self._body))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._library.TransportError as error:
            raise RunUnavailable(
                f"{self._shown} broke off ({type(error).__name__}: {error}): whether the answer was "
                "taken is not known; give it again, and QuestionClosed says that it was"
            ) from error

    def _outcome(self, response: Any) -> bool:
        if response.status_code in (HTTPStatus.OK, HTTPStatus.ACCEPTED):
            return bool(response.status_code == HTTPStatus.OK)
        told: Mapping[str, Any] = {}
        with contextlib.suppress(ValueError):
            told = found if isinstance(found := json.loads(response.content), dict) else told
        raise self._refusal(response.status_code, told)

    def _refusal(self, status: int, told: Mapping[str, Any]) -> Exception:
        message = str(told.get("error", f"status {status}"))
        if status == HTTPStatus.UNPROCESSABLE_ENTITY and told.get("problems"):
            return WrongAnswer(Problem(each["place"], each["message"]) for each in told["problems"])
        if status == HTTPStatus.CONFLICT and "outcome" in told:
            return QuestionClosed(told["outcome"], told.get("by"))
        if status == HTTPStatus.NOT_FOUND:
            return NoSuchQuestion(f"{self._shown}: {message}")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return TokenRefused(f"{self._shown}: {message}: pass a token= that may answer")
        return RunUnavailable(f"{self._shown}: {message}")
