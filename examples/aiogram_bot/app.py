"""A bot on aiogram: hands every update on to TGTrack byte for byte, and reports its sales."""

import json
import os
from decimal import Decimal

from aiogram import Bot, Dispatcher, F
from aiogram.types import Message
from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
from aiohttp import web

from postback import InvalidEvent, SendError, tgtrack

TOKEN = os.environ.get("BOT_TOKEN", "42:only-for-this-example")
#: What setWebhook was given as secret_token.
SECRET_TOKEN = os.environ.get("BOT_SECRET_TOKEN", "only-for-this-example")

dispatcher = Dispatcher()


@dispatcher.message(F.successful_payment)
async def paid(message: Message) -> None:
    """Report a sale; the payment's id keeps a repeated update from counting twice."""
    payment = message.successful_payment
    # Telegram counts in kopecks and cents. Stars (XTR) have no smaller unit.
    amount = Decimal(payment.total_amount) / (1 if payment.currency == "XTR" else 100)
    sale = tgtrack.AddEvent(user_id=message.from_user.id, event_type="sale", event_result="success", amount=amount)
    await sale.adelay(idempotency_key=f"payment-{payment.telegram_payment_charge_id}")


# … the bot's other handlers go here.


class Webhook(SimpleRequestHandler):
    """Forwards an update before aiogram reads it.

    Telegram repeats an update that was not answered with 200; the key makes that harmless.
    """

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one update."""
        if not self.verify_secret(request.headers.get("X-Telegram-Bot-Api-Secret-Token", ""), self.bot):
            return web.Response(status=403)
        body = await request.read()
        try:
            update = tgtrack.OnTelegramWebhook.load(body)
            await update.adelay(idempotency_key=f"update-{json.loads(body)['update_id']}")
            return await super().handle(request)
        except InvalidEvent as wrong:
            return web.Response(text=str(wrong), status=400)
        except SendError:
            return web.Response(text="Redis is away, send it again", status=503)


def make_app() -> web.Application:
    """The web application, one for each event loop."""
    app, bot = web.Application(), Bot(TOKEN)
    # In the background, a sale that could not be reported would be answered with 200 all the same.
    Webhook(dispatcher, bot, handle_in_background=False, secret_token=SECRET_TOKEN).register(app, path="/telegram")
    setup_application(app, dispatcher, bot=bot)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
