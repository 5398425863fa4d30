"""A shop on FastAPI: reports its sales, forwards Telegram's updates and looks customers up."""

import hmac
import json
import os
from decimal import Decimal
from typing import Annotated, Any

from celery.exceptions import TimeoutError as NoResultInTime
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from postback import DeadLettered, InvalidEvent, SendError, tgtrack

app = FastAPI()

#: What setWebhook was given as secret_token.
SECRET_TOKEN = os.environ.get("BOT_SECRET_TOKEN", "only-for-this-example")


class Order(BaseModel):
    """What a customer buys."""

    user_id: str
    amount: Decimal


@app.exception_handler(SendError)
async def redis_is_away(request: Request, error: SendError) -> PlainTextResponse:
    """Ask the client to try again; the keys make that harmless."""
    return PlainTextResponse("Redis is away, send it again", 503)


@app.exception_handler(InvalidEvent)
async def invalid(request: Request, error: InvalidEvent) -> PlainTextResponse:
    """Say which field is wrong."""
    return PlainTextResponse(str(error), 400)


@app.put("/orders/{number}")
async def checkout(number: int, order: Order) -> dict[str, str]:
    """Keep an order and report its sale."""
    # … the order is written into the database here.
    sale = tgtrack.AddEvent(user_id=order.user_id, event_type="sale", event_result="success", amount=order.amount)
    result = await sale.adelay(idempotency_key=f"order-{number}")
    return {"event": result.id}


@app.post("/telegram")
async def telegram(request: Request, x_telegram_bot_api_secret_token: Annotated[str, Header()] = "") -> None:
    """Forward one update, byte for byte."""
    if not hmac.compare_digest(x_telegram_bot_api_secret_token.encode(), SECRET_TOKEN.encode()):
        raise HTTPException(403)
    body = await request.body()
    update = tgtrack.OnTelegramWebhook.load(body)
    await update.adelay(idempotency_key=f"update-{json.loads(body)['update_id']}")


@app.get("/customers/{user_id}")
async def customer(user_id: int) -> dict[str, Any]:
    """What TGTrack knows of a customer."""
    result = await tgtrack.GetUserInfo(user_id=user_id).adelay()
    try:
        return await result.aget(timeout=10)
    except NoResultInTime:
        raise HTTPException(504, "TGTrack has not answered in time") from None
    except DeadLettered as dead:  # the reason, and TGTrack's words
        raise HTTPException(502, str(dead)) from None
