"""The REST client against a real HTTP server, well and badly behaved."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.servers import free_port
from workers import rest
from workers.rest import Rest, RestError, fetch


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, _, query = self.path.lstrip("/").partition("?")
        answer = getattr(self, f"_{kind}", None)
        if answer is None:
            self._plain(404, b'{"code":-1020,"msg":"no such thing"}')
        else:
            answer(query)

    def _plain(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _echo(self, query: str) -> None:
        self._plain(200, query.encode())

    def _chunked(self, _query: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (b"one", b"two"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def _limited(self, _query: str) -> None:
        self._plain(429, b'{"code":-1003,"msg":"too many"}', Retry_After="7")

    def _cut(self, _query: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"short")
        self.close_connection = True

    def _long(self, _query: str) -> None:
        self._plain(200, b"x" * 2_000)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent's name
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    scheme = "http" if context is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def url() -> Iterator[str]:
    with serving() as found:
        yield found


def test_body_comes_with_the_time_it_was_read(url: str) -> None:
    before = time.monotonic_ns()
    answer = fetch(f"{url}/echo?a=1", 10)

    assert answer.body == b"a=1"
    assert before < answer.read_ns <= time.monotonic_ns()


def test_chunked_body_is_put_together(url: str) -> None:
    assert fetch(f"{url}/chunked", 10).body == b"onetwo"


def test_parameters_are_percent_encoded(url: str) -> None:
    async def get() -> bytes:
        client = Rest(url, 10)
        try:
            return (await client.get("/echo", symbols='["A","B"]', limit="5")).body
        finally:
            client.close()

    assert asyncio.run(get()) == b"symbols=%5B%22A%22%2C%22B%22%5D&limit=5"


def test_refusal_carries_status_text_and_when_to_come_again(url: str) -> None:
    with pytest.raises(RestError, match=r"status=429 .*too many") as caught:
        fetch(f"{url}/limited", 10)

    assert (caught.value.status, caught.value.retry_after_s) == (429, 7.0)


def test_missing_page_is_an_error_with_the_venues_words(url: str) -> None:
    with pytest.raises(RestError, match=r"status=404 .*no such thing"):
        fetch(f"{url}/nothing", 10)


def test_cut_body_is_an_error(url: str) -> None:
    with pytest.raises(RestError, match="missing_bytes=95"):
        fetch(f"{url}/cut", 10)


def test_body_beyond_the_limit_is_an_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "BODY_BYTES_MAX", 1_000)

    with pytest.raises(RestError, match="at most 1000 bytes"):
        fetch(f"{url}/long", 10)


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(RestError, match="must be reachable") as caught:
        fetch(f"http://127.0.0.1:{free_port()}/", 10)

    assert caught.value.status == 0


def test_proxy_of_the_environment_is_not_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")

    assert fetch(f"{url}/echo?direct", 10).body == b"direct"


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_only_http_and_https_are_asked(address: str) -> None:
    with pytest.raises(ValueError, match="must begin with http"):
        fetch(address, 10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on this machine: no certificate for an https server")
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
        " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "certificate.pem").read_text() + (folder / "key.pem").read_text())
    return both


@pytest.fixture
def https_url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as found:
        yield found


def test_https_works_where_the_certificate_is_trusted(
    https_url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    assert fetch(f"{https_url}/echo?safe", 10).body == b"safe"


def test_https_refuses_a_certificate_that_nobody_vouches_for(https_url: str) -> None:
    with pytest.raises(RestError, match="certificate verify failed"):
        fetch(f"{https_url}/echo", 10)
