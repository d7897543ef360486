"""`tarn stat` from outside: stat_test.py TARN PUBLISHER LIBRARY [unittest arguments]."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

from live_tools import (IS_ROOT, LIBRARY, NAME, NOBODY, PATIENCE_S, PLENTY_MS, TARN, LiveTest)

NO_ANSWER = ("--wait", "1")
# Allocates until the end of its input.
BUSY = """
import select, sys
sys.stdout.write("x\\n")
sys.stdout.flush()
while not select.select([sys.stdin], [], [], 0)[0]:
    [bytes(5000) for _ in range(1000)]
"""


class Stat(LiveTest):
    def stat(self, *words, **more):
        return self.tarn("stat", *map(str, words), **more)

    def shown(self, *words, **more):
        done = self.stat(*words, **more)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def answered(self, *words, **more):
        """Shown by a process that answers, however busy the machine is."""
        return self.shown("--wait", PLENTY_MS, *words, **more)

    def complaint(self, *words, status=2, **more):
        done = self.stat(*words, **more)
        self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
        self.assertTrue(done.stderr.startswith("tarn: "), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def of_variant(self, variant, *words, status=2):
        process = self.publisher(variant)
        complaint = self.complaint(*words, process.pid, status=status)
        self.assertIn(f"process {process.pid}: ", complaint)
        return complaint


class Usage(Stat):
    def test_help(self):
        text = self.shown("--help")
        for part in ("Usage: tarn stat [OPTIONS] [PID...]", "--json", "--prometheus", "--line",
                     "--keys", "--wait", "Exit status: 0"):
            self.assertIn(part, text)

    def test_wrong_usage(self):
        for words, part in ((("sh",), "'sh' is no number"), (("-1",), "-1"), (("",), "''"),
                            (("--json", "--line", "1"), "exclude each other"),
                            (("--prometheus",), "one process"),
                            (("--prometheus", "1", "2"), "one process"),
                            (("--frobnicate",), "--frobnicate"),
                            (("--wait", "99999999"), "--wait")):
            self.assertIn(part, self.complaint(*words, status=125))

    def test_output_that_nobody_reads(self):
        process = self.publisher("answers")
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([TARN, "stat", str(process.pid)], stdout=full,
                                  stderr=subprocess.PIPE, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0)


class Answers(Stat):
    def test_report(self):
        process = self.publisher("answers")
        text = self.answered(process.pid)
        self.assertIn(f"memory report, process {process.pid}\n", text)
        self.assertRegex(text, r"live in blocks +64\.0 MiB\n")
        self.assertRegex(text, rf"\n +{process.pid}  {NAME.replace('?', '.')} +4 +1\.0 MiB +1,00\d,")
        self.assertRegex(text, r"\n +0  \(past their exit\) +1 +7\.0 MiB +7\n")
        self.assertNotIn("old", text)
        self.assertNotIn("\x1b", text)

    def test_each_answer_is_new(self):
        process = self.publisher("answers")
        seen = [json.loads(self.answered("--json", process.pid))["allocations"]
                for _ in range(5)]
        self.assertEqual(seen, sorted(set(seen)))

    def test_requests_that_wrap(self):
        process = self.publisher("wraps")
        self.answered("--json", process.pid)
        self.answered("--json", process.pid)

    def test_copies_are_consistent(self):
        process = self.publisher("busy")
        for _ in range(20):
            read = json.loads(self.answered("--json", process.pid))
            self.assertEqual(read["allocations"] // 2, read["live_blocks"])
            self.assertEqual(read["allocations"], read["by_thread"][0]["allocations"])
            self.assertEqual(read["allocations"], 1000000 + 1000 * read["by_class"][0]["allocations"])

    def test_json(self):
        process = self.publisher("answers")
        read = json.loads(self.answered("--json", process.pid), parse_constant=self.fail)
        self.assertEqual(read["process_id"], process.pid)
        self.assertEqual(read["live_bytes"], 64 << 20)
        self.assertEqual([each["block_bytes"] for each in read["by_class"]], [0, 48])
        self.assertEqual([each["thread_id"] for each in read["by_thread"]], [process.pid, 0])

    def test_lines_and_keys(self):
        process = self.publisher("answers")
        line = self.answered("--line", process.pid)
        self.assertEqual(line.count("\n"), 1)
        self.assertIn(f"tarn pid={process.pid} live_bytes={64 << 20} ", line)
        self.assertIn(f"\nlive_bytes {64 << 20}\n", self.answered("--keys", process.pid))

    def test_several(self):
        one, other = self.publisher("answers"), self.publisher("answers")
        text = self.answered(one.pid, other.pid)
        self.assertEqual(text.count("memory report"), 2)
        read = [json.loads(line) for line in self.answered("--json", one.pid, other.pid).splitlines()]
        self.assertEqual([each["process_id"] for each in read], [one.pid, other.pid])
        done = self.stat("--wait", PLENTY_MS, "--line", 0, one.pid)
        self.assertEqual((done.returncode, done.stdout.count("\n")), (2, 1))

    def test_all(self):
        one, other = self.publisher("answers"), self.publisher("silent")
        wrong = self.publisher("garbage")
        text = self.shown("--wait", "300")
        self.assertRegex(text, r"^ *PID  NAME +LIVE +MAPPED +RESIDENT +THREADS")
        for each in (one, other):
            self.assertRegex(text, rf"(?m)^ *{each.pid}  {NAME.replace('?', '.')} +64\.0 MiB +"
                             r"96\.0 MiB +100\.0 MiB +2")
        self.assertNotRegex(text, rf"(?m)^ *{wrong.pid} ")
        read = [json.loads(line) for line in self.shown("--json", "--wait", "300").splitlines()]
        self.assertLessEqual({one.pid, other.pid}, {each["process_id"] for each in read})

    def test_promtool(self):
        promtool = shutil.which("promtool")
        if promtool is None:
            self.skipTest("no promtool (package prometheus)")
        text = self.answered("--prometheus", self.publisher("answers").pid)
        self.assertIn('tarn_class_live_bytes{block_bytes="48"}', text)
        done = subprocess.run([promtool, "check", "metrics"], input=text, text=True,
                              capture_output=True, timeout=PATIENCE_S)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))


class NoAnswer(Stat):
    def test_says_how_old(self):
        process = self.publisher("silent")
        text = self.shown(*NO_ANSWER, process.pid)
        self.assertRegex(text, r"^no answer: these figures are \d+\.\d s old; ")
        self.assertIn("memory report", text)
        text = self.shown(*NO_ANSWER, self.publisher("old").pid)
        self.assertIn("these figures are 60 min old", text)

    def test_says_so_beside_other_formats(self):
        process = self.publisher("silent")
        done = self.stat(*NO_ANSWER, "--json", process.pid)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(json.loads(done.stdout)["allocations"], 1000000)
        self.assertIn(f"tarn: process {process.pid}: no answer", done.stderr)

    def test_of_a_stopped_process(self):
        process = self.publisher("answers")
        os.kill(process.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, process.pid, signal.SIGCONT)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        self.assertIn("no answer", self.shown(*NO_ANSWER, process.pid))
        os.kill(process.pid, signal.SIGCONT)
        self.assertNotIn("no answer", self.answered(process.pid))

    def test_without_figures(self):
        self.assertIn("has taken no figures yet", self.of_variant("no-figures", *NO_ANSWER))
        self.assertIn("is changing its figures", self.of_variant("odd", *NO_ANSWER))


class WrongFiles(Stat):
    def test_each_is_named(self):
        for variant, part in (("short", "4096 bytes instead of 36864"),
                              ("garbage", "begins with 0xa5a5a5a5"),
                              ("version", "version 99; this tarn reads version 1"),
                              ("other-process", "that of process 1, "),
                              ("empty", "empty as yet"),
                              ("unsealed", "not sealed"),
                              ("no-sense", "18446744073709551615 size classes")):
            with self.subTest(variant):
                self.assertIn(part, self.of_variant(variant, *NO_ANSWER))

    def test_inherited(self):
        process = self.publisher("fork")
        complaint = self.complaint(*NO_ANSWER, process.told[0])
        self.assertIn(f"process {process.told[0]}: its statistics file is that of process "
                      f"{process.pid}, from before a fork", complaint)
        self.shown(*NO_ANSWER, process.pid)


class NoFiles(Stat):
    def test_no_process(self):
        done = subprocess.Popen(["/bin/true"])
        done.wait()
        for number in (str(done.pid), "0", "99999999", "9" * 40):
            self.assertIn("there is none", self.complaint(number))

    def test_not_on_tarn(self):
        process = self.start(sys.executable, "-c", BUSY)
        complaint = self.complaint(process.pid, status=1)
        for part in ("live_stats=off", "0.1 s", f"tarn doctor {process.pid}"):
            self.assertIn(part, complaint)

    def test_a_thread(self):
        process = self.publisher("answers")
        threads = set(os.listdir(f"/proc/{process.pid}/task")) - {str(process.pid)}
        self.assertIn(f"a thread of process {process.pid}", self.complaint(threads.pop()))

    def test_ended(self):
        self.assertIn("it has ended", self.of_variant("dies", "--wait", PLENTY_MS))
        process = self.publisher("answers")
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.assertIn("it has ended", self.complaint(process.pid))

    def test_not_permitted(self):
        if IS_ROOT:
            process = self.publisher("answers")
            ask_as = {"preexec_fn": lambda: os.setresuid(NOBODY, NOBODY, NOBODY)}
            if not os.access(TARN, os.X_OK) or self.tarn("--version", **ask_as).returncode != 0:
                self.skipTest("nobody may not run tarn here")
            number = process.pid
        else:
            number, ask_as = 1, {}
            if os.stat("/proc/1").st_uid == os.geteuid():
                self.skipTest("process 1 is ours")
        complaint = self.complaint(number, **ask_as)
        self.assertIn(f"process {number}: not permitted to ", complaint)
        self.assertIn("it belongs to root: ask as that user or as root", complaint)

    def test_kept_from_others(self):
        process = self.publisher("hidden")
        if IS_ROOT:
            self.answered(process.pid)
        else:
            self.assertIn("not permitted", self.complaint(process.pid))


class OnTarn(Stat):
    def test_a_process(self):
        with open(LIBRARY, "rb") as file:
            if b"tarn-stats" not in file.read():
                self.skipTest("the library shows no statistics yet")
        process = self.start(sys.executable, "-c", BUSY, env={**os.environ, "LD_PRELOAD": LIBRARY})
        end = time.monotonic() + PATIENCE_S
        done = self.stat("--json", process.pid)
        while "shows no statistics" in done.stderr and time.monotonic() < end:  # in its first 0.1 s
            done = self.stat("--json", process.pid)
        self.assertEqual(done.returncode, 0, done.stderr)
        read = json.loads(self.answered("--json", process.pid))
        self.assertEqual(read["process_id"], process.pid)
        self.assertIn(process.pid, [each["thread_id"] for each in read["by_thread"]])
        self.assertGreater(read["live_bytes"], 100000)
        self.assertIn("by_class", read)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
