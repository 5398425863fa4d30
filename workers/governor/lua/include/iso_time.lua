-- iso_ms(text): "2026-11-22T01:02:03.5+00:00" in ms of the epoch; nil if it is no time. O(1).

-- Days from 1970-01-01 to a date of the Gregorian calendar.
local function days_of(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local year_of_era = year - era * 400
  local day_of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  return era * 146097 + year_of_era * 365 + math.floor(year_of_era / 4) - math.floor(year_of_era / 100)
    + day_of_year - 719468
end

-- Milliseconds that a zone is ahead of UTC; nil if it is no zone. Celery sends UTC without a zone.
local function zone_ms(text)
  local sign, hours, minutes = string.match(text, '^([+-])(%d%d):?(%d?%d?)')
  if sign then return (sign == '+' and 1 or -1) * (tonumber(hours) * 60 + (tonumber(minutes) or 0)) * 60000 end
  if text == '' or text == 'Z' or text == 'z' then return 0 end
end

local function iso_ms(text)
  local y, mo, d, h, mi, s, rest = string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)[T ](%d%d):(%d%d):(%d%d)(.*)$')
  if not y then return nil end
  y, mo, d, h, mi, s = tonumber(y), tonumber(mo), tonumber(d), tonumber(h), tonumber(mi), tonumber(s)
  if mo < 1 or mo > 12 or d < 1 or d > 31 or h > 23 or mi > 59 or s > 59 then return nil end
  local fraction, zone = string.match(rest, '^%.(%d%d?%d?)%d*(.*)$')
  if fraction then s = s + tonumber('0.' .. fraction) end
  local ahead_ms = zone_ms(zone or rest)
  return ahead_ms and (((days_of(y, mo, d) * 24 + h) * 60 + mi) * 60 + s) * 1000 - ahead_ms
end
