"""What a person fills in to start a flow: the titles and texts of the Prefect UI's form, and the limits it checks."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

EmbeddingChoice = Literal["best", "residual", "pixels", "pixels-demo"]
Batch = Annotated[
    int, Field(ge=1, le=10_000, title="Batch size", description="Frames of one commit, and of one task of this run.")
]
Embedding = Annotated[
    EmbeddingChoice,
    Field(title="Embedding", description="`best` takes the best one that the references of a frame allow."),
]


# Runs start in a directory of their own: a relative path would mean another place than the one who typed it thought.
AbsolutePath = Annotated[str, Field(pattern="^/")]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SpoolFolder(_Form):
    """Whatever is new in a folder that frames are delivered into."""

    model_config = ConfigDict(title="Spool folder")

    spool: Annotated[
        AbsolutePath,
        Field(title="Folder", description="Absolute path. Names that begin with a dot are still being written."),
    ]

    @property
    def label(self) -> str:
        """How a run over it is named."""
        return f"{Path(self.spool).name}/"


class FileList(_Form):
    """Files named one by one, whether they are known already or not."""

    model_config = ConfigDict(title="List of files")

    paths: Annotated[
        list[AbsolutePath],
        Field(min_length=1, title="Paths", description="Absolute paths: files, folders (walked) or patterns."),
    ]

    @property
    def label(self) -> str:
        """How a run over it is named."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{Path(self.paths[0]).name}{more}"


class TopicMessages(_Form):
    """Whatever a Kafka topic holds that the lake does not."""

    model_config = ConfigDict(title="Kafka topic")

    topic: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._-]{1,240}$",
            title="Topic",
            description="Read from where the lake is to where the topic ends when the run starts.",
        ),
    ]

    @property
    def label(self) -> str:
        """How a run over it is named."""
        return f"topic {self.topic}"


Source = Annotated[SpoolFolder | FileList | TopicMessages, Field(title="Frames from")]


class IngestOptions(_Form):
    """How frames are judged, and what is done afterwards."""

    embedding: Embedding = "best"
    batch: Batch = 512
    again: Annotated[
        bool,
        Field(title="Judge again", description="Give known frames a new verdict, against the references of now."),
    ] = False
    verify: Annotated[
        bool,
        Field(title="Verify afterwards", description="Prove that all stores agree; the run fails where they do not."),
    ] = True
    picture: Annotated[
        bool,
        Field(title="Draw the oddest frame", description="Beside its nearest reference and their difference."),
    ] = True


class ReferenceOptions(_Form):
    """How frames become references."""

    embedding: Embedding = "best"
    batch: Batch = 512
    by: Annotated[str, Field(min_length=1, max_length=100, title="Who", description="Kept in the log of members.")] = (
        "a Prefect flow"
    )
    why: Annotated[str, Field(max_length=500, title="Why", description="The reason, kept in the log of members.")] = ""


class SensitivityOptions(_Form):
    """What is injected."""

    night: Annotated[date | None, Field(title="Which night", description="The newest one where none is named.")] = None
    trials: Annotated[
        int,
        Field(ge=1, le=1_000, title="Trials a rung", description="Of each kind at each brightness, in each field."),
    ] = 10


class PromoteOptions(_Form):
    """What it takes to become a reference by rule."""

    dry_run: Annotated[bool, Field(title="Dry run", description="Say what would join, and change nothing.")] = False
    days: Annotated[
        float | None,
        Field(ge=0, title="Cool-down, days", description="Observed at least this long ago; none: as the settings say."),
    ] = None
    most: Annotated[
        int | None,
        Field(
            ge=1,
            title="References of a cell",
            description="A cell with this many gets no more; none: as the settings say.",
        ),
    ] = None
    p: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            title="Least p-value",
            description="Every newest verdict has at least this; none: as the settings say.",
        ),
    ] = None


class ArchiveOptions(_Form):
    """What grows old and when."""

    dry_run: Annotated[bool, Field(title="Dry run", description="Say what would be moved, and change nothing.")] = False
    older_than_days: Annotated[
        float | None,
        Field(ge=0, title="Older than, days", description="Move originals older than this; none: as the settings say."),
    ] = None
    sample: Annotated[
        int,
        Field(ge=0, title="Checksums to compare", description="So many archived originals, other ones every day."),
    ] = 1000


class MaintainOptions(_Form):
    """How tables and vectors are tidied; what is small or old stands in the settings."""

    dry_run: Annotated[
        bool, Field(title="Dry run", description="Say what would be merged and removed, and change nothing.")
    ] = False


class VerifyOptions(_Form):
    """What is done about differences."""

    repair: Annotated[
        bool,
        Field(title="Repair", description="Mend what can be mended, then verify again. The run fails on what is left."),
    ] = False


def embedding_name(choice: EmbeddingChoice) -> str | None:
    """The name a request carries; None leaves the choice to the references."""
    return None if choice == "best" else choice
