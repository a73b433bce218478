"""workers room: signs requests with an API key, at the speed that an order needs.

An Ed25519 key signs once, to log a connection on. An HMAC key signs every request: its inner state
after the secret is kept and copied, which saves most of the setting up.
"""

from __future__ import annotations

import hmac

from workers.exchange.keys import PEM_MARK, KeyPair


class Signer:
    """Signs for one key.

    Args:
        key: API key and secret; the secret is an HMAC secret or an Ed25519 key in PEM form.
    """

    def __init__(self, key: KeyPair) -> None:
        self._key = key
        self.api_key = key.api_key
        self.is_session = key.secret.lstrip().startswith(PEM_MARK)
        self._start = hmac.new(key.secret.encode(), digestmod="sha256")

    def sign(self, text: bytes) -> bytes:
        """Answers the signature of a text, as the venue wants it written."""
        if self.is_session:
            return self._key.sign(text.decode("ascii")).encode("ascii")
        state = self._start.copy()
        state.update(text)
        return state.hexdigest().encode("ascii")
