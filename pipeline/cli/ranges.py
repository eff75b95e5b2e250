"""Numbers as options: what lies outside is wrong use, told with the option's name before anything is done."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

# A day of waiting is no cadence any more, and the clock takes no number of seconds.
_MOST_SECONDS = 86_400
_MOST_DAYS = 36_500
# The frames of one night are planned in memory.
_LEAST_SIDE, _MOST_SIDE = 32, 16_384

FromZero = Annotated[int, Parameter(validator=Number(gte=0, lte=sys.maxsize))]
FromOne = Annotated[int, Parameter(validator=Number(gte=1, lte=sys.maxsize))]
Seconds = Annotated[float, Parameter(validator=Number(gte=0, lte=_MOST_SECONDS))]
Days = Annotated[float, Parameter(validator=Number(gte=0, lte=_MOST_DAYS))]
Side = Annotated[int, Parameter(validator=Number(gte=_LEAST_SIDE, lte=_MOST_SIDE))]
Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]
Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65_535))]
