"""One configured service over HTTP: sends, tries again, and turns every failure into a `ServiceError`.

httpx is imported with the first request, so that looking a model up costs nothing.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import random
import re
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from madang.base.errors import InvalidInput, ServiceError
from madang.base.settings import FILE_NAME, Service, variable
from madang.models.providers.cancelling import Cancelled, watched
from madang.models.providers.resilience import Breaker, Slots, wait_s
from madang.wire import openai

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")
_LONGEST_TIMEOUT_S = 86_400.0    # sockets refuse astronomical timeouts
_ERROR_BODY_BYTES = 1 << 16
_SHORTEST_SECRET = 8             # "none", "ollama" and the like are no secrets but words


class _Trouble(Exception):
    """A failed attempt, before it is decided whether to try again."""

    def __init__(self, kind: str, what: str, detail: str = "", *, remedy: str | None = None,
                 retryable: bool = False, status: int | None = None,
                 failure: openai.Failure | None = None, wait_s: float | None = None) -> None:
        super().__init__(what)
        self.kind, self.what, self.detail, self.remedy = kind, what, detail.rstrip(". "), remedy
        self.retryable, self.status, self.failure, self.wait_s = retryable, status, failure, wait_s

    def error(self, attempts: int, key: str) -> ServiceError:
        """As the caller shall see it, without the key, whoever repeated it."""
        again = attempts > 1 and self.kind in ("rate_limit", "server")
        tried = f" after {attempts} attempts" if again else ""
        message = f"{self.what}{tried}{f' ({self.detail})' if self.detail else ''}."
        if len(key) >= _SHORTEST_SECRET:
            message = message.replace(key, "***")
        return ServiceError(message, kind=self.kind, remedy=self.remedy, status=self.status,
                            retryable=self.retryable)


class Connection:
    """To the service `name`. Threads may share it. `sleep` waits between attempts, `rng` draws how long, `clock` tells
    seconds.

    Raises:
        InvalidInput: `service.base_url` is no http(s) address, or `service.api_key` cannot be sent.
    """

    def __init__(self, name: str, service: Service, sleep: Callable[[float], None],
                 rng: random.Random, clock: Callable[[], float]) -> None:
        self.name = name
        self._url, self._query = _checked_url(name, service.base_url)
        self._key = _checked_key(name, service.api_key)
        self._timeout_s = min(service.timeout_s, _LONGEST_TIMEOUT_S)
        self._connect_s = min(service.connect_timeout_s, self._timeout_s)
        self._retries = service.retries
        self._slots = Slots(name, service.concurrency, self._timeout_s)
        self._breaker = Breaker(name, service.break_after, service.break_s, clock)
        self._sleep, self._rng = sleep, rng
        self._loopback = _is_loopback(urlsplit(self._url).hostname or "")
        self._table = f"[services.{name}] of {FILE_NAME}"
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close what is open; a later request opens anew."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None

    def answers(self, path: str, body: dict[str, Any], decode: Callable[[httpx.Response], Iterator[_T]],
                objected: list[str] | None = None, cancelled: Cancelled | None = None) -> Generator[_T, None, None]:
        """POST `body` and yield what `decode` makes of the answer, trying again until it yields something.

        A key of `body` that the service does not take is appended to `objected` and left out from then on.

        Raises:
            ServiceError: after the retries; at once if trying again cannot help, or after the first item.
        """
        objected = [] if objected is None else objected
        for key in objected:
            body = openai.without(body, key)
        attempt, started = 1, False
        with self._breaker.enter() as call:
            while True:
                try:
                    with self._slots.taken(), closing(self._attempt(path, body, decode, cancelled)) as items:
                        for item in items:
                            started = True
                            call.succeeded()
                            yield item
                    return
                except _Trouble as trouble:
                    refusal = trouble.failure if trouble.status in (400, 422) else None
                    objection = openai.objection(body, refusal) if refusal else None
                    if objection:   # not an attempt: each key is refused only once
                        objected.append(objection)
                        body = openai.without(body, objection)
                        continue
                    gone = cancelled is not None and cancelled.is_set()
                    last = attempt > (0 if call.probe else self._retries)
                    if started or gone or last or not trouble.retryable:
                        error = trouble.error(attempt, self._key)
                        if not gone:
                            call.failed(trouble.kind, error.message.rstrip("."))
                        raise error from trouble.__cause__
                    pause_s = wait_s(attempt, trouble.wait_s, self._rng)
                self._sleep(pause_s)
                attempt += 1

    def _attempt(self, path: str, body: dict[str, Any],
                 decode: Callable[[httpx.Response], Iterator[_T]],
                 cancelled: Cancelled | None) -> Generator[_T, None, None]:
        import httpx

        content = openai.to_bytes(body)
        try:
            with self._http().stream("POST", self._address(path), content=content,
                                     headers=self._headers()) as response, watched(response, cancelled):
                if not response.is_success:
                    raise self._refusal(response, body["model"])
                yield from decode(response)
        except httpx.RequestError as error:
            raise self._silence(error) from error
        except (httpx.InvalidURL, UnicodeError) as error:   # what _checked_url let pass
            raise InvalidInput(f"{self._base_url()} is not a valid address.") from error
        except openai.Refused as refused:
            raise self._complaint(200, refused.failure, body["model"]) from None
        except openai.CutOff as cut:
            raise _Trouble("protocol", f"service {self.name!r} broke off", str(cut), retryable=True,
                           remedy="Ask again; if it stays so, look at the server's log.") from cut.__cause__
        except openai.Malformed as malformed:
            raise _Trouble("protocol", f"service {self.name!r} gave an answer that makes no sense",
                           str(malformed), remedy=f"Check {self._base_url()}; most end in /v1.") from None

    def _http(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                try:
                    self._client = _client(self._url, self._loopback, self._timeout_s, self._connect_s)
                except (ImportError, ValueError, httpx.InvalidURL) as error:   # socks:// lacks its library
                    raise InvalidInput(f"the proxy of the environment cannot be used: {error}.",
                                       remedy="Correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY.") from error
                weakref.finalize(self, self._client.close)
            return self._client

    def _address(self, path: str) -> str:
        return self._url + path + self._query

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json",
                   "User-Agent": "madang"}
        return headers | ({"Authorization": f"Bearer {self._key}"} if self._key else {})

    def _base_url(self) -> str:
        return f"base_url ({self._url}) in {self._table}"

    # --- what went wrong ---

    def _silence(self, error: httpx.RequestError) -> _Trouble:
        """No answer came, or not all of it."""
        import httpx

        if isinstance(error, httpx.TimeoutException):
            waiting = isinstance(error, httpx.ConnectTimeout)
            doing = "accept a connection" if waiting else "answer"
            limit = self._connect_s if waiting else self._timeout_s
            key = "connect_timeout_s" if limit < self._timeout_s else "timeout_s"
            what = f"service {self.name!r} at {self._url} did not {doing} within {limit:g} s"
            remedy = f"Raise {key} in {self._table}, or see whether the server is overloaded."
            return _Trouble("timeout", what, remedy=remedy)
        connected = not isinstance(error, httpx.ConnectError | httpx.ProxyError)
        what = f"the connection to {self._url} broke" if connected else f"cannot reach {self._url}"
        reason, permanent = _reason(error)
        start = "Start the server" if self._loopback else "Check the network and that the server runs"
        remedy = f"{start}, or correct base_url in {self._table}."
        if "certificate" in reason:
            remedy = "If you trust it, name the file of its authority in SSL_CERT_FILE."
        return _Trouble("unreachable", what, reason, remedy=remedy, retryable=not permanent)

    def _refusal(self, response: httpx.Response, model: str) -> _Trouble:
        """An answer with a status other than success."""
        status = response.status_code
        if response.has_redirect_location:   # never followed: the key would go to whoever it names
            target = urlsplit(response.headers["location"])
            host = target.netloc.rpartition("@")[2]   # neither a password nor the query is shown
            where = f"{target.scheme}://{host}{target.path}" if host else target.path
            return _Trouble("protocol", f"service {self.name!r} redirects to {where}", str(status),
                            status=status, remedy=f"Set base_url in {self._table} to the final address.")
        failure = openai.decode_failure(_error_body(response))
        return self._complaint(status, failure, model, _retry_after_s(response))

    def _complaint(self, status: int, failure: openai.Failure, model: str,
                   wait_s: float | None = None) -> _Trouble:
        """An error in the service's own words, under a status, or inside a stream (status 200)."""
        kind, retryable = openai.classify(status, failure)
        remedy: str | None
        if kind == "model":
            what, remedy = self._unknown_model(model)
        elif kind == "auth":
            what = "refused the API key" if self._key else "asks for an API key, and none is set"
            remedy = self._where_to_set_the_key()
        elif kind == "rate_limit" and retryable:
            what, remedy = "limits the rate of requests", "Wait a while, then ask again."
        elif kind == "rate_limit":
            what, remedy = "has no quota left", "Check the plan and the billing of its account."
        elif kind == "server":
            what, remedy = "failed", "Look at the server's log, or ask again later."
        else:
            what, remedy = "refused the request", self._what_to_change(status, failure)
        if status < 400:
            detail = failure.message
        else:
            said = failure.message or (HTTPStatus(status).phrase if status in set(HTTPStatus) else "")
            detail = f"{status}: {said}" if said else str(status)
        return _Trouble(kind, f"service {self.name!r} {what}", detail, remedy=remedy, retryable=retryable,
                        failure=failure, wait_s=wait_s, status=status if status >= 400 else None)

    def _where_to_set_the_key(self) -> str:
        variables = [variable(f"services.{self.name}", "api_key")]
        if self.name == "openai":
            variables.append("OPENAI_API_KEY")
        return f"Set api_key in {self._table}, or the environment variable {' or '.join(variables)}."

    def _what_to_change(self, status: int, failure: openai.Failure) -> str | None:
        if re.search(r"context.(length|size|window)|too long", failure.message, re.IGNORECASE):
            return "Lower top_k in [retrieval], or use a model with a larger context."
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            return f"Check {self._base_url()}; most end in /v1."
        return None

    def _unknown_model(self, model: str) -> tuple[str, str]:
        """What is wrong and what to do, by asking the server which models it has."""
        names = self._models()
        if names is None:
            return f"found nothing for model {model!r}", f"Check {self._base_url()}; most end in /v1."
        if model in names:
            return (f"has model {model!r}, but not for this",
                    "Use a chat model to chat and an embedding model to embed.")
        nearest = get_close_matches(model, names, n=10, cutoff=0.0)
        more = f" and {len(names) - len(nearest)} more" if len(names) > len(nearest) else ""
        return (f"has no model {model!r}",
                f"It has: {', '.join(nearest)}{more}." if names else "It has no models yet: load one.")

    def _models(self) -> list[str] | None:
        import httpx

        try:
            response = self._http().get(self._address("/models"), headers=self._headers(),
                                        timeout=min(self._timeout_s, 5.0))
            return openai.decode_models(read_json(response)) if response.is_success else None
        except (httpx.HTTPError, ValueError):
            return None


def read_json(response: httpx.Response) -> Any:
    """The body as JSON. Raises `openai.Malformed` with how it begins."""
    body = response.read()
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        said = openai.decode_failure(body[:1000].decode("utf-8", errors="replace")).message
        raise openai.Malformed(f"not JSON: {said[:80]!r}") from None


def _client(url: str, loopback: bool, timeout_s: float, connect_s: float) -> httpx.Client:
    import httpx

    timeout = httpx.Timeout(timeout_s, connect=connect_s)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)    # `Slots` bounds them
    if not loopback:
        return httpx.Client(timeout=timeout, limits=limits)
    # A transport of our own keeps the environment's proxies out: what is on this machine stays on it. Plain
    # http needs no certificates, and loading them takes longer than a local answer (TLS would trust none).
    verify = True if url.lower().startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.Client(timeout=timeout, transport=httpx.HTTPTransport(verify=verify, limits=limits))


def _error_body(response: httpx.Response) -> str:
    import httpx

    body = b""
    try:
        for piece in response.iter_bytes():
            body += piece
            if len(body) >= _ERROR_BODY_BYTES:
                break
    except httpx.RequestError:
        pass   # the status says enough
    return body[:_ERROR_BODY_BYTES].decode("utf-8", errors="replace")


def _retry_after_s(response: httpx.Response) -> float | None:
    """How long to wait: `retry-after-ms` (OpenAI), or RFC 9110, 10.2.3: seconds or a date; None: not told."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = response.headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
            return float(value) * unit
    try:
        then = parsedate_to_datetime(response.headers.get("retry-after", ""))
        # By the server's clock where it tells it: ours may be wrong.
        now = response.headers.get("date")
        wait = then - (parsedate_to_datetime(now) if now else datetime.now(UTC))
        return max(0.0, wait.total_seconds())
    except (TypeError, ValueError):
        return None


def _reason(error: BaseException) -> tuple[str, bool]:
    """Why a connection failed, in words, and whether it will fail again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}", True
        if isinstance(cause, ssl.SSLError):
            return "it does not speak TLS, which https:// needs", True
        if isinstance(cause, socket.gaierror):
            return "unknown host name", cause.errno != socket.EAI_AGAIN
        if isinstance(cause, OSError) and cause.errno in errno.errorcode:
            return (cause.strerror or errno.errorcode[cause.errno or 0]).lower(), False
        cause = cause.__cause__ or cause.__context__
    return str(error).rstrip(".").lower()[:200] or type(error).__name__, False


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _checked_url(name: str, base_url: str) -> tuple[str, str]:
    """(address without a final slash, "?query" or ""). Raises `InvalidInput` with the corrected line."""
    where = f"base_url in [services.{name}]"
    if "@" in base_url:   # kept out of the message
        raise InvalidInput(f"{where} must not hold a user name or password.", remedy="Use api_key for a key.")
    url, _, query = base_url.partition("#")[0].strip().partition("?")   # a query may hold a key: never shown
    url = url.strip().rstrip("/")
    if not re.match(r"https?://", url, re.IGNORECASE):
        raise InvalidInput(f"{where} must begin with http:// or https://, not {url!r}.",
                           remedy=f'Write base_url = "{_example(url)}".')
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0 and url.isprintable() and " " not in url
        (parts.hostname or "").encode("idna")   # a label of a host name has at most 63 letters
    except ValueError:
        valid = False
    if not valid:
        raise InvalidInput(f"{where} is not a valid address: {url!r}.",
                           remedy=f'It looks like base_url = "{_example("")}".')
    for endpoint in ("/chat/completions", "/completions", "/embeddings", "/models"):
        if parts.path.endswith(endpoint):
            raise InvalidInput(f"{where} must not name an endpoint: {url!r}.",
                               remedy=f'Write base_url = "{url.removesuffix(endpoint)}".')
    return url, f"?{query}" if query else ""


def _example(url: str) -> str:
    """What whoever wrote `url` probably meant."""
    bare = re.sub(r"^[a-zA-Z][\w+.-]*://|^/+", "", url) or "localhost:11434"
    authority = bare.partition("/")[0]
    public = "." in authority and not re.search(r"^[\d.]+$|:\d+$", authority)
    return f"{'https' if public else 'http'}://{bare}{'' if '/' in bare else '/v1'}"


def _checked_key(name: str, api_key: str) -> str:
    key = api_key.strip()
    if not (key.isascii() and key.isprintable()):   # an exception of the HTTP library would print it
        raise InvalidInput(f"api_key of [services.{name}] holds a line break or a letter outside ASCII.",
                           remedy="Copy the key again, alone.")
    return key
