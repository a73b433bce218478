"""Keys and signatures."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.exchange.keys import (
    Credential,
    KeyPair,
    make_ed25519_pair,
    make_hmac_pair,
    payload,
    read_pair,
    sign_hmac,
    write_pair,
)

# The worked example of the venue's public documentation.
DOCUMENTED_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
DOCUMENTED_PARAMS = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01000000",
    "price": "52000.00",
    "recvWindow": "100",
    "timestamp": "1645423376532",
    "apiKey": "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
}


def test_the_documented_example_has_its_documented_signature() -> None:
    signature = sign_hmac(DOCUMENTED_SECRET, payload(DOCUMENTED_PARAMS))

    assert signature == "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24"


def test_text_beyond_ascii_is_signed_as_utf_8() -> None:
    params = DOCUMENTED_PARAMS | {
        "symbol": "\uff11\uff12\uff13\uff14\uff15\uff16",
        "side": "BUY",
        "price": "0.10000000",
        "quantity": "1.00000000",
        "recvWindow": "5000",
    }

    signature = sign_hmac(DOCUMENTED_SECRET, payload(params))

    assert signature == "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd"


def test_the_payload_leaves_the_signature_out() -> None:
    assert payload({"b": "2", "signature": "x", "a": "1"}) == "a=1&b=2"


@pytest.mark.parametrize("pair", [make_hmac_pair(), make_ed25519_pair()], ids=["hmac", "ed25519"])
class TestSignatures:
    @given(text=st.text(max_size=40), other=st.text(max_size=40))
    def test_a_signature_is_valid_for_its_own_text_only(
        self, pair: KeyPair, text: str, other: str
    ) -> None:
        try:
            signature = pair.sign(text)
        except UnicodeEncodeError:
            return
        checker = pair.credential().checker

        assert checker.is_valid(text, signature)
        if other != text and other.isprintable():
            assert not checker.is_valid(other, signature)

    @pytest.mark.parametrize("signature", ["", "x", "AAAA", "é", "0" * 64, "=" * 88])
    def test_nonsense_is_no_signature(self, pair: KeyPair, signature: str) -> None:
        assert not pair.credential().checker.is_valid("text", signature)

    def test_another_key_does_not_fit(self, pair: KeyPair) -> None:
        signature = pair.sign("text")
        others = (make_hmac_pair(), make_ed25519_pair())

        assert not any(other.credential().checker.is_valid("text", signature) for other in others)

    def test_a_pair_survives_its_file_which_is_its_owners_alone(
        self, pair: KeyPair, tmp_path: Path
    ) -> None:
        path = tmp_path / "key"
        write_pair(path, pair)

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert read_pair(path).sign("text") == pair.sign("text")
        with pytest.raises(FileExistsError):
            write_pair(path, pair)

    def test_a_pair_does_not_show_its_secret(self, pair: KeyPair) -> None:
        assert pair.secret not in repr(pair)
        assert pair.secret not in repr(pair.credential())


def test_hmac_signatures_may_be_upper_case() -> None:
    pair = make_hmac_pair()

    assert pair.credential().checker.is_valid("text", pair.sign("text").upper())


def test_a_readable_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_pair(path, make_hmac_pair())
    os.chmod(path, 0o640)  # noqa: PTH101 - as a user would

    with pytest.raises(PermissionError, match=r"must be its owner's alone: .* mode=0640"):
        read_pair(path)


@pytest.mark.parametrize("text", ["", "key", "key\n", "\nsecret"])
def test_a_key_file_without_key_or_secret_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(ValueError, match="must hold a key, then a secret"):
        read_pair(path)


def test_bad_keys_are_refused_without_repeating_them() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nsecretsecret\n-----END PRIVATE KEY-----"

    with pytest.raises(ValueError, match="must be an unencrypted private key") as refusal:
        KeyPair("key", pem).credential()
    assert "secretsecret" not in str(refusal.value)
    with pytest.raises(ValueError, match="must be in PEM form"):
        Credential.from_ed25519("key", "nonsense")
