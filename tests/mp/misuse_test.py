"""misuse_test PROGRAM - each misuse of tarn/mp.h is reported with the exact first line.

Runs the ways of misuse.c with the pool's defaults and variants. Of texts, {block} and {pointer}
stand for addresses that the program announced.
"""
import json
import re
import signal
import subprocess
import sys
import unittest

PROGRAM = ""
TIMEOUT_S = 100

OVERFLOW = "tarn: heap-buffer-overflow: wrote 3 bytes past the end of 100-byte block {block}"
UNDERFLOW = "tarn: heap-buffer-underflow: wrote 1 byte, 1 byte before the start of 100-byte block {block}"
DOUBLE = "tarn: double-free: mp_free of already freed 64-byte block {block}"
MISMATCH = "tarn: alloc-dealloc-mismatch: %d-byte block of %s with %s: {block}"

# Of each way the first lines of its reports.
FIRST_LINES = {
    "overflow": [OVERFLOW],
    "underflow": [UNDERFLOW],
    "far_underflow": [
        "tarn: heap-buffer-underflow: wrote 8 bytes, 30 bytes before the start of 100-byte block "
        "{block}"],
    "overflow_checked": [
        "tarn: heap-buffer-overflow: wrote 1 byte past the end of 5000-byte block {block}"],
    "use_after_free": [
        "tarn: heap-use-after-free: wrote 1 byte, 40 bytes into freed 100-byte block {block}"],
    "double_free": [DOUBLE],
    "double_realloc": ["tarn: double-free: mp_realloc of already freed 64-byte block {block}"],
    "free_of_malloc": [MISMATCH % (112, "malloc freed", "mp_free")],
    "free_of_stack": ["tarn: foreign-free: mp_free of a pointer into no block: {pointer}"],
    "interior": ["tarn: interior-free: mp_free of a pointer 16 bytes into 100-byte block {block}"],
    "freed_with_free": [MISMATCH % (100, "mp_alloc freed", "free")],
    "large_freed_with_free": [MISMATCH % (10000, "mp_alloc freed", "free")],
    "resized_with_realloc": [MISMATCH % (100, "mp_alloc resized", "realloc")],
    "usable_size_foreign": [
        "tarn: foreign-free: mp_usable_size of a pointer into no block: {pointer}"],
    "product": ["tarn: mp-misuse: mp_calloc of 18446744073709551615 * 3 bytes: "
                "more than there can be; caller {any}"],
    "destroy_first": ["tarn: mp-misuse: mp_destroy before mp_init; caller {any}"],
    "options": ["tarn: mp_init: mp_options::guard_before makes no sense",
                "tarn: mp_init: mp_options::frames makes no sense",
                "tarn: mp_init: mp_options::report_path makes no sense",
                "tarn: mp_init: mp_options::size makes no sense"],
}

# Each takes some time: a process that looks functions up.
SOME = {"overflow", "use_after_free", "double_free", "freed_with_free", "interior", "product"}

# Not found by a look at blocks, or not a misuse of one.
NOT_FINDINGS = {"product", "destroy_first", "options"}

STATS = """\
tarn: mp statistics: 2 live blocks of 5100 bytes, 1 freed ones of 128 bytes held, 3 allocations
tarn:   block bytes      total     in use       held       free       peak  chunk bytes  allocations
tarn:            32          0          0          0          0          0            0            0
tarn:            64          0          0          0          0          0            0            0
tarn:           128        372          1          1        370          2        65536            2
tarn:           256          0          0          0          0          0            0            0
tarn:           512          0          0          0          0          0            0            0
tarn:          1024          0          0          0          0          0            0            0
tarn:          2048          0          0          0          0          0            0            0
tarn:          4096          0          0          0          0          0            0            0
tarn:        larger          -          1          0          -          1            -            1
"""


def run(way, *options):
    done = subprocess.run([PROGRAM, way, *options], capture_output=True, text=True,
                          timeout=TIMEOUT_S, check=False)
    return done.returncode, done.stdout, done.stderr


def values_of(stdout):
    return dict(re.findall(r"^(\w+) (0x[0-9a-f]+)$", stdout, re.MULTILINE))


def is_line(expected, line, values):
    pattern = re.escape(expected)
    for name, value in values.items():
        pattern = pattern.replace(re.escape("{" + name + "}"), value)
    return re.fullmatch(pattern.replace(re.escape("{any}"), "0x[0-9a-f]+"), line) is not None


class Misuse(unittest.TestCase):
    def survive(self, way, *options):
        status, stdout, stderr = run(way, *options)
        self.assertEqual((status, stdout.splitlines()[-1:]), (0, ["survived"]),
                         f"{way} {options}\n{stdout}{stderr}")
        return values_of(stdout), stderr

    def test_first_lines(self):
        for options in [(), ("plain",), ("frames=0",)]:
            for way, expected in FIRST_LINES.items():
                if options and way not in SOME:
                    continue
                with self.subTest(way=way, options=options):
                    values, stderr = self.survive(way, *options)
                    lines = [line for line in stderr.splitlines() if line.startswith("tarn: ")]
                    self.assertEqual(len(lines), len(expected), stderr)
                    for line, wanted in zip(lines, expected):
                        self.assertTrue(is_line(wanted, line, values), f"{line}\nnot {wanted}")

    def test_three_stacks_of_a_double_free(self):
        for options in [(), ("now",)]:
            _, stderr = self.survive("double_free", *options)
            found = re.fullmatch(
                r"tarn: double-free.*\n  now in thread .*?double_free.*\n  allocated in thread "
                r".*?block_of.*\n  freed in thread .*?double_free.*", stderr, re.DOTALL)
            self.assertIsNotNone(found, stderr)

    def test_no_stacks_where_none_are_wanted(self):
        _, stderr = self.survive("double_free", "frames=0")
        self.assertEqual(stderr.count("no stack was kept"), 2, stderr)

    def test_abort(self):
        for way in SOME:
            with self.subTest(way=way):
                status, stdout, stderr = run(way, "abort")
                self.assertEqual(status, -signal.SIGABRT, stdout + stderr)
                self.assertTrue(is_line(FIRST_LINES[way][0], stderr.splitlines()[0],
                                        values_of(stdout)), stderr)

    def test_json(self):
        for way in FIRST_LINES:
            if way in {"destroy_first", "options"}:
                continue  # they start the pool themselves
            with self.subTest(way=way):
                values, stderr = self.survive(way, "json")
                reports = [json.loads(line) for line in stderr.splitlines()]
                self.assertEqual(len(reports), 1)
                self.assertEqual(reports[0]["tool"], "tarn")
                self.assertIn(": " + reports[0]["signature"].removesuffix(" "),
                              ": " + FIRST_LINES[way][0].removeprefix("tarn: "))
                if way not in NOT_FINDINGS and "block" in values and reports[0]["block"]:
                    self.assertEqual(reports[0]["block"]["address"], values["block"])

    def test_calls_outside_of_its_life(self):
        values, stderr = self.survive("after_destroy")
        lines = stderr.splitlines()[-3:]
        for line, wanted in zip(lines, ["mp_free of {block} after mp_destroy",
                                        "mp_alloc after mp_destroy",
                                        "mp_destroy after mp_destroy"]):
            self.assertTrue(is_line(f"tarn: mp-misuse: {wanted}; caller {{any}}", line, values),
                            stderr)

    def test_destroy_while_another_thread_works(self):
        _, stderr = self.survive("destroy_beside")
        late = [line for line in stderr.splitlines() if "mp-misuse" in line]
        self.assertLessEqual(len(late), 2, stderr)
        for line in late:
            self.assertRegex(line, "mp_(alloc|free).* (during|after) mp_destroy; caller 0x")

    def test_statistics(self):
        _, stderr = self.survive("statistics")
        self.assertEqual(stderr, STATS)
        _, stderr = self.survive("statistics", "json")
        found = json.loads(stderr)
        self.assertEqual((found["kind"], found["live_blocks"], found["live_bytes"]),
                         ("mp-statistics", 2, 5100))
        self.assertEqual(found["slabs"][2], {
            "block_bytes": 128, "total": 372, "in_use": 1, "held": 1, "free": 370, "peak": 2,
            "chunks": 1, "chunk_bytes": 65536, "allocations": 2})
        self.assertEqual(found["larger"], {"in_use": 1, "held": 0, "peak": 1, "allocations": 1})

    def test_leaks(self):
        _, stderr = self.survive("leaks")
        lines = [line for line in stderr.splitlines() if line.startswith("tarn: ")]
        self.assertEqual(lines, [
            "tarn: memory-leak: 1 block of 10000 bytes in all, never freed",
            "tarn: memory-leak: 3 blocks of 63 bytes in all, never freed",
            "tarn: leaks: 4 blocks of 10063 bytes in all from 2 places"])
        self.assertRegex(stderr, r"allocated by mp_alloc, 20 to 22 bytes each, at:\n"
                                 r"(    #\d+ .*\n)*?    #\d+ .*\bleaks\b")
        _, stderr = self.survive("leaks", "json")
        for line in stderr.splitlines():
            self.assertEqual(json.loads(line)["tool"], "tarn")

    def test_fork(self):
        _, stderr = self.survive("fork_child")
        self.assertIn("tarn: mp statistics: 0 live blocks", stderr)  # the child's


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
