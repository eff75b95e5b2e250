"""What a run tells, as tables and text for the Prefect UI. Pure formatting: names and reasons come from frames."""

from __future__ import annotations

import re
import shlex
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]

MOST_ROWS = 200
_MOST_TOLD = 5
_ORDER = ("anomaly", "unreadable", "no_reference", "not_searched", "reference", "normal")
_COUNTED = {
    "originals": ("moved", "bytes"),
    "checksums": ("checked",),
    "compact": ("files_before", "files_after", "left"),
    "expire": ("expired",),
    "orphans": ("files", "bytes"),
}
_MEANING = {
    "anomaly": "flagged: odder than the false-alarm budget allows",
    "unreadable": "not a frame that can be read: in quarantine, with the reason",
    "no_reference": "too few references to compare it with",
    "not_searched": "a rule kept it from being judged",
    "reference": "a member of the reference repository",
    "normal": "in line with its references",
}


def sort_reports(reports: Iterable[Line]) -> list[Line]:
    """Flagged frames first, oddest first, then what could not be judged, then the rest."""

    def rank(report: Line) -> tuple[int, float, str]:
        status = report["status"]
        place = _ORDER.index(status) if status in _ORDER else len(_ORDER)
        p_value = report.get("p_value")
        return (place, 2.0 if p_value is None else p_value, report["name"])

    return sorted(reports, key=rank)


def tabulate_reports(reports: Sequence[Line], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """One row a frame, flagged first, at most `most`; a last row says how many were left out."""
    rows = [_report_row(report) for report in sort_reports(reports)[:most]]
    if len(reports) > most:
        rows.append({**dict.fromkeys(_report_row({"name": "", "status": ""}), ""), "frame": _left_out(reports, most)})
    return rows


def tabulate_checks(checks: Sequence[Line]) -> list[dict[str, Any]]:
    """One row a comparison, those that found differences first."""
    return [
        {
            "check": check["check"],
            "agrees": "yes" if check["ok"] else "NO",
            "expected": check["expected"],
            "found": check["found"],
            "differences": check["differences"],
            "for example": ", ".join(check["examples"][:_MOST_TOLD]),
            "repair": check["repair"],
        }
        for check in sorted(checks, key=lambda check: bool(check["ok"]))
    ]


def tabulate_audit(lines: Sequence[Line], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """One row a reference, worst first, at most `most`."""
    keys = ("name", "p_value", "distance", "embedding", "reason")
    return [{key.replace("_", "-"): _cell(show(line.get(key))) for key in keys} for line in lines[:most]]


def tabulate_steps(steps: Sequence[Line]) -> list[dict[str, Any]]:
    """One row a step and table; what was done in words, as every step counts other things."""
    rows: list[dict[str, Any]] = []
    for step in steps:
        where = step.get("table") or step.get("collection", "")
        hidden = ("step", "table", "collection", "dry_run", "examples")
        told = {key: show(value) for key, value in step.items() if key not in hidden and value is not None}
        done = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in told.items() if value)
        rows.append({"step": step["step"], "where": where, "done": done})
    return rows


def tell_reports(title: str, reports: Sequence[Line], checks: Sequence[Line] | None = None) -> str:
    """The story of a run: how many of what, the oddest frames with their reasons, and whether the stores agree."""
    parts = [f"# {title}", summarise_reports(reports)]
    counts = Counter(report["status"] for report in reports)
    rows = [f"| {status} | {counts[status]} | {_MEANING[status]} |" for status in _ORDER if counts[status]]
    parts.append("\n".join(["| status | frames | what it means |", "|---|---:|---|", *rows]))
    flagged = [report for report in sort_reports(reports) if report["status"] == "anomaly"]
    if flagged:
        parts += ["## The oddest frames", "\n".join(_tell_frame(report) for report in flagged[:_MOST_TOLD])]
        if len(flagged) > _MOST_TOLD:
            parts.append(f"{len(flagged) - _MOST_TOLD} more are in the table of verdicts.")
    unreadable = [report for report in reports if report["status"] == "unreadable"]
    if unreadable:
        told = [f"- **{escape(r['name'])}**: {escape(r['reason'])}" for r in unreadable[:_MOST_TOLD]]
        parts += ["## Unreadable", "\n".join(told)]
    if checks is not None:
        parts += ["## Verification", summarise_checks(checks)]
    return "\n\n".join(parts) + "\n"


def tell_checks(checks: Sequence[Line], *, repaired: bool) -> str:
    """What a verification found, and what to do about it."""
    parts = ["# Verification" + (" after repair" if repaired else ""), summarise_checks(checks)]
    parts += [_tell_check(check) for check in checks if not check["ok"]]
    if count_failed(checks) and not repaired:
        parts.append("Run this deployment again with *Repair* switched on, or `oddframe verify --repair`.")
    return "\n\n".join(parts) + "\n"


def tell_audit(lines: Sequence[Line]) -> str:
    """What the references say of one another, worst first."""
    parts = ["# Audit of the references", f"{len(lines)} references, each compared with the others of its cell."]
    doubtful = [line for line in lines if "odd, look at it" in str(line["reason"])]
    parts += [f"- **{escape(line['name'])}**: {escape(line['reason'])}" for line in doubtful[:_MOST_TOLD]]
    if not doubtful:
        parts.append("None of them is odd.")
    else:
        parts.append(f"Take one out with `oddframe reference remove {_shell_word(doubtful[0])}`.")
    return "\n\n".join(parts) + "\n"


def tabulate_lessons(lessons: Sequence[Line], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """One row a field, at most `most`."""
    keys = ("field", "outcome", "references", "registered", "model")
    return [{key: _cell(show(line.get(key))) for key in keys} for line in lessons[:most]]


def tell_lessons(lessons: Sequence[Line]) -> str:
    """What became of the models of all fields."""
    parts = ["# Models of the fields", f"{len(lessons)} fields of references."]
    parts += [f"- {escape(line['said'])}" for line in lessons[:_MOST_TOLD]]
    return "\n\n".join(parts) + "\n"


def tabulate_sensitivity(rows: Sequence[Line], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """One row a rung of each curve, at most `most`."""
    keys = ("night", "instrument", "filter", "kind", "snr", "flux", "trials", "found", "located")
    return [{key: _cell(show(row.get(key))) for key in keys} for row in rows[:most]]


def tell_sensitivity(rows: Sequence[Line]) -> str:
    """How bright a thing had to be to be found, field by field."""
    curves = {(row["model"], row["kind"]): row for row in rows}
    parts = ["# What would have been missed", "Known light was added to copies of normal frames and looked for."]
    for row in list(curves.values())[:_MOST_TOLD]:
        field = escape(", ".join(str(row[key]) for key in ("instrument", "filter") if row[key] is not None))
        said = [
            f"{word} at S/N {row[key]:.1f}"
            for key, word in (("snr_50", "half are found"), ("snr_90", "nine of ten"))
            if row[key] is not None
        ]
        parts.append(f"- **{field}, {row['kind']}**: {', '.join(said) or 'the ladder does not say'}")
    return "\n\n".join(parts) + "\n"


def tabulate_promotions(lines: Sequence[Line], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """One row a frame, at most `most`."""
    keys = ("name", "action", "p_value", "obs_time", "reason")
    return [{key.replace("_", "-"): _cell(show(line.get(key))) for key in keys} for line in lines[:most]]


def tell_promotions(lines: Sequence[Line]) -> str:
    """Which frames became references by rule, and why."""
    parts = ["# References by rule", summarise_promotions(lines)]
    parts += [f"- **{escape(line['name'])}** {line['action']}: {escape(line['reason'])}" for line in lines[:_MOST_TOLD]]
    if any(line["action"] == "added" for line in lines):
        parts.append("To take one back: `oddframe reference remove NAME`; it is not proposed again.")
    return "\n\n".join(parts) + "\n"


def summarise_promotions(lines: Sequence[Line]) -> str:
    """How many frames of which outcome."""
    counts = Counter(line["action"] for line in lines)
    return ", ".join(f"{count} {action}" for action, count in counts.items()) + "." if lines else "No frame joined."


def tell_archive(steps: Sequence[Line]) -> str:
    """What was moved, or would be, and what is wrong."""
    parts = [_head("Archive", steps), summarise_archive(steps)]
    parts += [f"- {escape(problem)}" for problem in list_problems(steps)]
    return "\n\n".join(parts) + "\n"


def tell_maintain(steps: Sequence[Line]) -> str:
    """What housekeeping did, or would do, and what it left."""
    parts = [_head("Maintenance", steps), summarise_maintain(steps)]
    left = [_code(step["table"]) for step in steps if step.get("left")]
    if left:
        parts.append(f"Other writers were busy in {', '.join(left)}: the next run goes on there.")
    unfinished = [_code(step["collection"]) for step in steps if step.get("state") == "unfinished"]
    if unfinished:
        parts.append(f"Milvus is still at work on {', '.join(unfinished)}.")
    pins = sorted({(step["table"], name) for step in steps for name in step.get("pinned", ())})
    if pins:
        named = ", ".join(f"{_code(name)} of {_code(table)}" for table, name in pins)
        parts.append(f"Kept whatever their age are the snapshots pinned as {named}.")
    return "\n\n".join(parts) + "\n"


def summarise_archive(steps: Sequence[Line]) -> str:
    """One sentence, also the message of the run's final state."""
    total = _add_up(steps)
    return (
        f"{total['originals moved']} originals archived ({total['originals bytes'] / 2**20:.1f} MiB), "
        f"{total['checksums checked']} checksums compared, {count_problems(steps)} problems."
    )


def summarise_maintain(steps: Sequence[Line]) -> str:
    """One sentence, also the message of the run's final state."""
    total = _add_up(steps)
    vectors = sum(step["step"] == "vectors" for step in steps)
    return (
        f"{total['compact files_before'] - total['compact files_after']} small files merged away"
        f" ({total['compact left']} left), {total['expire expired']} snapshots expired, "
        f"{total['orphans files']} orphaned files removed ({total['orphans bytes'] / 2**20:.1f} MiB), "
        f"{vectors} vector collections looked after."
    )


def list_problems(steps: Sequence[Line]) -> list[str]:
    """What a person must look at, some of it where there is much."""
    return [text for step in steps if step.get("problems") for text in step["examples"]]


def count_problems(steps: Sequence[Line]) -> int:
    """How much a person must look at."""
    return sum(step.get("problems", 0) for step in steps)


def summarise_reports(reports: Sequence[Line]) -> str:
    """One sentence, also the message of the run's final state."""
    if not reports:
        return "No frames."
    counts = Counter(report["status"] for report in reports)
    ordered = sorted(counts, key=lambda status: _ORDER.index(status) if status in _ORDER else len(_ORDER))
    noun = "frame" if len(reports) == 1 else "frames"
    return f"{len(reports)} {noun}: " + ", ".join(f"{counts[status]} {status}" for status in ordered) + "."


def summarise_checks(checks: Sequence[Line]) -> str:
    """One sentence, also the message of the run's final state."""
    wrong = [check for check in checks if not check["ok"]]
    if not wrong:
        return f"All {len(checks)} checks agree: source, tables, vectors and originals hold the same frames."
    named = "; ".join(f"{check['check']} ({check['differences']})" for check in wrong)
    return f"{len(wrong)} of {len(checks)} checks found differences: {named}."


def count_failed(checks: Sequence[Line]) -> int:
    """How many comparisons found differences."""
    return sum(not check["ok"] for check in checks)


def embed_png(picture: bytes) -> str:
    """A picture as a link that carries it."""
    return "data:image/png;base64," + b64encode(picture).decode("ascii")


def show(value: Any) -> str:
    """A value as people read it in a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(show(item) for item in value)
    return str(value)


def escape(text: object) -> str:
    """Text from a frame as text: nothing in it is markdown or HTML."""
    plain = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|!~])", r"\\\1", plain)


def _head(title: str, steps: Sequence[Line]) -> str:
    dry = any(step.get("dry_run") for step in steps)
    return f"# {title}" + (" (dry run: nothing was changed)" if dry else "")


def _add_up(steps: Sequence[Line]) -> Counter[str]:
    """Sums over tables, by step and what is counted."""
    total = Counter[str]()
    for step in steps:
        for key in _COUNTED.get(step["step"], ()):
            total[f"{step['step']} {key}"] += step[key]
    return total


def _report_row(report: Line) -> dict[str, Any]:
    nearest = report.get("nearest") or []
    detections = report.get("detections") or []
    place = f"x {detections[0]['x']:.0f}, y {detections[0]['y']:.0f}" if detections else ""
    return {
        "frame": _cell(report["name"]),
        "status": report["status"],
        "p-value": show(report.get("p_value")),
        "sigma": show(report.get("sigma")),
        "strongest place": place,
        "nearest reference": _cell(nearest[0]["name"]) if nearest else "",
        "distance": show(report.get("distance")),
        "reason": _cell(report.get("reason") or ""),
    }


def _cell(text: object) -> str:
    """Text from a frame in a table: the UI makes links of what is written as links."""
    return " ".join(str(text).split()).replace("](", "] (")


def _tell_frame(report: Line) -> str:
    command = f"oddframe explain {_shell_word(report)} --picture odd.png"
    return f"- **{escape(report['name'])}**: {escape(report['reason'])}  \n  `{command}`"


def _tell_check(check: Line) -> str:
    examples = ", ".join(_code(text) for text in check["examples"][:_MOST_TOLD])
    mend = f"The repair is: {check['repair']}." if check["repair"] else "No repair is known: a person must look."
    return f"- **{escape(check['check'])}**: {check['differences']} differences ({examples}). {mend}"


def _code(text: object) -> str:
    return "`" + " ".join(str(text).split()).replace("`", "'") + "`"


def _shell_word(line: Line) -> str:
    """The frame in a command: its name where that is one harmless word, else the beginning of its id."""
    name = str(line["name"])
    return name if shlex.quote(name) == name and not name.startswith("-") else str(line["frame_id"])[:16]


def _left_out(lines: Sequence[Line], most: int) -> str:
    return f"{len(lines) - most} more: `oddframe verdicts` lists them"
