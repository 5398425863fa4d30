"""``make demo`` shows the whole of Postback on one machine in under a minute.

It needs nothing but Python.

``stage`` starts and ends the processes, ``scenario`` is what is sent and what must come of it,
``board`` reads and shows the numbers.
"""
