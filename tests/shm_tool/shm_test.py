"""`tarn shm` from outside: shm_test.py TARN HOLDER [unittest arguments]."""
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import unittest

TARN, HOLDER = sys.argv[1:3]
PATIENCE_S = 60
CONTROL = "lens\x1b[31m"


class Holder:
    """A process that holds chunks."""

    def __init__(self, domain, segment, label, count):
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [HOLDER, domain, segment, label, str(count)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        self.references = []
        for line in self.process.stdout:
            if line == "ready\n":
                return
            self.references.append(line.strip())
        raise AssertionError(f"holder ended with {self.process.wait()}")

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(PATIENCE_S)

    def kill(self):
        self.process.kill()
        self.end()


class ShmTool(unittest.TestCase):
    def setUp(self):
        self.domain = tempfile.mkdtemp(prefix="tarn-test-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.domain)
        self.holders = []
        self.addCleanup(lambda: [holder.kill() for holder in self.holders
                                 if holder.process.poll() is None])

    def hold(self, segment="camera", label="lens", count=7):
        self.holders.append(Holder(self.domain, segment, label, count))
        return self.holders[-1]

    def tarn(self, *words, status=0, domain=True):
        where = ["--domain", self.domain] if domain else []
        result = subprocess.run([TARN, "shm", *words, *where], capture_output=True, text=True,
                                timeout=PATIENCE_S, check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stdout + result.stderr

    def test_lists_segments(self):
        self.assertEqual(len(self.tarn("ls").splitlines()), 1)
        self.hold("camera")
        self.hold("audio", count=0)
        lines = self.tarn("ls").splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["NAME", "audio", "camera"])
        self.assertEqual(lines[2].split()[2:6], ["1", "2", "110", "103"])
        rows = [json.loads(line) for line in self.tarn("ls", "--json").splitlines()]
        self.assertEqual([(row["name"], row["clients"]) for row in rows],
                         [("audio", 1), ("camera", 1)])
        self.assertEqual(rows[1]["pools"][0]["free"], 93)
        self.assertEqual(rows[1]["pools"][1]["count_most"], 40)

    def test_a_domain_that_is_not_there_has_none(self):
        shown = subprocess.run([TARN, "shm", "ls", "--domain", self.domain + "/none"],
                               capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        self.assertEqual((shown.returncode, len(shown.stdout.splitlines())), (0, 1))

    def test_files_that_are_no_segments_are_told(self):
        with open(self.domain + "/text", "w", encoding="utf-8") as file:
            file.write("x" * 5000)
        os.chmod(self.domain + "/text", 0o600)
        self.hold()
        shown = self.tarn("ls", status=1)
        self.assertIn("camera", shown)
        self.assertIn("segment text: no segment of Tarn", shown)

    def test_top_says_who_holds_how_much(self):
        self.hold(label="little", count=2)
        self.hold(label="much", count=20)
        shown = self.tarn("top", "camera", "--once")
        self.assertIn("2 of 48 clients", shown)
        self.assertLess(shown.index("much"), shown.index("little"))
        row = next(line for line in shown.splitlines() if "much" in line).split()
        self.assertEqual(row[1:3], ["much", str(self.holders[1].process.pid)])
        self.assertEqual(row[4:6], ["alive", "20"])
        told = json.loads(self.tarn("top", "camera", "--json"))
        self.assertEqual({holder["label"]: holder["held"] for holder in told["holders"]},
                         {"little": 2, "much": 20})

    def test_top_on_a_terminal_ends_with_q(self):
        self.hold()
        master, slave = pty.openpty()
        with subprocess.Popen([TARN, "shm", "top", "camera", "--domain", self.domain], stdin=slave,
                              stdout=slave, stderr=subprocess.DEVNULL) as shown:
            os.close(slave)
            seen = b""
            while b"q quit" not in seen:
                self.assertTrue(select.select([master], [], [], PATIENCE_S)[0])
                seen += os.read(master, 4096)
            self.assertIn(b"segment camera", seen)
            os.write(master, b"q")
            # What it writes in leaving must have room.
            while select.select([master], [], [], PATIENCE_S)[0]:
                try:
                    if not os.read(master, 4096):
                        break
                except OSError:
                    break
            self.assertEqual(shown.wait(PATIENCE_S), 0)
        os.close(master)

    def test_what_clients_call_themselves_does_not_reach_the_terminal(self):
        self.hold(label=CONTROL)
        self.assertNotIn("\x1b", self.tarn("top", "camera", "--once"))
        self.assertNotIn("\x1b", self.tarn("top", "camera", "--json"))

    def test_who_holds_a_chunk(self):
        holder = self.hold()
        by_reference = self.tarn("who", "camera", holder.references[3])
        number = int(by_reference.split("/")[1].split(":")[0])
        self.assertEqual(self.tarn("who", "camera", f"0/{number}"), by_reference)
        self.assertIn("200 bytes, number 4 of client 0", by_reference)
        self.assertIn(str(holder.process.pid), by_reference)
        self.assertIn("free", self.tarn("who", "camera", "1/9"))

    def test_who_names_what_is_wrong(self):
        holder = self.hold()
        for chunk, said in (("9/1", "no chunk 9/1"), ("0/100", "no chunk 0/100"),
                            ("x", "neither"), ("1/", "neither"), ("-1/2", "neither"),
                            ("0x", "neither"), ("0x12345", "is of segment"),
                            ("99999999999999999999999/1", "neither"),
                            ("4294967296/1", "no chunk")):
            self.assertIn(said, self.tarn("who", "camera", chunk, status=125), chunk)
        self.assertIn("No such file", self.tarn("who", "radio", holder.references[0], status=125))

    def test_the_dead_are_seen_and_cleared_away(self):
        self.hold(label="living", count=1)
        self.hold(label="dead", count=5).kill()
        self.assertIn("dead", self.tarn("top", "camera", "--once"))
        found = self.tarn("audit", "camera", status=1)
        self.assertEqual(found.count("is held by a client that is gone"), 5)
        self.assertIn("1 dead clients cleared away\nsegment camera: 0 faults",
                      self.tarn("audit", "camera", "--recover"))
        self.assertNotIn("dead", self.tarn("top", "camera", "--once").split("recovered")[1])

    def test_clean_takes_the_dead_and_the_unused(self):
        living = self.hold("camera")
        self.hold("audio", count=3).kill()
        self.assertEqual(self.tarn("clean"), "segment audio: 1 dead clients cleared away\n")
        self.assertEqual(self.tarn("clean"), "")
        self.assertEqual(self.tarn("clean", "--unused"),
                         "segment audio: removed, nobody was attached\n")
        self.assertEqual(living.end(), 0)
        os.unlink(self.domain + "/camera")
        self.assertIn("1 files removed", self.tarn("clean"))
        self.assertEqual(os.listdir(self.domain), [])

    def test_dump_has_what_is_held(self):
        holder = self.hold()
        rows = [json.loads(line) for line in self.tarn("dump", "camera").splitlines()]
        chunks = [row for row in rows if "chunk" in row]
        self.assertEqual(rows[0]["name"], "camera")
        self.assertEqual(len(chunks), len(holder.references))
        self.assertEqual({row["payload_bytes"] for row in chunks}, {200})
        self.assertEqual({tuple(row["holders"]) for row in chunks}, {(0,)})
        self.assertEqual({row["sequence"] for row in chunks}, set(range(1, 8)))

    def test_bench_measures(self):
        rows = [json.loads(line)
                for line in self.tarn("bench", "--rounds", "2000", "--json",
                                      domain=False).splitlines()]
        self.assertIn("attach", [row["what"] for row in rows])
        for row in rows:
            self.assertGreater(row["least"], 0)
            self.assertLessEqual(row["least"], row["median"])
            self.assertLessEqual(row["median"], row["most"])

    def test_wrong_usage_is_named(self):
        self.assertIn("subcommand", self.tarn(status=125, domain=False))
        self.assertIn("SEGMENT", self.tarn("top", status=125))
        self.assertIn("neither a path", self.tarn("ls", "--domain", "a b", status=125,
                                                  domain=False))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
