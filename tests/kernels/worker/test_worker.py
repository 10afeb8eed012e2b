"""The real worker under a real broker, on the bundled model: streaming, the knob, pre-emption, death."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labtui.client import AsyncLab
from labtui.running import Run
from labtui_artifacts.errors import UsageError
from labtui_kernels.broker import daemon
from labtui_kernels.broker.config import KernelConfig
from tests.support import kernels

PATIENCE = 90.0
PROMPT = "Explain what a mutex is."


@pytest.fixture(autouse=True)
def toy(lab_home: Path) -> Iterator[int]:
    yield daemon.start(KernelConfig("toy", "toy-qwen3")).pid
    kernels.stop_all()


async def attach() -> AsyncLab:
    lab = await AsyncLab.connect("toy")
    await kernels.until(lab, lambda: lab.state.kernel.state in ("ready", "busy"), "the model", PATIENCE)
    return lab


def generate(**fields: Any) -> dict[str, Any]:
    edits = "|1|*random:7@llm.4@generated"
    return {"kind": "generate", "prompt": PROMPT, "edits": edits, "max_new_tokens": 24} | fields


async def test_answers_stream_and_the_hooks_are_clean_afterwards() -> None:
    lab = await attach()
    assert lab.state.model is not None and lab.state.model["family"] == "qwen3"
    job = Run(lab, generate())
    await job.submit()
    outcome = (await job.wait()).check()
    rows = {key: await lab.row_text(key) for key in outcome.rows}
    assert {row.arm for row in rows.values()} == {"plain", "steered"}
    for row in rows.values():
        assert row.text.strip() and row.text.startswith("".join(row.pieces)[:10])
        assert len(row.ids) == len(row.logprobs)
    assert outcome.audit is not None and outcome.audit["ok"]
    tokens = await lab.request("tokens", messages=[{"role": "user", "content": PROMPT}])
    assert "".join(tokens["pieces"]) == tokens["text"] and PROMPT in tokens["text"]
    with pytest.raises(UsageError, match="empty"):
        await lab.request("tokens", messages=[{"role": "user", "content": " "}])
    await lab.close()


async def test_a_knob_turned_while_text_streams_is_acknowledged_with_its_step() -> None:
    lab = await attach()
    job = (await lab.request("submit", spec=generate(max_new_tokens=400, stop=[], temperature=5.0)))["job"]

    def steered() -> Any:
        return next((row for row in lab.state.rows_of(job) if row.arm != "plain" and row.tokens > 2), None)

    row = await kernels.until(lab, steered, "some tokens", PATIENCE)
    await lab.request("knob", job=job, row=row.row, edit=0, strength="|2|")
    turned = await kernels.until(lab, lambda: lab.state.rows[row.key].knobs, "the knob", PATIENCE)
    assert turned[0].step > 0 and turned[0].text == "|2|"
    await lab.request("job.cancel", job=job)
    assert (await kernels.finished(lab, job, PATIENCE)).status == "cancelled"
    await lab.close()


async def test_a_sweep_is_preempted_killed_and_goes_on_from_its_cells() -> None:
    lab = await attach()
    spec = {
        "kind": "sweep",
        "prompts": [PROMPT, "What is a hash table?", "Describe a river.", "Why do leaves fall?"],
        "directions": ["random:1"],
        "sites": "llm.2,4",
        "strengths": ["4%", "8%"],
        "max_new_tokens": 40,
        "batch": 2,
        "controls": "none",
        "metrics": ["words"],
    }
    job = (await lab.request("submit", spec=spec))["job"]
    await kernels.until(lab, lambda: lab.state.jobs[job].cells >= 2, "two cells", PATIENCE)
    quick = (await lab.request("submit", spec=generate(max_new_tokens=4)))["job"]
    assert (await kernels.finished(lab, quick, PATIENCE)).status == "done"
    assert lab.state.jobs[job].live, "the sweep was to be pre-empted, not waited for"
    committed = [event for event in kernels.journal(lab.session) if event.kind == "cell.committed"]
    kernels.kill((await lab.request("info"))["worker_pid"])
    view = await kernels.finished(lab, job, PATIENCE)
    assert (view.status, view.cells) == ("done", view.plan["cells"])
    after = [event for event in kernels.journal(lab.session) if event.kind == "cell.committed"]
    assert after[: len(committed)] == committed
    assert len({event.data["cell"] for event in after if event.data["job"] == job}) == view.cells
    await lab.close()


async def test_the_worker_dies_with_its_broker_while_it_loads(toy: int) -> None:
    lab = await AsyncLab.connect("toy")
    info: dict[str, Any] = {}
    while not info.get("worker_pid"):
        info = await lab.request("info")
    kernels.kill(toy)
    kernels.wait_for(lambda: not kernels.alive(info["worker_pid"]), "the worker's end")
    await lab.close()
