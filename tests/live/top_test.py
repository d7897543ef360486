"""`tarn top` from outside, before a pseudo-terminal: top_test.py TARN PUBLISHER LIBRARY
[unittest arguments]."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest

from live_tools import PATIENCE_S, TARN, LiveTest

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
LARGE = (200, 160)  # rows and columns
HOME, CLEAR_BELOW = "\x1b[H", "\x1b[J"


class Top(LiveTest):
    def setUp(self):
        self.master, self.slave = pty.openpty()
        self.addCleanup(lambda: os.close(self.slave))
        self.addCleanup(self.close_master)
        self.resize(*LARGE)
        self.before = termios.tcgetattr(self.slave)
        self.seen = ""

    def close_master(self):
        if self.master is not None:
            os.close(self.master)
            self.master = None

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def top(self, *words, owns_terminal=False):
        """Starts it in a process group of its own, or with the terminal for its own."""
        def own():
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        process = subprocess.Popen(
            [TARN, "top", "--interval", "0.1", *words], stdin=self.slave, stdout=self.slave,
            stderr=subprocess.PIPE,
            preexec_fn=own if owns_terminal else lambda: os.setpgid(0, 0))
        self.addCleanup(process.stderr.close)

        def end():
            if process.poll() is None:
                process.kill()
                process.wait(PATIENCE_S)
        self.addCleanup(end)
        return process

    def read_some(self, end):
        self.assertTrue(select.select([self.master], [], [], max(0, end - time.monotonic()))[0],
                        f"nothing came; before: {self.seen[-2000:]!r}")
        return os.read(self.master, 65536).decode()

    def wait_for(self, wanted):
        """Reads until `wanted` has come; forgets what came before it."""
        end = time.monotonic() + PATIENCE_S
        while wanted not in self.seen:
            self.seen += self.read_some(end)
        self.seen = self.seen[self.seen.index(wanted) + len(wanted):]

    def frame(self, is_wanted):
        """The lines of the next screen of which this is true."""
        end = time.monotonic() + PATIENCE_S
        while True:
            start = self.seen.find(HOME)
            stop = self.seen.find(CLEAR_BELOW, start)
            if start < 0 or stop < 0:
                self.seen += self.read_some(end)
                continue
            text = self.seen[start + len(HOME):stop]
            self.seen = self.seen[stop:]
            lines = [line.rstrip("\r") for line in text.replace("\x1b[K", "").split("\n")]
            if is_wanted("\n".join(lines)):
                return lines

    def row_of(self, process):
        """The next screen's line of a process."""
        start = re.compile(rf"^ *{process.pid}  ")
        lines = self.frame(lambda text: re.search(start.pattern, text, re.M))
        return [line for line in lines if start.match(line)][0]

    def press(self, keys):
        os.write(self.master, keys.encode())

    def expect_restored(self):
        """The first screen and its settings are back. Output may still be on its way."""
        self.wait_for(LEAVE)
        self.assertEqual(termios.tcgetattr(self.slave), self.before)

    def expect_end(self, process, status):
        self.assertEqual(process.wait(PATIENCE_S), status)
        self.assertEqual(process.stderr.read(), b"")


class OnTerminal(Top):
    def test_table(self):
        one = self.publisher("answers")
        process = self.top()
        self.wait_for(ENTER)
        self.assertRegex(self.row_of(one), r"stand\?in +64\.0 MiB +96\.0 MiB +100\.0 MiB +2 +8\.0 MiB")
        self.assertEqual(termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO), 0)
        self.frame(lambda text: re.search(rf"(?m)^ *{one.pid}  .* [\d,]+( +[\d.]+ \w+)?$", text))
        self.press("q")
        self.expect_end(process, 0)
        self.expect_restored()

    def test_sort_and_pause(self):
        process = self.top("--sort", "resident")
        for wanted in ("by resident,", "by held,", "by rate,", "by live,", "by mapped,"):
            self.frame(lambda text, wanted=wanted: wanted in text)
            self.press("s")
        self.frame(lambda text: "by resident," in text)
        self.press("p")
        self.frame(lambda text: "paused" in text)
        come = self.publisher("answers")
        self.press("x")  # drawn again, but without another look
        lines = self.frame(lambda text: True)
        self.assertNotRegex("\n".join(lines), rf"(?m)^ *{come.pid}  ")
        self.press("p")
        self.row_of(come)
        self.press("q")
        self.expect_end(process, 0)

    def test_processes_come_and_go(self):
        process = self.top()
        come = self.publisher("answers")
        self.row_of(come)
        self.end(come)
        self.frame(lambda text: not re.search(rf"(?m)^ *{come.pid} ", text))
        self.press("q")
        self.expect_end(process, 0)

    def test_resize(self):
        for _ in range(4):
            self.publisher("silent")
        process = self.top()
        self.frame(lambda text: text.count("stand?in") >= 4)
        self.resize(5, 30)
        process.send_signal(signal.SIGWINCH)
        lines = self.frame(lambda text: text.count("\n") == 4)
        self.assertLessEqual(max(map(len, lines)), 30)
        self.assertTrue(lines[4].startswith("q quit  s sort  p pause"), lines)
        self.resize(*LARGE)
        process.send_signal(signal.SIGWINCH)
        self.frame(lambda text: text.count("stand?in") >= 4)
        self.press("q")
        self.expect_end(process, 0)

    def test_signals_that_end_it(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number):
                process = self.top()
                self.wait_for(ENTER)
                process.send_signal(number)
                self.expect_end(process, -number)
                self.expect_restored()

    def test_control_c(self):
        process = self.top(owns_terminal=True)
        self.wait_for(ENTER)
        self.press("\x03")
        self.expect_end(process, -signal.SIGINT)
        self.expect_restored()

    def test_stop_and_continue(self):
        process = self.top()
        self.wait_for(ENTER)
        process.send_signal(signal.SIGTSTP)
        self.wait_for(LEAVE)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        self.assertEqual(termios.tcgetattr(self.slave), self.before)
        process.send_signal(signal.SIGCONT)
        self.wait_for(ENTER)
        self.frame(lambda text: "tarn top" in text)
        self.press("q")
        self.expect_end(process, 0)
        self.expect_restored()

    def test_terminal_that_goes(self):
        process = self.top()
        self.wait_for(ENTER)
        self.close_master()
        self.assertEqual(process.wait(PATIENCE_S), 0)


class WithoutTerminal(Top):
    def test_prints_once(self):
        one, silent = self.publisher("answers"), self.publisher("silent")
        for words in ((), ("--once",), ("--sort", "rate")):
            done = self.tarn("top", *words, stdin=subprocess.DEVNULL)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertNotIn("\x1b", done.stdout)
            self.assertRegex(done.stdout, r"^ *PID  NAME .* HELD +ALLOC/S")
            self.assertRegex(done.stdout, rf"(?m)^ *{one.pid}  stand\?in +64\.0 MiB .* -")
            self.assertRegex(done.stdout, rf"(?m)^ *{silent.pid}  .* -  +\d+(\.\d)? s$")

    def test_once_on_a_terminal(self):
        process = self.top("--once")
        self.wait_for("ALLOC/S")
        self.expect_end(process, 0)
        self.assertNotIn("\x1b", self.seen)

    def test_wrong_usage(self):
        for words, part in ((("--sort", "size"), "--sort size"), (("--interval", "0"), "--interval"),
                            (("--interval", "nan"), "--interval"), (("17",), "17"),
                            (("--", "17"), "all processes")):
            done = self.tarn("top", *words)
            self.assertEqual((done.returncode, done.stdout), (125, ""))
            self.assertIn(part, done.stderr)
        self.assertIn("--interval", self.tarn("top", "--help").stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
