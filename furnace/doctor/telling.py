"""What the doctor found: as lines for people, and as JSON for programs."""

import math
from collections.abc import Sequence
from typing import Any

from furnace.doctor.finding import NOTE, PROBLEM, Finding
from furnace.errors import counted


def line_of(finding: Finding) -> str:
    """Returns a finding as one line: its state, its subject, what was found, and the remedy."""
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{finding.state:<8} {finding.subject}: {finding.found}{remedy}".replace("\n", " ")


def last_line(findings: Sequence[Finding]) -> str:
    """Returns a line that counts the findings by their state."""
    problems, notes = (counted(_count(findings, state), state) for state in (PROBLEM, NOTE))
    if not _count(findings, PROBLEM):
        return f"nothing that would stop a run was found, {notes}"
    return f"{problems} would stop a run, {notes}"


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Returns everything that was found, as plain values that JSON can hold; a number without end becomes null."""
    return {
        "problems": _count(findings, PROBLEM),
        "notes": _count(findings, NOTE),
        "findings": [
            {
                "state": finding.state,
                "subject": finding.subject,
                "found": finding.found,
                "remedy": finding.remedy,
                "figures": {name: _plain(value) for name, value in finding.figures.items()},
            }
            for finding in findings
        ],
    }


def _count(findings: Sequence[Finding], state: str) -> int:
    return sum(finding.state == state for finding in findings)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
