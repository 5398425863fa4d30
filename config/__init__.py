"""What may vary between installations.

Settings from the environment, the accounts file, the providers' policies, the queue topology, Celery's and Flower's
configuration. This room imports only ``postback``; ``tasks`` and ``workers`` import it.
"""
