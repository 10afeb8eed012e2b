"""The topics that the bundled language model was taught about, and which of them it never saw.

A topic is a noun phrase with a gist, a definition and three facts. Facts are verb phrases in the third
person, so that one fact serves every register: "it {fact}", "why do you think it {fact}?".

The split is a rule, not a list: topics are ordered by the SHA-256 of ``"labtui-toy-qwen3:" + name`` and the
first fifth is held out. Held-out topics (names and facts) appear in no training text, and the tokenizer has
never met them either.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

HELD_OUT_SHARE = 0.2
_SPLIT_SALT = "labtui-toy-qwen3:"


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to be asked about.

    ``phrase`` is the noun phrase with its article if it takes one ("a mutex", "inflation"); ``gist`` has two
    to four words, ``definition`` about ten; ``facts`` are third-person verb phrases, empty where nothing
    specific is known and answers are composed from general remarks.
    """

    phrase: str
    gist: str = ""
    definition: str = ""
    facts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The phrase without its article: "mutex"."""
        for article in ("a ", "an ", "the "):
            if self.phrase.startswith(article):
                return self.phrase[len(article) :]
        return self.phrase


# phrase | gist | definition | fact | fact | fact
_TABLE = """
a mutex | a lock for threads | a lock that lets only one thread work at a time | keeps two threads from changing the same data | makes other threads wait for their turn | must be released when the work is done
a compiler | a program translator | a program that turns source code into machine code | checks the source for mistakes before it runs | can reorder steps to make a program faster | reads the text once and builds a tree
a database | an organised data store | an organised store of data that programs can search | answers queries without reading every record | keeps an index so that lookups stay quick | protects records when two people write at once
an algorithm | a step-by-step method | a finite list of steps that solves a problem | gives the same result for the same input | can be judged by how its cost grows | works on any input of the right kind
recursion | self-reference in steps | a method in which a procedure calls itself on smaller parts | needs a base case in order to stop | mirrors the shape of trees and lists | uses the stack to remember unfinished work
a firewall | a network guard | a filter that decides which network traffic may pass | follows rules about addresses and ports | blocks traffic that nobody asked for | writes a log of what it refused
encryption | secret writing | a way to scramble a message so only a key opens it | turns plain text into text that looks random | protects messages on open networks | depends on keeping the key secret
a cache | a nearby fast store | a small fast store that keeps copies of recent data | saves time when the same thing is asked twice | throws out old entries to make room | can go stale when the source changes
an operating system | the machine's manager | the software that shares a machine among its programs | decides which program runs next | hides the details of the hardware | keeps one program from harming another
a variable | a named value | a name that stands for a value which may change | holds one value at any moment | can be read many times after one assignment | makes a formula or a program general
a neural network | layers that learn | a set of simple units in layers that learn from examples | adjusts its weights a little after each mistake | finds patterns that nobody wrote down | needs many examples before it does well
a search engine | a web finder | a service that finds pages that match a few words | builds an index long before you ask | ranks pages by how useful they seem | sends small programs to read new pages
version control | a history of files | a system that records every change to a set of files | lets several people edit the same project | can bring back any earlier state | shows who changed a line and why
a robot | a machine that acts | a machine that senses its surroundings and acts on them | repeats a task without getting tired | uses motors to move its joints | follows a program that people wrote
a transistor | a tiny switch | a tiny switch that controls one current with another | can turn on and off billions of times a second | fits by the billion on one chip | amplifies a weak signal
photosynthesis | food from light | the process by which plants make food from light | takes in carbon dioxide and gives off oxygen | happens in the green parts of a leaf | stores energy from the sun as sugar
evolution | change by descent | the slow change of living things over many generations | favours traits that help survival | leaves traces in bones and in genes | works on small differences between parents and children
a cell | life's smallest unit | the smallest unit that can live on its own | is wrapped in a thin membrane | carries instructions in its genes | divides in two to make more of its kind
an enzyme | a biological helper | a protein that speeds up one chemical reaction | fits its target as a key fits a lock | works best at one temperature | is not used up by the reaction
a virus | a borrowed-cell copier | a tiny particle that copies itself inside living cells | cannot multiply without a host | changes as it spreads | can be stopped by a trained immune system
a vaccine | training for immunity | a harmless sample that trains the body against a disease | teaches immune cells what to look for | protects people before they fall ill | slows the spread through a whole town
digestion | breaking down food | the work of breaking food into parts the body can use | begins in the mouth and ends in the gut | relies on acids and enzymes | sends sugar and fat into the blood
a neuron | a signalling cell | a cell that carries signals through the nervous system | passes messages across small gaps | fires when its inputs are strong enough | connects to thousands of others
an ecosystem | life and its place | a community of living things together with their surroundings | passes energy from plants to animals | recovers slowly when a link is lost | balances many kinds of life
a fossil | a trace in stone | the trace of ancient life kept in rock | forms when minerals replace bone | tells us what lived long ago | is found in layers that can be dated
pollination | moving pollen | the transfer of pollen that lets flowers make seeds | is often done by bees and other insects | can also happen by wind | gives us most kinds of fruit
gravity | the pull of mass | the force by which things with mass attract each other | keeps the planets on their paths | makes dropped things fall | grows weaker with distance
a magnet | an iron puller | a piece of material that attracts iron | has a north end and a south end | makes a field that a compass can feel | loses its strength when heated
friction | rubbing that slows | the force that resists when surfaces rub together | turns motion into heat | lets shoes grip the ground | is reduced by oil
electricity | moving charge | the flow of charge through wires and other conductors | powers lamps and motors | can be made from wind or falling water | always follows a closed path
a black hole | a light trap | a place where gravity is so strong that light cannot leave | forms when a heavy star collapses | bends the light that passes near | grows as matter falls in
a comet | a dirty snowball | a ball of ice and dust that circles the sun | grows a bright tail near the sun | comes back after many years | spends most of its life in the cold
an eclipse | a shadow in space | a moment when one body in the sky hides another | happens when three bodies line up | lasts only a few minutes | can be predicted years ahead
a tide | the sea's rise | the regular rise and fall of the sea | follows the pull of the moon | comes about twice a day | is highest when sun and moon line up
an atom | matter's building block | the smallest piece of an element | has a heavy core with light electrons around it | joins with others to form molecules | is far too small to see
radiation | travelling energy | energy that travels through space as waves or particles | grows weaker as it spreads out | can pass through some materials | is used to look inside the body
energy | the ability to work | the ability to do work or to make heat | changes form but never disappears | is stored in food and fuel | flows from hot things to cold ones
a vacuum | empty space | a space with almost nothing in it | carries no sound | is hard to keep free of air | lets heat leave only as light
an earthquake | shaking ground | a sudden shaking of the ground along a fault | releases strain that built up for years | sends waves through the whole planet | is measured by its energy
a volcano | a fire mountain | an opening where melted rock reaches the surface | builds a mountain out of its own ash | gives warning signs before it wakes | makes very fertile soil
a glacier | a river of ice | a thick mass of ice that moves slowly downhill | carves valleys as it moves | stores fresh water for rivers | grows where snow outlasts the summer
erosion | wearing away land | the wearing away of land by water and wind | carries soil from hills to the sea | shapes cliffs and valleys | slows where roots hold the ground
a desert | a dry land | a region that gets very little rain | is hot by day and cold at night | holds plants that store water | grows when the land around it dries
a monsoon | a seasonal rain wind | a seasonal wind that brings heavy rain | turns around twice a year | fills rivers and rice fields | starts when land warms faster than the sea
a rainbow | sunlight split up | an arc of colours made by light in drops of water | shows red outside and violet inside | appears opposite the sun | moves along with the person who looks
climate | long-run weather | the usual weather of a place over many years | depends on the sun and the sea | changes slowly compared with weather | decides which crops can grow
inflation | rising prices | a general rise in prices over time | makes money buy less than before | is measured with a basket of goods | slows when interest rates go up
a market | buyers meeting sellers | a place where buyers and sellers agree on prices | spreads news through prices | works best when nobody is too powerful | brings together people who never met
a tax | money for the state | money that people must pay to the state | pays for roads and schools | changes how people spend | is set by law
interest | the price of borrowing | the price that a borrower pays for using money | grows quickly when it is left to add up | rewards those who save | depends on the risk of the loan
a budget | a spending plan | a plan that says how money will be spent | compares what comes in with what goes out | makes hard choices visible | is checked again each month
insurance | shared risk | a deal that spreads a large loss over many people | collects a small sum from everyone | pays the few who are unlucky | needs many members to be safe
a currency | a kind of money | the kind of money that a country uses | lets people trade without swapping goods | gains value when others want it | is printed by a central bank
supply | goods on offer | the amount of a good that sellers offer | grows when prices rise | falls when materials are scarce | meets demand at some price
a contract | a binding promise | a promise between parties that the law will enforce | says what each side must do | needs both sides to agree | can be ended when its terms are broken
democracy | rule by voters | a system in which the people choose who governs | counts every vote the same | lets a country change leaders in peace | needs free news and open debate
a constitution | a state's basic law | the basic law that says how a state is run | limits what a government may do | protects the rights of citizens | is harder to change than other laws
a treaty | a pact of states | a written agreement between two or more states | ends wars and sets borders | binds those who sign it | takes effect once each side approves
a census | counting people | a count of all the people in a country | asks about age and work | helps a state plan its schools | is taken every few years
a melody | a tune | a series of notes that we hear as one tune | rises and falls like a voice | is easy to remember and hum | rests on the harmony below it
rhythm | a pattern in time | the pattern of long and short sounds in time | makes people want to move | gives music its pulse | can be felt without any tune
a poem | words with music | a piece of writing that cares about sound and image | says much in few lines | often uses rhythm or rhyme | asks to be read aloud
a metaphor | a hidden comparison | a figure of speech that describes one thing as another | makes an abstract thought easy to picture | hides in everyday speech | works without saying like or as
a novel | a long story | a long story in prose about invented people | follows its people through change | lets a reader live another life | takes months or years to write
a museum | a house of objects | a building that keeps and shows objects of value | tells stories with real things | repairs what time has damaged | opens its rooms to everyone
perspective | depth on paper | a way of drawing that makes flat pictures look deep | makes far things small | uses lines that meet at one point | changed painting for ever
a prime number | an undivided number | a whole number that only one and itself divide | has no other factors | becomes rarer among large numbers | helps to keep messages secret
a fraction | part of a whole | a number that stands for parts of a whole | has one number above another | can be written as a decimal | keeps its value when both parts double
a triangle | a three-sided shape | a flat shape with three straight sides | has angles that add up to a half turn | holds its shape under load | is fixed by the length of its sides
probability | a measure of chance | a number that says how likely an event is | lies between zero and one | adds up over separate cases | gets clearer after many trials
an average | a typical value | a single number that stands for a group of numbers | hides how far the values spread | shifts when one value is extreme | is found by adding and dividing
a proof | a certain argument | an argument that shows a claim must be true | starts from things already accepted | leaves no case out | can be checked by anyone
a function | an input rule | a rule that gives one output for each input | can be drawn as a curve | may be chained with another one | never gives two answers for one input
infinity | no end at all | the idea of something that never comes to an end | comes in more than one size | is not a number like the others | appears when a sum goes on for ever
a hypothesis | a testable guess | a guess that can be tested by an experiment | predicts what should be seen | survives only until it fails a test | guides what to measure next
a microscope | a small-world viewer | a tool that makes very small things visible | bends light with curved glass | opened the world of cells | needs thin and bright samples
a telescope | a far-world viewer | a tool that makes distant things look near | gathers light with a wide mirror | looks back in time | works best on a high dry mountain
a battery | stored electricity | a device that stores energy and gives it as current | turns a chemical change into current | wears out after many charges | drives phones and cars
an engine | fuel made motion | a machine that turns fuel into motion | burns fuel in small bursts | wastes part of its energy as heat | needs oil to run smoothly
a bridge | a road over gaps | a structure that carries a road over a gap | passes its load to the ground | moves a little in the wind | is built to hold far more than it must
a lever | a force multiplier | a bar on a pivot that makes a force larger | trades distance for strength | turns around a fixed point | is found in scissors and pumps
a clock | a time counter | a device that counts steady beats to show the time | depends on something that swings evenly | must be set now and then | lets people agree on a moment
a bicycle | a pedal machine | a machine with two wheels that a rider drives with pedals | stays up while it moves | needs less energy than walking | turns by leaning as well as steering
a habit | an automatic action | an action that we repeat without much thought | starts with a small cue | grows stronger each time | is easier to replace than to stop
memory | kept experience | the ability to keep what we have learnt | grows stronger with use | fades when it is never called on | rebuilds the past rather than replays it
sleep | nightly rest | a state of rest in which the mind and body recover | comes in waves through the night | helps the mind keep what it learnt | follows the light of the day
a rumour | unproven news | a story that spreads before anyone has checked it | travels faster than a correction | changes a little with each teller | fills a gap where facts are missing
a recipe | cooking steps | a list of steps and parts for making a dish | names each part and its amount | can be changed to taste | keeps a family's cooking alive
fermentation | microbes at work | a change in food that tiny living things bring about | turns sugar into acid or alcohol | keeps food from going bad | gives bread and cheese their taste
"""


def _parse(table: str) -> tuple[Topic, ...]:
    rows = []
    for line in table.strip().splitlines():
        phrase, gist, definition, *facts = (part.strip() for part in line.split("|"))
        rows.append(Topic(phrase, gist, definition, tuple(facts)))
    return tuple(rows)


TOPICS: tuple[Topic, ...] = _parse(_TABLE)


@cache
def split() -> tuple[tuple[Topic, ...], tuple[Topic, ...]]:
    """(training topics, held-out topics), disjoint, each in table order."""
    order = sorted(TOPICS, key=lambda t: hashlib.sha256((_SPLIT_SALT + t.name).encode()).hexdigest())
    held = {t.name for t in order[: round(len(TOPICS) * HELD_OUT_SHARE)]}
    return (
        tuple(t for t in TOPICS if t.name not in held),
        tuple(t for t in TOPICS if t.name in held),
    )


# Words that stand for things without facts: they teach the model to carry a name over from the question.
_PLAIN_NOUNS = """
lantern kettle harbour orchard ladder saddle mirror candle barrel anchor basket garden meadow canyon village
tunnel furnace pulley spindle loom quilt drum flute violin trumpet statue mosaic pottery canvas curtain
pillow carpet bucket hammer chisel anvil compass sextant map globe atlas diary letter stamp envelope ticket
timetable station platform carriage ferry canoe raft lighthouse windmill barn stable fence hedge gate chimney
attic cellar balcony staircase pavement lane avenue square fountain statute verdict jury witness senate
parliament mayor ballot petition charter guild union strike wage pension salary invoice receipt ledger auction
dividend bond stock merger patent tariff quota subsidy harvest plough seed root stem petal bark resin
sap moss fern lichen algae plankton coral sponge jellyfish beetle ant moth spider lizard turtle falcon owl
heron whale dolphin otter badger hedgehog reef lagoon delta estuary marsh prairie tundra plateau ridge
boulder pebble granite marble chalk clay quartz crystal copper bronze silver tin nickel zinc carbon helium
proton quark photon laser prism lens antenna satellite rocket orbit asteroid nebula galaxy meteor thunder fog frost
parser kernel pointer socket router packet server browser pixel buffer queue stack heap tree graph matrix
vector tensor integral derivative polygon cube sphere cylinder ellipse parabola theorem axiom lemma
sonnet ballad fable myth legend proverb riddle comedy tragedy opera ballet sculpture fresco
reflex muscle tendon artery kidney liver lung protein vitamin hormone antibody chromosome gene tissue
empathy patience courage jealousy curiosity attention instinct intuition
""".split()
_QUALIFIERS = "silent paper hidden moving simple double open closed broken golden distant inner outer cold".split()
_MASS = set(
    "pottery algae plankton moss resin sap granite marble chalk clay quartz copper bronze silver tin nickel zinc "
    "carbon helium thunder fog frost empathy patience courage jealousy curiosity attention instinct intuition".split()
)


def with_article(name: str) -> str:
    """``name`` with "a" or "an", by its first letter."""
    return ("an " if name[0] in "aeiou" else "a ") + name


@cache
def plain_topics() -> tuple[Topic, ...]:
    """Topics without facts, from a list of nouns that no table topic (held out or not) shares."""
    taken = {word for topic in TOPICS for word in topic.name.split()}
    nouns = [n for n in dict.fromkeys(_PLAIN_NOUNS) if n not in taken]
    rows = [Topic(n if n in _MASS else with_article(n)) for n in nouns]
    rows += [
        Topic(with_article(f"{_QUALIFIERS[i % len(_QUALIFIERS)]} {n}"))
        for i, n in enumerate(nouns)
        if n not in _MASS and i % 3 == 0
    ]
    return tuple(rows)
