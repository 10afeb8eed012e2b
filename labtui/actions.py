"""The one registry of what a user can do.

Key bindings, the footer, contextual help and the command palette are all generated from this table, so
none of them can say something that the others do not. A test presses every key of every scope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache

from textual.binding import Binding, BindingType

from labtui_artifacts.errors import UsageError

SCREENS = ("home", "steer", "sweep", "shelf", "sessions", "diagnose", "claims", "look")
"""Screens in the order of their number keys."""

SCOPE_TITLES = {
    "app": "Everywhere",
    "home": "Home",
    "steer": "Steer",
    "sweep": "Sweep",
    "shelf": "Shelf",
    "sessions": "Sessions",
    "diagnose": "Diagnose",
    "claims": "Claims",
    "look": "Look",
    "replay": "Replay",
    "list": "In lists, trees and tables",
    "heatmap": "In a map",
    "picture": "In a picture",
    "sweeps": "In the list of sweeps",
    "reader": "In a text",
    "prompt": "While writing a prompt",
    "dialog": "In a dialogue",
    "question": "At a question",
}


@dataclass(frozen=True)
class Action:
    """One thing a user can do.

    ``keys`` are Textual key names, the first is the one shown. ``handler`` is the name after
    ``action_`` on the class that serves ``scope``. ``foot`` orders the footer (0 leaves it out).
    ``live`` means that it needs a
    running kernel, so it is off in a replay. ``anywhere`` keys work while text is being typed.
    """

    id: str
    title: str
    keys: tuple[str, ...]
    scope: str
    handler: str
    help: str
    foot: int = 0
    live: bool = False
    anywhere: bool = False
    palette: bool = True

    @property
    def key(self) -> str:
        return show_key(self.keys[0]) if self.keys else ""

    @property
    def all_keys(self) -> str:
        return " ".join(show_key(key) for key in self.keys)


_SHOWN = {
    "question_mark": "?", "slash": "/", "colon": ":", "comma": ",", "full_stop": ".", "less_than_sign": "<",
    "greater_than_sign": ">", "minus": "-", "plus": "+", "underscore": "_", "left_square_bracket": "[",
    "right_square_bracket": "]", "left_curly_bracket": "{", "right_curly_bracket": "}", "escape": "esc",
    "equals_sign": "=", "left": "←", "right": "→", "up": "↑", "down": "↓", "delete": "del", "tilde": "~",
    "exclamation_mark": "!", "space": "space", "pageup": "pgup", "pagedown": "pgdn", "shift+tab": "⇧tab",
}  # fmt: skip


def show_key(key: str) -> str:
    """A key's name as the footer and the help write it: ``ctrl+g`` is ``^g``, ``alt+1`` is ``alt 1``."""
    if key.startswith("ctrl+"):
        return "^" + show_key(key[5:])
    if key.startswith("alt+"):
        return "alt " + show_key(key[4:])
    return _SHOWN.get(key, key)


def _a(
    id: str,
    title: str,
    keys: str,
    handler: str,
    help: str,
    *,
    foot: int = 0,
    live: bool = False,
    anywhere: bool = False,
    palette: bool = True,
) -> Action:
    """A row of the table; the scope is what stands before the dot of ``id``."""
    scope = id.partition(".")[0]
    return Action(id, title, tuple(keys.split()), scope, handler, help, foot, live, anywhere, palette)


ACTIONS: tuple[Action, ...] = (
    # everywhere
    _a("app.home", "Home", "1 alt+1", "show_screen('home')", "kernels, recent sessions, what to do next"),
    _a("app.steer", "Steer", "2 alt+2", "show_screen('steer')",
       "steer an answer and read it beside the plain one"),
    _a("app.sweep", "Sweep", "3 alt+3", "show_screen('sweep')",
       "many sites, strengths and prompts in one table"),
    _a("app.shelf", "Shelf", "4 alt+4", "show_screen('shelf')", "directions and other artifacts"),
    _a("app.sessions", "Sessions", "5 alt+5", "show_screen('sessions')",
       "notes, tags, saving and replay"),
    _a("app.diagnose", "Diagnose", "6 alt+6", "show_screen('diagnose')",
       "how the poles of a direction lie at every site"),
    _a("app.claims", "Claims", "7 alt+7", "show_screen('claims')", "what is claimed, and what decides it"),
    _a("app.look", "Look", "8 alt+8", "show_screen('look')",
       "what each patch of a picture means inside the model"),
    _a("app.help", "Help", "question_mark f1", "help", "what every key does here",
       foot=98, anywhere=True),
    _a("app.palette", "Commands", "ctrl+p colon", "command_palette", "find any command by name", foot=97,
       anywhere=True, palette=False),
    _a("app.jump", "Jump", "ctrl+o", "jump", "go to a panel by one letter", foot=90, anywhere=True),
    _a("app.leave", "Leave", "escape", "leave", "leave an input, a drawer or a dialogue", palette=False),
    _a("app.copy", "Copy", "y", "copy", "copy the text of the panel in focus", foot=80),
    _a("app.copy_command", "Copy as a command line", "Y", "copy_command",
       "what would do this from a shell"),
    _a("app.copy_spec", "Copy as a spec", "S", "copy_spec", "what would do this with labtui run"),
    _a("app.note", "Add a note", "n", "note", "a note in the session, at this moment", live=True),
    _a("app.save", "Save the session", "ctrl+s", "save_session", "one file that replays anywhere",
       live=True,
       anywhere=True),
    _a("app.freeze", "Freeze the view", "p", "freeze", "hold the screen still; the kernel goes on"),
    _a("app.reconnect", "Reconnect now", "R", "reconnect", "try the link again without waiting",
       live=True),
    _a("app.theme", "Next theme", "f9", "next_theme", "colours: dark, light, 16 colours, and more",
       anywhere=True),
    _a("app.low", "Low bandwidth on or off", "f8", "low_bandwidth", "fewer chart frames, no animation",
       anywhere=True),
    _a("app.quit", "Leave labtui", "q ctrl+q", "quit", "the kernel goes on without you", anywhere=True),
    # home
    _a("home.open", "Attach or replay", "enter", "open",
       "attach to the kernel, or replay the session, under the cursor",
       foot=1, palette=False),
    _a("home.start", "Start", "s", "start_kernel", "choose a model, a precision and a device", foot=2),
    _a("home.toy", "Bundled toy", "b", "start_toy", "a small Qwen3 that ships with labtui, on the CPU",
       foot=3),
    _a("home.stop", "Stop", "X", "stop_kernel", "ends the process; its session stays", foot=4),
    _a("home.refresh", "Refresh", "r", "refresh_list", "list kernels and sessions anew", foot=5),
    # steer
    _a("steer.run", "Run", "ctrl+r r", "run", "generate the plain and the steered answer",
       foot=1, live=True,
       anywhere=True),
    _a("steer.stop", "Break off", "b", "stop", "stop the answers that are being written",
       foot=8, live=True),
    _a("steer.prompt", "Prompt", "i", "focus_panel('prompt')",
       "write it; enter runs, ctrl+j breaks a line",
       foot=2),
    _a("steer.system", "System prompt", "I", "focus_panel('system')", "what the model is told to be"),
    _a("steer.prefill", "Prefill", "f", "focus_panel('prefill')",
       "the answer begins with these words"),
    _a("steer.sites", "Site", "s", "focus_panel('sites')", "choose where in the model the edit applies",
       foot=5),
    _a("steer.directions", "Direction", "d", "focus_panel('directions')", "choose what the edit adds",
       foot=6),
    _a("steer.edits", "Edits", "e", "focus_panel('edits')",
       "the whole expression: 2.0*terse@llm.4@generated",
       foot=7),
    _a("steer.options", "Sampling and length", "o", "focus_panel('options')",
       "temperature, seed, length, resamples"),
    _a("steer.tokens", "Tokens", "t", "focus_panel('tokens')",
       "the prompt as the model gets it; read and edited marked"),
    _a("steer.chart", "Chart", "v", "focus_panel('chart')",
       "words and perplexity over the strengths tried"),
    _a("steer.history", "History", "H", "focus_panel('history')",
       "every prompt of this session; enter takes it up"),
    _a("steer.finer", "Less", "comma", "nudge(-1, 'fine')", "strength one step down, also while it streams",
       foot=3, live=True),
    _a("steer.more", "More", "full_stop", "nudge(1, 'fine')",
       "strength one step up, also while it streams", foot=4, live=True),
    _a("steer.coarser", "Much less", "less_than_sign", "nudge(-1, 'coarse')", "five steps down", live=True),
    _a("steer.most", "Much more", "greater_than_sign", "nudge(1, 'coarse')", "five steps up", live=True),
    _a("steer.zero", "Strength to zero", "0", "zero", "the steered arm then equals the plain one", live=True),
    _a("steer.negate", "Turn the direction round", "minus", "negate",
       "the same strength with the other sign", live=True),
    _a("steer.unit", "Unit of the strength", "u", "unit",
       "α, absolute norm, or % of the reference norm", live=True),
    _a("steer.where", "Where along the text", "w", "cycle_where", "all, prompt, last, generated", live=True),
    _a("steer.marks", "Marks in the answers", "m", "marks", "differing words, surprise, or none"),
    _a("steer.thinking", "Thinking on or off", "T", "thinking", "for models that have the switch", live=True),
    _a("steer.turn", "Keep the answer as a turn", "plus", "keep_turn",
       "go on talking from the steered answer", live=True),
    _a("steer.drop", "Drop the last turn", "underscore", "drop_turn", "go one turn back", live=True),
    _a("steer.patch", "Patch an activation", "x", "patch", "take it from one arm, put it into the other",
       live=True),
    _a("steer.again", "Again", "A", "again", "the same again with one thing changed", foot=9,
       live=True),
    _a("steer.make", "Make a direction", "D", "make_direction", "from a bundled style, at every site",
       live=True),
    # sweep
    _a("sweep.run", "Run", "ctrl+r r", "run", "rows start at once; cells are saved as they finish",
       foot=1,
       live=True, anywhere=True),
    _a("sweep.form", "Spec", "i", "focus_panel('form')", "prompts, directions, sites, strengths", foot=2),
    _a("sweep.map", "Map", "m", "focus_panel('map')", "sites by strengths; move over the cells", foot=3),
    _a("sweep.column", "Metric", "c", "cycle_metric", "what map and chart show: words, perplexity, …",
       foot=5),
    _a("sweep.place", "Direction", "d", "cycle_place", "the next direction, or place along the text",
       foot=9),
    _a("sweep.confirm", "Confirm", "z", "confirm", "run the cell under the cursor on fresh prompts",
       foot=7, live=True),
    _a("sweep.calibrate", "Calibrate", "K", "calibrate", "search the sites for dead zone, band and collapse",
       live=True),
    _a("sweep.extend", "Extend", "a", "extend",
       "add strengths, prompts or seeds to this table; only new rows run; again: a table of its own",
       foot=9, live=True),
    _a("sweep.export", "Export", "e", "export", "the table as CSV, JSON or Parquet, the map as PNG",
       foot=8),
    _a("sweep.hold", "Pause", "P", "hold", "pause or resume the job; nothing is lost", foot=6, live=True),
    _a("sweep.stop", "Cancel", "b", "stop", "cancel the job; committed cells stay", foot=6, live=True),
    _a("sweep.chart", "Chart", "v", "focus_panel('chart')",
       "the effect over strength at the cursor's site, with its interval and the null",
       foot=10),
    _a("sweep.texts", "Texts", "x", "focus_panel('texts')", "the cell's answers beside the unsteered ones",
       foot=11),
    _a("sweep.table", "Table", "t", "focus_panel('table')", "the rows of the cells that are committed",
       foot=12),
    _a("sweep.pins", "Pinned", "o", "focus_panel('pins')", "the cells that are pinned; enter goes to one",
       foot=13),
    _a("sweep.history", "Sweeps", "H", "focus_panel('history')",
       "past sweeps: enter shows one, space lays it over the chart, - subtracts it", foot=4),
    _a("sweep.other", "Another session's", "O", "other",
       "sweeps of a saved session beside these"),
    _a("sweep.filter", "Filter", "f", "filter", "by direction, positions, control, class of prompts",
       foot=15),
    _a("sweep.sort", "Sort the table", "s", "sort", "by the next column; after the last, as committed",
       foot=16),
    _a("sweep.search", "Search the table", "slash", "search_table",
       "a text, or words>40 control=random; enter keeps it, esc shows all"),
    _a("sweep.turn", "Turn the order round", "w", "turn_sort", "largest or smallest first"),
    _a("sweep.prompt_back", "Prompt before", "comma", "turn_prompt(-1)", "texts of the prompt before"),
    _a("sweep.prompt_next", "Next prompt", "full_stop", "turn_prompt(1)", "texts of the next prompt",
       foot=14),
    # shelf
    _a("shelf.mark", "Mark", "m space", "mark", "marked ones are in the cosine table", foot=1),
    _a("shelf.algebra", "Algebra", "a", "algebra", "0.5*terse - 0.2*formal", foot=2, live=True),
    _a("shelf.make", "Make", "D", "make_direction", "a bundled contrast, at every site", foot=3,
       live=True),
    _a("shelf.rename", "Rename", "e", "rename", "the name under the cursor", foot=4, live=True),
    _a("shelf.delete", "Delete", "delete X", "delete", "asks first", foot=5, live=True),
    _a("shelf.diagnose", "Diagnose", "d", "diagnose",
       "read its poles again, at every site; marked ones are in the map of cosines", foot=7, live=True),
    _a("shelf.use", "Steer with it", "enter", "use", "the direction under the cursor",
       foot=6, palette=False),
    # sessions
    _a("sessions.open", "Replay", "enter", "open", "the saved file or session under the cursor", foot=1,
       palette=False),
    _a("sessions.title", "Title", "e", "title", "give this session a title", foot=2, live=True),
    _a("sessions.tag", "Tag", "t", "tag", "add a tag; the same tag again takes it off",
       foot=3, live=True),
    _a("sessions.unnote", "Remove a note", "X", "remove_note", "the note under the cursor", live=True),
    _a("sessions.new", "New", "N", "new_session", "what is run from then on goes there", live=True),
    _a("sessions.file", "File", "o", "open_file", "a session file from disk", foot=4),
    # diagnose
    _a("diagnose.run", "Run", "ctrl+r r", "run", "choose a style or a stored direction",
       foot=1, live=True, anywhere=True),
    _a("diagnose.anatomy", "Anatomy", "t", "focus_panel('anatomy')",
       "norms, separation, noise and stability of each site", foot=2),
    _a("diagnose.curves", "Curves", "v", "focus_panel('curves')", "the same over the depth of the model",
       foot=3),
    _a("diagnose.column", "Next curves", "c", "cycle_curves", "norms, signal to noise, stability", foot=4),
    _a("diagnose.landscape", "Landscape", "s", "focus_panel('landscape')",
       "the prompts of the site under the cursor, in two dimensions", foot=5),
    _a("diagnose.map", "Cosines", "m", "focus_panel('cosines')",
       "direction by direction at the site under the cursor", foot=6),
    _a("diagnose.back", "Site before", "comma", "turn_site(-1)", "one site towards the embeddings", foot=7),
    _a("diagnose.next", "Next site", "full_stop", "turn_site(1)", "one site on", foot=8),
    _a("diagnose.other", "Another", "d", "cycle_job", "the diagnosis before this one in the session", foot=9),
    _a("diagnose.export", "Export", "e", "export", "a table as CSV, JSON or Parquet, or a picture as PNG",
       foot=10),
    _a("diagnose.stop", "Cancel", "b", "stop", "cancel the job", foot=11, live=True),
    # claims
    _a("claims.open", "Replay", "enter o", "open", "the session under the cursor, or the first that decides",
       foot=1, palette=False),
    _a("claims.add", "Add", "a", "add", "write a claim down before it is tested", foot=2),
    _a("claims.refine", "Refine", "f", "refine", "a new claim that begins as this one and links to it",
       foot=3),
    _a("claims.check", "Check again", "r", "check", "hold all claims against the sessions as they are now",
       foot=4),
    _a("claims.evidence", "Evidence", "v", "focus_panel('evidence')",
       "what every session says, cell by cell", foot=5),
    _a("claims.remove", "Remove", "delete X", "remove", "asks first", foot=6),
    # look
    _a("look.open", "Picture", "o", "open", "a file, and what is read of it", foot=2, live=True),
    _a("look.run", "Ask", "ctrl+r r", "run", "plain and steered answers, and what the edit does to each patch",
       foot=1, live=True, anywhere=True),
    _a("look.question", "Question", "i", "focus_panel('question')", "what the model is asked about the picture",
       foot=3),
    _a("look.edits", "Edits", "e", "focus_panel('edits')", "8%*terse@llm.3@image0[0:2,1:3]", foot=6),
    _a("look.picture", "The picture", "m", "focus_panel('picture')", "go from patch to patch", foot=4),
    _a("look.mark", "Mark", "v", "mark",
       "a rectangle from here: arrows, then enter; edits then act only there", foot=5),
    _a("look.unmark", "Whole picture", "V", "unmark", "lets the rectangle go: edits act in all of the picture"),
    _a("look.overlay", "Overlay", "c", "cycle_overlay",
       "norm, similarity to this patch, projection on a direction, effect of the edit, attention, none", foot=7),
    _a("look.word", "Next", "a", "next_word",
       "attention from the next word of the question to each patch; with scores, the next direction", foot=9),
    _a("look.back", "Site before", "comma", "turn_site(-1)", "one site towards the pixels", foot=8),
    _a("look.next", "Next site", "full_stop", "turn_site(1)", "one site on", foot=9),
    _a("look.neighbours", "Neighbours", "t", "focus_panel('neighbours')",
       "words in captions whose states lie nearest, whatever their layer", foot=10),
    _a("look.norms", "Norms", "u", "focus_panel('norms')", "of this patch over the depth, and all patches' median",
       foot=11),
    _a("look.readings", "Readings", "s", "focus_panel('readings')",
       "nearest word embeddings and unembedding rows, and the logit lens", foot=12),
    _a("look.scores", "Scores", "f", "focus_panel('scores')",
       "projection on directions, and the patch's place among the others", foot=12),
    _a("look.answers", "Answers", "x", "focus_panel('answers')", "plain and steered, side by side", foot=13),
    _a("look.centred", "Raw or centred", "w", "centred", "similarities as they are, or less each layer's mean",
       foot=14),
    _a("look.zoom", "Zoom", "z", "zoom", "the whole picture, or patches large enough to see each", foot=15),
    _a("look.other", "Another", "d", "cycle_job", "the picture before this one in the session", foot=16),
    _a("look.export", "Export", "E", "export", "a table as CSV, JSON or Parquet", foot=17),
    _a("look.stop", "Cancel", "b", "stop", "cancel the job", foot=18, live=True),
    # replay
    _a("replay.play", "Play or pause", "space", "replay_play", "at the speed shown", foot=1),
    _a("replay.back", "Back", "left_square_bracket", "replay_step(-1)", "one event back", foot=2),
    _a("replay.next", "On", "right_square_bracket", "replay_step(1)", "one event on", foot=3),
    _a("replay.rewind", "A twentieth back", "left_curly_bracket", "replay_leap(-1)", ""),
    _a("replay.forward", "A twentieth on", "right_curly_bracket", "replay_leap(1)", ""),
    _a("replay.slower", "Slower", "less_than_sign", "replay_speed(-1)", "half the speed", foot=4),
    _a("replay.faster", "Faster", "greater_than_sign", "replay_speed(1)", "double the speed", foot=5),
    _a("replay.start", "To the beginning", "ctrl+home", "replay_seek('start')", ""),
    _a("replay.end", "To the end", "ctrl+end", "replay_seek('end')", ""),
    _a("replay.seek", "Go to an event", "G", "replay_goto", "by its sequence number", foot=6),
    _a("replay.close", "Close the replay", "Q", "replay_close",
       "back to the live kernel, if there is one", foot=7),
    # lists
    _a("list.down", "Down", "j down", "cursor_down", "", palette=False),
    _a("list.up", "Up", "k up", "cursor_up", "", palette=False),
    _a("list.top", "First", "g home", "first", "", palette=False),
    _a("list.bottom", "Last", "G end", "last", "", palette=False),
    _a("list.page_down", "Page down", "ctrl+d pagedown", "page_down", "", palette=False),
    _a("list.page_up", "Page up", "ctrl+u pageup", "page_up", "", palette=False),
    _a("list.search", "Search", "slash", "search", "type, then enter; the list keeps what matches",
       foot=70,
       palette=False),
    # maps
    _a("heatmap.read", "Open", "enter", "pick", "what is behind the cell under the cursor", foot=1,
       palette=False),
    _a("heatmap.pin", "Pin", "space", "pin", "keep the cell in the list of pinned ones; again lets it go",
       foot=2, palette=False),
    _a("heatmap.left", "Left", "h left", "move(0, -1)", "", palette=False),
    _a("heatmap.down", "Down", "j down", "move(1, 0)", "", palette=False),
    _a("heatmap.up", "Up", "k up", "move(-1, 0)", "", palette=False),
    _a("heatmap.right", "Right", "l right", "move(0, 1)", "", palette=False),
    _a("heatmap.top", "First row", "g", "edge(-1)", "", palette=False),
    _a("heatmap.bottom", "Last row", "G", "edge(1)", "", palette=False),
    _a("heatmap.first", "First column", "home", "side(-1)", "", palette=False),
    _a("heatmap.last", "Last column", "end", "side(1)", "", palette=False),
    _a("heatmap.page_down", "Page down", "ctrl+d pagedown", "page(1)", "", palette=False),
    _a("heatmap.page_up", "Page up", "ctrl+u pageup", "page(-1)", "", palette=False),
    # pictures
    _a("picture.pick", "Read", "enter", "pick", "what is known of the patch; while marking, take the rectangle",
       foot=1, palette=False),
    _a("picture.left", "Left", "h left", "move(0, -1)", "", palette=False),
    _a("picture.down", "Down", "j down", "move(1, 0)", "", palette=False),
    _a("picture.up", "Up", "k up", "move(-1, 0)", "", palette=False),
    _a("picture.right", "Right", "l right", "move(0, 1)", "", palette=False),
    _a("picture.top", "First row", "g", "edge(-1)", "", palette=False),
    _a("picture.bottom", "Last row", "G", "edge(1)", "", palette=False),
    _a("picture.first", "First column", "home", "side(-1)", "", palette=False),
    _a("picture.last", "Last column", "end", "side(1)", "", palette=False),
    _a("picture.page_down", "Half the picture down", "ctrl+d pagedown", "page(1)", "", palette=False),
    _a("picture.page_up", "Half the picture up", "ctrl+u pageup", "page(-1)", "", palette=False),
    # the list of sweeps
    _a("sweeps.show", "Show", "enter", "select_cursor", "the sweep under the cursor", foot=1, palette=False),
    _a("sweeps.over", "Overlay", "space", "lay", "lay it over the chart; again takes it off", foot=2,
       palette=False),
    _a("sweeps.less", "Subtract", "minus", "subtract",
       "as baseline: cells and prompts that both have; again for none", foot=3, palette=False),
    # texts that are read
    _a("reader.down", "Down", "j down", "scroll_down", "", palette=False),
    _a("reader.up", "Up", "k up", "scroll_up", "", palette=False),
    _a("reader.top", "Beginning", "g home", "scroll_home", "", palette=False),
    _a("reader.bottom", "End", "G end", "scroll_end", "", palette=False),
    _a("reader.page_down", "Page down", "ctrl+d pagedown", "page_down", "", palette=False),
    _a("reader.page_up", "Page up", "ctrl+u pageup", "page_up", "", palette=False),
    # prompt
    _a("prompt.submit", "Run", "enter", "submit", "ctrl+r does the same from anywhere",
       foot=1, palette=False),
    _a("prompt.newline", "New line", "ctrl+j", "newline", "", foot=2, palette=False),
    # dialog
    _a("dialog.accept", "Accept", "ctrl+r", "accept", "enter does the same in the last field",
       foot=1, palette=False,
       anywhere=True),
    _a("dialog.close", "Close", "escape", "close", "nothing is changed", foot=2, palette=False),
    _a("question.yes", "Yes", "y", "accept", "", palette=False),
    _a("question.no", "No", "n", "close", "", palette=False),
)  # fmt: skip


def rebind(keys: Mapping[str, str]) -> None:
    """Take the user's keys (action id to keys, space between several) instead of the table's.

    Called before the screens are imported, whose bindings are made from the table. Raises UsageError for an
    action that does not exist.
    """
    global ACTIONS
    known = {action.id for action in ACTIONS}
    for id in keys:
        if id not in known:
            near = get_close_matches(id, known, 1)
            hint = f", did you mean {near[0]}" if near else ""
            raise UsageError(f"config file, keys: there is no action {id!r}{hint}")
    ACTIONS = tuple(replace(a, keys=tuple(keys[a.id].split())) if a.id in keys else a for a in ACTIONS)
    by_scope.cache_clear()


@cache
def by_scope(scope: str) -> tuple[Action, ...]:
    """The actions of one scope, in the order of the table."""
    return tuple(action for action in ACTIONS if action.scope == scope)


def bindings(scope: str) -> list[BindingType]:
    """Textual bindings for the class that serves ``scope``.

    A key that types a character never takes priority, so that text inputs keep it.
    """
    made: list[BindingType] = []
    for action in by_scope(scope):
        for key in action.keys:
            typed = len(show_key(key)) == 1 or key in ("space", "enter", "escape")
            made.append(Binding(key, action.handler, action.title, show=False,
                                priority=action.anywhere and not typed, id=f"{action.id}:{key}"))  # fmt: skip
    return made


def handler_name(action: Action) -> str:
    """The method that serves an action: ``nudge(-1, 'fine')`` is served by ``action_nudge``."""
    return "action_" + action.handler.partition("(")[0]


def live_only() -> dict[str, frozenset[str]]:
    """By scope, the handlers that need a kernel."""
    return {
        scope: frozenset(a.handler.partition("(")[0] for a in by_scope(scope) if a.live)
        for scope in SCOPE_TITLES
    }
