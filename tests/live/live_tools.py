"""What the tests of `tarn stat` and `tarn top` share: [script] TARN PUBLISHER LIBRARY [arguments]."""
import os
import subprocess
import sys
import unittest

TARN, PUBLISHER, LIBRARY = sys.argv[1:4]
PATIENCE_S = 60
PLENTY_MS = "30000"  # of waiting, where an answer comes for sure
IS_ROOT = os.geteuid() == 0
NOBODY = 65534
NAME = "stand?in"  # of the publisher, as people see it


class LiveTest(unittest.TestCase):
    def start(self, *words, **more):
        """A process that has written its "x" and waits for the end of its input. Returns it, with
        what it has written before as `told`."""
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True, **more)
        self.addCleanup(self.end, process)
        process.told = []
        for line in process.stdout:
            if line == "x\n":
                return process
            process.told.append(line.strip())
        self.fail(f"{words} did not get ready")

    @staticmethod
    def end(process):
        if not process.stdin.closed:
            process.stdin.close()
        process.wait(PATIENCE_S)
        process.stdout.close()

    def publisher(self, variant, **more):
        return self.start(PUBLISHER, variant, **more)

    def tarn(self, *words, **more):
        return subprocess.run([TARN, *words], text=True, capture_output=True, timeout=PATIENCE_S,
                              **more)
