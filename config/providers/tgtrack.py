"""TGTrack: its policy."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from config.policy import Credential, Policy, Setting
from postback.wire.windows import parse_windows

#: Days after a user's start in which a goal still counts. Source: TGTrack service API,
#: send_reach_goal: «Цель можно передавать в течение 21 дня с момента подписки … или старта вашего
#: бота».
GOAL_DAYS: Final = Setting("goal_days", 21, low=1, high=3650)

POLICY: Final = Policy(
    provider="tgtrack",
    # Source: TGTrack service API, «Запрос к API»: https://bot-api.tgtrack.ru/v1/API_КЛЮЧ/МЕТОД_API,
    # one key per channel or bot.
    credentials=(Credential("api_key", "path"),),
    base_urls=MappingProxyType({"": "https://bot-api.tgtrack.ru"}),
    version_path="/v1",
    # Source: TGTrack service API, «Лимиты на использование API»: by default 3 requests a second,
    # 500 an hour, 5000 a day for each key.
    windows=parse_windows("3/second; 500/hour; 5000/day"),
    own=(GOAL_DAYS,),
)
