"""Requests to a service of Pinecone's protocol: one address, a key, retries, and its errors as ours.

Every request may be sent again: an upsert, an update and a delete do the same the second time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from madang.base.errors import Conflict, InvalidInput, NotFound, ServiceError
from madang.wire import pinecone as wire

ATTEMPTS = 5
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_LONGEST_WAIT_S = 30.0
_AGAIN = (408, 429, 500, 502, 503, 504)
_LOCAL = ("127.0.0.1", "localhost", "::1")
T = TypeVar("T")


class Service:
    """One address. An address without a scheme is https, but http on this machine."""

    def __init__(self, address: str, key: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self.address = self._base(address)
        self._client = httpx.Client(base_url=self.address, timeout=_TIMEOUT, trust_env=not self.is_local(address),
                                    headers={"Api-Key": key, "X-Pinecone-Api-Version": wire.VERSION})

    @classmethod
    def is_local(cls, address: str) -> bool:
        """Whether the address is on this machine."""
        return urlsplit(address if "://" in address else f"//{address}").hostname in _LOCAL

    @classmethod
    def _base(cls, address: str) -> str:
        if "://" not in address:
            address = f"{'http' if cls.is_local(address) else 'https'}://{address}"
        return address.rstrip("/")

    def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> object:
        """The JSON that GET answers."""
        return self.request("GET", path, parameters=parameters)

    def post(self, path: str, body: bytes) -> object:
        """The JSON that POST answers."""
        return self.request("POST", path, body)

    def request(self, method: str, path: str, body: bytes | None = None,
                parameters: Sequence[tuple[str, str]] = ()) -> object:
        """The JSON of an answer, None for an empty one; sent again while the service is busy or out of reach.

        Raises:
            InvalidInput: the service refuses the request (400). NotFound: 404. Conflict: 409.
            ServiceError: "auth", "rate_limit", "server", "unreachable", "timeout" or "protocol".
        """
        headers = {} if body is None else {"Content-Type": "application/json"}
        error: ServiceError | None = None
        for attempt in range(ATTEMPTS):
            wait = min(2.0**attempt * 0.5, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
            try:
                response = self._client.request(method, path, content=body, params=list(parameters), headers=headers)
            except httpx.TimeoutException:
                error = self._failed("did not answer in time", "timeout", True)
            except httpx.TransportError as problem:
                error = self._failed(f"cannot be reached: {problem}", "unreachable", True)
            else:
                if response.status_code not in _AGAIN:
                    return self._answer(response)
                kind = {408: "timeout", 429: "rate_limit"}.get(response.status_code, "server")
                error = self._failed(f"answered {response.status_code}: {wire.decode_failure(response.text)}", kind,
                                     True, response.status_code)
                wait = max(wait, _retry_after(response))
            if attempt < ATTEMPTS - 1:
                self._sleep(wait)
        assert error is not None
        raise error

    def _answer(self, response: httpx.Response) -> object:
        if response.is_success:
            try:
                return response.json() if response.content.strip() else None
            except ValueError:
                raise self._failed("answered with something that is not JSON", "protocol", False,
                                   response.status_code) from None
        said, status = wire.decode_failure(response.text) or response.reason_phrase, response.status_code
        if status == 404:
            raise NotFound(f"Pinecone has not found it: {said}.", remedy="Check the name of the index.")
        if status == 409:
            raise Conflict(f"Pinecone refused: {said}.", remedy="Open it, or drop it first.")
        if status in (400, 413, 422):
            raise InvalidInput(f"Pinecone refused: {said}.")
        if status in (401, 403):
            raise ServiceError(f"Pinecone refused: {said}.", kind="auth", status=status,
                               remedy="Check PINECONE_API_KEY.")
        raise self._failed(f"answered {status}: {said}", "protocol", False, status)

    def decoded(self, decode: Callable[[object], T], payload: object) -> T:
        """`decode(payload)`, with what is not the dialect as a `ServiceError`."""
        try:
            return decode(payload)
        except wire.Malformed as error:
            raise self._failed(f"answered in another dialect: {error}", "protocol", False) from None

    def _failed(self, what: str, kind: str, retryable: bool, status: int | None = None) -> ServiceError:
        return ServiceError(f"{self.address} {what}.", kind=kind, status=status, retryable=retryable,
                            remedy="Try again later." if retryable else None)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def _retry_after(response: httpx.Response) -> float:
    """Seconds the service asks to wait, 0 where it does not say; dates are left to the backoff."""
    try:
        return min(max(float(response.headers.get("Retry-After", 0)), 0.0), _LONGEST_WAIT_S)
    except ValueError:
        return 0.0
