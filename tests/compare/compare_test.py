"""`tarn compare` from outside: compare_test.py TARN LIBRARY [unittest arguments].

No test says how fast anything is: what is run is mostly /bin/sh, twice."""
import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

TARN, LIBRARY = sys.argv[1:3]
PATIENCE_S = 60


def run(*words, library=LIBRARY, **more):
    return subprocess.run([TARN, "compare", "--library", library, *words], text=True,
                          capture_output=True, timeout=PATIENCE_S, **more)


class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return path

    def suite(self, *rows):
        return self.path("suite.json", json.dumps({"rows": rows}))

    def test_a_program_on_glibc_and_tarn(self):
        done = run("--allocators", "glibc,tarn", "--rounds", "2", "--", "/bin/sh", "-c", "echo")
        self.assertEqual((done.returncode, done.stderr.count("round")), (0, 2), done.stderr)
        for part in ("2 of 2 rounds", "glibc", "tarn", "wall time", "peak memory", "A/A: tarn"):
            self.assertIn(part, done.stdout)

    def test_tarn_is_really_under_the_program(self):
        script = "cat /proc/self/maps | grep -c libtarn >&2; exit 9"
        done = run("--allocators", "tarn", "--no-aa", "--rounds", "1", "--", "/bin/sh", "-c", script)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"exit status 9: [1-9]")

    def test_a_void_run_is_visible_and_told_by_the_status(self):
        done = run("--allocators", "own,tarn", "--rounds", "1", "--", "/bin/sh", "-c",
                   "echo ${LD_PRELOAD##*/}")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"(?m)^tarn +void")
        self.assertIn("another output than that of the first run: line 1 is 'libtarn.so", done.stdout)
        done = run("--allocators", "own,tarn", "--rounds", "1", "--output", "any", "--", "/bin/sh",
                   "-c", "echo ${LD_PRELOAD##*/}")
        self.assertEqual(done.returncode, 0)

    def test_files_of_results(self):
        rows = [{"name": f"row {n}", "command": ["/bin/sh", "-c", f"echo {n}"]} for n in (1, 2)]
        rows.append({"name": "f", "group": "micro", "command": ["echo", "one 1.5 ns"],
                     "figures": "ns"})
        out = self.path("out")
        done = run("--allocators", "glibc,tarn", "--rounds", "3", "--suite", self.suite(*rows),
                   "--out", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(os.path.join(out, "runs.csv"), encoding="utf-8") as file:
            runs = list(csv.DictReader(file))
        self.assertEqual(len(runs), 3 * 3 * 3)  # rows, rounds, and glibc, tarn, tarn again
        self.assertEqual({r["allocator"] for r in runs}, {"glibc", "tarn", "tarn again"})
        for one in runs:
            self.assertGreater(float(one["wall_s"]), 0)
            self.assertGreater(int(one["peak_bytes"]), 500_000)
            self.assertGreaterEqual(int(one["peak_bytes"]), int(one["final_bytes"]))
        with open(os.path.join(out, "summary.json"), encoding="utf-8") as file:
            summary = json.load(file)
        self.assertEqual(len(summary["comparisons"]), 2 * 5 + 1)
        self.assertEqual([a["name"] for a in summary["allocators"]], ["glibc", "tarn"])
        for picture in ("overview.svg", "time.svg", "memory.svg", "figures-micro.svg"):
            root = xml.parse(os.path.join(out, picture)).getroot()
            self.assertTrue(root.tag.endswith("svg"))
        with open(os.path.join(out, "report.html"), encoding="utf-8") as file:
            page = file.read()
        self.assertEqual(page.count("<svg"), 4)
        self.assertNotRegex(page, r"(?i)(src|href)\s*=|<script|@import")

    def test_rows_are_chosen_and_listed(self):
        rows = [{"name": n, "group": g, "command": ["/bin/sh", "-c", "echo {word}"]}
                for n, g in (("a", "x"), ("b", "x"), ("c", "y"))]
        suite = ("--suite", self.suite(*rows), "--set", "word=hello")
        done = run(*suite[:2], "--list", "--rows", "y,a")
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()], ["a", "c"])
        done = run(*suite, "--rows", "b,c", "--rounds", "1", "--allocators", "own")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^b .*\n^c ")
        self.assertNotRegex(done.stdout, r"(?m)^a ")

    def test_wrong_use_is_named(self):
        suite = self.suite({"name": "a", "command": ["{bin}/x"]})
        for words, message in (
                ((), "no program given"),
                (("--allocators", "glibc,best", "--", "true"), "unknown allocator 'best'"),
                (("--lib", "x=/nonexistent.so", "--", "true"), "/nonexistent.so: no such readable"),
                (("--lib", "x", "--", "true"), "not of the form name=path.so"),
                (("--rounds", "0", "--", "true"), "--rounds"),
                (("--suite", suite, "--", "true"), "exclude each other"),
                (("--rows", "a", "--", "true"), "need --suite"),
                (("--suite", suite, "--output", "any"), "its rows say"),
                (("--allocators", ",", "--", "true"), "--allocators ',' names none"),
                (("--", "/nonexistent/program"), "cannot run /nonexistent/program: No such file"),
                (("--suite", suite), "row 1 (a) uses {bin}, which nothing sets"),
                (("--suite", suite, "--set", "bin"), "not of the form KEY=VALUE"),
                (("--suite", suite, "--set", "bin=/", "--rows", "b"), "no row or group is called"),
                (("--input", "/nonexistent", "--", "true"), "--input"),
                (("--output", "some", "--", "true"), "--output"),
                (("--out", "/proc/nonsense", "--", "true"), "--out /proc/nonsense"),
                (("--nonsense",), "unknown option --nonsense")):
            with self.subTest(words=words):
                done = run(*words)
                self.assertEqual((done.returncode, done.stdout), (125, ""), done.stderr)
                self.assertIn(message, done.stderr)
                self.assertIn("tarn: ", done.stderr)

    def test_results_are_kept_when_nobody_reads_the_table(self):
        out = self.path("out")
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([TARN, "compare", "--library", LIBRARY, "--allocators", "own",
                                   "--rounds", "1", "--out", out, "--", "true"], stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 125)
        self.assertIn("cannot write the results: No space left", done.stderr)
        self.assertTrue(os.path.exists(os.path.join(out, "report.html")))

    def test_old_results_do_not_stay(self):
        out = self.path("out")
        os.mkdir(out)
        for name in ("runs.csv", "figures-old.svg", "mine.svg"):
            self.path(os.path.join("out", name), "old")
        run("--allocators", "own", "--rounds", "1", "--out", out, "--", "/nonexistent/program")
        self.assertEqual(os.listdir(out), ["mine.svg"])

    def test_closed_standard_files_do_no_harm(self):
        done = subprocess.run(["/bin/sh", "-c", '"$@" <&- >&-', "sh", TARN, "compare", "--library",
                               LIBRARY, "--allocators", "own", "--rounds", "1", "--out",
                               self.path("out"), "--", "/bin/sh", "-c", "echo hello"],
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_interrupt_keeps_finished_rounds_and_leaves_nothing_running(self):
        # The program says it runs by opening a pipe; in its third run it waits for ever.
        fifo, count = self.path("fifo"), self.path("count", "")
        os.mkfifo(fifo)
        script = (f"echo >> {count}; test $(wc -l < {count}) -lt 4 && exit; "
                  f"echo $$ > {fifo}; exec cat {fifo}")
        child = subprocess.Popen([TARN, "compare", "--library", LIBRARY, "--allocators", "own",
                                  "--no-aa", "--rounds", "9", "--", "/bin/sh", "-c", script],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with open(fifo, encoding="utf-8") as file:
            pid = int(file.readline())
            child.send_signal(signal.SIGINT)
            out, _ = child.communicate(timeout=PATIENCE_S)
        self.assertEqual(child.returncode, 128 + signal.SIGINT)
        self.assertIn("2 of 9 rounds", out)
        self.assertIn("interrupted in round 3 of 9", out)
        self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_a_terminal_gets_one_line_of_progress(self):
        ours, theirs = pty.openpty()
        with subprocess.Popen([TARN, "compare", "--library", LIBRARY, "--allocators", "own",
                               "--rounds", "2", "--", "true"], stdout=subprocess.DEVNULL,
                              stderr=theirs) as child:
            os.close(theirs)
            text = b""
            try:
                while part := os.read(ours, 4096):
                    text += part
            except OSError:  # how Linux tells the end of a terminal
                pass
            child.wait(timeout=PATIENCE_S)
        os.close(ours)
        self.assertNotIn(b"\n", text)
        self.assertTrue(re.search(rb"\r\x1b\[Kround 2/2  4/4  true on own", text), text)
        self.assertTrue(text.endswith(b"\r\x1b[K"))


unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
