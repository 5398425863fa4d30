"""What the shop keeps."""

from django.db import models


class Order(models.Model):
    """One paid order."""

    #: The buyer's Telegram id.
    user_id = models.BigIntegerField()
    amount = models.DecimalField(max_digits=10, decimal_places=2)


class Lead(models.Model):
    """Somebody who left a phone number."""

    user_id = models.CharField(max_length=20)
    phone = models.CharField(max_length=20)


class DeadEvent(models.Model):
    """An event that could not be delivered; see ``shop.events``."""

    event_id = models.CharField(max_length=200, primary_key=True)
    task = models.CharField(max_length=100)
    reason = models.CharField(max_length=50)
