"""All benchmarks, one after another: ``make bench``."""

from __future__ import annotations

from benchmarks import batching, cost, producing, throughput


def main() -> None:
    """Print every figure of the README."""
    for part in (throughput, batching, cost, producing):
        print(f"\n{part.__name__.partition('.')[2]}\n", flush=True)
        part.main()


if __name__ == "__main__":
    main()
