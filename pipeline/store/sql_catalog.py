"""The files of `sql/`: table definitions, views and queries, each with a title and typed parameters.

Presto keeps views on Hive Metastore only, so a view here is a named query that is put into the statement as a WITH
part before any engine sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlglot
from sqlglot import exp

from pipeline.errors import StoreError, UsageError
from pipeline.store.schema import TABLES
from pipeline.store.sql_parameters import COERCIONS, SqlParameter, Value, check_values, coerce
from pipeline.store.sql_statement import DIALECT, parse_query, suggest

_PARAMETER = re.compile(r"--\s*parameter:\s*(\w+)\s+(\w+)(?:\s+(\S.*?))?\s*")
_HOMES = (
    Path(__file__).resolve().parents[1] / "sql",  # an installed package carries the directory inside it
    Path(__file__).resolve().parents[2] / "sql",  # a checkout has it beside the package
)


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One file of `sql/`.

    Attributes:
        name: the file's name without its ending.
        title: one line for people.
        parameters: what the text's `:name` parts are.
        text: the statement with its comments.
    """

    name: str
    title: str
    parameters: tuple[SqlParameter, ...]
    text: str


@dataclass(frozen=True, slots=True)
class SqlCatalog:
    """Tables, views and queries by name.

    Attributes:
        schema: CREATE TABLE statements, to read and to check; the tables themselves are made through Iceberg.
        views: named queries that statements may read from.
        queries: questions an analyst asks, run by name.
    """

    schema: Mapping[str, SqlFile]
    views: Mapping[str, SqlFile]
    queries: Mapping[str, SqlFile]

    @classmethod
    def load(cls, directory: Path) -> SqlCatalog:
        """Read a directory with `schema/`, `views/` and `queries/`.

        Raises:
            StoreError: a file has no title, an undeclared type or a parameter its text does not use.
        """
        return cls(*(_load_folder(directory / folder) for folder in ("schema", "views", "queries")))

    def query(self, name: str) -> SqlFile:
        """The query of that name.

        Raises:
            UsageError: there is none; a near name is suggested.
        """
        if name not in self.queries:
            raise UsageError(f"there is no query {name[:60]}{suggest(name, self.queries)}")
        return self.queries[name]

    def bind(self, name: str, given: Mapping[str, object]) -> tuple[str, dict[str, Value]]:
        """The text of a query and the typed value of each of its parameters.

        Raises:
            UsageError: the query is unknown, or a value is missing, unknown or not of its type.
        """
        file = self.query(name)
        return file.text, check_values(file.parameters, given)

    def expand(self, statement: exp.Query, tables: Iterable[str] = ()) -> exp.Query:
        """A copy of a statement with the views it uses as WITH parts, each after those it reads from.

        Args:
            statement: a query in Presto dialect.
            tables: names of the tables there are; those of the schema unless given.

        Raises:
            UsageError: a table is unknown, or a WITH part has the name of a table or view.
        """
        known = frozenset(tables) or frozenset(table.name for table in TABLES)
        tree = statement.copy()
        parts = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
        for name in sorted(parts & (known | self.views.keys())):
            raise UsageError(f"WITH {name} has the name of a table or view: choose another name")
        order: dict[str, exp.Query] = {}
        for name in _name_tables(tree, known | self.views.keys() | parts):
            self._collect(name, known, order)
        return _prepend(tree, order) if order else tree

    def _collect(self, name: str, known: frozenset[str], order: dict[str, exp.Query]) -> None:
        if name not in self.views or name in order:
            return
        tree = parse_query(self.views[name].text)
        for inner in _name_tables(tree, known | self.views.keys()):
            if inner == name:
                raise StoreError(f"view {name} reads from itself")
            self._collect(inner, known, order)
        order[name] = tree


def find_sql_directory() -> Path:
    """The `sql/` directory of this installation.

    Raises:
        StoreError: the installation has none.
    """
    for home in _HOMES:
        if (home / "views").is_dir():
            return home
    raise StoreError("this installation has no sql directory: install oddframe again")


def read_comments(file: SqlFile) -> dict[str, str]:
    """Column comments of a CREATE TABLE file, by column."""
    tree = sqlglot.parse_one(file.text, read=DIALECT)
    comments: dict[str, str] = {}
    for column in tree.find_all(exp.ColumnDef):
        for constraint in column.find_all(exp.CommentColumnConstraint):
            comments[column.name] = constraint.name
    return comments


def _load_folder(folder: Path) -> dict[str, SqlFile]:
    return {path.stem: _load_file(path) for path in sorted(folder.glob("*.sql"))}


def _load_file(path: Path) -> SqlFile:
    text = path.read_text(encoding="utf-8")
    header = [line for line in text.splitlines() if line.startswith("--")]
    if not header or not text.startswith("--") or _PARAMETER.fullmatch(header[0]):
        raise StoreError(f"{path.name}: the first line is not a comment with a title")
    parameters = tuple(_read_parameter(path.name, line) for line in header[1:] if "parameter:" in line)
    used = set(re.findall(r"(?<![:\w]):(\w+)", re.sub(r"--[^\n]*", "", text)))
    if used != {parameter.name for parameter in parameters}:
        raise StoreError(f"{path.name}: declared parameters are not those its text uses ({', '.join(sorted(used))})")
    return SqlFile(path.stem, header[0].removeprefix("--").strip(), parameters, text)


def _read_parameter(file: str, line: str) -> SqlParameter:
    found = _PARAMETER.fullmatch(line)
    if not found or found.group(2) not in COERCIONS:
        raise StoreError(f"{file}: {line!r} is not `-- parameter: name type default`")
    name, type_name, default = found.groups()
    value = None if default in {None, "null"} else coerce(type_name, default)
    return SqlParameter(name, type_name, required=default is None, default=value)


def _name_tables(tree: exp.Expr, known: Iterable[str]) -> list[str]:
    """Put every table name into its plain form, lower case and without schema, and list them."""
    names = list(known)
    found: dict[str, None] = {}
    for table in tree.find_all(exp.Table):
        name = table.name.lower()
        if name not in names:
            raise UsageError(f"there is no table or view {name[:60]}{suggest(name, names)}")
        table.set("this", exp.to_identifier(name))
        table.set("db", None)
        table.set("catalog", None)
        found[name] = None
    return list(found)


def _prepend(tree: exp.Query, views: Mapping[str, exp.Query]) -> exp.Query:
    own, query = list(tree.ctes), tree
    for holder in {id(cte.parent): cte.parent for cte in own}.values():
        if holder is not None:
            holder.pop()
    for name, view in views.items():
        query = query.with_(name, view, copy=False)
    for cte in own:
        query = query.with_(cte.args["alias"], cte.this, copy=False)
    return query
