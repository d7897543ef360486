"""`tarn symbolize` from outside: symbolize_test.py TARN REPORTER LIBRARY OBJCOPY [unittest arguments]."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

TARN, REPORTER, LIBRARY, OBJCOPY = sys.argv[1:5]
PATIENCE_S = 60
SCOPE = "tarn::test::(anonymous namespace)::"
# What the reporter's stack is, whoever resolves it. Lines are those of known_calls.hpp.
FUNCTIONS = [f"{SCOPE}static_function(char const*)", "inlined_inner", f"{SCOPE}with_inlined()",
             "tarn::test::known_type::method(int) const"]


def lines_of_source():
    """The lines of the calls, in the order of FUNCTIONS."""
    source = pathlib.Path(__file__).parent.parent / "support/known_calls.hpp"
    lines = source.read_text().splitlines()

    def after(start, wanted):
        first = next(i for i, line in enumerate(lines) if start in line)
        return next(i + 1 for i in range(first, len(lines)) if wanted in lines[i])

    call = "TARN_TEST_CALL(call);"
    return [after("known_call static_function", call), after("known_call inlined_inner", call),
            after("known_call with_inlined", "= inlined_inner()"),
            after("known_call method", call)]


LINES = lines_of_source()


def run(*words, text=None, **more):
    return subprocess.run(list(map(str, words)), input=text, capture_output=True, text=True,
                          timeout=PATIENCE_S, check=False, **more)


def report(*words, program=REPORTER):
    done = run(program, *words)
    if done.returncode != 0 or not done.stdout:
        raise AssertionError(f"{words}: {done}")
    return done.stdout


def golden(indentation="    "):
    inlined = ["", " (inlined)", "", ""]
    return [rf"{indentation}#{i} (\S*::)?{re.escape(function)}(\(\))? at \S*/known_calls\.hpp:{line}"
            rf"{re.escape(mark)}"
            for i, (function, line, mark) in enumerate(zip(FUNCTIONS, LINES, inlined))]


class Symbolize(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def symbolize(self, *words, text=None, status=0):
        done = run(TARN, "symbolize", *words, text=text)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def resolved(self, text, *words):
        done = self.symbolize(*words, text=text)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def expect_golden(self, text):
        lines = text.splitlines()
        self.assertEqual(len(lines), len(FUNCTIONS), text)
        for line, pattern in zip(lines, golden()):
            self.assertRegex(line, f"^{pattern}$")

    def guest_copy(self, name="libguest.so"):
        path = self.folder / name
        shutil.copy(LIBRARY, path)
        return path

    def change(self, *words):
        subprocess.run([OBJCOPY, *map(str, words)], check=True, timeout=PATIENCE_S)


class Text(Symbolize):
    def test_the_process_itself(self):
        self.expect_golden(report("resolved"))

    def test_raw_frames(self):
        self.expect_golden(self.resolved(report("raw")))

    def test_from_files(self):
        first, second = self.folder / "a", self.folder / "b"
        first.write_text(report("raw"))
        second.write_text("only text")
        done = self.symbolize(first, second)
        *lines, last = done.stdout.splitlines()
        self.expect_golden("\n".join(lines))
        self.assertEqual(last, "only text")

    def test_what_is_resolved_stays(self):
        text = "a report\n\n" + report("resolved") + "the end, without a line's end"
        self.assertEqual(self.resolved(text), text)

    def test_text_without_frames_stays(self):
        text = "\t#x\n#1\n# 2 in /x+0x1\nüñ {\n{broken json\n[1,2]\n\n"
        self.assertEqual(self.resolved(text), text)

    def test_nothing(self):
        self.assertEqual(self.resolved(""), "")

    def test_numbers_go_on_behind_inlined_functions(self):
        text = report("raw") + "    #3 main at /x.cpp:1\n    #4 0x0000000000001234\nother\n#0 f at g:1\n"
        tail = self.resolved(text).splitlines()[len(FUNCTIONS):]
        self.assertEqual(tail, ["    #4 main at /x.cpp:1", "    #5 0x0000000000001234", "other",
                                "#0 f at g:1"])

    def test_two_stacks_without_a_line_between(self):
        text = self.resolved(report("raw") * 2)
        lines = text.splitlines()
        self.assertEqual(lines[:len(FUNCTIONS)], lines[len(FUNCTIONS):])

    def test_what_a_log_puts_before(self):
        text = "".join(f"12:00 server[1]: {line}\n" for line in report("raw").splitlines())
        for line, pattern in zip(self.resolved(text).splitlines(), golden("12:00 server[1]:     "
                                                                          .replace("[", r"\[")
                                                                          .replace("]", r"\]"))):
            self.assertRegex(line, f"^{pattern}$")

    def test_a_place_in_a_line(self):
        text = self.resolved(report("place"))
        self.assertRegex(text, rf"^freed by {re.escape(FUNCTIONS[0])} at \S*known_calls\.hpp:"
                               rf"{LINES[0]}, and then\n$")


class Json(Symbolize):
    def test_frames_are_filled(self):
        raw = report("json")
        text = self.resolved(raw)
        self.assertEqual(text.count("\n"), 1)
        before, after = json.loads(raw), json.loads(text)
        frames = after["stack"].pop("frames")
        raw_frames = before["stack"].pop("frames")
        self.assertEqual(before, after)  # the rest is as it was, with numbers of 64 bits
        self.assertEqual([frame["line"] for frame in frames], LINES)
        for frame, function in zip(frames, FUNCTIONS):
            self.assertIn(function, frame["function"])
            self.assertTrue(frame["file"].endswith("known_calls.hpp"))
        self.assertEqual(["inlined" in frame for frame in frames], [False, True, False, False])
        self.assertIs(frames[1]["inlined"], True)
        for key, value in raw_frames[1].items():
            self.assertEqual((frames[1][key], frames[2][key]), (value, value))

    def test_stacks_as_mode_debug_writes_them(self):
        frames = [frame | {"function": None, "file": None, "line": None, "inlined": False}
                  for frame in json.loads(report("json"))["stack"]["frames"]]
        text = json.dumps({"now": {"stack": frames}, "before": {"site": frames[0]}}) + "\n"
        after = json.loads(self.resolved(text))
        self.assertEqual([frame["line"] for frame in after["now"]["stack"]], LINES)
        self.assertEqual([frame["inlined"] for frame in after["now"]["stack"]],
                         [False, True, False, False])
        self.assertEqual(after["before"]["site"], after["now"]["stack"][0])

    def test_twice_is_once(self):
        once = self.resolved(report("json"))
        self.assertEqual(self.resolved(once), once)

    def test_between_lines_of_text(self):
        text = self.resolved("before\n" + report("json") + report("raw") + '{"other": [1,  2]}\n')
        lines = text.splitlines()
        self.assertEqual(lines[0], "before")
        self.assertEqual(len(json.loads(lines[1])["stack"]["frames"]), len(FUNCTIONS))
        self.expect_golden("\n".join(lines[2:-1]))
        self.assertEqual(lines[-1], '{"other": [1,  2]}')

    def test_odd_frames_stay(self):
        for frames in ('[]', '{}', '"x"', '[1, null, "x", {}]',
                       '[{"module": 1, "offset": 2}]', '[{"module": "/x", "offset": "12"}]',
                       '[{"module": "/x", "offset": "0x12", "line": 7}]'):
            text = '{"frames": %s}\n' % frames
            self.assertEqual(self.resolved(text), text)

    def test_deep_nesting(self):
        text = '{"a":' * 2000 + "1" + "}" * 2000 + "\n"
        self.assertEqual(self.resolved(text), text)


class Modules(Symbolize):
    def of_guest(self, path):
        """The report's lines about its own three calls are as ever: the last is the library's."""
        text = report("raw", path)
        return text, text.splitlines()[-1]

    def test_a_library(self):
        path = self.guest_copy()
        text, _ = self.of_guest(path)
        last = self.resolved(text).splitlines()[-1]
        self.assertRegex(last, rf"^    #4 {re.escape(FUNCTIONS[0])} at \S*known_calls\.hpp:{LINES[0]}$")

    def test_a_stripped_library(self):
        path = self.guest_copy()
        self.change("--strip-debug", path)
        text, raw = self.of_guest(path)
        done = self.symbolize(text=text, status=1)
        self.assertEqual(done.stderr, f"tarn: symbolize: {path}: has no debug information, and no "
                                      "debug file was found\n")
        self.assertEqual(done.stdout.splitlines()[-1],
                         re.sub("#3 0x[0-9a-f]*", f"#4 {FUNCTIONS[0]}", raw))

    def test_a_debug_file_by_build_id(self):
        path = self.guest_copy()
        text, raw = self.of_guest(path)
        build_id = re.search(r"build id (\w+)", raw)[1]
        home = self.folder / "debug/.build-id" / build_id[:2]
        home.mkdir(parents=True)
        self.change("--only-keep-debug", path, home / f"{build_id[2:]}.debug")
        self.change("--strip-all", path)
        stripped = self.symbolize(text=text, status=1)
        self.assertIn(raw.replace("#3", "#4"), stripped.stdout)
        option = ("--debug-dir", self.folder / "debug")
        expected = rf"#4 {re.escape(FUNCTIONS[0])} at \S*known_calls\.hpp:{LINES[0]}$"
        self.assertRegex(self.resolved(text, *option).splitlines()[-1], expected)
        path.unlink()  # the debug file will do
        self.assertRegex(self.resolved(text, *option).splitlines()[-1], expected)

    def test_a_compressed_debug_section(self):
        path = self.guest_copy()
        self.change("--compress-debug-sections=zlib", path)
        self.assertIn("known_calls.hpp", self.resolved(self.of_guest(path)[0]).splitlines()[-1])

    def test_another_build(self):
        path = self.guest_copy()
        text, raw = self.of_guest(path)
        shutil.copy(REPORTER, path)
        done = self.symbolize(text=text + text, status=1)
        build_id = re.search(r"build id (\w+)", raw)[1]
        self.assertRegex(done.stderr, rf"^tarn: symbolize: {path}: is another file now: its build id "
                                      rf"is \w+, the report's {build_id}\n$")
        self.assertEqual(done.stdout.count(raw.replace("#3", "#4")), 2)

    def test_a_file_that_is_gone(self):
        path = self.guest_copy()
        text, raw = self.of_guest(path)
        path.unlink()
        done = self.symbolize(text=text, status=1)
        self.assertEqual(done.stderr, f"tarn: symbolize: {path}: No such file or directory\n")
        self.assertIn(raw.replace("#3", "#4"), done.stdout)

    def test_a_damaged_file(self):
        path = self.guest_copy()
        text, raw = self.of_guest(path)
        whole = path.read_bytes()
        for size in (0, 3, 64, 700, len(whole) // 4, len(whole) // 2, len(whole) - 100):
            path.write_bytes(whole[:size])
            done = run(TARN, "symbolize", text=text)
            self.assertIn(done.returncode, (0, 1), done)
            self.assertEqual(done.stderr.count("\n"), done.returncode, done.stderr)
        path.write_bytes(b"text")
        done = self.symbolize(text=text, status=1)
        self.assertRegex(done.stderr, rf"^tarn: symbolize: {path}: can't be read: .+\n$")
        self.assertIn(raw.replace("#3", "#4"), done.stdout)

    def test_a_folder_in_its_place(self):
        path = self.guest_copy()
        text, _ = self.of_guest(path)
        path.unlink()
        path.mkdir()
        done = self.symbolize(text=text, status=1)
        self.assertEqual(done.stderr, f"tarn: symbolize: {path}: not a file\n")

    def test_files_of_another_machine(self):
        path = self.guest_copy()
        text, _ = self.of_guest(path)
        root = self.folder / "root"
        for file in (path, pathlib.Path(REPORTER).resolve()):
            moved = root / file.relative_to("/")
            moved.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, moved)
        path.unlink()
        last = self.resolved(text, "--sysroot", f"{root}/").splitlines()[-1]
        self.assertIn("known_calls.hpp", last)


class Usage(Symbolize):
    def test_help(self):
        text = self.symbolize("--help").stdout
        for part in ("Usage: tarn symbolize [OPTIONS] [FILE...]", "--debug-dir", "--sysroot",
                     "Exit status: 0"):
            self.assertIn(part, text)

    def test_wrong_usage(self):
        for words, part in ((("--sysroot", "/nowhere"), "--sysroot: /nowhere is no folder"),
                            (("--debug-dir", "/nowhere"), "--debug-dir: /nowhere is no folder"),
                            (("--none",), "--none")):
            done = self.symbolize(*words, status=125)
            self.assertIn(part, done.stderr)
            self.assertEqual(done.stdout, "")

    def test_files_that_can_not_be_read(self):
        garbage = self.folder / "garbage"
        garbage.write_bytes(bytes(range(256)) * 100)
        for path, part in (("/nowhere/x", "/nowhere/x: No such file or directory"),
                           (self.folder, f"{self.folder}: is a folder"),
                           (garbage, f"{garbage}: is no report: it has bytes that are no text")):
            done = self.symbolize(path, status=2)
            self.assertEqual(done.stderr, f"tarn: symbolize: {part}\n")

    def test_the_others_are_written_all_the_same(self):
        text = self.folder / "text"
        text.write_text("some text\n")
        done = self.symbolize("/nowhere/x", text, status=2)
        self.assertEqual(done.stdout, "some text\n")

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_a_full_device(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([TARN, "symbolize"], input="x\n" * 100000, stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, 125)
        self.assertIn("can't write: No space left on device", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[5:]])
