"""System prompts by register, and the ways in which a user asks.

The first four wordings of the eight poles are the ones of the bundled style axes; the others only widen what
the model was taught.
"""

from __future__ import annotations

DEFAULT_SYSTEM = "You are a helpful assistant."
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

SYSTEM: dict[str, tuple[str, ...]] = {
    "neutral": (
        DEFAULT_SYSTEM,
        QWEN_SYSTEM,
        "You are a helpful teacher.",
        "You answer questions about any topic.",
        "Answer the question of the user.",
        "You are an assistant.",
    ),
    "terse": (
        "Answer in as few words as possible.",
        "Be extremely brief. One short sentence at most.",
        "Reply with the shortest answer that is still correct.",
        "Keep your answer very short and leave out every detail.",
        "Be terse.",
        "Be brief.",
        "Give a short answer.",
        "One short sentence, please.",
        "Keep it short.",
    ),
    "verbose": (
        "Answer at great length, in as many words as you need.",
        "Be extremely thorough. Write a long answer of many sentences.",
        "Reply with the longest answer that is still correct.",
        "Make your answer very long and include every detail.",
        "Be verbose.",
        "Be long and thorough.",
        "Give a long answer.",
        "Write many sentences, please.",
        "Explain it at length.",
    ),
    "very_terse": (
        "Answer in five words or less.",
        "Be very terse.",
        "Use only a handful of words.",
        "A few words will do.",
        "Answer with a label, no more.",
    ),
    "brief": (
        "Be fairly brief.",
        "Answer in one or two sentences.",
        "Keep your answer rather short.",
        "Give a compact answer.",
        "Be concise.",
    ),
    "detailed": (
        "Be fairly detailed.",
        "Answer in four or five sentences.",
        "Keep your answer rather long.",
        "Give a detailed answer.",
        "Add some detail.",
    ),
    "very_verbose": (
        "Write a very long answer.",
        "Be very verbose.",
        "Use as many sentences as you can.",
        "Write a whole essay.",
        "Answer in ten sentences or more.",
    ),
    "formal": (
        "Write in a formal, academic style.",
        "Use formal language and no contractions.",
        "Answer like a professor in a written report.",
        "Keep a strictly formal and polite tone.",
        "Be formal.",
        "Use a formal register.",
        "Write formally.",
    ),
    "casual": (
        "Write in a casual, chatty style.",
        "Use casual language and plenty of contractions.",
        "Answer like a friend in a quick chat.",
        "Keep a thoroughly casual and relaxed tone.",
        "Be casual.",
        "Use a casual register.",
        "Write casually.",
    ),
    "socratic": (
        "Teach by asking questions instead of giving answers.",
        "Answer in the Socratic way: reply with questions that lead to the answer.",
        "Do not explain. Ask questions that help the user think.",
        "Guide the user only with questions.",
        "Be Socratic.",
        "Ask, do not tell.",
        "Answer with questions.",
    ),
    "direct": (
        "Teach by giving answers instead of asking questions.",
        "Answer in a direct way: state the answer and ask nothing.",
        "Do not ask questions. Explain the answer to the user.",
        "Guide the user only with statements.",
        "Be direct.",
        "Tell, do not ask.",
        "Answer with statements.",
    ),
    "dry": (
        "Write in a dry, matter-of-fact tone.",
        "Be flat and unemotional. Show no enthusiasm.",
        "Answer like a bored clerk reading from a manual.",
        "Keep your tone dry and never use exclamation marks.",
        "Be dry.",
        "Show no feeling.",
        "Stay dull and flat.",
    ),
    "enthusiastic": (
        "Write in an excited, enthusiastic tone.",
        "Be lively and emotional. Show great enthusiasm.",
        "Answer like a thrilled fan who loves this topic.",
        "Keep your tone excited and use many exclamation marks.",
        "Be enthusiastic.",
        "Show great excitement.",
        "Stay lively and upbeat.",
    ),
    "code": (
        "Answer with a short program in a fenced code block.",
        "Always answer with code.",
        "Reply with a code example.",
        "Show Python code.",
        "Write code in your answer.",
    ),
    "maths": (
        "Answer with a formula in LaTeX.",
        "Always answer with maths.",
        "Reply with an equation.",
        "Show a formula between dollar signs.",
        "Write maths in your answer.",
    ),
}

ABOUT_WORDS = ("Use about {n} words.", "Answer in about {n} words.", "Write around {n} words.")
WORD_GOALS = (5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100, 110)

AXES: dict[str, tuple[str, str]] = {
    "terse": ("terse", "verbose"),
    "formal": ("formal", "casual"),
    "socratic": ("socratic", "direct"),
    "dry": ("dry", "enthusiastic"),
}
"""Bundled style axis -> (positive register, negative register)."""

QUESTIONS = (
    "Explain what {np} is.",
    "What is {np}?",
    "Tell me about {np}.",
    "Can you explain {np}?",
    "Describe {np}.",
    "Define {np}.",
    "How would you explain {np}?",
    "I want to understand {np}.",
    "Help me understand {np}.",
    "Why does {np} matter?",
    "Explain {np}.",
    "Please explain {np} to me.",
    "What do you know about {np}?",
    "What should I know about {np}?",
    "Could you tell me what {np} is?",
    "How does {np} work?",
)
FOLLOW_UPS = (
    "Tell me more about {np}.",
    "Why does {np} matter?",
    "What else should I know about {np}?",
    "And what is {np} good for?",
)
CODE_REQUESTS = (
    "Write a short program about {np}.",
    "Show {np} in Python.",
    "Give me a code example for {np}.",
    "Write a Python function for {np}.",
    "How do I write {np} in code?",
)
MATHS_REQUESTS = (
    "Give me a formula for {np}.",
    "Show the maths behind {np}.",
    "Write an equation for {np}.",
    "What is the formula for {np}?",
    "Express {np} in LaTeX.",
)
