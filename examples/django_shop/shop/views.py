"""Checkout through the outbox; leads on commit."""

import json
from decimal import Decimal

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from postback import InvalidEvent, tgtrack
from shop.models import Lead, Order

#: The most that the shop's bank lets through.
CARD_LIMIT = 100_000


class Declined(Exception):
    """The bank said no."""


def charge(order: Order) -> None:
    """Take the money."""
    if order.amount > CARD_LIMIT:
        raise Declined


@csrf_exempt
@require_POST
def checkout(request: HttpRequest) -> JsonResponse:
    """An order and its event are one transaction.

    Both are kept or neither, whether Redis is up or not.
    """
    cart = json.loads(request.body)
    try:
        with transaction.atomic():
            order = Order.objects.create(user_id=int(cart["user_id"]), amount=Decimal(str(cart["amount"])))
            event = tgtrack.AddEvent(
                user_id=order.user_id,
                event_type="sale",
                event_result="success",
                amount=order.amount,
                labels=[{"name": "order", "value": order.pk}],
            ).delay_via_outbox()
            charge(order)
    except Declined:
        return JsonResponse({"error": "declined"}, status=402)
    except InvalidEvent as wrong:
        return JsonResponse({"error": wrong.errors}, status=400)
    return JsonResponse({"order": order.pk, "event": event.id}, status=201)


@csrf_exempt
@require_POST
def lead(request: HttpRequest) -> JsonResponse:
    """A lead's event goes straight to Redis once the lead is committed.

    If Redis is away it is lost, and logged.
    """
    form = json.loads(request.body)
    with transaction.atomic():
        made = Lead.objects.create(user_id=form["user_id"], phone=form["phone"])
        tgtrack.SendReachGoal(user_id=made.user_id, target="lead").delay_on_commit()
    return JsonResponse({"lead": made.pk}, status=201)
