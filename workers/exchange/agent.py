"""workers room: the built-in exchange as one more agent of the engine.

It serves on the worker's own event loop and tells the others through three shared words where it
is and how far a recording has come. A restarted exchange takes its old port again when it can, so
addresses that others hold stay good.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from config.settings import ExchangeSettings, Settings
from engine.venues import market_of
from workers.agent import Phase, SegmentPlan
from workers.context import AgentContext
from workers.endpoints import (
    EXCHANGE_PLAN,
    PLAYBACK_FINISHED,
    PLAYBACK_STARTED,
    PORT,
    credential,
    exchange_words,
)
from workers.exchange.server import ExchangeServer
from workers.listening import refusal


class ExchangeAgent:
    """Serves the built-in exchange; role `exchange`."""

    def __init__(self, context: AgentContext) -> None:
        self.role_name = context.agent
        self._context = context
        self._server: ExchangeServer | None = None

    @staticmethod
    def segments(settings: Settings, agent: str) -> tuple[SegmentPlan, ...]:
        """Answers the segment with the port and the progress of a recording."""
        del settings, agent
        return (EXCHANGE_PLAN,)

    def on_start(self) -> None:
        """Attaches the words that tell the others."""
        self._words = exchange_words(self._context)

    async def open(self) -> None:
        """Opens the market and the port.

        Raises:
            ListenError: the port is taken, or the host is not ours.
            ValueError: a recording or a symbol is not what it must be.
        """
        settings = self._context.settings.exchange
        port_before = int(self._words[PORT])
        port = 0
        if not settings.port and port_before:
            with suppress(OSError):
                port = await self._serve(msgspec.structs.replace(settings, port=port_before))
        try:
            port = port or await self._serve(settings)
        except OSError as error:
            raise refusal("exchange", settings.host, settings.port, error) from None
        self._words[PORT] = port
        self._context.logger.info("exchange serves", host=settings.host, port=port)

    async def close(self) -> None:
        """Says goodbye to the clients and frees the port."""
        if self._server is not None:
            await self._server.close()
            counts = self._server.counts
            self._context.logger.info(
                "exchange closed", orders=counts["orders"], fills=counts["fills"]
            )

    def do_work(self) -> int:
        """Tells how far the recording has come; sockets work by callbacks."""
        server = self._server
        if server is not None:
            self._words[PLAYBACK_STARTED] = server.started
            self._words[PLAYBACK_FINISHED] = server.finished
        return 0

    def on_phase(self, phase: Phase) -> bool:
        """The exchange serves its clients to the last phase."""
        del phase
        return True

    def on_close(self) -> None:
        """Nothing is left to give back."""

    async def _serve(self, settings: ExchangeSettings) -> int:
        pair = credential(self._context)
        whole = self._context.settings
        server = ExchangeServer(
            settings,
            whole.market,
            keys={pair.api_key: pair.credential()},
            venue=market_of(whole.venue.kind),
        )
        try:
            port = await server.open()
        except BaseException:
            await server.close()
            raise
        self._server = server
        return port
