"""The programs of bench/workloads: workloads_test.py FOLDER LIBRARY [unittest arguments].

Each must print the same line on glibc and on Tarn, whatever the order of its threads, and must
refuse wrong arguments. The work is cut to a fraction of what `make bench` has it do."""
import os
import pathlib
import subprocess
import sys
import unittest

FOLDER, LIBRARY = sys.argv[1:3]
SOURCES = pathlib.Path(__file__).resolve().parents[2] / "bench/workloads"
PATIENCE_S = 100
# Arguments for little work, and others that must give another line.
SMALL = {
    "barnes": ("2000 2", "2000 3"),
    "cache_scratch": ("2 50 100", "2 51 100"),
    "cache_thrash": ("2 50 100", "2 51 100"),
    "cfrac": ("1000000016000000063", "1000000022000000057"),
    "espresso": ("6 20 2", "6 21 2"),
    "fragment": ("4", "5"),
    "large": ("10", "11"),
    "larson": ("2 1 5 2000", "2 1 5 2001"),
    "mstress": ("2 4 2", "2 4 3"),
    "pareto": ("2 500 20000", "2 500 20400"),
    "processes": ("5", "6"),
    "rptest": ("2 40", "2 41"),
    "threads": ("60", "61"),
    "vectors": ("20 4096", "21 4096"),
    "xmalloc": ("2 50", "2 51"),
    "zeroed": ("3", "4"),
}


def run(name, words, preload=None):
    environment = {**os.environ, **({"LD_PRELOAD": preload} if preload else {})}
    return subprocess.run([os.path.join(FOLDER, name), *words.split()], text=True, capture_output=True,
                          timeout=PATIENCE_S, env=environment)


class Workloads(unittest.TestCase):
    def test_every_program_is_tested(self):
        self.assertEqual(sorted(SMALL), sorted(file.stem for file in SOURCES.glob("*.cpp")))

    def test_same_line_on_both_mallocs_and_another_for_other_work(self):
        for name, (words, others) in SMALL.items():
            with self.subTest(name):
                on_glibc, on_tarn = run(name, words), run(name, words, preload=LIBRARY)
                self.assertEqual(on_glibc.returncode, 0, on_glibc.stderr)
                self.assertEqual(on_tarn.returncode, 0, on_tarn.stderr)
                self.assertRegex(on_glibc.stdout, rf"^{name} [0-9a-f]{{16}}\n$")
                self.assertEqual(on_tarn.stdout, on_glibc.stdout)
                other = run(name, others)
                self.assertEqual(other.returncode, 0, other.stderr)
                self.assertNotEqual(other.stdout, on_glibc.stdout)

    def test_wrong_arguments_are_refused(self):
        for name in SMALL:
            for words in ("0", "x", "-1", "1 1 1 1 1 1 1 1 1"):
                with self.subTest(name=name, words=words):
                    done = run(name, words)
                    self.assertEqual((done.returncode, done.stdout), (2, ""))
                    self.assertTrue(done.stderr.startswith(f"usage: {name}"))


unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
