"""The frame session over TLS: a real wss server whose certificate is trusted, or is not."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.records import UPDATE_ID, Kind, kind_of
from shm.segment import Words
from tests.engine.scratch_feed import BTCUSDT, Scratch, quote_frame, scratch_feed
from tests.workers.small_venue import SmallVenue, run, small_venue, until
from workers.framesession import FrameSession

PATH = "/stream?streams=btcusdt@bookTicker"
TRUSTED = "the venue must show a certificate that is trusted"


def certify(folder: Path, name: str, address: str = "127.0.0.1") -> Path:
    """Writes a certificate that its own key has signed, and the key, into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    where = x509.IPAddress(ip_address(address))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([where]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def tls_of(path: Path) -> ssl.SSLContext:
    """Answers what a server needs that shows a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@asynccontextmanager
async def secured(prefix: str, path: Path) -> AsyncIterator[tuple[SmallVenue, Scratch]]:
    """A venue that shows a certificate, and a feed of one instrument's quotes."""
    with scratch_feed(prefix, BTCUSDT, capacity=1 << 15) as scratch:
        scratch.rows()
        async with small_venue(tls=tls_of(path)) as venue:
            yield venue, scratch


def quote_ids(rows: list[Words]) -> list[int]:
    return [int(row[UPDATE_ID]) for row in rows if kind_of(row) == Kind.QUOTE]


def test_frames_over_tls_become_records_in_order_also_behind_a_pause(
    segment_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certify(tmp_path, "venue")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    found: list[int] = []

    async def test() -> None:
        async with secured(segment_prefix, path) as (venue, scratch):

            def decode() -> None:
                scratch.feed.decode(1)
                found.extend(quote_ids(scratch.rows()))

            session = FrameSession(scratch.feed, lambda: None, decode)
            await session.connect(f"{venue.stream_url}{PATH}", 20)
            await until(lambda: bool(venue.connections), lambda: None)
            session.pause()
            await venue.send(*(quote_frame(u) for u in range(100)))
            assert scratch.feed.count == 0
            session.resume()
            await venue.send(*(quote_frame(u) for u in range(100, 20_000)))
            session.drain()
            await until(lambda: session.is_drained, decode)
            decode()
            assert found == list(range(20_000))
            assert (session.overflow_count, session.is_open) == (0, True)

            session.disconnect()
            assert await session.ended() == ""
            await venue.connections[-1].wait_closed()

    run(test)


def test_a_certificate_that_nobody_trusts_is_refused_in_one_line(
    segment_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certify(tmp_path, "other")))

    async def test() -> None:
        async with secured(segment_prefix, certify(tmp_path, "venue")) as (venue, scratch):
            session = FrameSession(scratch.feed, lambda: None, lambda: None)
            with pytest.raises(ConnectionError, match=TRUSTED) as refused:
                await session.connect(f"{venue.stream_url}{PATH}", 20)

            text = str(refused.value)
            assert len(text.splitlines()) == 1
            assert f"host=127.0.0.1:{venue.port} error=self-signed certificate;" in text
            assert not session.is_open
            assert venue.connections == []

    run(test)


def test_a_trusted_certificate_of_another_address_is_refused_in_one_line(
    segment_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certify(tmp_path, "venue", "127.0.0.2")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))

    async def test() -> None:
        async with secured(segment_prefix, path) as (venue, scratch):
            session = FrameSession(scratch.feed, lambda: None, lambda: None)
            with pytest.raises(ConnectionError, match=f"{TRUSTED}.*not valid for '127.0.0.1'"):
                await session.connect(f"{venue.stream_url}{PATH}", 20)
            assert venue.connections == []

    run(test)
