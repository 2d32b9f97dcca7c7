"""What one password costs: CPU and memory of a hash, and CPU of the worst inputs that scoring has been found to have.

    python -m benchmarks.password_work

CPU is the least of five tries, so that a shared machine spoils it little.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable
from contextlib import suppress


def cpu_milliseconds(work: Callable[[], object], tries: int = 5) -> float:
    """User and system time of this process for one call, the least of some tries."""
    least = float("inf")
    for _ in range(tries):
        start = time.process_time()
        work()
        least = min(least, time.process_time() - start)
    return 1000 * least


def hashing() -> None:
    """argon2id: the least OWASP asks for, what is configured, and Django's default."""
    from django.contrib.auth.hashers import Argon2PasswordHasher

    from accounts.passwords.hashing import OneLaneArgon2Hasher

    class Least(Argon2PasswordHasher):
        time_cost, memory_cost, parallelism = 2, 19 * 1024, 1

    for name, hasher in (
        ("OWASP's least", Least()),
        ("ours", OneLaneArgon2Hasher()),
        ("Django", Argon2PasswordHasher()),
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cpu = cpu_milliseconds(lambda hasher=hasher: hasher.encode("umbrella cactus violin", "salt" * 6))  # type: ignore[misc]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        print(f"hash, {name:28} {cpu:7.0f} ms  {hasher.memory_cost // 1024:4} MiB (peak grew by {grown} MiB)")


def scoring() -> None:
    """A typical password, and those that cost zxcvbn or its surroundings most."""
    from accounts.exceptions import PasswordRejected
    from accounts.passwords import policy

    dice = random.Random(1)  # nosec B311 # noqa: S311 (the same inputs in every run)
    l33t = "4@8({[</369&#!1/|0$5+7%2/"
    digits = "".join(dice.choice("0123456789") for _ in range(1024))
    inputs = {
        "four words": "umbrella cactus violin raft",
        "72 symbols of l33t": (l33t * 3)[:72],
        "1,024 symbols of l33t": (l33t * 41)[:1024],
        "72 digits": digits[:72],
        "1,024 digits": digits,
        "1,024 letters in a row": "".join(chr(0x4E00 + number) for number in range(1024)),
        "1,024 of two letters": "".join(dice.choice("ab") for _ in range(1024)),
        "72 of dates": ("12/12/1912" * 8)[:71] + "x",
        "the service's name": "example-" * 128,
    }

    def work(password: str) -> None:
        with suppress(PasswordRejected):
            policy.check(policy.clean(password))
            policy.strength(password)

    for name, password in inputs.items():
        print(f"checkPassword, {name:24} {cpu_milliseconds(lambda text=password: work(text)):7.0f} ms")  # type: ignore[misc]


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    import django

    django.setup()
    hashing()
    scoring()


if __name__ == "__main__":
    main()
