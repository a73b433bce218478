"""workers room: makes and removes all shared memory of a run. Called by: the supervisor."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from config.settings import Settings
from config.topology import SUPERVISOR, rings, workers
from shm import ring, segment
from shm.segment import Segment
from shm.stats import BODY_BYTES as STATS_BYTES
from shm.stats import LAYOUT as STATS_LAYOUT
from workers.agent import SegmentPlan
from workers.agents import segment_plans
from workers.board import BODY_BYTES as BOARD_BYTES
from workers.board import LAYOUT as BOARD_LAYOUT
from workers.context import Run, segment_prefix

RUN_FILE = "run.json"
GENERATION_FILE = "generation"
_DIGITS_MAX = 18  # more would not fit 64 bits


class _Saved(msgspec.Struct):
    """What run.json holds."""

    generation: int
    settings: Settings


def last_generation(data_dir: Path) -> int:
    """Answers the number of the last run in a data folder, 0 before the first.

    Raises:
        ValueError: the file that holds it is damaged. A number is not made up: the journal, the
            database and order ids of earlier runs have it.
    """
    path = data_dir / GENERATION_FILE
    try:
        text = path.read_bytes().strip()
    except FileNotFoundError:
        return 0
    if not text.isdigit() or len(text) > _DIGITS_MAX:
        raise ValueError(
            f"a generation file must hold the number of the last run: file={path}"
            f" content={text[:_DIGITS_MAX]!r};"
            f" write the highest folder number of {data_dir / 'journal'} into it"
        )
    return int(text)


def next_generation(data_dir: Path) -> int:
    """Counts up the run number in the data folder, durably; the first run is 1.

    Raises:
        ValueError: see `last_generation`.
    """
    path = data_dir / GENERATION_FILE
    last = last_generation(data_dir)
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{last + 1}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    return last + 1


def plan_run(settings: Settings, data_dir: Path) -> Run:
    """Answers a new run of an engine in `data_dir`."""
    return Run(settings, data_dir, next_generation(data_dir), segment_plans(settings))


def write_run(run: Run) -> None:
    """Leaves the run's settings in its data folder, 0600, for tools that attach to it."""
    path = run.data_dir / RUN_FILE
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(_Saved(run.generation, run.settings)))
    fresh.rename(path)


def read_run(data_dir: Path) -> Run:
    """Answers the run that was started last in a data folder.

    Raises:
        FileNotFoundError: when none was.
        ValueError: when what it left is damaged, or of another version.
    """
    saved = _read_saved(data_dir)
    return Run(saved.settings, data_dir, saved.generation, segment_plans(saved.settings))


def read_prefix(data_dir: Path) -> str:
    """Answers what the segments of that run begin with; loads no agent. Raises as `read_run`."""
    return segment_prefix(_read_saved(data_dir).settings, data_dir)


def _read_saved(data_dir: Path) -> _Saved:
    path = data_dir / RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"an engine must have run here: data_dir={data_dir}; start one with `tickring run`"
        )
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Saved)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError(
            f"a run file must be what the last start wrote: file={path} error={error};"
            " start the engine again"
        ) from None


def create_all(run: Run) -> list[Segment]:
    """Makes every segment of a run, after reclaiming those of a killed engine.

    Raises:
        SegmentError: when an engine of this name and folder still runs, or memory lacks.
    """
    segment.reclaim(run.prefix)
    made: list[Segment] = []
    try:
        _create_rings(run, made)
        for plan in (*run.plans, *_own_plans(run)):
            made.append(_create(run, plan))  # noqa: PERF401 - one by one: a failure removes them
    except BaseException:
        remove_all(made)
        raise
    return made


def _own_plans(run: Run) -> list[SegmentPlan]:
    """Answers what belongs to no agent: the numbers of each process and the board."""
    names = [*(worker.name for worker in workers(run.settings)), SUPERVISOR]
    plans = [SegmentPlan(f"stats.{name}", STATS_BYTES, STATS_LAYOUT) for name in names]
    return [*plans, SegmentPlan("board", BOARD_BYTES, BOARD_LAYOUT)]


def _create(run: Run, plan: SegmentPlan) -> Segment:
    made = segment.create(run.prefix + plan.name, plan.body_bytes, plan.layout, run.generation)
    made.set_ready()
    return made


def _create_rings(run: Run, made: list[Segment]) -> None:
    for plan in rings(run.settings):
        kinds = (ring.GATING,) * len(plan.readers)
        made.append(
            ring.create(
                run.prefix + plan.name,
                run.generation,
                capacity=plan.capacity,
                row_bytes=plan.row_bytes,
                kinds=kinds,
                parkable=plan.parkable,
            )
        )


def remove_all(made: list[Segment]) -> None:
    """Unlinks and unmaps what create_all made."""
    for one in made:
        one.unlink()
        one.close()
