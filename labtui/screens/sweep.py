from labtui.actions import bindings
from labtui.screens.base import BaseScreen
class Sweep(BaseScreen):
    SCOPE = "sweep"
    BINDINGS = bindings("sweep")
