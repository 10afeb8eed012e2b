"""A Stroop recipe on the terminal: what was found, and which blocks can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from labtui import output

if TYPE_CHECKING:
    from labtui_sessions.stroop_page import Study
    from labtui_sessions.tables import Table


def studies_in(tables: Mapping[str, Table]) -> list[Study]:
    """The Stroop recipes whose tables are among these."""
    from labtui_sessions import stroop_page

    return stroop_page.studies(tables)


def show(study: Study) -> None:
    """The sentences of a recipe, then its tables."""
    from labtui_sessions import stroop_page

    print(f"Stroop steering {output.clean(study.name)}")
    for sentence in stroop_page.sentences(study):
        print(f"- {output.clean(sentence)}")
    for rows in (list(stroop_page.site_rows(study)), list(stroop_page.judged_rows(study))):
        if rows:
            print()
            output.table(rows, list(rows[0]))
