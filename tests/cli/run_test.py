"""`tarn run` from outside: run_test.py TARN LIBRARY [unittest arguments].

What is run is mostly /bin/sh, so that no test depends on how well a program runs on the library;
where the library's own report does not matter, a system library stands in for it.
"""
import glob
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TARN, LIBRARY = sys.argv[1:3]
STAND_IN = sorted(glob.glob("/lib/*/libm.so.6") + glob.glob("/lib*/libm.so.6"))[0]
PATIENCE_S = 30
BOTH_WAYS = ((), ("--stats",))  # tarn becomes the program, or watches it
KEYS = """live_bytes live_peak_bytes live_blocks mapped_bytes reserved_bytes metadata_bytes
held_by_threads_bytes free_in_bins_bytes free_in_heaps_bytes free_runs_bytes purged_bytes cross_thread_frees threads
pages resident_bytes resident_peak_bytes page_faults""".split()
# The shell finds the folder of the statistics as any program could.
FIND_FOLDER = 'd=${TARN_OPTIONS##*stats_file=}; d=${d%/%p}; '


def good_report(pid, value=4096):
    lines = [f"tarn 0.1.0 pid {pid}"] + [f"{key} {value}" for key in KEYS]
    return "\n".join(lines + ["class 32 1000 12", "class 0 7 1", ""])


def command(*program, options=(), library=STAND_IN):
    found = ["--library", library] if library else []
    return [TARN, "run", *found, *options, "--", *program]


def run(*program, options=(), library=STAND_IN, **more):
    return subprocess.run(command(*program, options=options, library=library), text=True,
                          capture_output=True, timeout=PATIENCE_S, **more)


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited too long: {what}")
        time.sleep(0.01)


def state_of(pid):
    """The letter of /proc/PID/stat, '-' when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "-"


class Base(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.temporary = os.path.join(self.folder, "tmp")
        os.mkdir(self.temporary)
        self.environment = {**os.environ, "TMPDIR": self.temporary}
        for name in ("TARN_OPTIONS", "TARN_MODE", "LD_PRELOAD"):
            self.environment.pop(name, None)

    def tearDown(self):
        left = os.listdir(self.temporary)
        shutil.rmtree(self.folder)
        self.assertEqual(left, [], "temporary files stay behind")

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def start(self, script, *arguments, options=("--stats",), **more):
        """Starts a script that touches the file `ready` when it is."""
        process = subprocess.Popen(
            command("/bin/sh", "-c", script, "sh", *arguments, options=options), text=True,
            env=self.environment, cwd=self.folder, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, **more)
        wait_until(lambda: os.path.exists(self.path("ready")), "program starts")
        os.unlink(self.path("ready"))
        return process


class Usage(Base):
    def fails_with(self, arguments, *parts):
        done = subprocess.run([TARN, *arguments], text=True, capture_output=True,
                              timeout=PATIENCE_S, env=self.environment)
        self.assertEqual(done.returncode, 125, done)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("tarn: "), done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)

    def test_version(self):
        done = subprocess.run([TARN, "--version"], text=True, capture_output=True, check=True)
        self.assertRegex(done.stdout, r"^tarn \d+\.\d+\.\d+\n$")

    def test_help(self):
        done = subprocess.run([TARN, "--help"], text=True, capture_output=True, check=True)
        self.assertRegex(done.stdout, r"\brun\b")
        done = subprocess.run([TARN, "run", "--help"], text=True, capture_output=True, check=True)
        self.assertIn("-- PROGRAM [ARGUMENTS...]", done.stdout)
        for option in ("--mode", "--option", "--library", "--stats"):
            self.assertIn(option, done.stdout)

    def test_wrong_usage(self):
        self.fails_with([], "subcommand")
        self.fails_with(["frobnicate"], "unknown command 'frobnicate'")
        self.fails_with(["run"], "no program")
        self.fails_with(["run", "--"], "no program")
        self.fails_with(["run", "--stats", "--"], "no program")
        self.fails_with(["run", "--nonsense", "--", "true"], "unknown option --nonsense")
        self.fails_with(["run", "--option", "verbose", "--", "true"], "'verbose'", "key=value")
        self.fails_with(["run", "--option", "=1", "--", "true"], "key=value")
        self.fails_with(["run", "--option", "a=1,b=2", "--", "true"], "comma")
        self.fails_with(["run", "--stats", "--option", "stats_file=x", "--", "true"], "stats_file")

    def test_unknown_modes(self):
        self.fails_with(["run", "--mode", "warp", "--", "true"], "'warp'", "fast, hardened, debug")

    def test_missing_library(self):
        self.fails_with(["run", "--library", "/no/such.so", "--", "true"], "/no/such.so")
        self.fails_with(["run", "--library", self.folder, "--", "true"], self.folder)
        odd = self.path("a b.so")
        shutil.copy(STAND_IN, odd)
        self.fails_with(["run", "--library", odd, "--", "true"], odd, "space")


class FindingTheLibrary(Base):
    """What is run prints LD_PRELOAD, which names the library found."""

    def install(self, *places):
        binary = self.path("prefix/bin/tarn")
        os.makedirs(os.path.dirname(binary), exist_ok=True)
        shutil.copy(TARN, binary)
        for place in places:
            target = os.path.normpath(self.path(os.path.join("prefix/bin", place)))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(STAND_IN, target)
        return binary

    def found(self, binary, **more):
        done = subprocess.run([binary, "run", "--", "/bin/sh", "-c", "echo $LD_PRELOAD"],
                              text=True, capture_output=True, env=self.environment, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_beside(self):
        binary = self.install("libtarn.so", "../lib/libtarn.so")
        self.assertEqual(self.found(binary), self.path("prefix/bin/libtarn.so"))

    def test_in_library_folders(self):
        for folder in ("../lib", "../lib64"):
            with self.subTest(folder=folder):
                binary = self.install(f"{folder}/libtarn.so")
                self.assertEqual(self.found(binary),
                                 self.path(f"prefix/{folder[3:]}/libtarn.so"))
                shutil.rmtree(self.path("prefix"))

    def test_by_version_first(self):
        binary = self.install("../lib/libtarn.so", "../lib/libtarn.so.0")
        self.assertEqual(self.found(binary), self.path("prefix/lib/libtarn.so.0"))

    def test_through_a_link_to_tarn(self):
        binary = self.install("../lib/libtarn.so")
        os.symlink(binary, self.path("link"))
        self.assertEqual(self.found(self.path("link")), self.path("prefix/lib/libtarn.so"))

    def test_relative_path_becomes_absolute(self):
        shutil.copy(STAND_IN, self.path("mine.so"))
        done = run("/bin/sh", "-c", "echo $LD_PRELOAD", library="./mine.so",
                   cwd=self.folder, env=self.environment)
        self.assertEqual(done.stdout.strip(), self.path("mine.so"))

    def test_nowhere(self):
        binary = self.install()
        done = subprocess.run([binary, "run", "--", "true"], text=True, capture_output=True,
                              env=self.environment)
        self.assertEqual(done.returncode, 125)
        self.assertIn(self.path("prefix/bin"), done.stderr)
        self.assertIn(self.path("prefix/lib64"), done.stderr)
        self.assertIn("--library", done.stderr)

    def test_without_proc(self):
        binary = self.install("../lib/libtarn.so")
        hidden = ["unshare", "--mount", "--map-root-user", "/bin/sh", "-c",
                  'mount -t tmpfs none /proc && PATH="$1:$PATH" && '
                  'exec tarn run -- /bin/sh -c "echo \\$LD_PRELOAD"',
                  "sh", os.path.dirname(binary)]
        probe = subprocess.run(hidden[:5] + ["mount -t tmpfs none /proc"], capture_output=True)
        if probe.returncode != 0:
            self.skipTest("no right to hide /proc")
        done = subprocess.run(hidden, text=True, capture_output=True, env=self.environment)
        self.assertEqual(done.stdout.strip(), self.path("prefix/lib/libtarn.so"), done.stderr)


class Passing(Base):
    def test_exit_status(self):
        for options in BOTH_WAYS:
            for status in (0, 1, 3, 125, 255):
                done = run("/bin/sh", "-c", f"exit {status}", options=options,
                           env=self.environment)
                self.assertEqual(done.returncode, status, done.stderr)

    def test_death_by_signal(self):
        for options in BOTH_WAYS:
            for number in (signal.SIGSEGV, signal.SIGTERM, signal.SIGKILL, signal.SIGABRT,
                           signal.SIGHUP, signal.SIGPIPE):
                done = run("/bin/sh", "-c", f"kill -{int(number)} $$", options=options,
                           env=self.environment, cwd=self.folder)
                self.assertEqual(done.returncode, -number, done.stderr)

    def test_program_that_cannot_start(self):
        not_executable = self.path("plain")
        with open(not_executable, "w", encoding="utf-8") as file:
            file.write("text")
        for options in BOTH_WAYS:
            for program, status, reason in (
                    ("/no/such/program", 127, "No such file"),
                    ("no-such-program-anywhere", 127, "No such file"),
                    (not_executable, 126, "Permission denied"),
                    (self.folder, 126, "Permission denied")):
                done = run(program, options=options, env=self.environment)
                self.assertEqual(done.returncode, status, done)
                self.assertEqual(done.stderr, f"tarn: cannot run '{program}': {reason}"
                                 f"{' or directory' if status == 127 else ''}\n")

    def test_arguments(self):
        words = ["", " ", "two words", "'\"$HOME\\", "line\nbreak", "--", "-x", "--stats",
                 "--mode=debug", "*", "\u00e9"]
        for options in BOTH_WAYS:
            done = run("/bin/sh", "-c", 'printf "%s|" "$@"', "sh", *words, options=options,
                       env=self.environment)
            self.assertEqual(done.stdout, "".join(word + "|" for word in words))

    def test_mark_may_be_left_out(self):
        done = subprocess.run([TARN, "run", "--library", STAND_IN, "/bin/sh", "-c",
                               'printf "%s|" "$@"', "sh", "a", "--", "-b", "--"], text=True,
                              capture_output=True, env=self.environment)
        self.assertEqual(done.stdout, "a|--|-b|--|")

    def test_standard_streams(self):
        for options in BOTH_WAYS:
            done = run("/bin/sh", "-c", "cat; echo err >&2", options=options, input="in\nput",
                       env=self.environment)
            self.assertEqual(done.stdout, "in\nput")
            self.assertTrue(done.stderr.startswith("err\n"))

    def test_closed_stderr(self):
        for options in BOTH_WAYS:
            line = " ".join(command("/bin/sh", "-c", "'exit 4'", options=options)) + " 2>&-"
            done = subprocess.run(line, shell=True, env=self.environment, timeout=PATIENCE_S)
            self.assertEqual(done.returncode, 4)

    def test_stderr_that_nobody_reads(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run(command("/bin/sh", "-c", "exit 5", options=("--stats",)),
                              stderr=write_end, env=self.environment, timeout=PATIENCE_S)
        os.close(write_end)
        self.assertEqual(done.returncode, 5)

    def test_environment(self):
        self.environment.update(OTHER="kept as it is", TARN_OPTIONS="a=1",
                                LD_PRELOAD=STAND_IN)
        second = self.path("second.so")
        shutil.copy(STAND_IN, second)
        for options in BOTH_WAYS:
            done = run("/usr/bin/env", library=second, env=self.environment,
                       options=("--mode", "fast", "--option", "b=2", "--option", "c=x=y",
                                *options))
            seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
            self.assertEqual(seen["OTHER"], "kept as it is")
            self.assertEqual(seen["TARN_MODE"], "fast")
            self.assertEqual(seen["LD_PRELOAD"], f"{second}:{STAND_IN}")
            wanted = "a=1,b=2,c=x=y"
            if options:
                wanted += r",stats_file=" + re.escape(self.temporary) + r"/tarn-\w{6}/%p"
            self.assertRegex(seen["TARN_OPTIONS"], f"^{wanted}$")

    def test_each_mode_is_passed_on(self):
        for mode in ("fast", "hardened", "debug"):
            done = run("/usr/bin/env", env=self.environment, options=("--mode", mode))
            self.assertIn(f"TARN_MODE={mode}", done.stdout.splitlines())

    def test_environment_without_options(self):
        self.environment["TARN_MODE"] = "of the user"
        done = run("/usr/bin/env", env=self.environment)
        seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
        self.assertEqual(seen["TARN_MODE"], "of the user")
        self.assertNotIn("TARN_OPTIONS", seen)

    def test_without_stats_tarn_becomes_the_program(self):
        process = subprocess.Popen(command("/bin/sh", "-c", "echo $$"), text=True,
                                   stdout=subprocess.PIPE, env=self.environment)
        self.assertEqual(int(process.communicate()[0]), process.pid)


class Signals(Base):
    # Answers each signal with a line in `log`; ends when SIGUSR1 comes.
    COUNTING = """
        for s in HUP INT QUIT USR2 TERM WINCH CONT ALRM; do trap "echo $s >> log" $s; done
        trap 'exit 9' USR1
        echo $$ > pid; : > log; : > ready
        while :; do sleep 0.05; done"""

    def log_becomes(self, words):
        wait_until(lambda: self.read("log").split() == words, f"log {words}")

    def test_are_forwarded_once(self):
        for options in BOTH_WAYS:
            process = self.start(self.COUNTING, options=options, start_new_session=True)
            expected = []
            for name in ("TERM", "HUP", "INT", "QUIT", "USR2", "WINCH", "CONT", "ALRM"):
                process.send_signal(getattr(signal, "SIG" + name))
                expected.append(name)
                self.log_becomes(expected)
            process.send_signal(signal.SIGUSR1)
            process.communicate(timeout=PATIENCE_S)
            self.assertEqual(process.returncode, 9)

    def test_that_kills_the_program_kills_tarn(self):
        for options in BOTH_WAYS:
            process = self.start(": > ready; exec sleep 60", options=options)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
            self.assertEqual(process.returncode, -signal.SIGTERM)

    def test_kill_of_tarn_kills_the_program(self):
        process = self.start("echo $$ > pid; : > ready; exec sleep 60")
        child = int(self.read("pid"))
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        wait_until(lambda: state_of(child) in "-Z", "program dies")
        for left in os.listdir(self.temporary):  # the one case in which the folder stays
            shutil.rmtree(os.path.join(self.temporary, left))

    def test_of_the_program_to_its_group_come_once(self):
        script = "trap 'echo TERM >> log' TERM; : > log; : > ready; kill -TERM 0; sleep 0.3; exit 6"
        process = self.start(script, start_new_session=True)
        process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 6)
        self.assertEqual(self.read("log"), "TERM\n")

    def test_ignored_ones_stay_ignored(self):
        for options in BOTH_WAYS:
            done = run("/bin/grep", "SigIgn", "/proc/self/status", options=options,
                       env=self.environment,
                       preexec_fn=lambda: (signal.signal(signal.SIGHUP, signal.SIG_IGN),
                                           signal.signal(signal.SIGCHLD, signal.SIG_IGN)))
            self.assertEqual(done.returncode, 0)
            ignored = int(done.stdout.split()[1], 16)
            self.assertTrue(ignored & 1 << (signal.SIGHUP - 1))
            self.assertTrue(ignored & 1 << (signal.SIGCHLD - 1))

    def test_ignored_ones_are_not_forwarded(self):
        process = self.start("trap 'echo HUP > log' HUP; : > log; : > ready; sleep 0.3; exit 3",
                             preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 3)
        self.assertEqual(self.read("log"), "")

    def test_mask_is_the_callers(self):
        for options in BOTH_WAYS:
            done = run("/bin/grep", "SigBlk", "/proc/self/status", options=options,
                       env=self.environment)
            self.assertEqual(int(done.stdout.split()[1], 16), 0)

    def on_terminal(self, script, talk):
        """Runs a script on a terminal of its own; talk(fd, pid of tarn). Returns wait's status."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execve(TARN, command("/bin/sh", "-c", script, options=("--stats",)),
                      self.environment)
        try:
            wait_until(lambda: os.path.exists(self.path("ready")), "program starts")
            return talk(terminal, pid)
        finally:
            os.close(terminal)

    def test_of_the_terminal_come_once(self):
        def talk(terminal, pid):
            os.write(terminal, b"\x03")
            self.log_becomes(["INT"])
            time.sleep(0.2)
            self.assertEqual(self.read("log"), "INT\n")
            os.kill(pid, signal.SIGUSR1)
            return os.waitpid(pid, 0)[1]
        status = self.on_terminal(self.COUNTING, talk)
        self.assertEqual(os.waitstatus_to_exitcode(status), 9)

    def test_interrupt_key_ends_both(self):
        def talk(terminal, pid):
            os.write(terminal, b"\x03")
            return os.waitpid(pid, 0)[1]
        status = self.on_terminal(": > ready; exec sleep 60", talk)
        self.assertEqual(os.waitstatus_to_exitcode(status), -signal.SIGINT)

    def test_suspend_key_stops_both(self):
        # A job of a shell: its group has a parent in the session, so it may stop.
        # The program is bash: dash forks with vfork, and stopped within it, it hangs on its own.
        shell = """set -m; "$@" & echo $! > tarn; fg %1 > /dev/null; echo $? > first
                   fg %1 > /dev/null; echo $? > second; exit 0"""
        script = "echo $$ > pid; : > ready; while [ ! -e go ]; do sleep 0.05; done; exit 8"
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execve("/bin/bash", ["bash", "-c", shell, "bash",
                                    *command("/bin/bash", "-c", script, options=("--stats",))],
                      self.environment)
        wait_until(lambda: os.path.exists(self.path("ready")), "program starts")
        wait_until(lambda: os.path.exists(self.path("tarn")) and self.read("tarn"), "job starts")
        child, tarn = int(self.read("pid")), int(self.read("tarn"))
        wait_until(lambda: os.tcgetpgrp(terminal) == os.getpgid(tarn), "job has the terminal")
        os.write(terminal, b"\x1a")
        wait_until(lambda: os.path.exists(self.path("first")), "shell sees the job stop")
        self.assertEqual(self.read("first").strip(), str(128 + signal.SIGTSTP))
        wait_until(lambda: state_of(child) in "SR" and state_of(tarn) in "SR", "both go on")
        with open(self.path("go"), "w", encoding="utf-8"):
            pass
        wait_until(lambda: os.path.exists(self.path("second")), "job ends")
        self.assertEqual(self.read("second").strip(), "8")
        os.close(terminal)
        os.waitpid(pid, 0)

    def test_stop_by_a_third_party_does_not_stop_tarn(self):
        process = self.start("echo $$ > pid; : > ready; while [ ! -e go ]; do sleep 0.05; done; "
                             "exit 7")
        child = int(self.read("pid"))
        os.kill(child, signal.SIGSTOP)
        wait_until(lambda: state_of(child) == "T", "program stops")
        self.assertIn(state_of(process.pid), "SR")
        os.kill(child, signal.SIGCONT)
        with open(self.path("go"), "w", encoding="utf-8"):
            pass
        process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 7)


class Stats(Base):
    def stats_of(self, *program, library=STAND_IN, **more):
        return run(*program, library=library, options=("--stats",),
                   **{"env": self.environment, **more})

    def test_report_of_a_stand_in(self):
        script = FIND_FOLDER + 'ls -ld "$d"; printf %s "$1" | sed "s/PID/$$/" > "$d/$$"'
        done = self.stats_of("/bin/sh", "-c", script, "sh", good_report("PID"))
        self.assertTrue(done.stdout.startswith("drwx------"), done.stdout)
        for part in ("exit status 0", "resident memory", "4.0 KiB", "mapped", "held by threads",
                     "cross-thread frees", "busiest size classes", "32 B", "1,000", "large",
                     "page faults", "peak resident", "s user"):
            self.assertIn(part, done.stderr)
        self.assertNotIn("did not report", done.stderr)
        self.assertNotIn("further process", done.stderr)

    def test_malformed_files(self):
        good = good_report(1)
        for name, text, complaint in (
                ("empty", "", "line 1: empty"),
                ("garbage", "\x1b]0;x\x07\n", "line 1: expected 'tarn VERSION"),
                ("no number", good.replace("threads 4096", "threads many"),
                 "line 14: expected 'KEY NUMBER', found 'threads many'"),
                ("too large", good.replace("threads 4096", "threads " + "9" * 30), "line 14"),
                ("missing", good.replace("threads 4096\n", ""), "has no 'threads'"),
                ("cut off", good[:100], "cut off"),
                ("long line", "x" * 100_000, "line 1: cut off"),
                ("much too long", "x\n" * 1_000_000, "too long")):
            with self.subTest(name):
                source = self.path("source")
                with open(source, "w", encoding="utf-8") as file:
                    file.write(text)
                script = FIND_FOLDER + 'cp "$1" "$d/$$"; exit 2'
                done = self.stats_of("/bin/sh", "-c", script, "sh", source)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertRegex(done.stderr, r"Malformed statistics in file \d+")
                self.assertIn(complaint, done.stderr)
                self.assertNotIn("\x1b", done.stderr)

    def test_odd_things_in_the_folder(self):
        script = FIND_FOLDER + 'mkfifo "$d/$$"; mkdir "$d/1"; ln -s /etc/passwd "$d/2"; exit 2'
        done = self.stats_of("/bin/sh", "-c", script)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr.count("Malformed"), 3, done.stderr)

    def test_folder_removed_by_the_program(self):
        done = self.stats_of("/bin/sh", "-c", FIND_FOLDER + 'rm -r "$d"; exit 2')
        self.assertEqual(done.returncode, 2)
        self.assertIn("did not report", done.stderr)

    def test_no_report(self):
        done = self.stats_of("/bin/true")
        self.assertIn("did not report", done.stderr)
        self.assertIn("statically", done.stderr)
        done = self.stats_of("/bin/sh", "-c", "kill -9 $$")
        self.assertIn("did not report: it was killed", done.stderr)
        self.assertIn("signal 9 (Killed)", done.stderr)
        self.assertRegex(done.stderr, r"peak resident +\S+ [KMG]iB")

    def test_further_processes(self):
        script = FIND_FOLDER + """for i in $$ 2000001 2000002 2000003; do
            printf %s "$1" | sed "s/PID/$i/" > "$d/$i"; done"""
        done = self.stats_of("/bin/sh", "-c", script, "sh", good_report("PID", 1 << 20))
        self.assertIn("3 further processes reported; summed up: live peak 3.0 MiB", done.stderr)

    def test_temporary_folder_elsewhere(self):
        script = FIND_FOLDER + 'dirname "$d"'
        for wanted, used in ((self.temporary, self.temporary), ("/no/such", "/tmp"),
                             ("relative", "/tmp"), ("/tmp/a,b", "/tmp"), (None, "/tmp")):
            with self.subTest(wanted):
                self.environment.pop("TMPDIR")
                if wanted is not None:
                    self.environment["TMPDIR"] = wanted
                done = self.stats_of("/bin/sh", "-c", script)
                self.assertEqual(done.stdout.strip(), used)
                self.environment["TMPDIR"] = self.temporary


class RealLibrary(Base):
    """With the library that was built."""

    def stats_of(self, *program, options=()):
        done = run(*program, library=LIBRARY, options=("--stats", *options),
                   env=self.environment)
        self.assertNotIn("Malformed", done.stderr)
        return done

    def test_report(self):
        done = self.stats_of("/bin/bash", "-c", "x=$(seq 20000); echo ${#x}; exit 5")
        self.assertEqual(done.returncode, 5)
        self.assertEqual(done.stdout, "108893\n")
        report = done.stderr
        self.assertNotIn("did not report", report)
        self.assertRegex(report, r"Memory on Tarn: /bin/bash \(process \d+\), exit status 5\n")
        amount = r"\d+(\.\d)? ([KMG]i)?B"
        for line in (rf"resident memory +{amount} +{amount}\n",
                     rf"live +{amount} +{amount}   in [\d,]+ blocks\n",
                     rf"mapped +{amount} +of {amount} reserved; {amount} for Tarn's own",
                     rf"held by threads +{amount} ", rf"free in bins +{amount} ",
                     rf"free runs +{amount} ", rf"purged +{amount} ", r"pages +[\d,]+ ",
                     r"cross-thread frees +[\d,]+\n", r"page faults +[\d,]+\n",
                     r"busiest size classes\n",
                     r"time +\d+\.\d\d s   \d+\.\d\d s user, \d+\.\d\d s system\n"):
            self.assertRegex(report, line)
        classes = re.findall(r"^ +([\d,]+ B|large) +([\d,]+) +[\d,]+$", report, re.MULTILINE)
        self.assertGreaterEqual(len(classes), 3, report)
        self.assertLessEqual(len(classes), 12)
        counts = [int(count.replace(",", "")) for _, count in classes]
        self.assertEqual(counts, sorted(counts, reverse=True))

    def test_mode(self):
        self.assertEqual(self.stats_of("/bin/true", options=("--mode", "fast")).returncode, 0)

    def test_processes_of_a_pipeline(self):
        done = self.stats_of("/bin/bash", "-c", "seq 10 | sort -rn | head -1; exit 0")
        self.assertEqual(done.stdout, "10\n")
        self.assertRegex(done.stderr, r"[3-9] further processes reported; summed up: live peak")

    def test_program_that_leaves_through_exec(self):
        done = self.stats_of("/bin/sh", "-c", "exec /bin/bash -c 'exit 4'")
        self.assertEqual(done.returncode, 4)
        self.assertNotIn("did not report", done.stderr)

    def test_program_that_does_not_return(self):
        done = self.stats_of(sys.executable, "-c", "import os; os._exit(6)")
        self.assertEqual(done.returncode, 6)
        self.assertIn("The program did not report. It may have left through _exit", done.stderr)

    def test_peak_is_the_programs_own(self):
        program = "b = b'x' * (64 << 20); del b"
        done = self.stats_of(sys.executable, "-c", program)
        peak = re.search(r"resident memory +([\d.]+) MiB +([\d.]+) MiB", done.stderr)
        self.assertIsNotNone(peak, done.stderr)
        self.assertGreater(float(peak[1]), 64)

    def test_beside_tarn(self):
        done = run("/bin/sh", "-c", "echo $LD_PRELOAD", library=None, env=self.environment)
        self.assertEqual(os.path.realpath(done.stdout.strip()), os.path.realpath(LIBRARY))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
