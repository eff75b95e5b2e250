"""Names of types as Presto writes them, from Iceberg's and from DuckDB's."""

from __future__ import annotations

from duckdb.sqltypes import DuckDBPyType
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    StringType,
    StructType,
    TimestampType,
)

from pipeline.errors import StoreError

_ICEBERG: dict[type[IcebergType], str] = {
    BooleanType: "boolean",
    DateType: "date",
    DoubleType: "double",
    IntegerType: "integer",
    LongType: "bigint",
    StringType: "varchar",
    TimestampType: "timestamp",
}
# DuckDB counts and sums wider than Presto; the values are bigints all the same.
_DUCKDB = {
    "hugeint": "bigint",
    "uhugeint": "bigint",
    "ubigint": "bigint",
    "uinteger": "bigint",
    "float": "real",
    "timestamp_ms": "timestamp",
    "timestamp_s": "timestamp",
    "timestamp_ns": "timestamp",
    "timestamp with time zone": "timestamp with time zone",
    "blob": "varbinary",
    "sqlnull": "unknown",
    "null": "unknown",
}


def name_type(kind: IcebergType) -> str:
    """Presto's name of an Iceberg type, such as `map(varchar, varchar)`.

    Raises:
        StoreError: no table of oddframe uses the type.
    """
    match kind:
        case ListType():
            return f"array({name_type(kind.element_type)})"
        case MapType():
            return f"map({name_type(kind.key_type)}, {name_type(kind.value_type)})"
        case StructType():
            return f"row({', '.join(f'{field.name} {name_type(field.field_type)}' for field in kind.fields)})"
    if type(kind) not in _ICEBERG:
        raise StoreError(f"type {kind} has no name in Presto that oddframe uses")
    return _ICEBERG[type(kind)]


def name_duckdb_type(kind: DuckDBPyType) -> str:
    """Presto's name of a DuckDB type."""
    match kind.id:
        case "list" | "array":
            return f"array({name_duckdb_type(_children(kind)[0][1])})"
        case "map":
            return f"map({', '.join(name_duckdb_type(part) for _, part in _children(kind))})"
        case "struct":
            return f"row({', '.join(f'{name} {name_duckdb_type(part)}' for name, part in _children(kind))})"
        case "decimal":
            return str(kind).lower().replace(" ", "")
        case name:
            return "json" if str(kind) == "JSON" else _DUCKDB.get(name, name)


def _children(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    return [(name, part) for name, part in kind.children if isinstance(part, DuckDBPyType)]
