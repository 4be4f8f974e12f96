from .journal import read_profile as read_profile
from .journal import write_profile as write_profile
from .meter import measure as measure
from .monitor import Monitor as Monitor
from .profile import EpochAccuracy as EpochAccuracy
from .profile import ProfileRow as ProfileRow
from .profile import TopologyProfile as TopologyProfile
from .projection import CloudView as CloudView
