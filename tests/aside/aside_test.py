#!/usr/bin/env python3
"""aside_test.py TOOL LIBTARN LIBTARN_CORE - runs programs/ under a tool, without and with Tarn.

What the tool finds in each buggy program must be there both times, and a clean program be clean.
Under callgrind, which finds nothing, statistics say whether Tarn is in use. Exit status 77: the
compiler, its runtime or Valgrind is not installed."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COMPILERS = {"gcc": ("gcc", "g++"), "clang": ("clang-14", "clang++-14")}
SOURCES = {"buggy": "buggy.c", "mixed": "mixed.cpp", "prefixed": "prefixed.cpp"}

CLEAN = [("buggy", "clean", None), ("mixed", "clean", None), ("prefixed", "clean", None)]
# program, what it does, what the report must say, and the function it must name
ADDRESS = CLEAN + [
    ("buggy", "overflow", r"heap-buffer-overflow[\s\S]*0 bytes (?:to the right of|after) 21-byte"
                          r"[\s\S]*in take\b"),
    ("buggy", "use_after_free", r"heap-use-after-free[\s\S]*freed by[\s\S]*in use_after_free\b"),
    ("buggy", "leak", r"leak of \d+ byte\(s\) in (?:9|10) object[\s\S]*in take\b"),
    ("mixed", "mismatch", r"alloc-dealloc-mismatch \(operator new vs free\)[\s\S]*mismatch"),
    ("mixed", "array", r"alloc-dealloc-mismatch \(operator new \[\] vs operator delete\)"),
    ("mixed", "overflow", r"heap-buffer-overflow[\s\S]*(?:right of|after) 21-byte"),
    ("prefixed", "overflow", r"heap-buffer-overflow[\s\S]*21-byte"),
]
THREAD = CLEAN + [
    ("buggy", "race", r"data race[\s\S]*write_shared"),
    ("buggy", "use_after_free", r"heap-use-after-free[\s\S]*use_after_free"),
]
CASES = {
    "address": ADDRESS,
    "thread": THREAD,
    "memory": [CLEAN[0], ("buggy", "uninitialised", r"use-of-uninitialized-value[\s\S]*uninitialised")],
    "leak": CLEAN + [("buggy", "leak", r"leak of \d+ byte\(s\) in (?:9|10) object[\s\S]*in take\b")],
    "memcheck": CLEAN + [
        ("buggy", "overflow", r"Invalid write of size 1[\s\S]*0 bytes after a block of size 21 alloc"
                              r"[\s\S]*take"),
        ("buggy", "leak", r"(?:43,210 bytes in 10|38,889 bytes in 9) blocks are definitely lost"),
        ("buggy", "uninitialised", r"depends on uninitialised value[\s\S]*uninitialised"),
        ("mixed", "mismatch", r"Mismatched free\(\)[\s\S]*mismatch"),
        ("mixed", "array", r"Mismatched free\(\)[\s\S]*array"),
        ("prefixed", "overflow", r"Invalid write of size 1[\s\S]*0 bytes after a block of size 21"),
    ],
}
REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|ERROR SUMMARY: [1-9]|tarn:")


class Failed(Exception):
    pass


def skip(why):
    print("skipped:", why)
    sys.exit(77)


def build(folder, program, compilers, flags, core):
    source = HERE / "programs" / SOURCES[program]
    is_c = source.suffix == ".c"
    command = [compilers[0] if is_c else compilers[1], "-g", "-O1", "-fno-builtin", "-pthread",
               f"-I{ROOT / 'include'}", *([] if is_c else ["-std=c++20"]), *flags, source,
               "-o", folder / program]
    if program == "prefixed":
        command += [core, f"-Wl,-rpath,{core.parent}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        text = done.stderr
        if "cannot find" in text or "No such file" in text and "libclang_rt" in text:
            skip(f"{command[0]} has no runtime for {' '.join(flags)}")
        raise Failed(f"{command[0]} can't build {program}:\n{text}")


def run(command, what, preload, options=""):
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("TARN_", "LD_PRELOAD", "ASAN", "TSAN", "LSAN", "MSAN"))}
    environment["ASAN_OPTIONS"] = "verify_asan_link_order=0"
    if options:
        environment["TARN_OPTIONS"] = options
    if preload:
        environment["LD_PRELOAD"] = preload
    return subprocess.run([*command, what], env=environment, capture_output=True, text=True,
                          errors="replace", timeout=100)


def check(command, what, expected, preload):
    done = run(command, what, preload)
    said = done.stdout + done.stderr
    with_what = "with Tarn" if preload else "without"
    if expected is None:
        if done.returncode != 0 or REPORT.search(said):
            raise Failed(f"{command[-1].name} {what} {with_what}: status {done.returncode}\n{said}")
    elif not re.search(expected, said) or "tarn:" in said:
        raise Failed(f"{command[-1].name} {what} {with_what}: no {expected} in:\n{said}")


def check_counting(folder, library):
    """callgrind replaces no malloc: Tarn is in use where it is asked to stay."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
               folder / "buggy"]
    for options, is_in_use in (("", False), ("valgrind=stay", True)):
        file = folder / f"stats{len(options)}"
        settings = f"stats_file={file}" + (f",{options}" if options else "")
        done = run(command, "clean", str(library), settings)
        found = re.search(r"^(?:total_)?allocations\s+(\d+)", file.read_text(), re.M)
        if done.returncode != 0 or not found or (int(found[1]) > 500) != is_in_use:
            raise Failed(f"callgrind, '{options}': status {done.returncode}, "
                         f"{found and found[0]}\n{done.stderr}\n{file.read_text()[:2000]}")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    tool, *more = sys.argv[1].split("-")
    library, core = (pathlib.Path(each).resolve() for each in sys.argv[2:])
    is_valgrind = tool in ("memcheck", "callgrind")
    compilers = COMPILERS[more[0] if more else "gcc"]
    for each in [*compilers, *(["valgrind"] if is_valgrind else [])]:
        if not shutil.which(each):
            skip(f"{each} is not installed")
    flags = [] if is_valgrind else [f"-fsanitize={tool}"]
    if "shared" in more:
        runtime = subprocess.run([compilers[0], "-print-file-name=libclang_rt.asan-x86_64.so"],
                                 capture_output=True, text=True).stdout.strip()
        flags += ["-shared-libsan", f"-Wl,-rpath,{os.path.dirname(runtime)}"]
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            cases = CASES.get(tool, CLEAN[:1])
            for program in sorted({case[0] for case in cases}):
                build(folder, program, compilers, flags, core)
            if tool == "callgrind":
                check_counting(folder, stripped(library, folder))
                return
            if tool == "memcheck":
                library = stripped(library, folder)
            before = ["valgrind", "--leak-check=full"] if tool == "memcheck" else []
            for program, what, expected in cases:
                # A clean program says nothing of the tool.
                for preload in ["", str(library)][expected is None:]:
                    check([*before, folder / program], what, expected, preload)
    except Failed as failure:
        print(failure)
        sys.exit(1)


def stripped(library, folder):
    """Without line tables: valgrind 3.19 gives up on those of Clang 14."""
    target = folder / library.name
    subprocess.run(["strip", "-g", "-o", target, library], check=True)
    return target


main()
