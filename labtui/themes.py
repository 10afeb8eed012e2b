"""Colours: one accent on a calm ground, and a set that needs only a terminal's own 16."""

from __future__ import annotations

from collections.abc import Mapping

from textual.color import Color
from textual.theme import Theme

DARK = Theme(
    name="lab-dark",
    primary="#58c4b8",
    secondary="#d9a860",
    accent="#58c4b8",
    warning="#e0b060",
    error="#ea8080",
    success="#8cc28a",
    foreground="#d6dde6",
    background="#10151b",
    surface="#151b22",
    panel="#1c242d",
    dark=True,
    variables={
        "lab-dim": "#8793a1",
        "lab-line": "#2e3946",
        "lab-second": "#d9a860",
        "block-cursor-background": "#24434a",
        "block-cursor-foreground": "#eef4f8",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#1f2a33",
        "block-cursor-blurred-foreground": "#d6dde6",
        "input-selection-background": "#58c4b8 30%",
    },
)

LIGHT = Theme(
    name="lab-light",
    primary="#0b7a70",
    secondary="#8f5a00",
    accent="#0b7a70",
    warning="#8f5a00",
    error="#b3261e",
    success="#2c6e2f",
    foreground="#1d2630",
    background="#f6f5f1",
    surface="#efede7",
    panel="#e5e2da",
    dark=False,
    variables={
        "lab-dim": "#5f6b78",
        "lab-line": "#c6c2b6",
        "lab-second": "#8f5a00",
        "block-cursor-background": "#cfe4e0",
        "block-cursor-foreground": "#10181f",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#e2e4dd",
        "block-cursor-blurred-foreground": "#1d2630",
    },
)

SIXTEEN = Theme(
    name="lab-16",
    ansi=True,
    primary="ansi_cyan",
    secondary="ansi_yellow",
    accent="ansi_cyan",
    warning="ansi_yellow",
    error="ansi_red",
    success="ansi_green",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    dark=True,
    variables={
        "lab-dim": "ansi_default",
        "lab-line": "ansi_bright_black",
        "lab-second": "ansi_yellow",
        "ansi-background": "ansi_black",
        "ansi-foreground": "ansi_white",
        "border-blurred": "ansi_bright_black",
        "block-cursor-background": "ansi_default",
        "block-cursor-foreground": "ansi_cyan",
        "block-cursor-text-style": "bold reverse",
        "block-cursor-blurred-background": "ansi_default",
        "block-cursor-blurred-foreground": "ansi_cyan",
        "block-cursor-blurred-text-style": "bold",
        "input-cursor-background": "ansi_white",
        "input-cursor-foreground": "ansi_black",
        "input-cursor-text-style": "none",
        "input-selection-background": "ansi_cyan",
        "input-selection-foreground": "ansi_black",
        "screen-selection-background": "ansi_cyan",
        "screen-selection-foreground": "ansi_black",
    },
)

OURS = (DARK, LIGHT, SIXTEEN)
CYCLE = ("lab-dark", "lab-light", "lab-16", "nord", "gruvbox", "solarized-light")
"""What the theme key goes through; the palette lists all themes."""


def for_terminal(color_system: str | None, environ: Mapping[str, str]) -> str:
    """The theme to begin with: the one of 16 colours where the terminal has no more, or none are wanted."""
    few = color_system in (None, "standard", "windows") or bool(environ.get("NO_COLOR"))
    return "lab-16" if few else "lab-dark"


def derived(theme: Theme) -> dict[str, str]:
    """Our own variables for a theme that does not define them."""
    if theme.ansi:
        return {"lab-dim": "ansi_default", "lab-line": "ansi_bright_black", "lab-second": "ansi_yellow"}
    ground = Color.parse(theme.background or ("#101418" if theme.dark else "#f8f8f8"))
    ink = Color.parse(theme.foreground or ("#e0e0e0" if theme.dark else "#202020"))
    return {
        "lab-dim": ground.blend(ink, 0.6).hex,
        "lab-line": ground.blend(ink, 0.25).hex,
        "lab-second": theme.secondary or theme.warning or ink.hex,
    }
