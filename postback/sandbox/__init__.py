"""``postback sandbox``: a faithful local server of all providers.

For development without a real key, for demos and for tests.

From a shell::

    postback sandbox                        # http://127.0.0.1:8900, its page: /_sandbox/

From Python::

    from postback.sandbox import Sandbox

    with Sandbox() as sandbox:
        ...                                 # base_url = sandbox.url
        assert len(sandbox.events("tgtrack")) == 1

The server needs nothing but the standard library, its command Click; both are imported only when
asked for.
"""

from .exchange import fingerprint
from .faults import Fault
from .ledger import Record
from .sandbox import Sandbox

__all__ = ["Fault", "Record", "Sandbox", "fingerprint"]
