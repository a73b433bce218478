"""config room: every setting a user can write, as frozen records with their defaults.

One section of the TOML file is one record here. Reading, checking and merging live in
`config/load.py`; this file only says what exists, in which unit, and what it is without a word from
the user. Unknown keys are refused everywhere.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Idle = Literal["spin", "yield", "backoff", "park"]
Encoding = Literal["json", "msgpack"]
FlushPolicy = Literal["none", "batch", "interval"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all sections share: immutable, and an unknown key is an error."""


class EngineSettings(Section, frozen=True, kw_only=True):
    """`[engine]`: who this engine is and where it keeps its files."""

    name: str = "demo"  # names segments and the control socket; [a-z0-9-], at most 24
    data_dir: str = "var/demo"  # journal, database, logs, control socket; made with mode 0700
    strategy_dir: str = ""  # folder of your own strategy modules, put first on the import path
    heartbeat_ms_max: int = 2_000  # a worker silent for longer is killed and restarted
    ready_s_max: float = 60.0  # a worker not READY by then is a failed start
    drain_s_max: float = 10.0  # one stop phase may take this long before it is forced
    restarts_max: int = 20  # within restart_window_s; one more trips the engine to HALT
    restart_window_s: float = 60.0
    restart_backoff_ms: int = 20  # first delay; doubles up to restart_backoff_ms_max
    restart_backoff_ms_max: int = 2_000


class MarketSettings(Section, frozen=True, kw_only=True):
    """`[market]`: the instruments, in the order that gives them their index."""

    symbols: tuple[str, ...] = ("BTCUSDT",)
    streams: tuple[str, ...] = ("bookTicker", "trade", "depth@100ms")
    batch_window_ms: Literal[0, 1, 5, 10] = 0  # 0: publish as soon as read
    snapshot_levels: int = 5_000  # levels asked for in a depth snapshot; spot gives no more
    # A book is STALE when its depth says nothing for 20 times its usual gap, within these bounds.
    silence_ms_min: int = 2_000
    silence_ms_max: int = 5_000


class VenueSettings(Section, frozen=True, kw_only=True):
    """`[venue]`: where market data and orders go. Empty addresses mean the built-in exchange."""

    # binance-spot or binance-usdm, also for the built-in exchange; ccxt:NAME for market data only
    kind: str = "binance-spot"
    rest_url: str = ""  # http(s)://host:port
    stream_url: str = ""  # ws(s)://host:port
    order_url: str = ""  # ws(s)://host:port/ws-api/v3
    key_env: str = "TICKRING_API_KEY"  # environment variable that holds the API key
    secret_env: str = "TICKRING_API_SECRET"  # noqa: S105 - the name of it: HMAC secret or Ed25519 PEM
    secret_file: str = ""  # instead: a 0600 file, first line the key, the rest the secret or PEM
    receive_window_ms: int = 5_000
    request_ms_max: int = 5_000  # an unanswered request is UNKNOWN after this
    first_frame_s_max: float = 30.0  # a connection without a frame by then is a retired address
    silence_s_max: float = 30.0  # a connection without data for longer is made anew
    connection_s_max: float = 84_600.0  # then another takes over; the venue ends one after 24 h
    reconnect_ms: int = 100  # first delay; doubles, with jitter, up to reconnect_ms_max
    reconnect_ms_max: int = 10_000


class ExchangeSettings(Section, frozen=True, kw_only=True):
    """`[exchange]`: the built-in exchange, served on loopback when `enabled`."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 0  # 0: a free port, told to the other workers through the board
    seed: int = 7
    rate_per_s: float = 400.0  # mean synthetic order events per second and symbol
    # Recordings in the binance_hft format, empty for the synthetic market; never beside a venue.
    capture: tuple[str, ...] = ()
    speed: float = 1.0  # recorded time passes this many times faster; 0 means as fast as it goes
    loop: bool = False  # start the recording again at its end
    faults: str = ""  # fault script, see workers/exchange/faults.py; empty: nothing goes wrong
    maker_fee_bps: float = 1.0
    taker_fee_bps: float = 1.0
    balances: dict[str, str] = msgspec.field(
        default_factory=lambda: {"USDT": "1000000", "BTC": "10", "ETH": "100"}
    )


class StrategySettings(Section, frozen=True, kw_only=True):
    """`[[strategies]]`: one instance of a strategy on some instruments."""

    name: str
    use: str  # module:attribute, for example engine.strategies.imbalance:STRATEGY
    symbols: tuple[str, ...] = ()  # empty: every symbol of [market]
    parameters: dict[str, float] = {}


class RiskSettings(Section, frozen=True, kw_only=True):
    """`[risk]`: limits checked inline before every order; a symbol may override each of them."""

    order_quantity_max: str = "1"  # base asset, decimal
    order_value_max: str = "100000"  # quote asset, decimal
    position_max: str = "2"  # base asset, long or short, counting open and unknown orders
    open_orders_max: int = 32
    messages_per_s_max: int = 200  # of all symbols together
    price_collar_bps: float = 100.0  # distance from the mid, either way
    stale_ms_max: int = 2_000  # market data older than this blocks new orders


class RiskOverride(Section, frozen=True, kw_only=True):
    """`[[risk_overrides]]`: limits of one symbol; what is not given is as in `[risk]`.

    Read it through `config.limits.risk_of`, which fills in what is not given.
    """

    symbol: str
    order_quantity_max: str | None = None
    order_value_max: str | None = None
    position_max: str | None = None
    open_orders_max: int | None = None
    messages_per_s_max: int | None = None  # refused: the rate is of the account, in [risk] only
    price_collar_bps: float | None = None
    stale_ms_max: int | None = None


class JournalSettings(Section, frozen=True, kw_only=True):
    """`[journal]`: how the recorder writes."""

    segment_bytes_max: int = 64 * 1024 * 1024
    flush: FlushPolicy = "interval"  # fsync never, after every batch, or every flush_ms
    flush_ms: int = 200


class StoreSettings(Section, frozen=True, kw_only=True):
    """`[store]`: the database that the journal is copied into."""

    url: str = "sqlite"  # "sqlite": data_dir/tickring.db; "sqlite:///PATH"; "postgresql://..."
    url_env: str = ""  # environment variable that holds the url, for one with a password
    batch_rows_max: int = 10_000
    flush_ms: int = 200
    retry_ms_max: int = 5_000


class LogSettings(Section, frozen=True, kw_only=True):
    """`[log]`: levels by worker and the collector's files."""

    level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    levels: dict[str, str] = {}  # worker name -> level
    file_bytes_max: int = 16 * 1024 * 1024
    files_max: int = 8
    console: bool = False


class BusSettings(Section, frozen=True, kw_only=True):
    """`[bus]`: Redis pub/sub for outside subscribers; off while `url` is empty."""

    url: str = ""  # redis://127.0.0.1:6379/0
    url_env: str = ""
    prefix: str = "tickring"
    encoding: Encoding = "json"
    batch_max: int = 512


class MonitorSettings(Section, frozen=True, kw_only=True):
    """`[monitor]`: the Prometheus endpoint and the status page."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 0  # 0: a free port, shown by `tickring status`


class RingSettings(Section, frozen=True, kw_only=True):
    """`[rings]`: capacities in records, powers of two."""

    market: int = 65_536
    decisions: int = 16_384  # signals, intents, risk, orders, reports and their step rings
    log: int = 4_096


class WorkerSettings(Section, frozen=True, kw_only=True):
    """`[[workers]]`: one process, the agents in it, and how it runs."""

    name: str
    agents: tuple[str, ...]
    core: int = -1  # -1: not pinned
    idle: Idle = "backoff"
    nice: int = 0
    scheduler: Literal["other", "batch", "idle", "fifo"] = "other"
    priority: int = 0  # of fifo
    lock_memory: bool = False
    timer_slack_ns: int = 1_000
    linger_us: int = 0  # after a cycle with little work, so that records gather; for batch workers
    ingest_symbols: dict[str, tuple[str, ...]] = {}  # agent "ingest.K" -> its symbols; empty: all


class Settings(Section, frozen=True, kw_only=True):
    """A whole configuration file."""

    engine: EngineSettings = EngineSettings()
    market: MarketSettings = MarketSettings()
    venue: VenueSettings = VenueSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    strategies: tuple[StrategySettings, ...] = ()
    risk: RiskSettings = RiskSettings()
    risk_overrides: tuple[RiskOverride, ...] = ()
    journal: JournalSettings = JournalSettings()
    store: StoreSettings = StoreSettings()
    log: LogSettings = LogSettings()
    bus: BusSettings = BusSettings()
    monitor: MonitorSettings = MonitorSettings()
    rings: RingSettings = RingSettings()
    workers: tuple[WorkerSettings, ...] = ()
