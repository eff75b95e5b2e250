"""Every view and query of `sql/` over a small known world, on every engine, now and as of then.

The answers are written by hand.
"""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.store.sql_rows import SqlResult, row_to_json
from tests.contract.sql_world import CATALOG, ENGINES, Asked, open_engine, open_then

NOW, THEN = "", " as of then"


@pytest.fixture(scope="module", params=[engine + moment for engine in ENGINES for moment in (NOW, THEN)])
def engine(request: pytest.FixtureRequest) -> Asked:
    name = request.param.removesuffix(THEN)
    return Asked(open_engine(name)) if name == request.param else open_then(name)


def answer(result: SqlResult) -> list[list[object]]:
    # The last digit of a sine differs from one C library to the next.
    return [
        [round(value, 12) if isinstance(value, float) else value for value in row_to_json(result.columns, row).values()]
        for row in result.rows
    ]


def ask(engine: Asked, text: str, **parameters: Any) -> list[list[object]]:
    return answer(engine.query(text, parameters))


def run(engine: Asked, name: str, **given: object) -> list[list[object]]:
    return answer(engine.query(*CATALOG.bind(name, given)))


VIEWS: dict[str, tuple[str, list[list[object]]]] = {
    "latest_verdicts": (
        (
            "SELECT verdict_id, frame_id, status, cardinality(neighbours), element_at(models, 'pixels'), obs_time "
            "FROM latest_verdicts ORDER BY verdict_id"
        ),
        [
            ["v2", "f3", "normal", 1, "3", "2024-01-10T22:00:00.123Z"],
            ["v3", "f4", "anomaly", 2, None, "2024-01-11T20:00:00.000Z"],
            ["v4", "f4", "anomaly", 1, None, "2024-01-11T20:00:00.000Z"],
            ["v5", "f5", "no_reference", 0, None, "2024-01-10T23:00:00.000Z"],
            ["v6", "f6", "no_reference", 0, None, "2024-01-11T22:00:00.000Z"],
            ["v7", "f7", "not_searched", 0, None, "2024-01-11T23:00:00.000Z"],
        ],
    ),
    "anomalies": (
        (
            "SELECT name, embedding, p_value, nearest_frame_id, nearest_name, object, background, tier "
            "FROM anomalies ORDER BY embedding"
        ),
        [
            ["a4", "pixels", 0.001, "f2", "a2", "M1", 130.0, "high"],
            ["a4", "residual", 0.0005, "f1", "a1", "M1", 130.0, "high"],
        ],
    ),
    "current_references": (
        "SELECT * FROM current_references ORDER BY frame_id",
        [
            ["main", "f1", "a1", "residual@1", "2024-01-10T21:00:00.000Z", "ann", "add it"],
            ["main", "f2", "a2", "pixels@1", "2024-01-11T13:00:00.000Z", "bob", "add it"],
        ],
    ),
    "reference_health": (
        (
            "SELECT frame_id, embedding, fwhm_px, valid_fraction, times_nearest, times_nearest_anomaly, "
            "last_nearest_at "
            "FROM reference_health ORDER BY frame_id"
        ),
        [
            ["f1", "residual@1", 2.0, 1.0, 1, 1, "2024-01-12T02:00:00.000Z"],
            ["f2", "pixels@1", 2.25, 0.5, 2, 1, "2024-01-12T02:00:00.000Z"],
        ],
    ),
    "nights": (
        "SELECT * FROM nights ORDER BY night, instrument",
        [
            ["2024-01-10", "camA", 3, 0, 0, 0, 2, 0, 110.0, 2.25],
            ["2024-01-10", "camB", 1, 0, 1, 0, 0, 0, 50.0, None],
            ["2024-01-11", "camA", 1, 1, 0, 0, 0, 0, 130.0, 3.0],
            ["2024-01-11", "camB", 2, 0, 1, 1, 0, 0, 70.0, 5.0],
            ["2024-01-11", None, 0, 0, 0, 0, 0, 2, None, None],
            ["2024-01-12", None, 0, 0, 0, 0, 0, 1, None, None],
            [None, "camA", 1, 0, 0, 0, 1, 0, None, None],
        ],
    ),
    "quarantine_reasons": (
        "SELECT code, frames, still_quarantined, redriven, first_at, latest_name FROM quarantine_reasons ORDER BY code",
        [
            ["time_limit", 1, 0, 1, "2024-01-11T23:00:00.000Z", "f7.fits"],
            ["truncated", 2, 1, 1, "2024-01-11T05:00:00.000Z", "bad2.fits"],
        ],
    ),
    "deliveries_by_outcome": (
        (
            "SELECT day, purpose, outcome, deliveries, frames, bytes, last_at FROM deliveries_by_outcome "
            "ORDER BY day, purpose, outcome"
        ),
        [
            ["2024-01-10", "ingest", "duplicate", 1, 1, 100, "2024-01-10T23:30:00.000Z"],
            ["2024-01-10", "ingest", "new", 1, 1, 200, "2024-01-10T23:00:00.000Z"],
            ["2024-01-10", "reference", "new", 2, 2, 200, "2024-01-10T22:00:00.000Z"],
            ["2024-01-11", "ingest", "duplicate", 2, 1, 200, "2024-01-11T00:01:05.999Z"],
            ["2024-01-11", "ingest", "new", 3, 3, 300, "2024-01-11T23:00:00.000Z"],
            ["2024-01-11", "ingest", "quarantined", 2, 2, 100, "2024-01-11T23:00:00.000Z"],
            ["2024-01-12", "ingest", "new", 2, 2, 200, "2024-01-12T01:00:00.000Z"],
            ["2024-01-12", "ingest", "quarantined", 1, 1, 100, "2024-01-12T05:00:00.000Z"],
        ],
    ),
}

QUERIES: dict[str, list[tuple[dict[str, object], list[list[object]]]]] = {
    "flagged_per_night": [
        (
            {"first_night": "2024-01-11", "last_night": "2024-01-11"},
            [
                ["2024-01-11", "camA", 1, 1, 1.0],
                ["2024-01-11", "camB", 2, 0, 0.0],
                ["2024-01-11", None, 0, 0, None],
            ],
        )
    ],
    "most_odd_frames": [
        (
            {"top": 1},
            [[1, "f4", "a4", "residual", 0.0005, 9.0, 1.25, "a1", "2024-01-11", "camA", "r", "M1"]],
        ),
        (
            {"embedding": "pixels"},
            [[1, "f4", "a4", "pixels", 0.001, 7.5, 1.0, "a2", "2024-01-11", "camA", "r", "M1"]],
        ),
    ],
    "frames_without_verdict": [({}, [["f8", "a8", None, "camA", None, "2024-01-12T01:00:00.000Z"]])],
    "fields_with_most_flags": [({}, [[7, "camA", "r", 2, 1, 0.5]]), ({"top": 0}, [])],
    "seeing_trend": [
        (
            {"instrument": "camB"},
            [["camB", "2024-01-10", 0, None, None, 50.0, 5.0], ["camB", "2024-01-11", 2, 5.0, 5.0, 70.0, 7.0]],
        ),
        (
            {"instrument": "camA"},
            [["camA", "2024-01-10", 3, 2.25, 2.5, 110.0, 11.0], ["camA", "2024-01-11", 1, 3.0, 3.0, 130.0, 13.0]],
        ),
    ],
    "exposure_per_filter": [
        (
            {},
            [
                ["camA", "r", 4, 150.0, 30.0, 60.0],
                ["camA", None, 1, None, None, None],
                ["camB", "g", 3, 245.0, 5.0, 120.0],
            ],
        )
    ],
    "nearest_reference_usage": [
        (
            {},
            [
                ["main", "residual@1", "a1", "f1", 1, 1, "2024-01-12T02:00:00.000Z", "2024-01-10", 2.0],
                ["main", "pixels@1", "a2", "f2", 2, 1, "2024-01-12T02:00:00.000Z", "2024-01-10", 2.25],
            ],
        )
    ],
    "score_distribution": [
        (
            {},
            [
                ["pixels", 7, "camA", "r", 2, 0.25, 1.0, 1.0, 1.0, 0.5, 1],
                ["residual", 7, "camA", "r", 1, 1.25, 1.25, 1.25, 1.25, 0.625, 1],
            ],
        )
    ],
    "duplicate_deliveries": [
        (
            {},
            [
                ["f5", "f5.fits", 3, 2, "2024-01-11T00:00:00.000Z", "2024-01-11T00:01:05.999Z", 65],
                ["f1", "f1.fits", 2, 1, "2024-01-10T21:00:00.000Z", "2024-01-10T23:30:00.000Z", 9000],
                ["f7", "f7.fits", 2, 1, "2024-01-11T23:00:00.000Z", "2024-01-12T00:00:00.000Z", 3600],
            ],
        )
    ],
    "fields_needing_references": [({}, [[9, "camB", "g", "pixels", 2, 2, "2024-01-10", "2024-01-11"]])],
    "header_keyword": [
        (
            {"keyword": "OBSERVER"},
            [
                ["ann", 4, "2024-01-10", "2024-01-11"],
                [None, 3, "2024-01-10", "2024-01-11"],
                ["bob", 1, "2024-01-10", "2024-01-10"],
            ],
        ),
        ({"keyword": "x'] OR 1=1 --"}, [[None, 8, "2024-01-10", "2024-01-11"]]),
    ],
    "p_value_calibration": [
        (
            {"embedding": "pixels"},
            [
                [x, 2, judged, judged / 2, 1, normal, float(normal)]
                for x, judged, normal in (
                    (0.001, 1, 0), (0.01, 1, 0), (0.05, 1, 0), (0.1, 1, 0), (0.2, 1, 0), (0.3, 1, 0), (0.4, 2, 1),
                    (0.5, 2, 1), (0.6, 2, 1), (0.7, 2, 1), (0.8, 2, 1), (0.9, 2, 1), (1.0, 2, 1),
                )
            ],
        )
    ],
    "detections_by_kind": [({}, [["point", 2, 1, 7.5, 7.5, "a4"], ["trail", 1, 1, 9.0, 9.0, "a4"]])],
    "frames_in_box": [
        (
            {"ra_min": 359, "ra_max": 1, "dec_min": -10, "dec_max": 0},
            [
                ["f5", "b5", "2024-01-10T23:00:00.000Z", "camB", "g", 120.0, 0.25, -5.0],
                ["f6", "b6", "2024-01-11T22:00:00.000Z", "camB", "g", 120.0, 359.75, -5.0],
            ],
        ),
        (
            {"ra_min": 0, "ra_max": 1, "dec_min": -10, "dec_max": 0},
            [["f5", "b5", "2024-01-10T23:00:00.000Z", "camB", "g", 120.0, 0.25, -5.0]],
        ),
    ],
    "frames_in_cone": [
        (
            {"ra": 0, "dec": 90, "radius_deg": 0.001},
            [["f7", "b7", "2024-01-11T23:00:00.000Z", "camB", "g", 5.0, 0.0]],
        ),
        (
            {"ra": 10, "dec": 20.5, "radius_deg": 0.25},
            [["f3", "a3", "2024-01-10T22:00:00.123Z", "camA", "r", 60.0, 0.0]],
        ),
    ],
    "redriven_quarantine": [
        (
            {},
            [
                ["bad1", "bad1.fits", "truncated", "2024-01-11T05:00:00.000Z", "2024-01-11T07:30:00.000Z", 150,
                 "not readable"],
                ["f7", "f7.fits", "time_limit", "2024-01-11T23:00:00.000Z", "2024-01-11T23:59:59.000Z", 59,
                 "not_searched"],
            ],
        )
    ],
    "verdict_history": [
        (
            {"frame_id": "f3"},
            [
                ["2024-01-11T01:00:00.500Z", "v1", "pixels", "1", "anomaly", 0.75, 0.002, 6.0, 0.5, "main", None, 2,
                 None, "1", "a1"],
                ["2024-01-12T01:00:00.000Z", "v2", "pixels", "1", "normal", 0.25, 0.375, 1.0, 0.5, "main", None, 1,
                 {"pixels": "3"}, "2", "a2"],
            ],
        )
    ],
    "verdict_neighbours": [
        (
            {"frame_id": "f4"},
            [
                ["pixels", 1, "f2", "a2", 1.0, 1.0],
                ["pixels", 2, "f1", "a1", 1.5, 1.5],
                ["residual", 1, "f1", "a1", 1.25, 1.0],
            ],
        )
    ],
    "changed_verdicts": [
        ({}, [["f3", "a3", "pixels", "2024-01-12T01:00:00.000Z", "anomaly", "normal", 0.002, 0.375]])
    ],
    "judging_delay": [
        ({}, [["2024-01-10", 1, 7200, 7200, 7200], ["2024-01-11", 4, 18000, 18000, 18000]]),
    ],
    "frames_of_a_field": [
        (
            {"zone": 8},
            [
                ["f2", "a2", "2024-01-10T21:00:00.000Z", "camA", "r", 30.0, None, None, None],
                ["f6", "b6", "2024-01-11T22:00:00.000Z", "camB", "g", 120.0, "pixels", "no_reference", None],
            ],
        )
    ],
    "open_quarantine": [
        ({}, [["truncated", 1, 1, "2024-01-12T05:00:00.000Z", "bad2.fits", "truncated of bad2"]]),
    ],
    "delivery_days": [({"first_day": "2024-01-11"}, [["2024-01-11", 7, 600, 2, 2], ["2024-01-12", 3, 300, 0, 1]])],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CATALOG.views))
def test_a_view_gives_the_known_answer(engine: Asked, name: str) -> None:
    text, expected = VIEWS[name]
    assert ask(engine, text) == expected


@pytest.mark.parametrize("name", sorted(CATALOG.queries))
def test_a_query_gives_the_known_answer(engine: Asked, name: str) -> None:
    for given, expected in QUERIES[name]:
        assert run(engine, name, **given) == expected


@pytest.mark.parametrize("name", sorted(CATALOG.views))
def test_a_view_can_be_read_whole_and_counted(engine: Asked, name: str) -> None:
    whole = engine.query(f"SELECT * FROM {name}")  # noqa: S608  # names of our own files
    assert ask(engine, f"SELECT count(*) FROM {name}") == [[len(whole.rows)]]  # noqa: S608
    assert all(column.name == column.name.lower() for column in whole.columns)


def test_columns_have_presto_types(engine: Asked) -> None:
    result = engine.query(
        "SELECT verdict_id, night, judged_at, distance, zone, neighbours, models FROM latest_verdicts"
    )
    assert [column.type for column in result.columns] == [
        "varchar", "date", "timestamp", "double", "bigint",
        "array(row(frame_id varchar, name varchar, distance double))", "map(varchar, varchar)",
    ]  # fmt: skip


def test_a_limit_cuts_the_rows_and_says_so(engine: Asked) -> None:
    cut = engine.query("SELECT frame_id FROM frames ORDER BY frame_id", limit=2)
    assert (list(cut.rows), cut.truncated) == ([("f1",), ("f2",)], True)
    whole = engine.query("SELECT frame_id FROM frames", limit=8)
    assert (len(whole.rows), whole.truncated) == (8, False)


def test_tables_and_columns_can_be_listed(engine: Asked) -> None:
    names = [row[0] for row in engine.query("SHOW TABLES").rows]
    assert {"frames", "verdicts", "nights", "anomalies"} <= set(names)
    described = {row[0]: row[1] for row in engine.query("DESCRIBE oddframe.verdicts").rows}
    assert described["neighbours"] == "array(row(frame_id varchar, name varchar, distance double))"
    assert [row[:2] for row in engine.query("show columns from deliveries_by_outcome;").rows][:2] == [
        ("day", "date"),
        ("purpose", "varchar"),
    ]


@pytest.mark.parametrize("name", [*sorted(CATALOG.views), *sorted(CATALOG.queries)])
def test_the_engines_give_equal_columns_and_rows(name: str) -> None:
    both = [Asked(open_engine(kind)) for kind in ENGINES]
    asked = (
        [(f"SELECT * FROM {name}", {})]  # noqa: S608  # names of our own files
        if name in CATALOG.views
        else [CATALOG.bind(name, given) for given, _ in QUERIES[name]]
    )
    for text, parameters in asked:
        one, other = (engine.query(text, parameters) for engine in both)
        assert one.columns == other.columns
        rows, others = answer(one), answer(other)
        # A view has no order.
        assert (sorted(rows, key=repr) == sorted(others, key=repr)) if name in CATALOG.views else rows == others


@pytest.mark.parametrize("kind", ENGINES)
def test_the_tables_of_then_have_grown_since(kind: str) -> None:
    then = open_then(kind)
    for asked, rows in ((then, 8), (Asked(then.engine), 16)):
        assert ask(asked, "SELECT count(*) FROM frames") == [[rows]]
