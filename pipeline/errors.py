"""One tree of errors. Whether a fault is worth a retry is decided where it is known: in the adapter."""

from __future__ import annotations


class OddframeError(Exception):
    """Base of everything oddframe raises on purpose; its text is one line a user can act on."""

    exit_code = 3


class UsageError(OddframeError):
    """The command, a setting or an argument cannot be used as given."""

    exit_code = 2


class UnreadableFrameError(OddframeError):
    """The bytes are not a frame that can be judged; the frame is quarantined, the batch goes on.

    Attributes:
        code: a stable word for counting (`not_fits`, `truncated`, `no_image`, `too_large`, `time_limit`, ...).
        reason: one sentence a person understands; see `escape_unprintable`.
    """

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = escape_unprintable(reason)
        super().__init__(f"{code}: {self.reason}")

    def __reduce__(self) -> tuple[type[UnreadableFrameError], tuple[str, str]]:
        """Pickle with both arguments, so the error crosses from a worker process whole."""
        return (type(self), (self.code, self.reason))


class StoreError(OddframeError):
    """A store answered wrongly or holds something it should not; a retry will not help."""


class TransientError(OddframeError):
    """A service or disk could not answer now; the same call may succeed later."""


class CommitConflictError(TransientError):
    """Another writer committed to the table first."""


class LockedError(OddframeError):
    """Another process holds the embedded stores of this home."""


def escape_unprintable(text: str) -> str:
    """A text that UTF-8 can hold and that does not steer a terminal: what may do either is escaped with a backslash."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
