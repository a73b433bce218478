"""Makes states of the weak machine equal that differ only in what nobody can read any more.

A reader of a word never goes back before its `now`. So messages older than the `now` of all its
readers, and than every load that was put off, are forgotten, and those behind them counted anew.
In any view, a number before the first message that is kept means no more than that message: its
readers know as much. Without this, a flag that goes up and down makes a new state each time.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat

from tests.shm.weakmemory import Message, Place, State, Thread, Unread, View

_remembered = lru_cache(maxsize=1 << 14)  # states share most of their parts


def pruned(places: list[Place], state: State) -> State:
    """Answers the state without messages that nobody can read."""
    oldest = [0] * len(state.fenced)  # behind the places, views count reads of each thread
    for number, history in enumerate(state.words):
        if len(history) > 1:
            oldest[number] = _oldest(places[number], state, number)
    if not any(oldest):
        return state
    cuts = tuple(oldest)
    return state._replace(
        threads=tuple([_cut_thread(thread, cuts) for thread in state.threads]),
        words=tuple(map(_cut_history, state.words, cuts, repeat(cuts))),
        fenced=_cut_view(state.fenced, cuts),
        futexes=tuple([(number, _cut_view(view, cuts)) for number, view in state.futexes]),
    )


def _oldest(place: Place, state: State, number: int) -> int:
    """Answers the oldest message of a word that a thread may still read."""
    oldest = len(state.words[number]) - 1
    for reader in place.readers:
        thread = state.threads[reader]
        if not thread.is_over:
            oldest = min(oldest, thread.now[number])
            for answer in thread.answers:
                if isinstance(answer, Unread) and answer.place == number:
                    oldest = min(oldest, answer.floor)
    return oldest


@_remembered
def _cut_view(view: View, cuts: View) -> View:
    return tuple([max(0, stamp - cut) for stamp, cut in zip(view, cuts, strict=True)])


@_remembered
def _cut_history(history: tuple[Message, ...], cut: int, cuts: View) -> tuple[Message, ...]:
    return tuple([Message(value, _cut_view(view, cuts)) for value, view in history[cut:]])


@_remembered
def _cut_thread(thread: Thread, cuts: View) -> Thread:
    answers = [
        answer._replace(floor=answer.floor - cuts[answer.place])
        if isinstance(answer, Unread)
        else answer
        for answer in thread.answers
    ]
    return thread._replace(
        answers=tuple(answers),
        now=_cut_view(thread.now, cuts),
        later=_cut_view(thread.later, cuts),
        carried=_cut_view(thread.carried, cuts),
    )
