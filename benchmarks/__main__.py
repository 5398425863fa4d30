"""All benchmarks, one after another: ``make bench``."""

from __future__ import annotations

from benchmarks import batching, cost, producing, sending, throughput


def main() -> None:
    """Print every figure of the README."""
    for part in (throughput, batching, sending, cost, producing):
        print(f"\n{part.__name__.partition('.')[2]}\n", flush=True)
        part.main()


if __name__ == "__main__":
    main()
