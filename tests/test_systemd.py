"""The unit file for a service manager: what it does with the engine's exit codes and signals."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
UNIT: Final = ROOT / "config" / "systemd" / "tickring.service"
CONFIGURATION_CODE: Final = 2  # see workers/cli.py


def values(key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", UNIT.read_text())


def test_a_mistake_in_the_configuration_is_not_started_again() -> None:
    assert values("Restart") == ["on-failure"]
    assert values("RestartPreventExitStatus") == [str(CONFIGURATION_CODE)]
    # Its exit code would count as any failure: systemd looks at the main process only.
    assert values("ExecStartPre") == []


def test_the_supervisor_has_time_for_an_ordered_stop() -> None:
    phases, phase_s_max, exit_s_max = 6, 10, 9

    assert values("KillMode") == ["mixed"]  # SIGTERM for the supervisor, SIGKILL for all
    assert int(values("TimeoutStopSec")[0]) > phases * phase_s_max + exit_s_max


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    checker = shutil.which("systemd-analyze")
    true = shutil.which("true")
    if checker is None or true is None:
        pytest.skip("systemd-analyze is not on this machine")
    copy = tmp_path / UNIT.name
    text = re.sub(r"/opt/tickring/bin/tickring", true, UNIT.read_text())
    copy.write_text(re.sub(r"(?m)^(User|Group|Documentation)=.*\n", "", text))

    done = subprocess.run(
        [checker, "verify", str(copy)], check=False, capture_output=True, text=True
    )

    own = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, own) == (0, [])
