"""How long a user waits before anything happens: `import lessen` under 0.2 s, `lessen --help` under 0.5 s.

    python benchmarks/startup.py

Fresh processes, median of 11 after one warm-up. The bare interpreter's own start is printed beside and is included.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 11
CASES = {
    "python -c pass": (["-c", "pass"], None),
    "import lessen": (["-c", "import lessen"], 0.2),
    "lessen --help": (["-m", "lessen", "--help"], 0.5),
    "lessen list Int8": (["-m", "lessen", "list", "Int8"], None),
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    failed = 0
    for name, (arguments, most) in CASES.items():
        seconds(arguments)
        times = sorted(seconds(arguments) for _ in range(RUNS))
        median, limit = statistics.median(times), f" (limit {most} s)" if most else ""
        print(f"{name}: median {median:.3f} s, {times[0]:.3f} to {times[-1]:.3f}, n = {RUNS}{limit}")
        failed |= bool(most and median > most)
    return failed


if __name__ == "__main__":
    sys.exit(main())
