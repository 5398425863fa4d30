"""``python -m workers.devkit [PORT]``: a Redis for trying out, until Ctrl-C. Nothing is kept."""

from __future__ import annotations

import signal
import sys

from workers.devkit.redis_server import RedisServer


def main(arguments: list[str]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        arguments: The port; none: 6379.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with RedisServer(int(arguments[0]) if arguments else 6379) as server:
            print(f"Redis for trying out, on {server.url}. Nothing is kept. Ctrl-C ends it.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    except (RuntimeError, ValueError) as failed:
        sys.exit(f"no Redis: {str(failed).strip().splitlines()[-1].rpartition('# ')[2]}")


if __name__ == "__main__":
    main(sys.argv[1:])
