-- The only clock: the server's, in ms with a fraction. It stands still while a script runs.

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = now_us / 1000
local DAY_MS = 86400000
