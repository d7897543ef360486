"""`tarn doctor` from outside: doctor_test.py TARN LIBRARY STATIC_LIBRARY CC [unittest arguments].

Programs are built here, of one source; processes are held by a pipe that they read from."""
import glob
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

TARN, LIBRARY, STATIC_LIBRARY, COMPILER = sys.argv[1:5]
PATIENCE_S = 60
IS_ROOT = os.geteuid() == 0
NOBODY = 65534

# Allocates, says so, and waits for the end of its input.
SOURCE = r"""
#include <stdlib.h>
#include <unistd.h>
#ifdef SECOND
#include <dlfcn.h>
#endif
#ifdef OWN_MALLOC
#include <stddef.h>
static char room[1 << 20];
static size_t used;
OWN_MALLOC void* malloc(size_t n) { used += (n + 15) / 16 * 16; return room + used - (n + 15) / 16 * 16; }
OWN_MALLOC void free(void* p) { (void)p; }
#endif
int main(int argc, char** argv) {
    char letter = 0;
    void* volatile block = malloc(100);
    (void)argc; (void)argv;
#ifdef OVERWRITE
    for (char* at = argv[0]; at < argv[0] + OVERWRITE; ++at) *at = ' ';
#endif
#ifdef SECOND
    if (dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) == NULL) return 3;
#endif
    free(block);
    if (write(1, "x", 1) != 1) return 1;
    return read(0, &letter, 1) == 0 ? 0 : 2;
}
"""


def library_called(name):
    found = sorted(glob.glob(f"/usr/lib/*/{name}*") + glob.glob(f"/usr/lib*/{name}*"))
    return found[0] if found else None


class Doctor(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        os.chmod(cls.folder, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        with open(os.path.join(cls.folder, "program.c"), "w", encoding="utf-8") as file:
            file.write(SOURCE)

    def setUp(self):
        self.environment = dict(os.environ)
        for name in ("TARN_OPTIONS", "TARN_MODE", "LD_PRELOAD", "LD_LIBRARY_PATH"):
            self.environment.pop(name, None)

    def path(self, name):
        return os.path.join(self.folder, name)

    def build(self, name, *flags):
        path = self.path(name)
        if not os.path.exists(path):
            subprocess.run([COMPILER, "-fno-builtin", self.path("program.c"), "-o", path, *flags],
                           check=True, capture_output=True, timeout=PATIENCE_S)
        return path

    def write(self, name, text, mode=0o755):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def doctor(self, *words, library=LIBRARY, **more):
        options = ["--library", library] if library else []
        return subprocess.run([TARN, "doctor", *options, *words], text=True, capture_output=True,
                              timeout=PATIENCE_S, **{"env": self.environment, **more})

    def verdict(self, status, *words, **more):
        """The first line of the text; JSON must agree."""
        done = self.doctor(*words, **more)
        self.assertEqual((done.returncode, done.stderr), (status, ""), done.stdout)
        parsed = json.loads(self.doctor("--json", *words, **more).stdout)
        line = done.stdout.splitlines()[0]
        self.assertEqual(parsed["verdict"], line)
        self.assertEqual(parsed["answer"], ("tarn", "other", "unknown")[status])
        self.text, self.json = done.stdout, parsed
        return line

    def complaint(self, *words, status=2, **more):
        done = self.doctor(*words, **more)
        self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
        self.assertTrue(done.stderr.startswith("tarn: "), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def start(self, *words, preload=None, **more):
        """A process that has allocated and now waits, until the test ends."""
        if preload is not None:
            self.environment["LD_PRELOAD"] = preload
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL,
                                   **{"env": self.environment, **more})
        self.environment.pop("LD_PRELOAD", None)

        def end():
            process.stdin.close()
            process.stdout.close()
            process.wait(PATIENCE_S)
        self.addCleanup(end)
        self.assertEqual(process.stdout.read(1), b"x")
        return str(process.pid)


class Usage(Doctor):
    def test_help(self):
        done = self.doctor("--help")
        self.assertEqual(done.returncode, 0)
        for part in ("Usage: tarn doctor [OPTIONS] PROGRAM|PID", "--json", "--library",
                     "Exit status: 0"):
            self.assertIn(part, done.stdout)

    def test_wrong_usage(self):
        for words, part in (((), "no program or process"), (("a", "b"), "'b' is too much"),
                            (("--frobnicate", "sh"), "--frobnicate")):
            self.assertIn(part, self.complaint(*words, status=125))
        self.assertIn("/no/such.so", self.complaint("sh", status=125, library="/no/such.so"))
        self.assertEqual(self.doctor("--", "sh").returncode, 0)

    def test_output_that_nobody_reads(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([TARN, "doctor", "sh"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 0)


class Programs(Doctor):
    def test_that_are_none(self):
        plain = self.write("plain", "text\n")
        for words, part in ((("no-such-program",), "no-such-program: not found in PATH"),
                            (("/no/such",), "/no/such: No such file"), (("",), "empty name"),
                            ((self.folder,), "a folder"),
                            ((self.write("forbidden", "x", 0o644),), "not executable"),
                            ((plain,), "neither an ELF file nor a script"),
                            ((self.write("bare", "#!\n"),), "names no interpreter"),
                            ((self.write("lost", "#!/no/interpreter\n"),), "/no/interpreter: No such"),
                            ((self.write("loop", f"#!{self.path('loop')}\n"),), "without end")):
            self.assertIn(part, self.complaint(*words))
        done = self.doctor("--json", plain)
        self.assertEqual((done.returncode, json.loads(done.stdout)["answer"]), (2, "unknown"))

    def test_damaged_ones(self):
        with open(self.build("dynamic"), "rb") as file:
            good = file.read()
        for size in (4, 16, 20, 63, 64, 200, 900):
            path = self.path(f"cut{size}")
            with open(path, "wb") as file:
                file.write(good[:size])
            os.chmod(path, 0o755)
            self.assertIn(path, self.complaint(path))

    def test_a_common_one(self):
        line = self.verdict(0, self.build("dynamic"))
        self.assertEqual(line, f"malloc: would be Tarn, with `tarn run` ({LIBRARY})")
        self.assertTrue(self.json["program"]["malloc_today"]["text"].startswith("glibc ("))
        self.assertIn("page size", self.text)
        self.assertIsInstance(self.json["kernel"]["page_size"]["number"], int)

    def test_statically_linked_ones(self):
        for name, flags in (("static", ["-static"]), ("static-pie", ["-static-pie"])):
            self.assertEqual(self.verdict(1, self.build(name, *flags)),
                             "preload would not take: the program is statically linked")
            self.assertEqual(self.json["malloc"]["name"], "glibc")
        self.verdict(1, self.build("stripped", "-static", "-s"))
        self.assertEqual(self.json["malloc"]["name"], "")
        self.assertIn("its symbols are stripped", self.text)

    def test_linked_with_tarn(self):
        path = self.build("with-tarn", "-Wl,--no-as-needed", LIBRARY,
                          f"-Wl,-rpath,{os.path.dirname(LIBRARY)}")
        self.assertRegex(self.verdict(0, path), r"Tarn, without `tarn run` \(.*libtarn\.so")
        path = self.build("static-tarn", "-static", "-Wl,--whole-archive", STATIC_LIBRARY,
                          "-Wl,--no-whole-archive")
        self.assertEqual(self.verdict(0, path), "malloc: Tarn, without `tarn run` (linked in)")

    def test_with_a_malloc_of_its_own(self):
        path = self.build("own", "-DOWN_MALLOC=")
        self.assertTrue(self.verdict(1, path).endswith("the program brings its own malloc"))
        self.assertEqual(self.json["malloc"]["name"], "a malloc of its own in own")
        path = self.build("hidden", '-DOWN_MALLOC=__attribute__((visibility("hidden")))')
        self.assertIn("calls a malloc of its own", self.verdict(1, path))

    def test_sanitized(self):
        try:
            path = self.build("asan", "-fsanitize=address")
        except subprocess.CalledProcessError:
            self.skipTest("the compiler has no AddressSanitizer")
        self.assertIn("AddressSanitizer", self.verdict(1, path))

    def test_linked_with_another_allocator(self):
        for name, library in (("jemalloc", library_called("libjemalloc.so")),
                              ("mimalloc", library_called("libmimalloc.so")),
                              ("tcmalloc", library_called("libtcmalloc_minimal.so")),
                              ("tbbmalloc", library_called("libtbbmalloc_proxy.so"))):
            if library is None:
                continue
            self.verdict(0, self.build("with-" + name, "-Wl,--no-as-needed", library))
            self.assertEqual(self.json["program"]["malloc_today"]["text"].split()[0], name)
            self.assertIn("a preloaded library is found before", self.text)

    def test_preloaded_today(self):
        library = library_called("libjemalloc.so")
        if library is None:
            self.skipTest("no jemalloc")
        self.environment["LD_PRELOAD"] = library
        self.verdict(0, self.build("dynamic"))
        self.assertTrue(self.json["program"]["malloc_today"]["text"].startswith("jemalloc"))
        self.assertEqual(self.json["environment"]["LD_PRELOAD"]["text"], library)

    def test_scripts(self):
        program = self.build("dynamic")
        self.environment["PATH"] = self.folder + ":" + self.environment["PATH"]
        for name, first in (("direct", program), ("env", "/usr/bin/env dynamic"),
                            ("env-words", "/usr/bin/env -S A=b dynamic -x")):
            path = self.write(name, f"#! {first}\n")
            self.verdict(0, path)
            self.assertEqual(self.json["program"]["file"]["text"], program)
            self.assertIn(f"{path}: a script", self.text)
        self.verdict(0, self.write("nested", f"#!{self.path('direct')}\n"))
        self.assertIn("script_2", self.json["program"])

    def test_of_another_loader(self):
        self.assertIn("musl", self.verdict(1, self.build(
            "musl", "-Wl,--dynamic-linker=" + self.write("ld-musl-x.so.1", "stand-in"))))
        self.assertIn("/no/loader is not there", self.complaint(
            self.build("no-loader", "-Wl,--dynamic-linker=/no/loader")))

    def test_of_another_machine(self):
        with open(self.build("dynamic"), "rb") as file:
            image = bytearray(file.read())
        image[18:20] = (22).to_bytes(2, "little")  # e_machine: s390
        path = self.path("s390")
        with open(path, "wb") as file:
            file.write(image)
        os.chmod(path, 0o755)
        self.assertIn("64-bit s390", self.verdict(1, path))

    def test_whose_library_is_missing(self):
        library = self.path("libgone.so")
        self.build("libgone.so", "-shared", "-fPIC", "-Wl,-soname,libgone.so")
        path = self.build("needs", "-Wl,--no-as-needed", library)
        os.unlink(library)
        self.assertIn("libraries not found: libgone.so", self.complaint(path))

    def test_without_libtarn(self):
        alone = self.path("alone/tarn")
        os.makedirs(os.path.dirname(alone))
        shutil.copy(TARN, alone)
        done = subprocess.run([alone, "doctor", self.build("dynamic")], text=True,
                              capture_output=True, env=self.environment)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("there is no library to preload", done.stdout)


class RaisedRights(Doctor):
    def copy(self, name):
        return shutil.copy(self.build("dynamic"), self.path(name))

    def test_of_ones_own_file(self):
        path = self.copy("own-setuid")
        os.chmod(path, 0o4755)
        self.verdict(0, path)
        self.assertIn("for other users it is set-user-ID", self.text)

    def test_of_another_user(self):
        if IS_ROOT:
            path = self.copy("setuid")
            os.chown(path, NOBODY, NOBODY)
            os.chmod(path, 0o4755)
        else:
            candidates = [p for p in ("/usr/bin/passwd", "/bin/su", "/usr/bin/mount")
                          if os.path.exists(p) and os.stat(p).st_mode & stat.S_ISUID]
            if not candidates:
                self.skipTest("needs root, or a set-user-ID program that can be read")
            path = candidates[0]
        if os.statvfs(path).f_flag & os.ST_NOSUID:
            self.skipTest("a file system that ignores set-user-ID")
        self.assertIn("it is set-user-ID to", self.verdict(1, path))

    def test_of_a_group(self):
        if not IS_ROOT:
            self.skipTest("needs root: chown")
        path = self.copy("setgid")
        os.chown(path, 0, NOBODY)
        os.chmod(path, 0o2755)
        self.assertIn("it is set-group-ID to", self.verdict(1, path))
        os.chmod(path, 0o2745)  # without the group's x it means something else
        self.verdict(0, path)

    def test_capabilities(self):
        if not IS_ROOT:
            self.skipTest("needs root: setcap")
        path = self.copy("capable")
        value = bytes.fromhex("0000000200200000000000000000000000000000")  # cap_sys_chroot
        try:
            os.setxattr(path, "security.capability", value)
        except OSError as error:
            self.skipTest(f"no file capabilities here: {error}")
        self.verdict(0, path)
        self.assertIn("for other users it has file capabilities", self.text)
        self.assertIn("it has file capabilities", self.verdict(
            1, path, preexec_fn=lambda: os.setresuid(NOBODY, NOBODY, NOBODY)))

    def test_of_a_process(self):
        if not IS_ROOT:
            self.skipTest("needs root: a set-user-ID process of another user")
        path = self.copy("setuid-process")
        os.chown(path, NOBODY, NOBODY)
        os.chmod(path, 0o4755)
        if os.statvfs(path).f_flag & os.ST_NOSUID:
            self.skipTest("a file system that ignores set-user-ID")
        self.assertIn("malloc: glibc", self.verdict(1, self.start(path, preload=LIBRARY)))
        self.assertIn("raised rights, so the loader ignored", self.text)


class Processes(Doctor):
    def test_that_are_none(self):
        done = subprocess.Popen(["/bin/true"])
        done.wait()
        for number in (str(done.pid), "0", "99999999", "9" * 40):
            self.assertIn(f"process {number}: there is none", self.complaint(number))

    def test_that_has_ended(self):
        read_end, write_end = os.pipe()
        process = subprocess.Popen(["/bin/true"], pass_fds=[write_end])
        os.close(write_end)
        self.assertEqual(os.read(read_end, 1), b"")  # it has ended, or is about to
        os.close(read_end)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.assertIn("it has ended", self.complaint(str(process.pid)))
        process.wait()

    def test_on_tarn(self):
        pid = self.start(TARN, "run", "--library", LIBRARY, "--", self.build("dynamic"))
        self.assertRegex(self.verdict(0, pid), r"^malloc: Tarn \(.*libtarn\.so")
        self.assertEqual(self.json["process"]["malloc_from"]["meaning"], "preloaded by LD_PRELOAD")
        self.assertRegex(self.text, r"mappings +\d+ of at most")
        self.verdict(0, self.start(self.build("dynamic"), preload=LIBRARY))

    def test_on_glibc(self):
        self.assertRegex(self.verdict(1, self.start(self.build("dynamic"))),
                         r"^malloc: glibc \(.*libc\.so\.6\)$")
        self.assertIn("LD_PRELOAD named no libtarn.so", self.text)

    def test_a_forked_child(self):
        pid = self.start("/bin/sh", "-c", '"$0"; exit', self.build("dynamic"), preload=LIBRARY)
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
            child = file.read().split()[0]
        self.assertIn("malloc: Tarn", self.verdict(0, child))
        self.assertIn("malloc: Tarn", self.verdict(0, pid))

    def test_on_another_allocator(self):
        library = library_called("libjemalloc.so")
        if library is None:
            self.skipTest("no jemalloc")
        program = self.build("dynamic")
        self.assertIn("malloc: jemalloc (", self.verdict(1, self.start(program, preload=library)))
        both = self.start(program, preload=f"{library}:{LIBRARY}")
        self.assertIn("malloc: jemalloc (", self.verdict(1, both))
        self.assertIn("is mapped, but was not found first", self.text)
        both = self.start(program, preload=f"{LIBRARY}:{library}")
        self.assertIn("malloc: Tarn (", self.verdict(0, both))
        linked = self.build("with-jemalloc", "-Wl,--no-as-needed", library)
        self.assertIn("malloc: jemalloc (", self.verdict(1, self.start(linked)))
        self.assertIn("malloc: Tarn (", self.verdict(0, self.start(linked, preload=LIBRARY)))

    def test_with_a_malloc_of_its_own(self):
        pid = self.start(self.build("own", "-DOWN_MALLOC="), preload=LIBRARY)
        self.assertIn("malloc: a malloc of its own in own", self.verdict(1, pid))
        self.assertIn("libtarn.so", self.json["process"]["other_mallocs"]["text"])

    def test_statically_linked(self):
        pid = self.start(self.build("static", "-static"), preload=LIBRARY)
        self.assertIn("malloc: glibc", self.verdict(1, pid))
        self.assertIn("statically linked", self.text)

    def test_whose_preload_is_not_there(self):
        pid = self.start(self.build("dynamic"), preload="/no/such/libtarn.so")
        self.assertIn("malloc: glibc", self.verdict(1, pid))
        self.assertIn("/no/such/libtarn.so is not there", self.text)

    def test_whose_library_was_replaced(self):
        copy = shutil.copy(os.path.realpath(LIBRARY), self.path("libtarn.so.copy"))
        pid = self.start(self.build("dynamic"), preload=copy)
        os.unlink(copy)
        self.assertIn("malloc: Tarn", self.verdict(0, pid))
        self.assertIn("was removed or replaced since", self.text)

    def test_whose_program_was_removed(self):
        pid = self.start(shutil.copy(self.build("dynamic"), self.path("removed")), preload=LIBRARY)
        os.unlink(self.path("removed"))
        self.assertIn("malloc: Tarn", self.verdict(0, pid))
        self.assertTrue(self.json["process"]["program"]["text"].endswith("removed (deleted)"))

    def test_that_overwrites_its_environment(self):
        pid = self.start(self.build("overwrite", "-DOVERWRITE=60"), preload=LIBRARY)
        self.assertIn("malloc: Tarn", self.verdict(0, pid))

    def test_that_opens_tarn_later(self):
        pid = self.start(self.build("opener", "-DSECOND"), LIBRARY)
        self.assertIn("malloc: glibc", self.verdict(1, pid))
        self.assertIn("is mapped, but was not found first", self.text)

    def test_started_by_the_loader(self):
        loaders = [p for p in glob.glob("/lib64/ld-linux-*.so.*") + glob.glob("/lib/ld-linux-*.so.1")
                   if os.access(p, os.X_OK)]
        if not loaders:
            self.skipTest("no loader found")
        pid = self.start(loaders[0], self.build("dynamic"), preload=LIBRARY)
        self.assertIn("malloc: Tarn", self.verdict(0, pid))
        self.assertEqual(self.json["process"]["program"]["text"], self.build("dynamic"))

    def test_of_another_user(self):
        if not IS_ROOT:
            self.assertIn("process 1: not permitted", self.complaint("1"))
            return
        pid = self.start(self.build("dynamic"))
        self.assertIn("not permitted to look into it; it belongs to root", self.complaint(
            pid, preexec_fn=lambda: os.setresuid(NOBODY, NOBODY, NOBODY)))

    def test_of_the_kernel(self):
        try:
            with open("/proc/2/comm", encoding="utf-8") as file:
                is_kernels = file.read() == "kthreadd\n"
        except OSError:
            is_kernels = False
        if not is_kernels:
            self.skipTest("no thread of the kernel can be seen here")
        self.assertIn("a thread of the kernel", self.complaint("2"))

    def test_in_another_mount_namespace(self):
        probe = subprocess.run(["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs",
                                "none", "/mnt"], capture_output=True)
        if probe.returncode != 0:
            self.skipTest("no right to make a mount namespace")
        shutil.copy(os.path.realpath(LIBRARY), self.path("libtarn.so.inside"))
        script = ('mount -t tmpfs none /mnt && cp "$1" "$2" /mnt/ && '
                  'LD_PRELOAD=/mnt/libtarn.so.inside exec /mnt/dynamic')
        pid = self.start("unshare", "--mount", "--map-root-user", "/bin/sh", "-c", script, "sh",
                         self.build("dynamic"), self.path("libtarn.so.inside"))
        self.assertEqual(self.verdict(0, pid), "malloc: Tarn (/mnt/libtarn.so.inside)")
        self.assertEqual(self.json["process"]["mount_namespace"]["text"], "another")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
