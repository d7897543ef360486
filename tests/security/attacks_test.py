#!/usr/bin/env python3
"""attacks_test - how a run ended, told from its status and from what it said."""
import signal
import sys
import unittest

sys.dont_write_bytecode = True
import attacks  # pylint: disable=wrong-import-position

ABORT = -signal.SIGABRT
FAULT = -signal.SIGSEGV
ACCESS = "access\n"
DONE = ACCESS + "done\n"
HARM = DONE + "harm\n"


class Outcomes(unittest.TestCase):
    def demand(self, outcome, status, stdout="", stderr=""):
        self.assertEqual(attacks.outcome_of(status, stdout, stderr), outcome)

    def test_what_the_program_says_counts(self):
        self.demand("neutralised", 0, DONE + "neutralised\n")
        self.demand("refused", 0, "refused\n")
        self.demand("missed", 0, HARM + "missed\n")
        self.demand("missed", 0, "missed\n")

    def test_a_message_is_a_report(self):
        self.demand("report", ABORT, DONE, "free(): invalid pointer\n")
        self.demand("report", FAULT, ACCESS, "tarn: bad-access: ...\n")
        self.demand("report", 99, DONE, "tarn: ...\n")
        self.demand("report", 0, DONE + "neutralised\n", "error: block is corrupt\n")

    def test_a_trap_is_a_report_without_words(self):
        self.demand("report", ABORT, DONE)
        self.demand("report", -signal.SIGILL, DONE)

    def test_a_message_about_a_refused_size_is_none(self):
        self.demand("refused", 0, "refused\n", "tarn: size overflow: ...\n")

    def test_a_fault_of_the_access_is_no_crash(self):
        self.demand("fault", FAULT, ACCESS)
        self.demand("fault", -signal.SIGBUS, ACCESS)
        self.demand("crash", FAULT, DONE)
        self.demand("crash", FAULT, "")

    def test_what_does_not_end_has_crashed(self):
        self.demand("crash", None, DONE)
        self.demand("crash", attacks.NO_MEMORY, DONE)

    def test_after_harm_nothing_is_stopped(self):
        self.demand("late", ABORT, HARM, "double free\n")
        self.demand("late", 0, HARM + "missed\n", "double free\n")
        self.demand("late", 0, "missed\n", "mismatch\n")
        self.demand("missed", FAULT, HARM)
        self.demand("missed", None, HARM)

    def test_a_run_that_makes_no_sense_is_an_error(self):
        for status, stdout in ((0, ""), (0, ACCESS), (2, ""), (-signal.SIGKILL, DONE)):
            with self.assertRaises(attacks.BrokenRun):
                attacks.outcome_of(status, stdout, "")


if __name__ == "__main__":
    unittest.main()
