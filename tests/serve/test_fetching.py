"""Fetching what a caller names: by the rules, from a server beside the test, with names that resolve as we say."""

from __future__ import annotations

import http.server
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput, ServiceError
from madang.base.settings import Serve
from madang.serve import fetching
from madang.serve.fetching import Fetcher, Rules, is_public

PNG = b"\x89PNG" + bytes(range(100))


@dataclass
class Site:
    """A server of this machine, and what it was asked."""

    port: int
    asked: list[tuple[str, str, str]] = field(default_factory=list)      # path, Host, Accept-Encoding
    replies: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)

    def fetcher(self, resolver: Callable[[str, int], Sequence[str]] | None = None, **rules: object) -> Fetcher:
        return Fetcher(Rules(**{"private": True, "timeout_s": 10.0, **rules}),  # type: ignore[arg-type]
                       resolver or (lambda host, port: ["127.0.0.1"]))

    def url(self, path: str = "/x", host: str = "images.test") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, self.headers["Host"], self.headers["Accept-Encoding"]))
            status, headers, body = made.replies.get(self.path, (200, {"Content-Type": "image/png; q=1"}, PNG))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if body == b"slowly":
                for _ in range(100):
                    try:
                        self.wfile.write(b"x")
                        self.wfile.flush()
                    except OSError:
                        return
                    time.sleep(0.05)
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


# --- addresses ---

REFUSED = ["127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
           "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
           "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1",
           "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
           "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1", "2001:0:1:2:3:4:f5ff:fffe", "nonsense", ""]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(InvalidInput, match="not a public one") as refused:
        Fetcher(Rules(), lambda host, port: [address]).fetch("http://name.test/")
    assert not address or address not in str(refused.value)      # which one it is stays here


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["::ffff:0:0", "64:ff9b::", "2002::"]))
def test_ipv4_within_ipv6_counts_as_what_it_is(number: int, prefix: str) -> None:
    four = ipaddress.IPv4Address(number)
    shift = 80 if prefix == "2002::" else 0
    six = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number << shift)
    assert is_public(str(six)) == is_public(str(four))


def test_one_private_address_among_public_ones_is_enough() -> None:
    with pytest.raises(InvalidInput, match="not a public one"):
        Fetcher(Rules(), lambda host, port: ["8.8.8.8", "10.0.0.1"]).fetch("http://name.test/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]",
                                  "[::ffff:127.0.0.1]", "0"])
def test_this_machine_by_any_spelling(host: str) -> None:
    """With the system's own resolver."""
    with pytest.raises(InvalidInput):
        Fetcher(Rules()).fetch(f"http://{host}/")


# --- URLs ---

@pytest.mark.parametrize("url", [
    "", "x", "/etc/passwd", "file:///etc/passwd", "ftp://a.test/", "gopher://a.test/", "data:text/plain,x", "http://",
    "http:///x", "javascript:1", "http://user@a.test/", "http://u:p@a.test/", "http://a.test:99999/", "http://a.test:x/",
    "http://[::1", "http://a.test\\@b.test/", "http://a test/", "http://a.test/\r\nHost: b", "http://a.test/\n", "http://%61.test/",
    "http://a.test:22/", "https://a.test:80/", "http://" + "a" * 9000, "http://.../"])
def test_urls_that_are_refused(url: str) -> None:
    def never(host: str, port: int) -> list[str]:
        return ["8.8.8.8"] if host == "..." else pytest.fail(f"resolved {host}")

    with pytest.raises((InvalidInput, ServiceError)):
        Fetcher(Rules(), never).fetch(url)


@given(st.text(max_size=60))
def test_no_text_is_more_than_refused(text: str) -> None:
    def nobody(host: str, port: int) -> list[str]:
        raise OSError

    with pytest.raises(InvalidInput):
        Fetcher(Rules(), nobody).fetch(text)
    with pytest.raises(InvalidInput):
        Fetcher(Rules(), nobody).fetch(f"http://{text}/")


def test_only_hosts_that_are_named(site: Site) -> None:
    fetcher = site.fetcher(hosts=("images.test", "*.all.test"))
    for host in ("images.test", "IMAGES.test", "images.test.", "a.all.test", "b.a.all.test"):
        assert fetcher.fetch(site.url(host=host)).body == PNG
    for host in ("x.images.test", "all.test", "xall.test", "images.test.evil"):
        with pytest.raises(InvalidInput, match="fetch_hosts"):
            fetcher.fetch(site.url(host=host))


def test_it_can_be_switched_off(site: Site) -> None:
    with pytest.raises(InvalidInput, match="fetch_urls"):
        site.fetcher(allowed=False).fetch(site.url())
    assert not site.asked
    rules = Rules.of(Serve(fetch_urls=False, fetch_hosts=("a",), allow_private_urls=True, max_fetch_mb=1, fetch_timeout_s=2))
    assert rules == Rules(False, ("a",), True, 1_000_000, 2)


# --- fetching ---

def test_what_comes(site: Site) -> None:
    found = site.fetcher().fetch(site.url("/x?y=1#z"), ("image/",))
    assert (found.body, found.type, found.url) == (PNG, "image/png", site.url("/x?y=1#z"))
    assert site.asked == [("/x?y=1", f"images.test:{site.port}", "identity")]


def test_the_address_that_was_checked_is_the_one_that_is_asked(site: Site) -> None:
    """A name that changes its address between check and connection: it is resolved once."""
    answers = [["127.0.0.1"], ["203.0.113.1"]]
    assert site.fetcher(lambda host, port: answers.pop(0)).fetch(site.url()).body == PNG
    assert len(answers) == 1


def test_proxies_of_the_environment_are_not_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert site.fetcher().fetch(site.url()).body == PNG


def test_redirects_are_followed_and_checked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.replies["/a"] = (302, {"Location": "/b"}, b"")
    site.replies["/b"] = (307, {"Location": site.url("/c", "other.test")}, b"")
    found = site.fetcher().fetch(site.url("/a"))
    assert (found.body, found.url) == (PNG, site.url("/c", "other.test"))
    assert [path for path, *_ in site.asked] == ["/a", "/b", "/c"]
    for leads in ("file:///etc/passwd", "http://u@a.test/", "//[", "gopher://a.test"):
        site.replies["/a"] = (301, {"Location": leads}, b"")
        with pytest.raises(InvalidInput):
            site.fetcher().fetch(site.url("/a"))
    site.replies["/a"] = (302, {"Location": site.url("/c", "inside.test")}, b"")
    monkeypatch.setattr(fetching, "_PORTS", {"http": site.port, "https": 443})
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")   # the site plays a public one
    outside = Fetcher(Rules(), lambda host, port: ["127.0.0.1"] if host == "images.test" else ["10.0.0.1"])
    with pytest.raises(InvalidInput, match=r"'inside.test' of the URL is not a public one"):
        outside.fetch(site.url("/a"))


def test_redirects_end(site: Site) -> None:
    site.replies["/a"] = (302, {"Location": "/a"}, b"")
    with pytest.raises(InvalidInput, match="more than 5 times"):
        site.fetcher().fetch(site.url("/a"))
    assert len(site.asked) == 6
    site.replies["/a"] = (302, {}, b"")
    with pytest.raises((InvalidInput, ServiceError)):
        site.fetcher().fetch(site.url("/a"))


def test_sizes_and_times_are_bounded(site: Site) -> None:
    with pytest.raises(InvalidInput, match="more than 50 bytes"):
        site.fetcher(most_bytes=50).fetch(site.url())
    assert site.fetcher(most_bytes=len(PNG)).fetch(site.url()).body == PNG
    site.replies["/slow"] = (200, {}, b"slowly")
    with pytest.raises(ServiceError, match="did not come within") as slow:
        site.fetcher(timeout_s=0.3).fetch(site.url("/slow"))
    assert slow.value.kind == "timeout"


def test_types_are_checked_and_nothing_is_decompressed(site: Site) -> None:
    site.replies["/html"] = (200, {"Content-Type": "text/html"}, b"<p>")
    with pytest.raises(InvalidInput, match="'text/html', not image/"):
        site.fetcher().fetch(site.url("/html"), ("image/",))
    site.replies["/bomb"] = (200, {"Content-Type": "image/png", "Content-Encoding": "gzip"}, b"x")
    with pytest.raises(InvalidInput, match="compressed"):
        site.fetcher().fetch(site.url("/bomb"), ("image/",))
    for status in (404, 500, 206, 304):
        site.replies["/gone"] = (status, {}, b"")
        with pytest.raises(ServiceError, match=str(status)):
            site.fetcher().fetch(site.url("/gone"))


def test_nobody_there(site: Site) -> None:
    with pytest.raises(ServiceError, match="could not be fetched"):
        site.fetcher().fetch("http://images.test:1/")
    with pytest.raises(InvalidInput, match="not known"):
        Fetcher(Rules(), lambda host, port: (_ for _ in ()).throw(OSError())).fetch("http://nobody.test/")
