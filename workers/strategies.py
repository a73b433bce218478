"""workers room: a configured strategy is found, and its parameters become words.

Apart from workers/signal.py, which compiles the whole decision loop when it is imported: whoever
only asks whether a configuration can start loads what it names and nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from config.settings import Settings, StrategySettings
from engine.strategy import Strategy, load
from shm.segment import Words


def loaded(settings: Settings, item: StrategySettings) -> tuple[Strategy, Words]:
    """Imports a strategy's module; answers it with its parameter words.

    Raises:
        ValueError: in one line that names the key, when it cannot be loaded or a parameter is
            wrong.
    """
    folder = settings.engine.strategy_dir
    if folder and (path := str(Path(folder).resolve())) not in sys.path:
        sys.path.insert(0, path)
    key = f"strategies.{item.name}.use"
    try:
        strategy = load(item.use)
        key = f"strategies.{item.name}.parameters"
        return strategy, strategy.words(item.parameters)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{key}: {error}") from None
