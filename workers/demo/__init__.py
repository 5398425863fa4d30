"""``make demo``: the whole of Postback on one machine, in under a minute, with nothing installed but Python.

``stage`` starts and ends the processes, ``scenario`` is what is sent and what must come of it,
``board`` reads and shows the numbers.
"""
