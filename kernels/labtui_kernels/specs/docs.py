"""What each field of a spec means, in a line: for templates, help and forms."""

from __future__ import annotations

SHARED: dict[str, str] = {
    "system": "system prompt; empty for none; a chat's own wins",
    "thinking": "Qwen3's thinking mode; left out: off where the model has that switch",
    "prefill": "text that the answer begins with",
    "max_new_tokens": "longest answer, in tokens",
    "temperature": "0 takes the most probable token",
    "top_p": "1 keeps the whole vocabulary",
    "top_k": "0 keeps the whole vocabulary",
    "stop": "texts that end an answer (they are left out of it)",
    "prompt": "a text, or chat messages of several turns",
    "name": "under which it is kept",
    "replace": "overwrite an artifact of that name",
    "force": "use directions of another model; the record says so",
}
"""Fields that mean the same in every kind."""

FIELDS: dict[str, dict[str, str]] = {
    "generate": {
        "edits": 'for example "2.0*terse@llm.12"; empty for none',
        "plain": "also answer without the edits",
        "n": "answers an arm, with seeds seed, seed+1, ...",
        "seed": "matters when temperature > 0",
        "surprise": "each token's log-probability under the unsteered model too",
    },
    "direction": {
        "method": "pair | mean-difference | pca | logistic | random",
        "sites": "where it is read",
        "style": "a bundled axis: terse, formal, socratic, dry; or positive and negative",
        "positive": "the positive pole: texts or chats",
        "negative": "the negative pole, one for each positive",
        "system": "system prompt of texts; empty for none",
        "read": "pooling and place: last, mean@content, max@prompt",
        "norm": 'for random only: its norm, "8%" or "|39|"',
        "seed": "of random directions and of the split halves",
    },
    "sweep": {
        "prompts": 'texts or chats; or { file = "p.txt" } (one a line), { set = "neutral" }',
        "directions": 'stored names or expressions: "0.5*terse - 0.2*formal", "-terse", "random:7"',
        "sites": '"llm.8-20", "llm.0,4,8", "llm.*.mlp", "llm.12+14" (both at once)',
        "strengths": 'α (2.0), absolute norm ("|39|"), % of the reference norm ("8%")',
        "dose": "each | total: sites that act at once get the strength each, or share it",
        "where": "all, prompt, last, generated, generated[0:20], content, [0,-1]; or a list of them",
        "seeds": "one row a seed; more than one needs temperature > 0",
        "metrics": "words, perplexity, kl, coherent, style:AXIS, lens:NAME, margin:SET, cosine:DIRECTION@SITE, ...",
        "controls": "auto | none | { random = 10, shuffled = 10, negated = true, zero = true, prompt = true }",
        "batch": "rows decoded together; 0 leaves it to the kernel",
        "table": "the table's name in the session; empty: the job's id",
        "confirm": "needed for a plan of more than 20,000 rows",
    },
    "rerun": {
        "rows": "the recorded rows of a session",
        "source": "the session where they were recorded",
        "dtype": "the dtype they were recorded in",
        "tolerance": "largest difference of log-probability, in nats",
        "model": "the model they were recorded on",
        "any_model": "run on another model than the recorded one",
        "directions": "a name in the edits -> its name in this store",
    },
    "patch": {
        "site": "where the activation is taken and put",
        "position": "token position; negative from the prompt's end, past it: generated",
        "edits": "of the steered arm",
        "source": "the arm that gives: steered | plain; the other receives",
        "answer": "the giving arm's generated tokens, for a position among them",
        "row": "the giving row's id, for the record",
        "name": "under which the activation is kept; empty: the job's id",
    },
    "compose": {
        "expr": 'for example "0.5*terse - 0.2*formal"',
        "sites": "empty: every site that all of them have",
    },
    "reference": {
        "sites": "where",
        "set": "a bundled prompt set",
    },
    "calibrate": {
        "direction": 'a stored name or an expression: "0.5*terse - 0.2*formal", "-terse"',
        "sites": '"llm.*", "llm.0,4,8", "llm.12+14" (both at once)',
        "outcome": "the metric whose effect is held against the null: words, style:AXIS, lens:NAME, ...",
        "prompts": 'texts or chats; or { file = "p.txt" } (one a line), { set = "bleed" } (40 neutral topics)',
        "weakest": "first strength, in % of the reference norm",
        "strongest": "last strength, in % of the reference norm",
        "steps": "log-spaced strengths from the first to the last",
        "few": "prompts of a first look at a strength",
        "nulls": "random and shuffled-label directions at a strength, 2 prompts each; 0: only the collapse",
        "share": "at most this part of the full grid's rows is run, null rows included on both sides",
        "dose": "each | total: sites that act at once get the strength each, or share it",
        "where": "all, prompt, last, generated, generated[0:20], content, [0,-1]",
        "seed": "matters when temperature > 0",
        "metrics": "more metrics of every row; outcome and coherent are always measured",
        "batch": "rows decoded together; 0 leaves it to the kernel",
        "table": "the table's name in the session; empty: the job's id",
        "confirm": "needed for more than 20,000 rows",
    },
    "match": {
        "direction": 'a stored name or an expression: "0.5*terse - 0.2*formal", "-terse"',
        "sites": '"llm.*", "llm.0,4,8", "llm.12+14" (both at once)',
        "kl": "mean teacher-forced KL(steered || unsteered) to reach, in nats; or leave it out and give like",
        "like": 'an edit whose KL is to be reached: "8%*terse@llm.4"',
        "tolerance": "how near, as a share of the target",
        "strongest": "no strength beyond this is tried, in % of the reference norm",
        "prompts": 'texts or chats; or { file = "p.txt" } (one a line), { set = "bleed" } (40 neutral topics)',
        "dose": "each | total: sites that act at once get the strength each, or share it",
        "where": "all, prompt, last, generated, generated[0:20], content, [0,-1]",
        "seed": "matters when temperature > 0",
        "max_new_tokens": "longest unsteered answer that the KL is taken along",
        "batch": "rows decoded together; 0 leaves it to the kernel",
        "table": "the table's name in the session; empty: the job's id",
    },
}
"""Kind -> field -> meaning."""


def describe(kind: str) -> dict[str, str]:
    """What the fields of a kind mean, by name; a field without an entry speaks for itself."""
    return {**SHARED, **FIELDS[kind]}
