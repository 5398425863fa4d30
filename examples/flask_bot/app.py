"""A bot's webhook: hands every Telegram update on to TGTrack, byte for byte."""

import hmac
import os

from flask import Flask, abort, request

from postback import InvalidEvent, SendError, tgtrack
from postback.contrib.flask import Postback

app = Flask(__name__)
app.config["POSTBACK_BROKER_URL"] = os.environ.get("POSTBACK_BROKER_URL", "redis://127.0.0.1:6379/0")
Postback(app)

#: What setWebhook was given as secret_token.
SECRET_TOKEN = os.environ.get("BOT_SECRET_TOKEN", "only-for-this-example")


@app.post("/telegram")
def telegram() -> tuple[str, int]:
    """Forward one update.

    Telegram repeats an update that was not answered with 200; the key makes that harmless.
    """
    if not hmac.compare_digest(request.headers.get("X-Telegram-Bot-Api-Secret-Token", ""), SECRET_TOKEN):
        abort(403)
    try:
        update = tgtrack.OnTelegramWebhook.load(request.get_data())
        update.apply_async(idempotency_key=f"update-{request.get_json()['update_id']}")
    except InvalidEvent as wrong:
        return str(wrong), 400
    except SendError:
        return "Redis is away, send it again", 503
    # … the bot's own work goes here.
    return "", 200
