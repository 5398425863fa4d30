"""The shop's own tests: ``python manage.py test``."""

from django.test import TestCase

from postback import tgtrack
from postback.testing import collect
from shop.models import Order


class Checkout(TestCase):
    """What checkout reports."""

    def buy(self, amount: int) -> int:
        """The answer's status.

        What a commit sends is sent although the test's own transaction never commits.
        """
        with self.captureOnCommitCallbacks(execute=True):
            cart = {"user_id": "98765", "amount": amount}
            return self.client.post("/orders", cart, content_type="application/json").status_code

    def test_a_sale_is_reported(self) -> None:
        """One event with the order's number and amount."""
        with collect() as outbox:
            assert self.buy(1500) == 201
        order = Order.objects.get()
        outbox.assert_sent(
            [
                tgtrack.AddEvent(
                    user_id="98765",
                    event_type="sale",
                    event_result="success",
                    amount=1500.0,
                    labels=[{"name": "order", "value": order.pk}],
                )
            ]
        )

    def test_a_declined_card_reports_nothing(self) -> None:
        """The event is rolled back with the order."""
        with collect() as outbox:
            assert self.buy(100_001) == 402
        assert not Order.objects.exists()
        outbox.assert_sent([])

    def test_a_lead(self) -> None:
        """Its goal is reached on commit."""
        with collect() as outbox, self.captureOnCommitCallbacks(execute=True):
            self.client.post("/leads", {"user_id": "98765", "phone": "+7"}, content_type="application/json")
        outbox.assert_sent([tgtrack.SendReachGoal(user_id="98765", target="lead")])
