"""attacks - runs cases of the program `attack` and says how each ended.

Outcomes:
    report       an allocator's own message, or its abort, before harm was seen
    fault        the wrong access itself hit memory that can't be accessed
    refused      the call failed: null
    neutralised  the bug was without effect: the victims are unharmed, and so is the heap
    late         an allocator's message, but after harm was seen
    crash        the allocator fell over: a fault outside of the wrong access, or an endless loop
    missed       the attack did what it was to do, or the wrong call was carried out in silence
The first four count as stopped.
"""
import concurrent.futures
import os
import resource
import signal
import subprocess
from dataclasses import dataclass

STOPPED = ("report", "fault", "refused", "neutralised")
OUTCOMES = STOPPED + ("late", "crash", "missed")  # from the best to the worst
TIMEOUT_S = 20
NO_MEMORY = 3  # exit status of `attack` where an ordinary malloc gave null
DELIBERATE = (signal.SIGABRT, signal.SIGILL, signal.SIGTRAP)
JOBS = 2
# Fast: without samples, which find bugs by chance. Debug: reports without stacks, which take the most
# of their time, where that there is one is what counts.
TARN_MODES = {
    "fast": {"TARN_MODE": "fast", "TARN_OPTIONS": "sample_interval_bytes=0"},
    "hardened": {"TARN_MODE": "hardened", "TARN_OPTIONS": "sample_interval_bytes=0"},
    "debug": {"TARN_MODE": "debug", "TARN_OPTIONS": "stack_frames=0"},
    "pages": {"TARN_MODE": "debug", "TARN_OPTIONS": "stack_frames=0,debug=pages"},
}


@dataclass
class Case:
    name: str
    kind: str
    size: int
    text: str


@dataclass
class Result:
    outcome: str
    status: int
    stdout: str
    stderr: str


class BrokenRun(Exception):
    """The program itself did not do what it should."""


def cases(program):
    listing = subprocess.run([program, "--list"], stdout=subprocess.PIPE, text=True, check=True)
    rows = (line.split("\t") for line in listing.stdout.splitlines())
    return [Case(name, kind, int(size), text) for name, kind, size, text in rows]


def outcome_of(status, stdout, stderr):
    """`status` as of subprocess; None: it took too long."""
    lines = stdout.split()
    harm = "harm" in lines
    last = lines[-1] if lines else ""
    if status is None or status == NO_MEMORY:
        found = "crash"
    elif status == 0:
        if last not in ("neutralised", "refused", "missed"):
            raise BrokenRun(f"it ended with '{last}'")
        # Some name a size that they refuse, and some a bug, and go on.
        found = "report" if stderr and last != "refused" else last
        harm = harm or last == "missed"
    elif status > 0:
        if not stderr:
            raise BrokenRun(f"exit status {status}")
        found = "report"
    elif -status in DELIBERATE or stderr:
        found = "report"
    elif -status in (signal.SIGSEGV, signal.SIGBUS):
        found = "fault" if last == "access" else "crash"
    else:
        raise BrokenRun(f"ended by signal {-status}")
    if harm:
        return "late" if found == "report" else "missed"
    return found


def run(program, case, environment, tame=False):
    surroundings = {key: value for key, value in os.environ.items()
                    if key != "LD_PRELOAD" and not key.startswith("TARN_")}
    surroundings.update(environment)
    surroundings["LC_ALL"] = "C"
    command = [program] + (["--tame"] if tame else []) + [case.name]
    with subprocess.Popen(
            command, env=surroundings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))) as child:
        try:
            stdout, stderr = child.communicate(timeout=TIMEOUT_S)
            status = child.returncode
        except subprocess.TimeoutExpired:
            child.kill()
            stdout, stderr = child.communicate()
            status = None
    try:
        return Result(outcome_of(status, stdout, stderr), status, stdout, stderr)
    except BrokenRun as broken:
        raise BrokenRun(f"{case.name}: {broken}\n{stderr}") from None


def run_all(program, chosen, environment, tame=False):
    """The results of some cases, by name."""
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        results = pool.map(lambda case: run(program, case, environment, tame), chosen)
        return dict(zip((case.name for case in chosen), results))
