"""What may be asked: one statement in Presto dialect that only reads, parsed into a tree."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.dialects.presto import Presto
from sqlglot.errors import SqlglotError

from pipeline.errors import UsageError
from pipeline.store.schema import NAMESPACE


class OddframePresto(Presto):
    """Presto with subscripts that stay as they are written.

    sqlglot moves those to another base that it takes for integers, and back: it takes more for integers, and fewer
    for maps, before it knows the columns than afterwards.
    """

    INDEX_OFFSET = 0


DIALECT = OddframePresto
TOO_DEEP = "the statement is nested too deeply: write inner parts as WITH queries"
BAD_ARGUMENTS = "a function of the statement has arguments that it cannot have"
# sqlglot raises these itself on calls with arguments that no dialect knows.
PARSER_FAULTS = (AttributeError, IndexError, KeyError, TypeError, ValueError)
_MAX_LENGTH = 100_000
_MAX_DEPTH = 60
_MAX_WORK = 2**14
_READS = "SELECT, WITH, VALUES, SHOW TABLES or DESCRIBE"
_SHOW = re.compile(r"\s*show\s+tables\s*;?\s*", re.IGNORECASE)
_DESCRIBE = re.compile(
    r"\s*(?:describe|desc|show\s+columns\s+(?:from|in))\s+(?:\w+\.){0,2}\"?(\w+)\"?\s*;?\s*", re.IGNORECASE
)
_WORD = re.compile(r"[A-Za-z_]+")
_WRITES = (exp.DML, exp.DDL, exp.Into, exp.Lock, exp.Command, exp.Pragma, exp.Set, exp.Copy)
_OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
_SOURCES = (exp.Table, exp.Subquery, exp.Unnest, exp.Values, exp.Lateral)

# sqlglot warns about what it parses as a command; such a statement is refused below with a better message.
logging.getLogger("sqlglot").addHandler(logging.NullHandler())
logging.getLogger("sqlglot").propagate = False


@dataclass(frozen=True, slots=True)
class ShowTables:
    """`SHOW TABLES`."""


@dataclass(frozen=True, slots=True)
class DescribeTable:
    """`DESCRIBE name` or `SHOW COLUMNS FROM name`."""

    name: str


def parse_statement(text: str) -> exp.Query | ShowTables | DescribeTable:
    """Parse one reading statement.

    Args:
        text: Presto SQL with `:name` parameters.

    Returns:
        The tree of a query, or what SHOW TABLES and DESCRIBE ask for.

    Raises:
        UsageError: the text is no statement, more than one, or one that does more than read.
    """
    if _SHOW.fullmatch(text):
        return ShowTables()
    if found := _DESCRIBE.fullmatch(text):
        return DescribeTable(found.group(1).lower())
    return parse_query(text)


def parse_query(text: str) -> exp.Query:
    """Parse one query; as `parse_statement`, without SHOW and DESCRIBE."""
    _check_size(text)
    try:
        _check_nesting(text)
        trees = [tree for tree in sqlglot.parse(text, read=DIALECT) if tree is not None]
    except SqlglotError as error:
        raise UsageError(_say_where(error)) from None
    except RecursionError:
        raise UsageError(TOO_DEEP) from None
    except PARSER_FAULTS as error:
        raise UsageError(BAD_ARGUMENTS) from error
    if not trees:
        raise UsageError(f"the statement is empty: write one {_READS}")
    if len(trees) > 1:
        raise UsageError(f"one statement at a time: this text holds {len(trees)}")
    tree = trees[0]
    if not isinstance(tree, (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)):
        raise UsageError(f"{_first_word(text)} is refused: statements here only read; write {_READS}")
    _check_reads_only(tree)
    _check_sources(tree)
    _check_parameters(tree)
    _check_counts(tree)
    return _select_values(tree) if isinstance(tree, exp.Values) else tree


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of a message that names what was probably meant, empty when nothing is near."""
    near = difflib.get_close_matches(name.lower(), sorted(set(known)), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _select_values(values: exp.Values) -> exp.Select:
    width = max((len(row.expressions) for row in values.expressions if isinstance(row, exp.Tuple)), default=1)
    names = [exp.to_identifier(f"_col{i}") for i in range(width)]
    values.set("alias", exp.TableAlias(this=exp.to_identifier("_values"), columns=names))
    return exp.select("*").from_(values)


def _check_size(text: str) -> None:
    if len(text) > _MAX_LENGTH:
        raise UsageError(f"the statement has {len(text)} characters: at most {_MAX_LENGTH} are read")
    if "\x00" in text:
        raise UsageError("the statement holds a NUL character: remove it")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError("the statement is not UTF-8: save or send it as such")


def _check_nesting(text: str) -> None:
    """Turn away nestings that the parser needs exponential time for: every `array[` or `row(` doubles its work."""
    opened: list[bool] = []
    work, previous = 0, None
    for token in sqlglot.tokenize(text, read=DIALECT):
        if token.token_type in _OPENING:
            opened.append(previous in sqlglot.Parser.TYPE_TOKENS)
            work += 2 ** sum(opened) if opened[-1] else 0
        elif token.token_type in _CLOSING and opened:
            opened.pop()
        if len(opened) > _MAX_DEPTH or work > _MAX_WORK:
            raise UsageError(TOO_DEEP)
        previous = token.token_type


def _check_reads_only(tree: exp.Expr) -> None:
    for node in tree.walk():
        if isinstance(node, _WRITES):
            raise UsageError(f"{node.key.upper()} is refused: statements here only read; write {_READS}")
        if isinstance(node, exp.With) and node.args.get("recursive"):
            raise UsageError("WITH RECURSIVE is refused: Presto has no recursive queries")
        if isinstance(node, exp.Star) and any(node.args.values()):
            raise UsageError("a star that leaves out, renames or replaces columns is refused: name the columns")
        if isinstance(node, exp.TableSample):
            raise UsageError("TABLESAMPLE is refused: no sample is drawn twice; write ORDER BY and LIMIT")
        if isinstance(node, (exp.Version, exp.HistoricalData)):
            raise UsageError("FOR VERSION or TIMESTAMP AS OF is refused in the text: ask with the as-of option")


def _check_sources(tree: exp.Expr) -> None:
    for node in tree.find_all(exp.From, exp.Join, exp.Lateral):
        source = node.this
        while isinstance(source, (exp.Alias, exp.Paren, exp.Lateral)):
            source = source.this
        if not isinstance(source, _SOURCES):
            raise UsageError(f"reading from {_name_of(source)} is refused: read from tables, views and subqueries")
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise UsageError(f"reading from {_name_of(table.this)} is refused: read from tables and views")
        if table.db and table.db.lower() != NAMESPACE:
            raise UsageError(f"schema {table.db[:60]} is not known: the tables are in {NAMESPACE}")


def _check_counts(tree: exp.Expr) -> None:
    for node in tree.find_all(exp.Limit, exp.Offset, exp.Fetch):
        count = node.args.get("count") if isinstance(node, exp.Fetch) else node.expression
        if not (isinstance(count, exp.Literal) and count.is_int):
            raise UsageError("LIMIT, OFFSET and FETCH take a written number: rank with row_number() for another one")


def _check_parameters(tree: exp.Expr) -> None:
    for node in tree.find_all(exp.Parameter, exp.SessionParameter, exp.Placeholder):
        if not isinstance(node, exp.Placeholder) or not isinstance(node.this, str) or not node.this:
            raise UsageError(f"{node.sql(DIALECT)} is not a parameter here: write :name and give it a value")


def _name_of(node: object) -> str:
    if isinstance(node, exp.Anonymous):
        return f"{node.name.lower()}()"
    return f"{node.sql_name().lower()}()" if isinstance(node, exp.Func) else "that"


def _first_word(text: str) -> str:
    uncommented = re.sub(r"--[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    found = _WORD.search(uncommented)
    return found.group().upper()[:30] if found else "this"


def _say_where(error: SqlglotError) -> str:
    details = getattr(error, "errors", None) or [{}]
    line, column, near = details[0].get("line"), details[0].get("col"), details[0].get("highlight")
    if line is None:
        return "the statement cannot be read: check its quotes, comments and brackets"
    return f"the statement cannot be read at line {line}, column {column}, near {str(near)[:40]!r}"
