"""`tarn check` from outside: check_test.py TARN PUBLISHER LIBRARY [unittest arguments]."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

from live_tools import IS_ROOT, LIBRARY, NOBODY, PLENTY_MS, TARN, LiveTest

# DAMAGE bytes are written behind a block; then waits for the end of its input. THREADS more wait
# with it: Tarn's own thread, which answers, is there only beside a second one.
PROGRAM = """
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
block = libc.malloc(ctypes.c_size_t(40))
ctypes.memset(block + 40, 7, int(os.environ["DAMAGE"]))
over = threading.Event()
def work():
    kept = [bytes(5000) for _ in range(1000)]
    over.wait()
others = [threading.Thread(target=work) for _ in range(int(os.environ["THREADS"]))]
for each in others: each.start()
kept = [bytes(70000) for _ in range(100)]
sys.stdout.write("x\\n")
sys.stdout.flush()
if not others:
    import select
    while not select.select([sys.stdin], [], [], 0)[0]:
        [bytes(5000) for _ in range(100)]
sys.stdin.read()
over.set()
for each in others: each.join()
ctypes.memset(block + 40, 0xAB, int(os.environ["DAMAGE"]))
"""


class Check(LiveTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.report = os.path.join(folder.name, "report")

    def program(self, threads=2, damage=0, mode="debug", on_misuse="warn"):
        options = f"on_misuse={on_misuse},report_file={self.report}"
        return self.start(sys.executable, "-c", PROGRAM, env={
            **os.environ, "LD_PRELOAD": LIBRARY, "TARN_MODE": mode, "TARN_OPTIONS": options,
            "THREADS": str(threads), "DAMAGE": str(damage), "PYTHONMALLOC": "malloc"})

    def check(self, *words, status=0, **more):
        done = self.tarn("check", *map(str, words), **more)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def found(self, *words, status=0):
        done = self.check("--wait", PLENTY_MS, "--json", *words, status=status)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def complaint(self, *words, **more):
        done = self.check(*words, status=2, **more)
        self.assertEqual(done.stdout, "")
        self.assertTrue(done.stderr.startswith("tarn: "), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def reports(self):
        with open(self.report, encoding="utf-8") as file:
            return file.read()

    def test_no_damage(self):
        process = self.program()
        found = self.found(process.pid)
        self.assertEqual(found["process_id"], process.pid)
        self.assertGreater(found["checked_blocks"], 2000)
        self.assertEqual((found["damaged_blocks"], found["findings_total"]), (0, 0))
        text = self.check("--wait", PLENTY_MS, process.pid).stdout
        self.assertIn(f"process {process.pid} (python3", text)
        self.assertIn("no damage", text)

    def test_damage_is_counted_each_time_and_told_once(self):
        process = self.program(damage=3)
        for _ in range(3):
            found = self.found(process.pid, status=1)
            self.assertEqual((found["damaged_blocks"], found["damaged_blocks_total"]), (1, 1))
        self.assertEqual(self.reports().count("found by tarn check"), 1, self.reports())
        self.assertIn("1 block damaged",
                      self.check("--wait", PLENTY_MS, process.pid, status=1).stdout)

    def test_one_thread_that_allocates(self):
        process = self.program(threads=0, damage=1)
        self.assertEqual(self.found(process.pid, status=1)["damaged_blocks"], 1)

    def test_a_report_that_ends_the_process(self):
        process = self.program(damage=1, on_misuse="abort")
        complaint = self.complaint("--wait", PLENTY_MS, process.pid)
        self.assertIn("it has ended before it told", complaint)
        self.assertIn("found by tarn check", self.reports())

    def test_several_and_all(self):
        whole, damaged = self.program(), self.program(damage=1)
        done = self.check("--wait", PLENTY_MS, "--json", whole.pid, damaged.pid, status=1)
        self.assertEqual([json.loads(line)["process_id"] for line in done.stdout.splitlines()],
                         [whole.pid, damaged.pid])
        done = self.tarn("check", "--wait", "1000", "--json", "--all")  # others may be silent
        asked = [json.loads(line)["process_id"] for line in done.stdout.splitlines()]
        self.assertIn(damaged.pid, asked)
        self.assertIn(done.returncode, (1, 2))

    def test_no_answer(self):
        process = self.program()
        process.send_signal(signal.SIGSTOP)
        self.addCleanup(process.send_signal, signal.SIGCONT)
        self.assertIn("no answer", self.complaint("--wait", "1", process.pid))

    def test_not_in_mode_debug(self):
        process = self.publisher("answers")  # as a library that knows nothing of checks
        self.assertIn("TARN_MODE=debug", self.complaint(process.pid))
        with subprocess.Popen(["/bin/true"]) as ended:
            ended.wait()
        self.assertIn("there is none", self.complaint(ended.pid))
        plain = self.start("/bin/sh", "-c", "echo x; read x")
        self.assertIn("shows no statistics", self.complaint(plain.pid))

    def test_not_permitted(self):
        if not IS_ROOT:
            self.skipTest("needs root")
        process = self.program()
        ask_as = {"preexec_fn": lambda: os.setresuid(NOBODY, NOBODY, NOBODY)}
        if not os.access(TARN, os.X_OK) or self.tarn("--version", **ask_as).returncode != 0:
            self.skipTest("nobody may not run tarn here")
        self.assertIn("not permitted to ", self.complaint(process.pid, **ask_as))

    def test_usage(self):
        text = self.check("--help").stdout
        for part in ("Usage: tarn check [OPTIONS] PID...", "--json", "--all", "--wait",
                     "Exit status: 0"):
            self.assertIn(part, text)
        for words, part in (((), "--all"), (("--all", "1"), "--all"), (("sh",), "'sh' is no")):
            self.assertIn(part, self.check(*words, status=125).stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
