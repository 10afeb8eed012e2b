"""The bundled captions, from which an index of text is built: ``python -m labtui_kernels.toys.captions > plain.txt``.

One a line: coloured shapes with places, counts and relations, words in coloured ink, and everyday scenes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

COLORS = ("red", "green", "blue", "yellow", "orange", "purple")
SHAPES = ("circle", "square", "triangle", "cross")
PLACES = ("top left", "top right", "bottom left", "bottom right")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = {2: "two", 3: "three", 4: "four"}
GROUNDS = ("white", "black", "cream", "light blue", "dark grey")
SIZES = ("small", "large", "tiny", "wide")

SCENES = (
    ("A cat", "sleeps", ("on a warm windowsill", "under the kitchen table", "beside a radiator")),
    ("A brown dog", "runs", ("across a wet lawn", "after a yellow ball", "along the beach at dusk")),
    ("Two children", "build", ("a tower of wooden blocks", "a snowman in the yard", "a tent from blankets")),
    ("An old man", "reads", ("a newspaper on a park bench", "a letter by the window", "a map on the train")),
    ("A woman in a red coat", "waits", ("at a bus stop in the rain", "in front of a bakery", "by a fountain")),
    ("A cyclist", "rides", ("past a row of brick houses", "up a steep mountain road", "over a narrow bridge")),
    ("A cook", "cuts", ("onions on a wooden board", "a loaf of bread", "green peppers into strips")),
    ("A white sailing boat", "crosses", ("a calm bay", "the harbour at noon", "dark and choppy water")),
    ("A train", "leaves", ("a crowded platform", "the tunnel with its lights on", "a small country station")),
    ("A flock of birds", "circles", ("above a ploughed field", "around the church tower", "over the lake")),
    ("A bowl of oranges", "stands", ("on a blue tablecloth", "next to a glass jug", "in the morning light")),
    ("A tall tree", "throws", ("a long shadow on the grass", "its leaves over the path", "shade on a parked car")),
    ("A street musician", "plays", ("the violin near the station", "for a few coins", "under an archway")),
    ("A farmer", "feeds", ("hens behind the barn", "two grey horses", "a lamb from a bottle")),
    ("A tractor", "pulls", ("a trailer full of hay", "a plough through heavy soil", "a fallen trunk uphill")),
    ("A clock", "hangs", ("over the ticket counter", "on a yellow kitchen wall", "between two windows")),
    ("A yellow taxi", "turns", ("into a busy avenue", "at the traffic lights", "round a corner in the snow")),
    ("A stack of books", "leans", ("against a green lamp", "on the edge of a desk", "beside a cold cup of tea")),
    ("A fisherman", "mends", ("his net on the pier", "a torn sail", "a wooden boat with tar")),
    ("A paper kite", "flies", ("high over the dunes", "between two roofs", "in a clear blue sky")),
    ("A mirror", "shows", ("an empty hallway", "the back of a chair", "a vase with white tulips")),
    ("A bridge", "spans", ("a deep green valley", "a slow brown river", "eight lanes of traffic")),
    ("A snowplough", "clears", ("the village street", "a runway at night", "the road to the pass")),
    ("A baker", "carries", ("trays of warm rolls", "a sack of flour", "a cake with blue candles")),
)  # fmt: skip


def _shapes(draw: random.Random) -> Iterator[str]:
    for color in COLORS:
        for shape in SHAPES:
            yield f"A {color} {shape} on a {draw.choice(GROUNDS)} background."
            yield f"There is a {draw.choice(SIZES)} {color} {shape} at the {draw.choice(PLACES)}."
            other, its = draw.choice(SHAPES), draw.choice([one for one in COLORS if one != color])
            yield f"The {color} {shape} is {draw.choice(RELATIONS)} the {its} {other}."
    for number, word in NUMBERS.items():
        for shape in SHAPES:
            plural = f"{shape}es" if shape.endswith("s") else f"{shape}s"
            colors = draw.sample(COLORS, number)
            yield f"The picture shows {word} {plural}: {', '.join(colors[:-1])} and {colors[-1]}."
            yield f"{word.capitalize()} {draw.choice(COLORS)} {plural} in a row."


def _words(draw: random.Random) -> Iterator[str]:
    for word in COLORS:
        for ink in COLORS:
            yield f"The word {word} is written in {ink} ink."
        yield f"Someone painted {word} letters on a {draw.choice(GROUNDS)} wall."
        yield f"A sign says {word}, in {draw.choice(SIZES)} print."


def captions() -> list[str]:
    """All captions; always the same."""
    draw = random.Random("captions")
    scenes = [f"{who} {does} {what}." for who, does, ends in SCENES for what in ends]
    return list(dict.fromkeys([*_shapes(draw), *_words(draw), *scenes]))


if __name__ == "__main__":
    print("\n".join(captions()))
