"""engine room: what a strategy is, and how one is found by its name.

A strategy is a module-level function compiled with `shm.jit.handler` and a description of it:

    from engine.actions import imbalance_ppm, is_tradable, signal
    from engine.records import Kind, kind_of
    from engine.strategy import Parameter, Strategy
    from shm.jit import handler

    STEP_PPM = 0  # parameters are words in declared order

    @handler
    def on_record(row, view, state, parameters, out):
        if is_tradable(view) and imbalance_ppm(view) > parameters[STEP_PPM]:
            signal(out, imbalance_ppm(view))
        return 0

    STRATEGY = Strategy("mine", on_record, (Parameter("step", 0.2, "ratio", 1_000_000),))

It hears, for each instrument it is placed on and in the order of the rings: market records (QUOTE,
TRADE, DEPTH runs, BOOK_STATE), reports on its own orders, denials of its own intents, and a timer:
a STEP row every TIMER_NS. `row` is the record in place, (16,): valid during the call. `view` is
what the framework keeps (engine/actions.py); for depth see engine/bookview.py. `state` is the
strategy's own, one array for every instrument, zero at first, kept over commits and restarts.
`parameters` are whole numbers: a float of the configuration times its declared scale, so no float
takes part in a decision. The answer of the function is not used. There is no other time, randomness
or input.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np

from shm.jit import handler_address
from shm.segment import Words

TIMER_NS = 100_000_000  # of the step's clock, between two timer records
STATE_WORDS_MAX = 8_192
PARAMETERS_MAX = 64
_WORD_MAX = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number that configuration may set.

    Attributes:
        name: as in `[[strategies]] parameters`.
        default: in `unit`.
        unit: of the configured number, for example `ms` or `ratio`; for messages and pages.
        scale: the word is the number times this, rounded half to even.
    """

    name: str
    default: float
    unit: str
    scale: int = 1

    def word(self, value: float) -> int:
        """Answers the parameter word of a configured number.

        Raises:
            ValueError: when it is not finite or too large.
        """
        exact = Decimal(repr(float(value)))
        if not exact.is_finite() or abs(exact * self.scale) > _WORD_MAX:
            raise ValueError(f"parameter must be finite and fit: {self.name}={value}")
        return int((exact * self.scale).to_integral_value(ROUND_HALF_EVEN))


@dataclass(frozen=True, slots=True)
class Strategy:
    """What a strategy module offers under the name that configuration gives.

    Attributes:
        name: of the kind, for people.
        on_record: compiled with `shm.jit.handler`.
        parameters: in the order of their words.
        state_words: of the strategy's own memory on one instrument.
    """

    name: str
    on_record: Callable[..., int]
    parameters: tuple[Parameter, ...] = ()
    state_words: int = 0

    def __post_init__(self) -> None:
        """Checks the description. Raises ValueError or TypeError naming the strategy."""
        names = [parameter.name for parameter in self.parameters]
        if len(set(names)) != len(names) or len(names) > PARAMETERS_MAX:
            raise ValueError(
                "strategy parameters must be few and differ:"
                f" strategy={self.name} count={len(names)} parameters_max={PARAMETERS_MAX}"
            )
        if not 0 <= self.state_words <= STATE_WORDS_MAX:
            raise ValueError(
                f"strategy state must be 0 to {STATE_WORDS_MAX} words:"
                f" strategy={self.name} state_words={self.state_words}"
            )
        handler_address(self.on_record)

    def words(self, values: Mapping[str, float]) -> Words:
        """Answers the parameter words, (len(parameters),) int64, defaults where none is given.

        Raises:
            ValueError: when a name is not a parameter or a number does not fit.
        """
        known = {parameter.name for parameter in self.parameters}
        for name in values:
            if name not in known:
                raise ValueError(
                    f"parameter must be known: strategy={self.name} parameter={name}"
                    f" known={','.join(sorted(known))}"
                )
        words = [p.word(values.get(p.name, p.default)) for p in self.parameters]
        return np.array(words, np.int64)


def load(use: str) -> Strategy:
    """Answers the strategy that `module:attribute` names; its module is imported.

    Raises:
        ValueError: in one line, when there is no such module or attribute, when the import fails,
            or when the attribute is not a Strategy.
    """
    module_name, _, attribute = use.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"strategy must be module:attribute: use={use}")
    found: Any
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"strategy module must be importable: use={use} missing={error.name};"
            " is its folder on PYTHONPATH"
        ) from None
    except AttributeError:
        raise ValueError(f"strategy must exist in its module: use={use}") from None
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything
        line = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"strategy module must import: use={use} error={type(error).__name__} detail={line}"
        ) from None
    if not isinstance(found, Strategy):
        raise ValueError(  # noqa: TRY004 - one kind of error for whatever a user wrote
            f"strategy must be an engine.strategy.Strategy: use={use} type={type(found).__name__}"
        )
    return found
