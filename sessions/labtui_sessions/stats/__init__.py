"""Statistics of a sweep: what may be called an effect, and what may not.

``Sheet`` codes a table's rows, ``summarise`` gives every cell of one metric its effect, interval, null, p and
verdict, ``differences`` subtracts a baseline sweep, ``zones`` finds dead zone, effective band and collapse along
the strengths.
"""

from .differences import Difference, differences
from .flips import Flips, sign_flips
from .sheet import Point, Sheet, is_sweep
from .summary import Cell, Summary, permute, summarise
from .verdicts import VERDICTS, Verdict
from .zones import Zone, zones

__all__ = [
    "VERDICTS",
    "Cell",
    "Difference",
    "Flips",
    "Point",
    "Sheet",
    "Summary",
    "Verdict",
    "Zone",
    "differences",
    "is_sweep",
    "permute",
    "sign_flips",
    "summarise",
    "zones",
]
