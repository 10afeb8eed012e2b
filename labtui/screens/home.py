from labtui.actions import bindings
from labtui.screens.base import BaseScreen
class Home(BaseScreen):
    SCOPE = "home"
    BINDINGS = bindings("home")
