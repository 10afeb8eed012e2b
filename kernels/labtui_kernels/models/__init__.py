"""Models: where they come from, what they are called inside, and what they must be told.

``load`` turns a name, a folder, a Hub id or a GGUF file into a
:class:`~labtui_kernels.models.load.LoadedModel`; ``families`` knows where each Qwen family keeps its blocks;
``chat`` renders messages to token ids.
"""
