"""The bundled vision-language model: what it is asked, how it is trained, and how it is judged."""
