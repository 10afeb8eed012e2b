"""The bundled teaching models: how their texts are made, how they are trained, and how they are judged."""
