"""What may vary between installations.

Here are the settings from the environment, the accounts file, the providers' policies, the queues,
and the configuration of Celery and Flower. This room imports only ``postback``. ``tasks`` and
``workers`` import it.
"""
