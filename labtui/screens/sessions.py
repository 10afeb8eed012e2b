from labtui.actions import bindings
from labtui.screens.base import BaseScreen
class Sessions(BaseScreen):
    SCOPE = "sessions"
    BINDINGS = bindings("sessions")
