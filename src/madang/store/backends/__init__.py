"""Other engines behind the collection's interface, each a module that alone knows its client library.

They are found as entry points of the group `madang.stores`: a subclass of `EngineCollection` with `create(url, ...)`
and `open(url)`. `madang.testing.store_suite` tests any of them.
"""

from madang.base.errors import Unsupported
from madang.store.backends.capabilities import Capabilities
from madang.store.backends.engine import EngineCollection

__all__ = ["Capabilities", "EngineCollection", "Unsupported"]
