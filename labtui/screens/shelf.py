from labtui.actions import bindings
from labtui.screens.base import BaseScreen
class Shelf(BaseScreen):
    SCOPE = "shelf"
    BINDINGS = bindings("shelf")
