"""Which addresses are accepted, and where a request may and may not go."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from madang.base.errors import InvalidInput, ServiceError
from tests.models.service_stub import ASK, KEY, Reply, ServiceStub, answer, connect, refused_url, text_of

# A certificate for localhost that signs itself, valid until 2124; its key protects nothing.
CERTIFICATE = (
    "MIIBZzCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwIBcNMjQwMTAxMDAwMDAwWhgPMjEyND"
    "AxMDEwMDAwMDBaMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCLeWFeVERZx2BoZJWhu"
    "7LdLVB9ZS+6JeOp3/3KZ1PmXn4v7aQMkNy3vdH4A2G9KWQ7cX8VUPUB1oIXQCuyiyEWjTjBMMBoGA1UdEQQTMBGCCWxvY2FsaG"
    "9zdIcEfwAAATAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBRA62KOwMmRTvtIr5HJZ/gESWWRhTAKBggqhkjOPQQDAgNIADBF"
    "AiA1i+9rI0LPlc340H/gJ2LkzGfdtASnJ0NRlYCGkRpuJQIhAN/UZBlPGoC0OuMqX7ws9MBticMw6NETR3oXR4tixJ7i"
)
CERTIFICATE_KEY = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGWErDnK28duxvu/2N/me0cJ0PI3AuFk1g97bE5LyTQChRANCAA"
    "Qi3lhXlREWcdgaGSVobuy3S1QfWUvuiXjqd/9ymdT5l5+L+2kDJDct73R+ANhvSlkO3F/FVD1AdaCF0ArsoshF"
)


@pytest.fixture
def stub() -> Iterator[ServiceStub]:
    with ServiceStub() as server:
        yield server


def test_a_redirect_is_told_and_not_followed() -> None:
    with ServiceStub() as other, ServiceStub() as stub:
        stub.chat(Reply(307, headers={"Location": f"{other.url}/chat/completions?token=x"}))
        with pytest.raises(ServiceError) as caught:
            list(connect(stub.url, api_key=KEY).chat_model("m").chat(ASK))
        error = caught.value
        assert other.requests == []
    assert f"redirects to {other.url}/chat/completions (307)" in str(error)
    assert "token" not in str(error)
    assert error.kind == "protocol"


@pytest.mark.parametrize(("url", "phrase"), [
    ("localhost:11434", 'Write base_url = "http://localhost:11434/v1"'),
    ("localhost:11434/v1", 'Write base_url = "http://localhost:11434/v1"'),
    ("127.0.0.1:8000", 'Write base_url = "http://127.0.0.1:8000/v1"'),
    ("api.openai.com/v1", 'Write base_url = "https://api.openai.com/v1"'),
    ("//api.example.com", 'Write base_url = "https://api.example.com/v1"'),
    ("ftp://models.example.com/v1", 'Write base_url = "https://models.example.com/v1"'),
    ("", 'Write base_url = "http://localhost:11434/v1"'),
    ("http://", "must begin with http"),
    ("http:///v1", "not a valid address"),
    ("http://localhost:99999/v1", "not a valid address"),
    ("http://localhost:port/v1", "not a valid address"),
    ("http://local host/v1", "not a valid address"),
    ("http://[::1/v1", "not a valid address"),
    (f"http://{'a' * 64}.com/v1", "not a valid address"),
    ("http://localhost:1/v1/chat/completions", 'Write base_url = "http://localhost:1/v1"'),
    ("http://localhost:1/v1/embeddings/", 'Write base_url = "http://localhost:1/v1"'),
    ("http://me:secret@localhost:1/v1", "must not hold a user name or password"),
    ("localhost:1/v1?key=secret", "must begin with http"),
])
def test_an_address_that_is_none(url: str, phrase: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        connect(url, name="home")
    assert phrase in str(caught.value)
    assert "[services.home]" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://a..b/v1", "http://xn--0/v1", "http://local\x00host/v1",
                                 "http://[v1.x]/v1", "http://☃.x/v1", "http://ﬃ/v1"])   # none gets to DNS
def test_a_crooked_address_is_a_clear_error(url: str) -> None:
    with pytest.raises(InvalidInput, match="base_url"):
        list(connect(url, retries=0).chat_model("m").chat(ASK))


def test_a_final_slash_and_a_query_are_allowed(stub: ServiceStub) -> None:
    stub.script("/v1/chat/completions?api-version=1", answer("ok"))
    provider = connect(f" {stub.url}/?api-version=1 ")
    assert text_of(provider.chat_model("m").chat(ASK)) == "ok"


# --- proxies ---


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the proxy for http, and no other."""
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)
    return lambda url: monkeypatch.setenv("http_proxy", url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_never_goes_through_a_proxy(proxied: Callable[[str], None], host: str) -> None:
    with ServiceStub() as proxy, ServiceStub() as stub:
        proxied(proxy.url.removesuffix("/v1"))
        stub.chat(answer("ok"))
        assert text_of(connect(stub.url.replace("127.0.0.1", host)).chat_model("m").chat(ASK)) == "ok"
        assert proxy.requests == []


def test_other_hosts_go_through_the_proxy(proxied: Callable[[str], None]) -> None:
    with ServiceStub() as proxy:
        proxied(proxy.url.removesuffix("/v1"))
        proxy.script("http://models.example/v1/chat/completions", answer("ok"))
        assert text_of(connect("http://models.example/v1").chat_model("m").chat(ASK)) == "ok"
        proxy.script("http://models.example/v1/chat/completions",
                     Reply(308, headers={"Location": "http://evil.example/"}))
        with pytest.raises(ServiceError, match=r"redirects to http://evil\.example/"):
            list(connect("http://models.example/v1", api_key=KEY).chat_model("m").chat(ASK))
        assert len(proxy.requests) == 2


def test_proxies_that_do_not_work(proxied: Callable[[str], None]) -> None:
    proxied(refused_url())
    with pytest.raises(ServiceError, match=r"cannot reach http://models.example/v1 .* Check the network"):
        list(connect("http://models.example/v1").chat_model("m").chat(ASK))
    for nonsense in ("nonsense://x", "http://[::1"):
        proxied(nonsense)
        with pytest.raises(InvalidInput, match="proxy of the environment"):
            list(connect("http://models.example/v1").chat_model("m").chat(ASK))


# --- TLS ---


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "localhost.pem"
    path.write_text("".join(f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n" for kind, body in
                            (("PRIVATE KEY", CERTIFICATE_KEY), ("CERTIFICATE", CERTIFICATE))))
    return path


def test_a_certificate_is_checked(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    slept: list[float] = []
    with ServiceStub(tls=context) as stub:
        stub.chat(answer("ok"))
        with pytest.raises(ServiceError, match=r"certificate is not trusted.*SSL_CERT_FILE") as caught:
            list(connect(stub.url, slept, api_key=KEY).chat_model("m").chat(ASK))
        assert caught.value.kind == "unreachable"
        assert stub.requests == []
        assert slept == [], "it will not be trusted any sooner"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert text_of(connect(stub.url, api_key=KEY).chat_model("m").chat(ASK)) == "ok"


def test_https_to_a_server_without_tls(stub: ServiceStub) -> None:
    with pytest.raises(ServiceError, match="does not speak TLS"):
        list(connect(stub.url.replace("http:", "https:")).chat_model("m").chat(ASK))
